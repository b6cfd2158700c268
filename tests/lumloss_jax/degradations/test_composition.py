"""Composition against the same steps written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.degradations import (
    compose,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    poisson_gaussian_noise,
)

KEY = jax.random.key(3)
IMAGE = jax.random.uniform(jax.random.key(0), (2, 24, 24, 3))
BLUR = partial(gaussian_blur, sigma=1.0)
NOISE = partial(gaussian_noise, sigma=0.1)
FILE = partial(jpeg, quality=50)


def test_steps_follow_one_another_with_keys_of_their_own():
    def written_out(key, image):
        return FILE(None, NOISE(jax.random.fold_in(key, 1), BLUR(None, image)))

    expected = jax.jit(written_out)(KEY, IMAGE)
    np.testing.assert_array_equal(jax.jit(compose(BLUR, NOISE, FILE))(KEY, IMAGE), expected)


def test_order_counts():
    one, other = (jax.jit(compose(*steps))(KEY, IMAGE) for steps in ((BLUR, NOISE), (NOISE, BLUR)))
    assert np.abs(one - other).max() > 0.05


def test_noises_of_two_steps_are_independent():
    grey = jnp.full((128, 128, 3), 0.5)
    twice = np.asarray(compose(NOISE, NOISE)(KEY, grey) - grey, np.float64)
    # The same noise twice would have a variance of 4, two independent ones of 2 times 0.01.
    assert abs((twice**2).mean() / 0.02 - 1) < 4.5 * (2 / twice.size) ** 0.5


def test_a_step_added_at_the_end_leaves_the_noise_before_it():
    seen = []

    def spy(key, image):
        seen.append(image)
        return image

    compose(NOISE, spy)(KEY, IMAGE)
    np.testing.assert_array_equal(seen[0], compose(NOISE)(KEY, IMAGE))


def test_compositions_compose_jit_and_differentiate():
    inner = compose(NOISE, partial(poisson_gaussian_noise, shot_variance=0.01, read_variance=0.0))
    degrade = compose(BLUR, inner, FILE)
    assert jax.eval_shape(degrade, KEY, IMAGE).shape == IMAGE.shape
    gradient = jax.jit(jax.grad(lambda x: jnp.square(degrade(KEY, x)).sum()))(IMAGE)
    assert np.isfinite(gradient).all() and gradient.any()


def test_what_is_no_degradation_is_refused():
    with pytest.raises(ValueError, match="at least one degradation"):
        compose()
    with pytest.raises(
        ValueError, match="accepts functions of a key and an image; got 0.1.*functools.partial"
    ):
        compose(NOISE, 0.1)
    with pytest.raises(ValueError, match="key must be a jax.random key"):
        compose(NOISE)(0, IMAGE)
