"""GradNorm: steps by hand, where its weights settle, and norms of gradients against jax.grad."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.losses import gradient_norms, gradnorm_init, gradnorm_update

NORMS = {"a": 1.0, "b": 2.0}  # two linear losses: the norms of their gradients stand still


def as_arrays(tree):
    return jax.tree.map(jnp.float32, tree)


def test_a_step_by_hand():
    state = gradnorm_init({"a": 1.0, "b": 1.0})
    # alpha 0: G = (1, 2), mean 1.5, both aim at 1.5. Slopes -1 / 1.5 and 2 / 1.5, times 0.1: 1.0667
    # and 0.8667, which are scaled to sum to 2.
    state = gradnorm_update(state, {"a": 0.5, "b": 1.0}, NORMS, alpha=0.0, learning_rate=0.1)
    wanted = np.array([1 + 0.1 / 1.5, 1 - 0.2 / 1.5])
    np.testing.assert_allclose(list(state.weights.values()), 2 * wanted / wanted.sum(), rtol=1e-6)
    assert list(state.initial_losses.values()) == [1, 1]


def test_a_step_by_hand_with_rates():
    state = gradnorm_init({"a": 2.0, "b": 4.0})
    # Left are 1/4 and 3/4, mean 1/2: rates 1/2 and 3/2. G = (1, 2): aims 1.5 (1/2)^2 = 0.375 and
    # 1.5 (3/2)^2 = 3.375.
    state = gradnorm_update(state, {"a": 0.5, "b": 3.0}, NORMS, alpha=2.0, learning_rate=0.1)
    wanted = np.array([1 - 0.1 / 1.5, 1 + 0.2 / 1.5])
    np.testing.assert_allclose(list(state.weights.values()), 2 * wanted / wanted.sum(), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_weights_settle_where_weighted_norms_stand_as_the_rates(alpha):
    """w_i n_i is proportional to r_i^alpha.

    With norms 1 and 2 and rates 1/2 and 3/2, w is 1 : 1/2 or 1/2 : 3/4.
    """
    losses, settled = {"a": 0.25, "b": 0.75}, {0.0: (4 / 3, 2 / 3), 1.0: (4 / 5, 6 / 5)}[alpha]

    @jax.jit
    def run(state):
        def step(state, _):
            return gradnorm_update(state, losses, NORMS, alpha=alpha, learning_rate=1e-3), None

        return jax.lax.scan(step, state, length=1000)[0]

    state = run(gradnorm_init({"a": 1.0, "b": 1.0}))
    # It moves by steps of 1e-3
    np.testing.assert_allclose(list(state.weights.values()), settled, atol=4e-3)


def test_a_loss_that_lags_behind_trains_faster_than_without():
    """Two quadratics, one 100 times the other, under one step size for both."""

    def losses(x):
        return {"small": 0.01 * jnp.square(x[0] - 1), "large": jnp.square(x[1] + 1)}

    def train(learning_rate):
        def step(carry, _):
            x, state = carry
            state = gradnorm_update(
                state, losses(x), gradient_norms(losses, x), learning_rate=learning_rate
            )
            weights = state.weights
            gradient = jax.grad(
                lambda x: sum(weights[name] * loss for name, loss in losses(x).items())
            )(x)
            return (x - 0.2 * gradient, state), None

        x = jnp.zeros(2)
        (x, state), _ = jax.lax.scan(step, (x, gradnorm_init(losses(x))), length=60)
        return {name: loss / state.initial_losses[name] for name, loss in losses(x).items()}

    plain, balanced = (jax.jit(train)(rate) for rate in (0.0, 0.05))
    # The weights stayed at 1
    np.testing.assert_allclose(plain["small"], (1 - 0.2 * 2 * 0.01) ** 120, rtol=1e-4)
    assert balanced["small"] < 0.75 * plain["small"]


def test_weights_are_pure_data():
    losses = as_arrays({"a": 0.5, "b": (1.0, 2.0)})
    norms = as_arrays({"a": 1.0, "b": (0.0, 3.0)})
    state = gradnorm_init(losses)
    new = jax.jit(gradnorm_update)(state, losses, norms, alpha=1.5, learning_rate=0.025)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    np.testing.assert_allclose(sum(jax.tree.leaves(new.weights)), 3, rtol=1e-6)
    chex.assert_trees_all_equal(new.initial_losses, losses)
    # No gradient flows through it.
    gradient = jax.grad(lambda losses: gradnorm_update(state, losses, norms).weights["a"])(losses)
    chex.assert_trees_all_equal(gradient, jax.tree.map(jnp.zeros_like, losses))


def test_losses_and_norms_of_zero_give_finite_weights_above_zero():
    zeros = {"a": 0.0, "b": 0.0}
    for initial, losses, norms in (
        (zeros, zeros, zeros),
        ({"a": 1.0, "b": 0.0}, zeros, NORMS),
        (NORMS, NORMS, zeros),
    ):
        state = gradnorm_init(initial)
        for _ in range(3):
            state = gradnorm_update(state, losses, norms, learning_rate=10.0)
        weights = np.array(list(state.weights.values()))
        assert np.isfinite(weights).all() and (weights > 0).all()


def test_norms_against_one_gradient_for_each_loss():
    parameters = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.array([0.5, -1.0, 2.0])}

    def losses(p):
        out = jnp.array([1.0, -2.0]) @ p["kernel"] + p["bias"]
        return {
            "squares": jnp.sum(out * out),
            "rest": [jnp.sum(jnp.sin(out)), jnp.max(p["kernel"])],
        }

    norms = gradient_norms(losses, parameters)
    for pick in (lambda v: v["squares"], lambda v: v["rest"][0], lambda v: v["rest"][1]):
        gradient = jax.grad(lambda p, pick=pick: pick(losses(p)))(parameters)
        wanted = np.sqrt(sum((np.float64(leaf) ** 2).sum() for leaf in jax.tree.leaves(gradient)))
        np.testing.assert_allclose(pick(norms), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradnorm_init([]), "losses are empty"),
        (lambda: gradnorm_init({"a": np.ones(2)}), r"losses\['a'\] has shape \(2,\)"),
        (lambda: gradnorm_update(gradnorm_init(NORMS), {"a": 1.0}, NORMS), "losses have structure"),
        (lambda: gradnorm_update(gradnorm_init(NORMS), NORMS, (1.0, 2.0)), "norms have structure"),
        (
            lambda: gradnorm_update(gradnorm_init(NORMS), NORMS, NORMS, alpha=-1),
            "alpha must be .* not negative; got -1",
        ),
        (
            lambda: gradnorm_update(gradnorm_init(NORMS), NORMS, NORMS, learning_rate=np.ones(2)),
            "learning_rate must be",
        ),
        (
            lambda: gradient_norms(lambda x: {"a": x}, jnp.ones(3)),
            r"losses\['a'\] has shape \(3,\)",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
