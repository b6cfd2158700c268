"""Pixel losses against outside implementations, against NumPy in float64, and by hand."""

import dm_pix
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lumloss_jax import losses

SHAPES = [(1, 1, 1), (5, 4, 3), (2, 3, 7, 1), (2, 2, 6, 5, 3)]
REFERENCES = {
    losses.l1_loss: lambda d: np.abs(d),
    losses.mse_loss: lambda d: d**2,
    losses.charbonnier_loss: lambda d: np.sqrt(d**2 + 1e-3**2),
    losses.huber_loss: lambda d: np.where(np.abs(d) <= 0.05, d**2 / 2, 0.05 * (np.abs(d) - 0.025)),
}


@hypothesis.given(
    loss=st.sampled_from(list(REFERENCES)),
    shape=st.sampled_from(SHAPES),
    masked=st.sampled_from(["no", "bool", "int", "float", "per image"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_numpy_in_float64(loss, shape, masked, seed):
    rng = np.random.default_rng(seed)
    predictions, targets = (rng.uniform(-0.2, 1.2, shape).astype(np.float32) for _ in range(2))
    mask = {
        "no": None,
        "bool": rng.random(shape[:-1]) < 0.7,
        "int": rng.integers(0, 4, shape[:-1]).astype(np.int32),
        "float": rng.random((*shape[:-1], 1)).astype(np.float32),
        "per image": rng.random((*shape[:-3], 1, 1)).astype(np.float32),
    }[masked]
    penalty = REFERENCES[loss](predictions.astype(np.float64) - targets.astype(np.float64))
    weights = np.ones(shape) if mask is None else np.asarray(mask, np.float64)
    weights = weights if weights.ndim == len(shape) else weights[..., None]
    weights = np.broadcast_to(weights, shape)
    expected = (penalty * weights).sum() / weights.sum() if weights.any() else 0.0
    value = jax.jit(loss)(predictions, targets, mask=mask)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_optax_and_dm_pix():
    first, second = jax.random.split(jax.random.key(0))
    predictions, targets = (jax.random.uniform(key, (2, 9, 8, 3)) for key in (first, second))
    for delta in (0.05, 0.3, 1.0):
        expected = jnp.mean(optax.losses.huber_loss(predictions, targets, delta=delta))
        np.testing.assert_allclose(
            losses.huber_loss(predictions, targets, delta=delta), expected, rtol=1e-6
        )
    np.testing.assert_allclose(
        losses.l1_loss(predictions, targets), dm_pix.mae(predictions, targets).mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
        losses.mse_loss(predictions, targets), dm_pix.mse(predictions, targets).mean(), rtol=1e-6
    )


def test_reference_batch(reference_batch):
    # Values and gradients by PyTorch in float64: mean |d|, mean d^2, mean sqrt(d^2 + 1e-6).
    predictions, targets, expected = reference_batch
    by_name = {
        "l1": losses.l1_loss,
        "mse": losses.mse_loss,
        "charbonnier_eps1e-3": losses.charbonnier_loss,
    }
    for name, loss in by_name.items():
        value, gradient = jax.value_and_grad(loss)(predictions, targets)
        np.testing.assert_allclose(value, expected[name]["value"], rtol=2e-6)
        np.testing.assert_allclose(jnp.linalg.norm(gradient), expected[name]["grad_l2"], rtol=1e-5)
        for place, wanted in expected[name]["grad_at"].items():
            n, c, h, w = (int(i) for i in place.strip("[]").split(","))
            # The differences themselves are float32: near a difference of 0 the curve turns them
            # into 1e-4.
            np.testing.assert_allclose(gradient[n, h, w, c], wanted, rtol=1e-4)


def test_numbers_of_other_libraries(golden_pairs):
    for name in ("random_13x17_rgb", "random_11x11_grey", "rocket_64x64_one_count"):
        reference, test, expected = golden_pairs[name]
        for key, loss in (
            ("l1", losses.l1_loss),
            ("mse", losses.mse_loss),
            ("charbonnier_eps1e-3", losses.charbonnier_loss),
        ):
            value = loss(test / np.float32(255), reference / np.float32(255))
            np.testing.assert_allclose(
                value, expected[key], rtol=1e-5, atol=1e-9, err_msg=f"{name} {key}"
            )


def test_by_hand():
    targets = jnp.zeros((1, 2, 2, 1))
    predictions = jnp.array([0.3, -0.4, 0.0, 0.1]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(losses.l1_loss(predictions, targets), 0.8 / 4, rtol=1e-6)
    np.testing.assert_allclose(losses.mse_loss(predictions, targets), 0.26 / 4, rtol=1e-6)
    # Half of 0.1^2 within delta, delta (|d| - delta / 2) beyond.
    expected = (0.2 * (0.3 - 0.1) + 0.2 * (0.4 - 0.1) + 0 + 0.005) / 4
    np.testing.assert_allclose(
        losses.huber_loss(predictions, targets, delta=0.2), expected, rtol=1e-6
    )
    expected = (0.5 + np.sqrt(0.32) + 0.4 + np.sqrt(0.17)) / 4
    np.testing.assert_allclose(
        losses.charbonnier_loss(predictions, targets, epsilon=0.4), expected, rtol=1e-6
    )
    mask = jnp.array([1, 3, 0, 0]).reshape(1, 2, 2)
    np.testing.assert_allclose(
        losses.l1_loss(predictions, targets, mask=mask), (0.3 + 3 * 0.4) / 4, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("loss", "option"), [(losses.charbonnier_loss, "epsilon"), (losses.huber_loss, "delta")]
)
def test_scales_may_be_traced_and_must_be_positive(loss, option):
    predictions, targets = jnp.full((1, 2, 2, 1), 0.3), jnp.zeros((1, 2, 2, 1))
    traces = []

    @jax.jit
    def traced(scale):
        traces.append(1)
        return loss(predictions, targets, **{option: scale})

    for scale in (0.1, 0.5):
        np.testing.assert_allclose(
            traced(scale), loss(predictions, targets, **{option: scale}), rtol=1e-6
        )
    assert len(traces) == 1
    for wrong in (0.0, -1.0, 1e-30):
        with pytest.raises(ValueError, match=option):
            loss(predictions, targets, **{option: wrong})
    with pytest.raises(ValueError, match=rf"{option} must be one number"):
        loss(predictions, targets, **{option: jnp.ones(3)})
    # The smallest that is taken still has a finite gradient where the images are equal.
    gradient = jax.grad(loss)(targets, targets, **{option: 1e-18})
    assert np.isfinite(gradient).all()
