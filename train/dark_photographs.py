"""Dark photographs for validation and testing, and the description of a run's degradation."""

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

_TESTED_SEED = 0  # The same for every run, so that all runs are tested on the same photographs.


def darken_splits(splits: Splits, low_light: tuple[float, float] | None) -> Splits:
    """Turns the photographs for validation and testing into pairs of a dark and a clean one.

    The dark one depends only on the photograph and its name. Data sets of pairs stay unchanged, and
    so do the photographs for training, which the update darkens.

    Args:
      splits: the photographs of a run.
      low_light: smallest and largest share of the light that is left, or None to change nothing.

    Returns:
      The photographs, some of them as pairs.
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
    """Describes in words how the photographs of a run are degraded.

    Args:
      source: photographs to train or to test on.
      sigma: standard deviation of the noise (0 to 255).
      blind: whether the network is trained on all levels up to ``sigma``.
      low_light: smallest and largest share of the light that is left, or None.

    Returns:
      A noun phrase.
    """
    if source.inputs is not None and not isinstance(source.inputs, _Dark):
        return "degraded in reality"
    if low_light is not None:
        least, largest = low_light
        return f"low light ({least:g} to {largest:g} of the full light)"
    # Training and testing are described in the same words, although blind networks are tested at
    # the highest level only.
    if blind:
        return f"sigma {sigma:g} (blind: trained on all levels from 0 to {sigma:g})"
    return f"sigma {sigma:g}"


class _Dark(Sequence[np.ndarray]):
    """Dark photographs of a source, 16-bit ``[H, W, 3]``, each of which is made when it is read."""

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
