"""Adversarial losses of four kinds, both sides: by hand, against optax, and what each learns."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lumloss_jax.losses import adversarial_discriminator_loss, adversarial_generator_loss

KINDS = ("non_saturating", "hinge", "least_squares", "relativistic_average")
FAKE, REAL = np.random.default_rng(0).normal(0, 2, (2, 5, 3)).astype(np.float32)
every_kind = pytest.mark.parametrize("kind", KINDS)


def generator(fake, real, kind, **keywords):
    """Both sides with the same arguments: only the relativistic generator looks at real scores."""
    real = real if kind == "relativistic_average" else None
    return adversarial_generator_loss(fake, real, kind=kind, **keywords)


def discriminator(fake, real, kind, **keywords):
    return adversarial_discriminator_loss(fake, real, kind=kind, **keywords)


LOG3 = math.log(3)  # s(log 3) = log 4, s(-log 3) = log 4/3


@pytest.mark.parametrize(
    ("kind", "of_generator", "of_discriminator"),
    [
        (
            "non_saturating",
            (math.log(2) + math.log(4 / 3)) / 2,
            (math.log(2) + math.log(4)) / 2 + math.log(4 / 3),
        ),
        ("hinge", -LOG3 / 2, (1 + 1 + LOG3) / 2 + 0),
        ("least_squares", (1 + (LOG3 - 1) ** 2) / 4, LOG3**2 / 4 + (LOG3 - 1) ** 2 / 2),
    ],
)
def test_by_hand(kind, of_generator, of_discriminator):
    fake, real = jnp.array([0, LOG3]), jnp.array([LOG3, LOG3])
    np.testing.assert_allclose(generator(fake, real, kind), of_generator, rtol=1e-6)
    np.testing.assert_allclose(discriminator(fake, real, kind), of_discriminator, rtol=1e-6)


def test_by_hand_relativistic_average():
    # Every fake score is log 3 above every real one: the generator has won, the discriminator has
    # lost.
    fake, real = jnp.full(2, LOG3), jnp.zeros(2)
    np.testing.assert_allclose(
        generator(fake, real, "relativistic_average"), 2 * math.log(4 / 3), rtol=1e-6
    )
    np.testing.assert_allclose(
        discriminator(fake, real, "relativistic_average"), 2 * math.log(4), rtol=1e-6
    )


@every_kind
def test_optax(kind):
    bce = optax.losses.sigmoid_binary_cross_entropy
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        if kind == "non_saturating":
            of_generator = bce(FAKE, np.ones_like(FAKE)).mean()
            of_discriminator = (
                bce(FAKE, np.zeros_like(FAKE)).mean() + bce(REAL, np.ones_like(REAL)).mean()
            )
        elif kind == "hinge":
            hinge = optax.losses.hinge_loss
            of_generator = -FAKE.mean()
            of_discriminator = (
                hinge(FAKE, -np.ones_like(FAKE)) + hinge(REAL, np.ones_like(REAL))
            ).mean()
        elif kind == "least_squares":
            of_generator = optax.losses.l2_loss(FAKE, np.ones_like(FAKE)).mean()
            of_discriminator = (
                optax.losses.l2_loss(FAKE) + optax.losses.l2_loss(REAL, np.ones_like(REAL))
            ).mean()
        else:
            fake, real = FAKE - REAL.mean(), REAL - FAKE.mean()
            one, none = np.ones_like(FAKE), np.zeros_like(FAKE)
            of_generator = (bce(fake, one) + bce(real, none)).mean()
            of_discriminator = (bce(fake, none) + bce(real, one)).mean()
    np.testing.assert_allclose(generator(FAKE, REAL, kind), of_generator, rtol=1e-5)
    np.testing.assert_allclose(discriminator(FAKE, REAL, kind), of_discriminator, rtol=1e-5)


@every_kind
def test_gradients_push_scores_the_right_way(kind):
    def of_both(loss):
        return jax.jit(jax.grad(lambda scores: loss(*scores, kind)))(
            (jnp.full((4, 1), 0.3), jnp.full((4, 1), 0.4))
        )

    fake, real = of_both(generator)
    assert (fake < 0).all()  # downhill is towards higher scores of fakes
    assert (real > 0).all() if kind == "relativistic_average" else (real == 0).all()
    fake, real = of_both(discriminator)
    assert (fake > 0).all() and (real < 0).all()


@every_kind
def test_a_generator_and_a_discriminator_learn(kind):
    """One number to restore: it starts at 0, the truth is 1; the discriminator scores a (x - b)."""
    real = jnp.ones((1, 1))

    def step(carry, _):
        fake, scorer = carry

        def score(scorer, x):
            return scorer[0] * (x - scorer[1])

        def of_scorer(scorer):
            return discriminator(score(scorer, fake), score(scorer, real), kind)

        value, gradient = jax.value_and_grad(of_scorer)(scorer)
        better = scorer - 0.05 * gradient
        learned = of_scorer(better) <= value
        push = jax.grad(lambda fake: generator(score(better, fake), score(better, real), kind))(
            fake
        )
        return (fake - 0.05 * push, better), learned

    start = (jnp.zeros((1, 1)), jnp.array([0.1, 0.5]))
    (fake, _), learned = jax.jit(lambda carry: jax.lax.scan(step, carry, length=30))(start)
    assert learned.all()  # each step of the discriminator lowers its loss
    assert fake > 0.1  # and the restored number has moved towards the truth


@every_kind
def test_weights_count_images_and_hide_those_of_weight_zero(kind):
    weights = np.array([1, 0, 3, 0, 0], np.float32)
    repeated = [np.stack([scores[0], *(scores[2],) * 3]) for scores in (FAKE, REAL)]
    hidden = [np.where(weights[:, None] > 0, scores, np.nan) for scores in (FAKE, REAL)]
    for side in (generator, discriminator):
        value, gradient = jax.value_and_grad(
            lambda scores, side=side: side(*scores, kind, weights=weights)
        )(hidden)
        np.testing.assert_allclose(value, side(*repeated, kind), rtol=1e-5)
        assert all((each[weights == 0] == 0).all() for each in gradient)
        assert side(FAKE, REAL, kind, weights=np.zeros(5, bool)) == 0


@every_kind
def test_axis_name_takes_all_means_over_all_shards(kind):
    weights = np.arange(4, dtype=np.float32)
    for side in (generator, discriminator):
        whole = side(FAKE[:4], REAL[:4], kind, weights=weights)
        of_shard = functools.partial(side, kind=kind, axis_name="batch")
        shards = [array[:4].reshape(2, 2, 3) for array in (FAKE, REAL)]
        each = jax.vmap(
            lambda f, r, w, of_shard=of_shard: of_shard(f, r, weights=w), axis_name="batch"
        )(*shards, weights.reshape(2, 2))
        np.testing.assert_allclose(each, [whole, whole], rtol=1e-5)


@every_kind
def test_scores_of_any_rank_and_precision(kind):
    for side in (generator, discriminator):
        flat = side(FAKE.reshape(15), REAL.reshape(15), kind)
        np.testing.assert_allclose(
            side(FAKE.reshape(5, 1, 3), REAL.reshape(5, 1, 3), kind), flat, rtol=1e-6
        )
        half = side(jnp.asarray(FAKE, jnp.bfloat16), jnp.asarray(REAL, jnp.bfloat16), kind)
        assert half.dtype == jnp.float32
        one = jax.vmap(functools.partial(side, kind=kind))(FAKE[:, 0], REAL[:, 0])
        assert one.shape == (5,)


@every_kind
def test_scores_far_out_give_finite_losses_and_gradients(kind):
    for side in (generator, discriminator):
        for fake, real in ((1e4, -1e4), (-1e4, 1e4)):
            scores = (jnp.full((2, 1), fake), jnp.full((2, 1), real))
            value, gradient = jax.value_and_grad(lambda scores, side=side: side(*scores, kind))(
                scores
            )
            assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: adversarial_generator_loss(FAKE, kind="wgan"),
            "kind accepts 'non_saturating', 'hinge'",
        ),
        (lambda: adversarial_discriminator_loss(FAKE, REAL, kind="hings"), "did you mean 'hinge'"),
        (
            lambda: adversarial_generator_loss(FAKE, kind="relativistic_average"),
            "compares both scores: give real_sc",
        ),
        (
            lambda: adversarial_generator_loss(FAKE, REAL),
            "compares fake scores only: leave real_scores out",
        ),
        (lambda: adversarial_generator_loss(np.ones(3, int)), "fake_scores have dtype int.*logits"),
        (
            lambda: adversarial_discriminator_loss(FAKE, REAL[:4]),
            r"\(5, 3\) and real_scores \(4, 3\)",
        ),
        (lambda: adversarial_generator_loss(np.zeros((0, 1), np.float32)), "holds no score"),
        (
            lambda: adversarial_generator_loss(FAKE, weights=np.ones((5, 3))),
            r"one per image, \(5,\)",
        ),
        (lambda: adversarial_generator_loss(FAKE, weights=-np.ones(5)), "finite and not negative"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
