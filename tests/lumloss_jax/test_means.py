"""Means under weights, and what a mask hides."""

import jax
import jax.numpy as jnp
import numpy as np

from lumloss_jax import _means

FLOAT32 = jnp.dtype(jnp.float32)


def test_weighted_mean_is_numpys_average() -> None:
    generator = np.random.default_rng(0)
    values, weights = generator.random((2, 4, 5, 3)), generator.random((2, 1, 5, 1))
    expected = np.average(values, weights=np.broadcast_to(weights, values.shape))
    result = _means.weighted_mean(jnp.asarray(values, FLOAT32), jnp.asarray(weights, FLOAT32))
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_allclose(
        _means.weighted_mean(jnp.asarray(values, FLOAT32), None), values.mean(), rtol=1e-6
    )


def test_the_mean_under_no_weight_is_zero_and_so_is_its_gradient() -> None:
    mean, gradient = jax.value_and_grad(_means.weighted_mean)(
        jnp.ones((2, 2, 3)), jnp.zeros((2, 2, 1))
    )
    assert mean == 0 and (gradient == 0).all()


def test_the_mean_of_millions_of_values_keeps_float32s_accuracy() -> None:
    values = np.random.default_rng(0).random((4, 512, 512, 3), np.float32)
    expected = values.mean(dtype=np.float64)
    np.testing.assert_allclose(_means.weighted_mean(jnp.asarray(values), None), expected, rtol=1e-6)
    ones = jnp.ones((4, 512, 512, 1))
    np.testing.assert_allclose(_means.weighted_mean(jnp.asarray(values), ones), expected, rtol=1e-6)


def test_what_a_mask_hides_reaches_neither_value_nor_gradient() -> None:
    image, mask = jnp.array([[[jnp.nan], [2.0]]]), jnp.array([[[0.0], [0.5]]])
    np.testing.assert_array_equal(_means.hide_masked(image, mask), [[[0], [2]]])
    gradient = jax.grad(lambda image: jnp.sum(jnp.square(_means.hide_masked(image, mask))))(image)
    np.testing.assert_array_equal(gradient, [[[0], [4]]])
    assert _means.hide_masked(image, None) is image
