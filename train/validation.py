"""Validation while a network trains: photographs that it is not trained on, under noise that is the same each time."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from lumloss_jax import metrics
from train.data.images import to_float
from train.data.sources import Source
from train.inference.evaluate import add_fixed_noise
from train.inference.predict import make_predictor

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
          source: the first 16 photographs of it are taken; degraded halves of pairs are restored as they are.
          sigma: of the noise added to others, 0 to 255.
        """
        names = source.names[:_PHOTOGRAPHS]
        clean = [to_float(source.images[i]) for i in range(len(names))]
        side = min(_SIDE, *(size for image in clean for size in image.shape[:2]))
        self._clean = np.stack([_middle(image, side) for image in clean])
        if source.inputs is None:
            noisy = [add_fixed_noise(c, n, sigma=sigma, seed=_SEED) for c, n in zip(self._clean, names, strict=True)]
        else:
            noisy = [_middle(to_float(source.inputs[i]), side) for i in range(len(names))]
        self._noisy = np.stack(noisy)
        self._model = model
        self._sigma = sigma / 255

    def __call__(self, params: Any, batch_stats: Any) -> Validation:
        """Scores of a network with these parameters and running statistics."""
        predict = make_predictor(self._model, params, batch_stats, sigma=self._sigma)
        restored = np.stack([predict(noisy) for noisy in self._noisy])
        scores = jax.device_get(_scores(restored, self._clean))
        named = {name: float(np.mean(values)) for name, values in scores.items()}
        return Validation(named, self._noisy[0], restored[0], self._clean[0])


@jax.jit
def _scores(images: jax.Array, clean: jax.Array) -> dict[str, jax.Array]:
    return {
        "psnr": metrics.psnr(images, clean),
        "ssim": metrics.ssim(images, clean),
        "ciede2000": metrics.ciede2000(images, clean),
    }


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    top, left = ((size - side) // 2 for size in image.shape[:2])
    return image[top : top + side, left : left + side]
