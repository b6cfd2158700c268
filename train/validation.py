"""Validation while a network trains, with the same noise every time."""

from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from train.data.images import to_float
from train.data.sources import Source
from train.inference.predictors import predictor_for
from train.inference.scoring.baseline_table import REPORTED
from train.inference.scoring.measure import score
from train.inference.scoring.protocols import add_fixed_noise

# These are enough photographs to rank checkpoints. All have the same size, so that the network is
# compiled only once.
_PHOTOGRAPHS = 16
_SIDE = 256
_SEED = 0  # seed of the noise, the same for all runs


class Validation(NamedTuple):
    """Mean scores by name, and the first photograph as float ``[H, W, 3]``, 0 to 1."""

    scores: dict[str, float]
    noisy: np.ndarray
    restored: np.ndarray
    clean: np.ndarray


class Validator:
    """Restores the middles of some photographs and scores them."""

    def __init__(
        self, model: nn.Module, source: Source, *, sigma: float, best_metric: str = "psnr"
    ) -> None:
        """Cuts out the middles: squares of 256 pixels, or less if the smallest photograph has less.

        Args:
          model: the network, in float32.
          source: the first 16 of its photographs are used. Degraded photographs of pairs are
            restored as they are.
          sigma: standard deviation of the noise for clean photographs, 0 to 255.
          best_metric: a metric that is needed in addition to those of every validation.
        """
        entries = source.entries[:_PHOTOGRAPHS]
        side = min(_SIDE, *(min(entry.height, entry.width) for entry in entries))
        self._clean = [_middle(source.images[i], side) for i in range(len(entries))]
        if source.inputs is None:
            pairs = zip(self._clean, entries, strict=True)
            self._noisy = [
                add_fixed_noise(image, entry.name, sigma=sigma, seed=_SEED)
                for image, entry in pairs
            ]
        else:
            self._noisy = [_middle(source.inputs[i], side) for i in range(len(entries))]
        self._model = model
        self._sigma = sigma / 255
        self._metrics = tuple(dict.fromkeys([*REPORTED, best_metric]))

    def __call__(self, params: Any, batch_stats: Any) -> Validation:
        """Scores the network with these parameters and batch statistics."""
        predictor = predictor_for(self._model, params, batch_stats)
        restored = [predictor.restore(noisy, sigma=self._sigma) for noisy in self._noisy]
        scores = [
            score(image, clean, names=self._metrics)
            for image, clean in zip(restored, self._clean, strict=True)
        ]
        means = {name: float(np.mean([one[name] for one in scores])) for name in self._metrics}
        return Validation(means, self._noisy[0], restored[0], self._clean[0])


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    """Copies the middle as floats, so that the whole photograph does not stay in memory."""
    top, left = ((size - side) // 2 for size in image.shape[:2])
    return to_float(image[top : top + side, left : left + side])
