"""Photographs in low light to validate and test on, and how a run's degradation is described."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from train.data.images import to_float
from train.data.sources import Source
from train.data.splits import Splits
from train.degradation import darken, draw_exposure
from train.randomness import EXPOSURE_STREAM, NOISE_STREAM, key_of, on_cpu

_TESTED_SEED = 0  # Every run is tested on the same photographs, whatever its own seed.


def darken_splits(splits: Splits, low_light: tuple[float, float] | None) -> Splits:
    """Turns the photographs for validation and test into pairs, dark and clean, fixed by their names.

    Photographs that are pairs already stay what they are. So do those for training, which the
    update darkens.
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


def describe_degradation(
    source: Source, *, sigma: float, blind: bool, low_light: tuple[float, float] | None
) -> str:
    """How photographs of a run are degraded, in words.

    Args:
      source: photographs to train or to test on.
      sigma: standard deviation of the noise (0 to 255).
      blind: whether the network is trained on all levels up to ``sigma``.
      low_light: least and largest share of the light that is left, or None.

    Returns:
      A noun phrase.
    """
    if source.inputs is not None and not isinstance(source.inputs, _Dark):
        return "degraded in reality"
    if low_light is not None:
        return f"low light, {' to '.join(f'{share:g}' for share in low_light)} of it left"
    # The same words for what is trained on and for what is tested on, at the highest level alone.
    return f"sigma {sigma:g}" + (f" (blind: trained on all from 0 to {sigma:g})" if blind else "")


class _Dark(Sequence[np.ndarray]):
    """A source's photographs in low light, ``[H, W, 3]`` in 16 bits, each made when it is read."""

    def __init__(self, source: Source, low_light: tuple[float, float]) -> None:
        self._source, self._low_light = source, low_light

    def __len__(self) -> int:
        return len(self._source.names)

    def __getitem__(self, index: Any) -> Any:
        with on_cpu():
            key = key_of(_TESTED_SEED, self._source.names[index])
            exposure = draw_exposure(jax.random.fold_in(key, EXPOSURE_STREAM), self._low_light)
            clean = to_float(self._source.images[index])
            dark = jax.jit(darken)(jax.random.fold_in(key, NOISE_STREAM), clean, exposure)
        return np.round(np.asarray(dark) * 65535).astype(np.uint16)
