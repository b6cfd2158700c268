"""What is done to clean photographs before a network sees them: noise, or low light and the noise of its sensor."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lumloss_jax import degradations
from train.config import DataConfig
from train.data.batch import Pair
from train.data.images import to_float
from train.data.sources import Source
from train.data.splits import Splits
from train.fixed_draws import key_of, on_cpu

# One stream of random numbers for each purpose of a run's seed.
INIT_STREAM, NOISE_STREAM, LEVEL_STREAM, EXPOSURE_STREAM = 0, 1, 2, 3

_TESTED_SEED = (
    0  # of what photographs are tested with: the same in every run, whatever its own seed
)


class Part(NamedTuple):
    """What the network gets of a batch, and what it should give."""

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
) -> Part:
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
        return Part(batch.degraded, batch.clean, jnp.float32(sigma))
    chex.assert_rank(batch, 4)  # (B, H, W, C)

    def keys_of(stream: int) -> jax.Array:
        return jax.vmap(functools.partial(jax.random.fold_in, jax.random.fold_in(key, stream)))(
            numbers
        )

    if low_light is not None:
        exposures = jax.vmap(functools.partial(_exposure, between=low_light))(
            keys_of(EXPOSURE_STREAM)
        )
        return Part(
            jax.vmap(_darken)(keys_of(NOISE_STREAM), batch, exposures), batch, jnp.float32(0)
        )
    level = jnp.full(batch.shape[:1], sigma, jnp.float32)
    if blind:
        level = jax.vmap(lambda key: degradations.blind_sigma(key, (), minimum=0.0, maximum=sigma))(
            keys_of(LEVEL_STREAM)
        )
    noisy = jax.vmap(
        lambda key, image, level: degradations.gaussian_noise(key, image, sigma=level)
    )(keys_of(NOISE_STREAM), batch, level)
    return Part(noisy, batch, level if blind else jnp.float32(sigma))


def _exposure(key: jax.Array, between: tuple[float, float]) -> jax.Array:
    least, largest = np.log(between).astype(np.float32)
    return (
        jnp.exp(jax.random.uniform(key, (), jnp.float32, least, largest))
        if least < largest
        else jnp.exp(least)
    )


def _darken(key: jax.Array, image: jax.Array, exposure: jax.Array) -> jax.Array:
    return degradations.low_light(key, image, exposure=exposure)


def darkened(splits: Splits, low_light: tuple[float, float] | None) -> Splits:
    """What is validated and tested on becomes pairs, dark and clean: what a photograph gets is fixed by its name.

    Photographs that are pairs already stay what they are; so does what is trained on, which the
    step darkens.
    """
    if low_light is None:
        return splits

    def dark(source: Source) -> Source:
        if source.inputs is not None:
            return source
        entries = tuple(dataclasses.replace(entry, input_bits=16) for entry in source.entries)
        return dataclasses.replace(source, inputs=_Dark(source, low_light), entries=entries)

    validation = None if splits.validation is None else dark(splits.validation)
    return splits._replace(validation=validation, test=dark(splits.test))


def said_of(source: Source, data: DataConfig) -> str:
    """How photographs of a run are degraded, in words."""
    if source.inputs is not None and not isinstance(source.inputs, _Dark):
        return "degraded in reality"
    if data.low_light is None:
        # Said of what is trained on and of what is tested on, at the highest level alone.
        return f"sigma {data.sigma:g}" + (
            f" (blind: trained on all from 0 to {data.sigma:g})" if data.blind else ""
        )
    return f"low light, {' to '.join(f'{share:g}' for share in data.low_light)} of it left"


class _Dark(Sequence[np.ndarray]):
    """A source's photographs darkened, ``[H, W, 3]`` in 16 bits, each whenever it is asked for, drawn on the CPU."""

    def __init__(self, source: Source, low_light: tuple[float, float]) -> None:
        self._source, self._low_light = source, low_light

    def __len__(self) -> int:
        return len(self._source.names)

    def __getitem__(self, index: Any) -> Any:
        with on_cpu():
            key = key_of(_TESTED_SEED, self._source.names[index])
            exposure = _exposure(jax.random.fold_in(key, EXPOSURE_STREAM), self._low_light)
            clean = to_float(self._source.images[index])
            dark = jax.jit(_darken)(jax.random.fold_in(key, NOISE_STREAM), clean, exposure)
        return np.round(np.asarray(dark) * 65535).astype(np.uint16)
