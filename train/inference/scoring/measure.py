"""Computes metrics of a photograph of any size, in memory that the largest of them needs alone.

Each metric is a program of its own, and they run one after the other. Those that need most memory
and depend only on near pixels are summed over parts of a large photograph, so that they need no
more for 100 megapixels than for one. The parts give the same number, except for rounding.
"""

import functools
import math
from collections.abc import Iterator

import jax
import numpy as np

from lumloss_jax import metrics
from train.inference.scoring.deep_metrics import deep_score
from train.inference.scoring.registry import METRICS, too_small

# A photograph with more pixels is scored in parts, by metrics for which that is exact.
_LARGEST_WHOLE = 2**20
_POINTWISE = ("ciede2000", "cie76", "chroma_error")  # each pixel by itself
_TILE = 512  # pixels on each side of a part of FLIP's map
# Pixels around a part on which its map depends: the radius of FLIP's widest filter.
FLIP_REACH = 10


def score(image: np.ndarray, clean: np.ndarray, *, names: tuple[str, ...]) -> dict[str, float]:
    """Computes metrics at full float32 precision on every backend.

    Args:
      image: the restored photograph, ``[H, W, 3]``, or ``[H, W, 1]``, which is then repeated.
      clean: the clean photograph, with the same shape.
      names: names of metrics, out of ``METRICS``.

    Returns:
      Their values by name, in the order of ``names``. NaN stands for those that need a larger
      photograph.

    Raises:
      InputError: a metric needs weights that are not there.
    """
    if clean.shape[-1] == 1:
        image, clean = (np.repeat(one, 3, axis=-1) for one in (image, clean))
    height, width = clean.shape[:2]
    small = too_small(names, min(height, width))
    in_parts = height * width > _LARGEST_WHOLE
    on_device = jax.device_put((image, clean))  # once for all metrics
    found = {}
    for name in names:
        if name in small:
            found[name] = math.nan
        elif METRICS[name].has_weights:
            found[name] = deep_score(name, image, clean)
        elif in_parts and name == "flip":
            found[name] = _flip_in_tiles(image, clean)
        elif in_parts and name in _POINTWISE:
            found[name] = _mean_in_runs(name, image, clean)
        else:
            found[name] = float(_whole(name, *on_device))
    return found


@functools.partial(jax.jit, static_argnums=0)
def _whole(name: str, image: jax.Array, clean: jax.Array) -> jax.Array:
    metric = METRICS[name]
    function = getattr(metrics, metric.function or name)
    with jax.default_matmul_precision("float32"):
        return function(image, clean, **metric.options)


def _mean_in_runs(name: str, image: np.ndarray, clean: np.ndarray) -> float:
    """The mean of a metric that compares each pixel by itself, over runs of equal length."""
    total = 0.0
    for one, other in zip(_runs(image), _runs(clean), strict=True):
        total += float(_whole(name, one, other)) * one.shape[0] * one.shape[1]
    return total / (clean.shape[0] * clean.shape[1])


def _runs(image: np.ndarray) -> Iterator[np.ndarray]:
    """Cuts the pixels into images of the same size; black pixels fill the last one.

    The filling is equal in both photographs, so its error is 0.
    """
    pixels = image.reshape(-1, image.shape[-1])
    for start in range(0, len(pixels), _TILE**2):
        run = pixels[start : start + _TILE**2]
        filled = np.pad(run, ((0, _TILE**2 - len(run)), (0, 0)))
        yield filled.reshape(_TILE, _TILE, -1)


def _flip_in_tiles(image: np.ndarray, clean: np.ndarray) -> float:
    """FLIP, from tiles of its map that are computed with the pixels around them."""
    height, width = clean.shape[:2]
    total = 0.0
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            # Outside the photograph FLIP repeats the pixels at its border.
            rows = np.arange(top - FLIP_REACH, top + _TILE + FLIP_REACH).clip(0, height - 1)
            across = np.arange(left - FLIP_REACH, left + _TILE + FLIP_REACH).clip(0, width - 1)
            place = np.ix_(rows, across)
            errors = np.asarray(flip_errors(image[place], clean[place]))
            inside = errors[FLIP_REACH:-FLIP_REACH, FLIP_REACH:-FLIP_REACH]
            total += float(inside[: height - top, : width - left].sum(dtype=np.float64))
    return total / (height * width)


@jax.jit
def flip_errors(image: jax.Array, clean: jax.Array) -> jax.Array:
    """FLIP of each pixel, ``[H, W]``, from 0 to 1."""
    with jax.default_matmul_precision("float32"):
        return metrics.flip_map(image, clean)
