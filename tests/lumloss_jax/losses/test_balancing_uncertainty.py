"""Uncertainty weights: both totals against NumPy, never negative, and where scales settle."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.losses import uncertainty_init, uncertainty_loss, uncertainty_weights

LOSSES = {"luminance": 0.04, "parts": (0.3, 2.0)}
SCALES = {"luminance": 0.5, "parts": (-1.5, 3.0)}  # a sign has no meaning
LIKELIHOODS = ("gaussian", "laplace")


def as_arrays(tree):
    return jax.tree.map(jnp.float32, tree)


def test_by_hand():
    squares, values = np.array([0.25, 2.25, 9.0]), np.array([0.04, 0.3, 2.0])
    gaussian = (values / (2 * squares) + np.log(1 + squares)).sum()
    np.testing.assert_allclose(
        uncertainty_loss(as_arrays(SCALES), LOSSES, likelihood="gaussian"), gaussian, rtol=1e-6
    )
    laplace = (values / np.sqrt(squares) + np.log(1 + np.sqrt(squares))).sum()
    np.testing.assert_allclose(
        uncertainty_loss(as_arrays(SCALES), LOSSES, likelihood="laplace"), laplace, rtol=1e-6
    )


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_total_is_finite_and_never_negative(likelihood):
    scales, values = np.meshgrid(
        np.r_[-np.logspace(-6, 3, 40), 0, np.logspace(-6, 3, 40)], np.r_[0, np.logspace(-6, 3)]
    )
    run = jax.jit(
        jax.vmap(
            jax.value_and_grad(lambda s, loss: uncertainty_loss(s, loss, likelihood=likelihood))
        )
    )
    totals, gradients = run(scales.ravel().astype(np.float32), values.ravel().astype(np.float32))
    assert (totals >= 0).all() and np.isfinite(totals).all() and np.isfinite(gradients).all()
    # Kendall's own log s^2 goes below 0 there: at s = 0.1 with a loss of 0.001 it is 0.05 - 4.6.
    np.testing.assert_allclose(
        uncertainty_loss(0.1, 0.001, likelihood="gaussian"), 0.05 + np.log(1.01), rtol=1e-5
    )


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_scales_learn_to_settle_where_calculus_says(likelihood):
    """The roots of 2 s^4 = L (1 + s^2) and of s^2 = L (1 + s).

    They are s^2 = (L + sqrt(L^2 + 8 L)) / 4 and s = (L + sqrt(L^2 + 4 L)) / 2.
    """
    values = {"a": 0.02, "b": 1.0}
    settled = {
        name: np.sqrt((v + np.sqrt(v * v + 8 * v)) / 4)
        if likelihood == "gaussian"
        else (v + np.sqrt(v * v + 4 * v)) / 2
        for name, v in values.items()
    }

    @jax.jit
    def learn(scales):
        def step(scales, _):
            gradient = jax.grad(uncertainty_loss)(scales, values, likelihood=likelihood)
            return jax.tree.map(lambda s, g: s - 0.05 * g, scales, gradient), None

        return jax.lax.scan(step, scales, length=600)[0]

    learned = learn(uncertainty_init(values))
    chex.assert_trees_all_close(learned, as_arrays(settled), rtol=1e-4)
    flat = jax.grad(uncertainty_loss)(as_arrays(settled), values, likelihood=likelihood)
    chex.assert_trees_all_close(flat, as_arrays(dict.fromkeys(values, 0)), atol=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_weights_are_the_slopes_of_the_total(likelihood):
    slopes = jax.grad(uncertainty_loss, argnums=1)(
        as_arrays(SCALES), as_arrays(LOSSES), likelihood=likelihood
    )
    weights = uncertainty_weights(as_arrays(SCALES), likelihood=likelihood)
    chex.assert_trees_all_close(weights, slopes, rtol=1e-6)
    by_hand = 2.0 if likelihood == "gaussian" else 2.0  # 1 / (2 * 0.25) and 1 / 0.5
    np.testing.assert_allclose(weights["luminance"], by_hand, rtol=1e-6)


def test_scales_begin_at_one_in_the_losses_structure():
    scales = uncertainty_init(as_arrays(LOSSES))
    chex.assert_trees_all_equal(scales, jax.tree.map(lambda _: jnp.ones(()), LOSSES))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(scales))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uncertainty_init({}), "losses are empty"),
        (
            lambda: uncertainty_init({"l1": np.ones(3)}),
            r"losses\['l1'\] has shape \(3,\), but there must be one scalar per loss",
        ),
        (
            lambda: uncertainty_loss({"l1": 1.0}, {"mse": 1.0}, likelihood="laplace"),
            "scales have structure .*'l1'.* not .*'mse'",
        ),
        (
            lambda: uncertainty_loss({"l1": np.ones(2)}, {"l1": 1.0}, likelihood="laplace"),
            r"scales\['l1'\] has shape \(2,\)",
        ),
        (
            lambda: uncertainty_loss(1.0, 1.0, likelihood="laplacian"),
            "likelihood accepts 'gaussian', 'laplace'.*did you",
        ),
        (lambda: uncertainty_weights(1.0, likelihood=None), "likelihood accepts"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
