"""How clean patches are degraded before a network sees them: noise, or low light with noise."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lumloss_jax import degradations
from train.data.batch import Pair
from train.randomness import EXPOSURE_STREAM, LEVEL_STREAM, NOISE_STREAM


class DegradedBatch(NamedTuple):
    """What the network gets, and what it should give."""

    noisy: jax.Array
    clean: jax.Array
    sigma: jax.Array  # () or [B]


def degrade(
    key: jax.Array,
    numbers: jax.Array,
    batch: jax.Array | Pair,
    *,
    sigma: float,
    blind: bool,
    low_light: tuple[float, float] | None = None,
) -> DegradedBatch:
    """What the network gets of a batch, degraded afresh.

    A sample's draws are its own, by its number in the run: however batches are divided over
    devices.

    Args:
      key: of the run's seed.
      numbers: of the batch's samples in the run.
      batch: clean patches ``[B, H, W, C]``, or a pair, which is taken as it is.
      sigma: standard deviation of the Gaussian noise in image units (25/255).
      blind: sigma is the highest, and each patch has one of its own, uniform from 0.
      low_light: least and largest share of the light that is left to a patch, each as likely as any
        between them by its logarithm. Noise is then the sensor's, in linear light
        (:func:`lumloss_jax.degradations.low_light`), and sigma is not used.
    """
    if isinstance(batch, Pair):
        return DegradedBatch(batch.degraded, batch.clean, jnp.float32(sigma))
    chex.assert_rank(batch, 4)  # (B, H, W, C)

    def keys_of(stream: int) -> jax.Array:
        return jax.vmap(functools.partial(jax.random.fold_in, jax.random.fold_in(key, stream)))(
            numbers
        )

    if low_light is not None:
        exposures = jax.vmap(functools.partial(draw_exposure, between=low_light))(
            keys_of(EXPOSURE_STREAM)
        )
        return DegradedBatch(
            jax.vmap(darken)(keys_of(NOISE_STREAM), batch, exposures), batch, jnp.float32(0)
        )
    level = jnp.full(batch.shape[:1], sigma, jnp.float32)
    if blind:
        level = jax.vmap(lambda key: degradations.blind_sigma(key, (), minimum=0.0, maximum=sigma))(
            keys_of(LEVEL_STREAM)
        )
    noisy = jax.vmap(
        lambda key, image, level: degradations.gaussian_noise(key, image, sigma=level)
    )(keys_of(NOISE_STREAM), batch, level)
    return DegradedBatch(noisy, batch, level if blind else jnp.float32(sigma))


def draw_exposure(key: jax.Array, between: tuple[float, float]) -> jax.Array:
    """The share of the light that is left to an image, log-uniform between two shares."""
    least, largest = np.log(between).astype(np.float32)
    return (
        jnp.exp(jax.random.uniform(key, (), jnp.float32, least, largest))
        if least < largest
        else jnp.exp(least)
    )


def darken(key: jax.Array, image: jax.Array, exposure: jax.Array) -> jax.Array:
    """The image ``[H, W, C]`` in that share of its light, with the noise of a sensor."""
    return degradations.low_light(key, image, exposure=exposure)
