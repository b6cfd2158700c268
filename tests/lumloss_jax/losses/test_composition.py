"""Weighted sums of named losses: totals, terms, names, and what is handed on to each loss."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import losses, luminance_l1_terms
from lumloss_jax.losses import make_loss, parse_loss, weighted_sum

TARGETS = np.full((2, 12, 12, 3), 0.25, np.float32)
BRIGHTER = TARGETS + np.float32(0.5)  # l1 0.5, mse 0.25
PREDICTIONS = np.random.default_rng(0).uniform(0, 1, TARGETS.shape).astype(np.float32)
MASK = np.random.default_rng(1).uniform(0, 1, TARGETS.shape[:-1]).astype(np.float32)
TWO = {"l1": losses.l1_loss, "mse": losses.mse_loss}


def test_by_hand():
    total, terms = weighted_sum(TWO, {"mse": 10.0, "l1": 2}, BRIGHTER, TARGETS)
    np.testing.assert_allclose(total, 2 * 0.5 + 10 * 0.25, rtol=1e-6)
    assert list(terms) == ["l1", "mse"]  # in the order of the losses; unweighted
    np.testing.assert_allclose([terms["l1"], terms["mse"]], [0.5, 0.25], rtol=1e-6)
    total, terms = make_loss("2*l1 + 10*mse")(BRIGHTER, TARGETS)
    np.testing.assert_allclose([total, terms["l1"], terms["mse"]], [3.5, 0.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_the_total_of_a_spec_is_the_sum_of_its_losses(mask):
    spec = "0.84*ms_ssim(scale_weights=(1,)) + 0.16*l1"
    spec += " + 0.5*luminance_l1(color_weight=2, window_size=3)"
    keywords = {} if mask is None else {"mask": mask}
    apart = (
        (0.84, functools.partial(losses.ms_ssim_loss, scale_weights=(1.0,))),
        (0.16, losses.l1_loss),
        (0.5, functools.partial(losses.luminance_l1_loss, color_weight=2, window_size=3)),
    )
    by_one = jax.jit(functools.partial(make_loss(spec), **keywords))
    one_by_one = jax.jit(
        lambda p, t: sum(weight * loss(p, t, **keywords) for weight, loss in apart)
    )
    np.testing.assert_allclose(
        by_one(PREDICTIONS, TARGETS)[0], one_by_one(PREDICTIONS, TARGETS), rtol=1e-6
    )


def test_a_luminance_term_is_followed_by_its_parts():
    _, terms = make_loss("0.5*luminance_l1 + mse")(PREDICTIONS, TARGETS)
    assert list(terms) == ["luminance_l1", "luminance", "color", "mse"]
    apart = luminance_l1_terms(PREDICTIONS, TARGETS)
    np.testing.assert_allclose([terms["luminance"], terms["color"]], apart, rtol=1e-6)
    np.testing.assert_allclose(
        terms["luminance_l1"], 0.5 * apart.luminance + 0.5 * apart.color, rtol=1e-6
    )


def test_parts_that_would_share_a_name_carry_their_losss():
    _, terms = make_loss("luminance_l1 + luminance_l1(window_size=3)")(PREDICTIONS, TARGETS)
    assert list(terms) == [
        "luminance_l1",
        "luminance_l1.luminance",
        "luminance_l1.color",
        "luminance_l1(window_size=3)",
        "luminance_l1(window_size=3).luminance",
        "luminance_l1(window_size=3).color",
    ]
    # A part that bears a loss's name gives way too.
    with_color = {
        "luminance_l1": lambda p, t: make_loss("luminance_l1")(p, t),
        "color": losses.l1_loss,
    }
    _, terms = weighted_sum(with_color, {"luminance_l1": 1, "color": 1}, PREDICTIONS, TARGETS)
    assert [name for name in terms if "color" in name] == ["luminance_l1.color", "color"]


def test_the_same_spec_is_the_same_function():
    assert (
        make_loss("l1 + 2*mse")
        is make_loss("1.0 * l1 + 2.0 * mse")
        is make_loss(parse_loss("l1 + 2*mse"))
    )
    assert make_loss("l1 + 2*mse") is not make_loss("2*mse + l1")


def test_mask_and_axis_name_reach_every_loss_if_given():
    calls = []

    def recorder(predictions, targets, **keywords):
        calls.append(keywords)
        return jnp.zeros(())

    both = {
        "a": recorder,
        "b": lambda predictions, targets, *, mask=None, axis_name=None: recorder(0, 0, mask=mask),
    }
    weighted_sum(both, {"a": 1, "b": 1}, PREDICTIONS, TARGETS, mask=MASK, axis_name="batch")
    assert calls[0] == {"mask": MASK, "axis_name": "batch"} and calls[1] == {"mask": MASK}
    del calls[:]
    weighted_sum(
        {"plain": lambda predictions, targets: recorder(0, 0)}, {"plain": 1}, PREDICTIONS, TARGETS
    )
    assert calls == [{}]


def test_axis_name_gives_the_total_and_the_terms_of_all_shards():
    loss = make_loss("0.5*luminance_l1 + mse")
    uneven = MASK * np.array([1, 0.25], np.float32).reshape(2, 1, 1)
    whole = loss(PREDICTIONS, TARGETS, mask=uneven)
    shards = tuple(array[:, None] for array in (PREDICTIONS, TARGETS, uneven))
    each = jax.vmap(lambda p, t, mask: loss(p, t, mask=mask, axis_name="batch"), axis_name="batch")(
        *shards
    )
    chex.assert_trees_all_close(
        each, jax.tree.map(lambda value: jnp.stack([value, value]), whole), rtol=1e-5
    )


def test_weights_are_data():
    """Weights given at the call replace the spec's, cost no new trace, and can be learned."""
    loss = make_loss("2*l1 + mse")

    @jax.jit
    @chex.assert_max_traces(n=1)
    def total(weights):
        return loss(BRIGHTER, TARGETS, weights=weights)[0]

    for l1, mse in ((1.0, 0.0), (0.5, 4.0)):
        np.testing.assert_allclose(total({"l1": l1, "mse": mse}), 0.5 * l1 + 0.25 * mse, rtol=1e-6)
    gradient = jax.grad(lambda weights: loss(BRIGHTER, TARGETS, weights=weights)[0])(
        {"l1": 1.0, "mse": 1.0}
    )
    np.testing.assert_allclose([gradient["l1"], gradient["mse"]], [0.5, 0.25], rtol=1e-6)


def test_predictions_may_be_whatever_the_losses_take():
    def on_dicts(predictions, targets):
        return losses.l1_loss(predictions["image"], targets["clean"])

    total, _ = weighted_sum({"own": on_dicts}, {"own": 3}, {"image": BRIGHTER}, {"clean": TARGETS})
    np.testing.assert_allclose(total, 1.5, rtol=1e-6)


def test_a_composition_is_a_loss_of_a_composition():
    inner = make_loss("l1 + mse")
    nested = {"pixels": inner, "charbonnier": losses.charbonnier_loss}
    total, terms = weighted_sum(nested, {"pixels": 2, "charbonnier": 0}, BRIGHTER, TARGETS)
    assert list(terms) == ["pixels", "l1", "mse", "charbonnier"]
    np.testing.assert_allclose([total, terms["pixels"]], [1.5, 0.75], rtol=1e-6)


ONE = {"l1": losses.l1_loss}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, {}), "losses is empty"),
        ((ONE, {}), "weights lacks 'l1': give every loss a weight"),
        (
            (ONE, {"l1": 1, "l1s": 1}),
            "weights has 'l1s', but the losses are 'l1'; did you mean 'l1'?",
        ),
        ((ONE, {"l1": -1}), "the weight of 'l1' must be finite and not negative; got -1"),
        (
            (ONE, {"l1": np.ones(2)}),
            "the weight of 'l1' must be one number, shape (); got shape (2,)",
        ),
        (
            ({"own": lambda p, t: jnp.abs(p - t)}, {"own": 1}),
            "'own' returned an array of shape (2, 12, 12, 3)",
        ),
        (
            ({"own": lambda p, t: 0.0}, {"own": 1}),
            "'own' returned float, but a loss must return one scalar array",
        ),
        (({"own": lambda p, t: None}, {"own": 1}), "'own' returned NoneType"),
        (
            ({"own": lambda p, t: (jnp.zeros(()), {"map": p})}, {"own": 1}),
            "'own.map' returned an array of shape (2,",
        ),
    ],
)
def test_what_is_no_weighted_sum_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        weighted_sum(*arguments, PREDICTIONS, TARGETS)


def test_a_loss_that_takes_no_mask_is_named():
    for keyword, value in (("mask", MASK), ("axis_name", "batch")):
        with pytest.raises(
            ValueError, match=rf"the loss 'own' does not accept {keyword}: leave {keyword} out"
        ):
            weighted_sum(
                {"own": lambda p, t: jnp.zeros(())},
                {"own": 1},
                PREDICTIONS,
                TARGETS,
                **{keyword: value},
            )


def test_a_weight_for_no_term_of_the_spec_is_named():
    with pytest.raises(
        ValueError, match="weights has 'luminance', but the losses are 'luminance_l1'"
    ):
        make_loss("luminance_l1")(PREDICTIONS, TARGETS, weights={"luminance_l1": 1, "luminance": 1})
