"""The sum of three channels has two forms, for CPUs and for other devices.

Both run here and must agree.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lumloss_jax.color import _luma

WEIGHTS = (0.299, 0.587, 0.114)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 1.5, (2, 3, 4, 3)).astype(np.float32))
WAYS = {"slices": _luma._sum_of_slices, "strides": _luma._sum_of_strides}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_the_dot_product(way):
    weigh = WAYS[way]
    expected = np.asarray(IMAGES, np.float64) @ np.array(WEIGHTS)
    np.testing.assert_allclose(weigh(IMAGES, WEIGHTS)[..., 0], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        jax.vmap(lambda x: weigh(x, WEIGHTS))(IMAGES)[..., 0], expected, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("way", WAYS)
def test_each_ways_derivatives_are_the_weights(way):
    def total(images):
        return jnp.sum(jnp.sin(WAYS[way](images, WEIGHTS)))

    slope = np.cos(np.asarray(IMAGES, np.float64) @ np.array(WEIGHTS))[..., None]
    np.testing.assert_allclose(
        jax.grad(total)(IMAGES), slope * np.array(WEIGHTS), rtol=1e-5, atol=1e-6
    )
    by_image = jax.vmap(jax.grad(total))(IMAGES)
    np.testing.assert_allclose(by_image, slope * np.array(WEIGHTS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_differentiates_forwards_and_twice(way, float64):
    images = IMAGES[:1, :2].astype(jnp.float64)
    check_grads(
        lambda x: jnp.sin(WAYS[way](x, WEIGHTS)),
        (images,),
        order=2,
        modes=("fwd", "rev"),
        atol=1e-6,
        rtol=1e-6,
    )
