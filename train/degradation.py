"""Degrades clean patches before a network sees them, by noise or by low light with noise."""

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
    """The network's input, and its target."""

    noisy: jax.Array  # [B, H, W, C], about 0 to 1
    clean: jax.Array  # [B, H, W, C], 0 to 1
    sigma: jax.Array  # () or [B]: standard deviation of the noise, in image units


def degrade(
    key: jax.Array,
    numbers: jax.Array,
    batch: jax.Array | Pair,
    *,
    sigma: float,
    blind: bool,
    low_light: tuple[float, float] | None = None,
) -> DegradedBatch:
    """Degrades a batch, with new random numbers for every sample.

    The random numbers of a sample depend on its number in the run. They do not depend on how
    batches are divided over devices.

    Args:
      key: random key, made of the run's seed.
      numbers: numbers of the batch's samples in the run.
      batch: clean patches ``[B, H, W, C]``, or a pair, which is used as it is.
      sigma: standard deviation of the Gaussian noise in image units (25/255).
      blind: give each patch its own standard deviation, drawn uniformly from 0 to ``sigma``.
      low_light: smallest and largest share of the light that is left to a patch. Its logarithm is
        drawn uniformly. The noise is then that of a sensor, in linear light
        (:func:`lumloss_jax.degradations.low_light`), and ``sigma`` is not used.

    Returns:
      The degraded and the clean batch, and the noise levels.
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
    """Draws the share of light that is left to an image. Its logarithm is uniform."""
    least, largest = np.log(between).astype(np.float32)
    return (
        jnp.exp(jax.random.uniform(key, (), jnp.float32, least, largest))
        if least < largest
        else jnp.exp(least)
    )


def darken(key: jax.Array, image: jax.Array, exposure: jax.Array) -> jax.Array:
    """Darkens an image.

    Args:
      key: random key of the noise.
      image: clean, ``[H, W, C]``, 0 to 1.
      exposure: share of the light that is left, above 0 and at most 1.

    Returns:
      The image with that share of its light, and with the noise of a sensor.
    """
    return degradations.low_light(key, image, exposure=exposure)
