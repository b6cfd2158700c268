"""The arithmetic of NLPD, which the metric and the loss share."""

import jax
import jax.numpy as jnp
from jax import lax

from lumloss_jax import _filters
from lumloss_jax import _local_similarity as local
from lumloss_jax._ciede2000 import safe_sqrt
from lumloss_jax._pair import Pair
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels

_SMALLEST_SIDE = 33  # below it the coarsest of six levels is a single pixel
_TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)
# One row for each level, from fine to coarse: the contrast below which the eye sees little, and the
# weights of a pixel's neighbours (rows, columns from it). The authors fitted them to photographs.
_LEVELS: tuple[tuple[float, dict[tuple[int, int], float]], ...] = (
    (
        0.0248,
        {(1, 0): 0.1011, (0, 1): 0.1493, (0, -1): 0.1460, (-1, 0): 0.1015, (0, -2): 0.0072},
    ),
    (0.0185, {(1, 0): 0.0757, (0, 1): 0.1986, (0, -1): 0.1846, (-1, 0): 0.0837}),
    (0.0179, {(1, 0): 0.0477, (0, 1): 0.2138, (0, -1): 0.2243, (-1, 0): 0.0467}),
    (0.0191, {(0, 1): 0.2503, (0, -1): 0.2616}),
    (0.0220, {(0, 1): 0.2598, (0, -1): 0.2552}),
    (0.2782, {(0, 1): 0.2215, (0, -1): 0.0717}),
)
_REACH = 2  # distance of the farthest neighbour


def nlpd_of_pair(pair: Pair) -> tuple[jax.Array, jax.Array]:
    """The sum of the distances of each image's levels, and how many of its levels count."""
    local.check_smallest(pair.targets, _SMALLEST_SIDE, "NLPD")
    sides = local.both_sides(pair)
    image = sum_channels(jnp.stack([pair.predictions, pair.targets]), COEFFICIENTS["rec601"])
    equal, counts = sides.equal, sides.counts

    distances, levels = jnp.zeros((), image.dtype), jnp.zeros((), image.dtype)
    for level, (sigma, weights) in enumerate(_LEVELS):
        last = level == len(_LEVELS) - 1
        low = None if last else _shrink(image)
        band = image if low is None else image - _grow(low, image)
        band_equal, low_equal = _follow(equal, last)
        band_counts, low_counts = (None, None) if counts is None else _follow(counts, last)

        z = band / (sigma + _around(local.magnitude(band), weights))
        off = local.zero_where(local.least_around(band_equal, _REACH, _REACH), z[0] - z[1])
        square = jnp.square(off)
        if band_counts is None:
            distances = distances + safe_sqrt(local.pool(square, None))
            levels = levels + 1
        else:
            of_pixels = local.least_around(band_counts, _REACH, _REACH)
            some = jnp.sum(of_pixels, (-3, -2, -1)) > 0
            distances = distances + safe_sqrt(local.pool(square, of_pixels))
            levels = levels + some.astype(image.dtype)
        if low is not None:
            image, equal, counts = low, low_equal, low_counts
    return distances, levels


def _shrink(image: jax.Array) -> jax.Array:
    """Every second pixel of the filtered image, whose border is mirrored with its edge pixel."""
    for axis in (image.ndim - 3, image.ndim - 2):
        image = _filters.slide(_filters.mirror(image, 2, axis), _TAPS, axis)
        image = _every_second(image, axis)
    return image


def _every_second(image: jax.Array, axis: int) -> jax.Array:
    return lax.slice_in_dim(image, 0, image.shape[axis], stride=2, axis=axis)


def _grow(low: jax.Array, image: jax.Array) -> jax.Array:
    """``low`` at the size of ``image``: zeros between its pixels, filtered, and four times that."""
    for axis in (image.ndim - 3, image.ndim - 2):
        widths = [(0, 0)] * low.ndim
        widths[axis] = (1, 1)
        padded = jnp.pad(low, widths, mode="edge")
        size = low.shape[axis]
        before, here, after = (lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(3))
        # The taps that meet a pixel and not a zero, twice along each axis
        even = 2 * (_TAPS[0] * before + _TAPS[2] * here + _TAPS[4] * after)
        odd = 2 * (_TAPS[1] * here + _TAPS[3] * after)
        low = _interleave(even, odd, axis, image.shape[axis])
    return low


def _interleave(even: jax.Array, odd: jax.Array, axis: int, size: int) -> jax.Array:
    """The two in turn along an axis, cut to ``size``."""
    both = jnp.stack([even, odd], axis=axis + 1)
    shape = (*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])
    return lax.slice_in_dim(jnp.reshape(both, shape), 0, size, axis=axis)


def _follow(weights: jax.Array, last: bool) -> tuple[jax.Array, jax.Array]:
    """The weights of a band and of the next level: the least of what a pixel is computed from."""
    if last:
        return weights, weights
    low = local.least_around(weights, 2, 2)
    low = _every_second(_every_second(low, weights.ndim - 3), weights.ndim - 2)
    around = local.least_around(low, 1, 1)
    for axis in (weights.ndim - 3, weights.ndim - 2):
        around = _interleave(around, around, axis, weights.shape[axis])
    return jnp.minimum(weights, around), low


def _around(values: jax.Array, weights: dict[tuple[int, int], float]) -> jax.Array:
    """The weighted sum over a pixel's neighbours, with zeros outside the image."""
    widths = [(0, 0)] * (values.ndim - 3) + [(_REACH, _REACH), (_REACH, _REACH), (0, 0)]
    padded = jnp.pad(values, widths)
    down, across = values.shape[-3], values.shape[-2]
    total = jnp.zeros_like(values)
    for (row, column), weight in weights.items():
        rows = lax.slice_in_dim(padded, _REACH + row, _REACH + row + down, axis=values.ndim - 3)
        total = total + weight * lax.slice_in_dim(
            rows, _REACH + column, _REACH + column + across, axis=values.ndim - 2
        )
    return total
