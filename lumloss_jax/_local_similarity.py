"""Shared by HaarPSI, GMSD, MS-GMSD and MDSI: 8-bit scale, weights, halving, edges, pooling.

The constants of these metrics were chosen for 8-bit values, so images of data range 1 are
multiplied by 255. Nothing is rounded or clipped. Outside the image there are zeros, as in the
authors' code, so that the border of a bright image is an edge. The weight of a pixel of a map is
the smallest weight of the pixels from which it was computed.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax._ciede2000 import safe_sqrt
from lumloss_jax._pair import Pair

_AXES = (-3, -2, -1)


class Sides(NamedTuple):
    """Both images, stacked for one computation, and the weight and equality of each pixel."""

    # [2, ..., H, W, C]: the predictions, then the targets, on the 8-bit scale
    images: jax.Array
    counts: jax.Array | None  # [..., H, W, 1], the mask
    equal: jax.Array  # [..., H, W, 1]: 1 where both have the same colour, else 0


def both_sides(pair: Pair) -> Sides:
    """The pair in the form that these metrics use."""
    images = 255 * jnp.stack([pair.predictions, pair.targets])
    counts = pair.mask
    if counts is not None:
        counts = jnp.broadcast_to(counts, (*counts.shape[:-3], *images.shape[-3:-1], 1))
    equal = jnp.all(pair.predictions == pair.targets, axis=-1, keepdims=True)
    return Sides(images, counts, equal.astype(images.dtype))


def halve(sides: Sides) -> Sides:
    """Means of 2 x 2 pixels; an odd side first gets a row or column of zeros at its end."""
    counts = None if sides.counts is None else _least_of_blocks(sides.counts)
    return Sides(
        jnp.mean(_blocks(sides.images, 0.0), axis=(-4, -2)), counts, _least_of_blocks(sides.equal)
    )


def edge_strength(plane: jax.Array) -> jax.Array:
    """Size of the Prewitt gradient of ``[..., H, W, 1]``, with zeros outside the image.

    Its slope is 0 where it is 0.
    """
    padded = _pad(plane, 1, 1, 0.0)
    down, across = padded.ndim - 3, padded.ndim - 2
    difference_across = _difference(_sum_of_three(padded, down), across)
    difference_down = _difference(_sum_of_three(padded, across), down)
    return safe_sqrt(jnp.square(difference_across / 3) + jnp.square(difference_down / 3))


def haar_magnitude(plane: jax.Array, level: int, axis: int) -> jax.Array:
    """Size of the Haar wavelet coefficients of ``[..., H, W, 1]`` at one level along one axis.

    Its slope is 0 where it is 0.

    A window of n = 2^level pixels reaches from n/2 - 1 pixels before to n/2 pixels after.
    """
    size = 2**level
    half = size // 2
    other = -2 if axis == -3 else -3
    padded = _pad(plane, half - 1, half, 0.0)
    sums = slide_sum(slide_sum(padded, size, other), half, axis)
    axis += sums.ndim
    length = sums.shape[axis]
    first = lax.slice_in_dim(sums, 0, length - half, axis=axis)
    second = lax.slice_in_dim(sums, half, length, axis=axis)
    return magnitude((second - first) / size)


def mean_of_four(plane: jax.Array) -> jax.Array:
    """Mean of 2 x 2 pixels at each pixel: the pixel itself and the next ones down and across."""
    padded = _pad(plane, 0, 1, 0.0)
    return slide_sum(slide_sum(padded, 2, -3), 2, -2) / 4


def least_around(weights: jax.Array, before: int, after: int) -> jax.Array:
    """The smallest weight of ``[..., H, W, 1]`` in a neighbourhood of each pixel, along both axes.

    Pixels outside the image do not count, so that a mask of ones has no effect.
    """
    values = _pad(weights, before, after, jnp.inf)
    for axis in (values.ndim - 3, values.ndim - 2):
        length = values.shape[axis] - (before + after)
        shifted = [
            lax.slice_in_dim(values, k, k + length, axis=axis) for k in range(before + after + 1)
        ]
        values = functools.reduce(jnp.minimum, shifted)
    return values


def slide_sum(values: jax.Array, size: int, axis: int) -> jax.Array:
    """Sums of ``size`` successive values along an axis, starting at each position."""
    window = [1] * values.ndim
    window[axis] = size
    zero = np.zeros((), values.dtype)
    return lax.reduce_window(values, zero, lax.add, tuple(window), (1,) * values.ndim, "VALID")


def magnitude(values: jax.Array) -> jax.Array:
    """|x| with slope 0 at 0, where jnp.abs has slope 1."""
    return values * jnp.sign(values)


def dissimilarity(
    first: jax.Array, second: jax.Array, constant: ArrayLike, alpha: float = 0.0
) -> jax.Array:
    """1 - ((2 - alpha) a b + c) / (a^2 + b^2 - alpha a b + c), for two magnitudes a and b.

    The form (a - b)^2 / (...) keeps the digits that 1 - similarity loses, which are 1e-4 of HaarPSI
    in float32.
    """
    off = first - second
    return off * off / (first * first + second * second - alpha * first * second + constant)


def zero_where(equal: jax.Array, values: jax.Array) -> jax.Array:
    """``values`` with 0, and slope 0, where ``equal`` is 1.

    In a compiled function, both sides may be rounded differently.
    """
    return jnp.where(equal > 0, jnp.zeros_like(values), values)


def pool(values: jax.Array, counts: jax.Array | None) -> jax.Array:
    """Mean of ``[..., H, W, 1]`` per image ``[...]``, weighted by ``counts``; 0 if all are 0."""
    if counts is None:
        return jnp.mean(values, _AXES)
    weight = jnp.sum(jnp.broadcast_to(counts, values.shape), _AXES)
    return jnp.sum(values * counts, _AXES) / jnp.where(weight == 0, jnp.ones_like(weight), weight)


def variance(values: jax.Array, counts: jax.Array | None) -> jax.Array:
    """Variance of ``[..., H, W, 1]`` per image ``[...]``.

    The sum is divided by the number of pixels, not by that number minus 1.
    """
    return pool(jnp.square(values - pool(values, counts)[..., None, None, None]), counts)


def nan_where_nothing_counts(values: jax.Array, counts: jax.Array | None) -> jax.Array:
    """``values`` ``[...]``, with NaN and gradient 0 for images in which no pixel counts."""
    if counts is None:
        return values
    nothing = jnp.broadcast_to(jnp.sum(counts, _AXES) == 0, values.shape)
    return jnp.where(nothing, jnp.full_like(values, jnp.nan), values)


def check_flag(name: str, value: object) -> bool:
    """Checks an option that is on or off."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, known at trace time; got {value!r}.")
    return value


def check_smallest(image: jax.Array, side: int, metric: str) -> None:
    """Checks the smallest height and width that a metric accepts."""
    _checks.check_sides(image, side, metric)


def _sum_of_three(values: jax.Array, axis: int) -> jax.Array:
    length = values.shape[axis]
    first, second, third = (
        lax.slice_in_dim(values, k, length - 2 + k, axis=axis) for k in range(3)
    )
    return first + second + third


def _difference(values: jax.Array, axis: int) -> jax.Array:
    length = values.shape[axis]
    return lax.slice_in_dim(values, 0, length - 2, axis=axis) - lax.slice_in_dim(
        values, 2, length, axis=axis
    )


def _pad(values: jax.Array, before: int, after: int, outside: float) -> jax.Array:
    widths = [(0, 0)] * (values.ndim - 3) + [(before, after), (before, after), (0, 0)]
    return jnp.pad(values, widths, constant_values=outside)


def _blocks(values: jax.Array, outside: float) -> jax.Array:
    """``[..., H, W, C]`` as ``[..., ceil(H / 2), 2, ceil(W / 2), 2, C]``."""
    # Always padded and cut afterwards, because a symbolic size (jax.export) may be odd or even.
    height, width = (values.shape[-3] + 1) // 2, (values.shape[-2] + 1) // 2
    padded = _pad(values, 0, 1, outside)[..., : 2 * height, : 2 * width, :]
    return padded.reshape(*values.shape[:-3], height, 2, width, 2, values.shape[-1])


def _least_of_blocks(weights: jax.Array) -> jax.Array:
    return jnp.min(_blocks(weights, jnp.inf), axis=(-4, -2))
