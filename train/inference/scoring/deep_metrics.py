"""Computes LPIPS and DISTS of photographs of any size, with weights that the user has imported.

LPIPS of a large photograph is computed in tiles. Each is large enough that the pixels that are kept
do not depend on what lies outside it, so the number is that of the whole photograph, except for
rounding. DISTS averages a large photograph down to a short side of about 256 pixels first.
"""

import jax
import numpy as np

from lumloss_jax import models
from train.inference.scoring.metric_weights import load_weights
from train.inference.scoring.registry import METRICS

_TILE = 512  # pixels on each side of the part of a tile that is kept
# Pixels around it. The last activations of VGG16 see 98 pixels to each side, those of AlexNet 96.
# It is a multiple of 16, so that the grid of each layer is that of the whole photograph.
_AROUND = 128
# Pixels between the points of each layer's grid
_STEPS = {"lpips_vgg": (1, 2, 4, 8, 16), "lpips_alex": (4, 8, 16, 16, 16)}


def deep_score(name: str, image: np.ndarray, clean: np.ndarray) -> float:
    """Computes a metric that has weights.

    Args:
      name: the metric.
      image: the restored photograph, ``[H, W, 3]``.
      clean: the clean photograph, of the same shape.

    Returns:
      Its value.

    Raises:
      InputError: there are no weights, or they are damaged.
    """
    weights = load_weights(name)
    if name not in _STEPS:
        return float(_dists(image, clean, weights))
    height, width = clean.shape[:2]
    totals = np.zeros((len(_STEPS[name]), 2))  # sum of the map and number of its pixels, by layer
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            rows, across = _around(top, height), _around(left, width)
            layers = _layers(image[rows, across], clean[rows, across], weights)
            for total, layer, step in zip(totals, layers, _STEPS[name], strict=True):
                kept = np.asarray(layer)[_kept(top, height, step), _kept(left, width, step)]
                total += kept.sum(dtype=np.float64), kept.size
    return float(np.sum(totals[:, 0] / totals[:, 1]))


def _around(start: int, size: int) -> slice:
    return slice(max(start - _AROUND, 0), min(start + _TILE + _AROUND, size))


def _kept(start: int, size: int, step: int) -> slice:
    """What is kept of one axis of a layer. The last tile keeps everything to its end."""
    before = (start - max(start - _AROUND, 0)) // step
    return slice(before, None if start + _TILE >= size else before + _TILE // step)


@jax.jit
def _layers(
    image: jax.Array, clean: jax.Array, weights: dict[str, jax.Array]
) -> tuple[jax.Array, ...]:
    return models.lpips_layers(image, clean, weights=weights)


@jax.jit
def _dists(image: jax.Array, clean: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
    return models.dists(image, clean, weights=weights, **METRICS["dists"].options)
