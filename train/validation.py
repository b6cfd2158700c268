"""Validation while a network trains, under noise that is the same each time."""

from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from train.data.images import to_float
from train.data.sources import Source
from train.inference.predictors import predictor_for
from train.inference.scoring.baseline_table import METRICS
from train.inference.scoring.metrics_table import score
from train.inference.scoring.protocols import add_fixed_noise

# Enough to rank checkpoints by, and one size, so that one compilation serves all.
_PHOTOGRAPHS = 16
_SIDE = 256
_SEED = 0  # of the noise: the same in every run, whatever its own seed


class Validation(NamedTuple):
    """Mean scores by name, and the first photograph."""

    scores: dict[str, float]
    noisy: np.ndarray
    restored: np.ndarray
    clean: np.ndarray


class Validator:
    """Restores the middles of some photographs, and scores them."""

    def __init__(self, model: nn.Module, source: Source, *, sigma: float) -> None:
        """Cuts the middles out: squares of 256 pixels, or of what the smallest photograph has.

        Args:
          model: the network, in float32.
          source: the first 16 photographs of it are taken; degraded halves of pairs are restored as
            they are.
          sigma: of the noise added to others, 0 to 255.
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

    def __call__(self, params: Any, batch_stats: Any) -> Validation:
        """Scores of a network with these parameters and running statistics."""
        predictor = predictor_for(self._model, params, batch_stats)
        restored = [predictor.restore(noisy, sigma=self._sigma) for noisy in self._noisy]
        scores = [
            score(image, clean, names=METRICS)
            for image, clean in zip(restored, self._clean, strict=True)
        ]
        means = map(float, np.mean(scores, axis=0))
        return Validation(
            dict(zip(METRICS, means, strict=True)), self._noisy[0], restored[0], self._clean[0]
        )


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    """In float, of its own: what the whole photograph takes is not kept."""
    top, left = ((size - side) // 2 for size in image.shape[:2])
    return to_float(image[top : top + side, left : left + side])
