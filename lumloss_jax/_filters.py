"""Separable filters over the spatial axes of ``[..., H, W, C]``, written out tap by tap.

They use neither matrix products nor convolution primitives: on a TPU, both would round their inputs
to bfloat16 by default.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# With fewer taps than this, a loop costs a CPU as much as it saves.
_LOOP_FROM = 5


def box_taps(size: int) -> tuple[float, ...]:
    """Equal weights of a box window, which sum to 1."""
    return (1.0 / size,) * size


def gaussian_taps(size: int, sigma: float) -> tuple[float, ...]:
    """Weights of a sampled Gaussian window centred on its middle, which sum to 1."""
    radius = (size - 1) / 2
    distances = [(i - radius) / sigma for i in range(size)]
    # D**2 would raise OverflowError for a tiny sigma
    weights = [math.exp(-0.5 * d * d) for d in distances]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def default_sigma(size: int) -> float:
    """The sigma in pixels that suits a window of ``size``: 0.3 * ((size - 1) / 2 - 1) + 0.8."""
    return 0.3 * ((size - 1) / 2 - 1) + 0.8


def local_average(
    image: jax.Array, taps: tuple[float, ...], mask: jax.Array | None = None
) -> jax.Array:
    """Average of ``image`` ``[..., H, W, C]`` over a window around each pixel, same shape.

    Pixels outside the image, and pixels where ``mask`` ``[..., H, W, 1]`` is 0, add neither to the
    sum nor to the weight that it is divided by. Where the mask itself is 0, the average is 0.
    """
    if len(taps) == 1:
        return image
    if mask is None:
        for axis in (image.ndim - 3, image.ndim - 2):
            image = _slide_same(image, taps, axis) / _tap_sums(image, taps, axis)
        return image
    sums, weights = image * mask, jnp.broadcast_to(mask, (*image.shape[:-1], 1))
    for axis in (image.ndim - 3, image.ndim - 2):
        sums, weights = _slide_same(sums, taps, axis), _slide_same(weights, taps, axis)
    # The mask decides, not the weights: under the tail of a narrow Gaussian the weights are so
    # small that their square, which the mask's gradient divides by, is 0.
    empty = jnp.broadcast_to(mask, weights.shape) <= 0
    return jnp.where(empty, jnp.zeros_like(sums), sums) / jnp.where(
        empty, jnp.ones_like(weights), weights
    )


def slide(image: jax.Array, taps: tuple[float, ...], axis: int) -> jax.Array:
    """Correlates one axis with ``taps``, for windows that lie inside the image."""
    if len(taps) < _LOOP_FROM or not isinstance(image.shape[axis], int):
        return _slide_at_once(image, taps, axis)
    # The same sum is written in two ways. XLA's CPU backend fuses the pass along W with the one
    # along H and computes the latter again for every tap: s * s products per pixel instead of 2 s,
    # which takes 4 times as long at s = 15. It does not fuse across a loop. A TPU does not repeat
    # the computation, and a loop would only make it read the image twice.
    return lax.platform_dependent(
        image,
        cpu=lambda image: _slide_in_halves(image, taps, axis),
        default=lambda image: _slide_at_once(image, taps, axis),
    )


def mirror(image: jax.Array, width: int, axis: int) -> jax.Array:
    """Continues one axis by its mirror image, edge pixel included, by ``width`` at both ends."""
    size = image.shape[axis]
    if isinstance(size, int) and size < width:  # mirrored more than once
        widths = [(0, 0)] * image.ndim
        widths[axis] = (width, width)
        return jnp.pad(image, widths, mode="symmetric")
    # Written out, since jnp.pad in jax 0.7 asks for the sizes of axes that it does not change
    first = lax.slice_in_dim(image, 0, width, axis=axis)
    last = lax.slice_in_dim(image, size - width, size, axis=axis)
    return jnp.concatenate([jnp.flip(first, axis), image, jnp.flip(last, axis)], axis=axis)


def _slide_at_once(image: jax.Array, taps: tuple[float, ...], axis: int) -> jax.Array:
    size = image.shape[axis] - (len(taps) - 1)
    slices = (lax.slice_in_dim(image, k, k + size, axis=axis) * tap for k, tap in enumerate(taps))
    total = next(slices)
    for part in slices:
        total = total + part
    return total


def _slide_in_halves(image: jax.Array, taps: tuple[float, ...], axis: int) -> jax.Array:
    """The same sum by a loop over two halves of the taps.

    If their number is odd, the middle tap is in the first half only.
    """
    half = -(-len(taps) // 2)
    size = image.shape[axis] - (len(taps) - 1)
    weights = (*taps[:half], *(0.0,) * (2 * half - len(taps)), *taps[half:])

    def sum_half(half_of_taps: tuple[jax.Array, jax.Array]) -> jax.Array:
        start, weights = half_of_taps
        part = lax.dynamic_slice_in_dim(image, start, size + half - 1, axis)
        total = lax.slice_in_dim(part, 0, size, axis=axis) * weights[0]
        for k in range(1, half):
            total = total + lax.slice_in_dim(part, k, k + size, axis=axis) * weights[k]
        return total

    first, second = lax.map(
        sum_half,
        (jnp.array([0, len(taps) - half]), jnp.array(weights, image.dtype).reshape(2, half)),
    )
    return first + second


def _slide_same(image: jax.Array, taps: tuple[float, ...], axis: int) -> jax.Array:
    """Slides with zeros outside the image, so that the sums are over the pixels that exist."""
    taps = _reachable(taps, image.shape[axis])
    radius = len(taps) // 2
    widths = [(0, 0)] * image.ndim
    widths[axis] = (radius, radius)
    return slide(jnp.pad(image, widths), taps, axis)


def _tap_sums(image: jax.Array, taps: tuple[float, ...], axis: int) -> jax.Array:
    """The sum of the window's weights inside the image, at each position of one axis."""
    size = image.shape[axis]
    taps = _reachable(taps, size)
    radius = len(taps) // 2
    if isinstance(size, int):
        sums = jnp.asarray(np.convolve(np.ones(size), taps)[radius : radius + size], image.dtype)
    else:  # With a symbolic size (jax.export), positions are known only at run time.
        position = jnp.arange(size)[:, None] + jnp.arange(-radius, radius + 1)[None, :]
        exists = (position >= 0) & (position < size)
        sums = jnp.sum(
            jnp.where(
                exists, jnp.asarray(taps, image.dtype)[None, :], jnp.zeros((1, 1), image.dtype)
            ),
            1,
        )
    shape: list[int] = [1] * image.ndim
    shape[axis] = size
    return sums.reshape(shape)


def _reachable(taps: tuple[float, ...], size: int) -> tuple[float, ...]:
    """Drops taps that reach beyond an axis of ``size`` from every position.

    A window may be larger than the image.
    """
    spare = len(taps) // 2 - (size - 1) if isinstance(size, int) else 0
    return taps[spare : len(taps) - spare] if spare > 0 else taps
