"""Separable filters over the spatial axes of ``[..., H, W, C]``, written out tap by tap.

They use neither matrix products nor convolution primitives: on a TPU, both would round their inputs
to bfloat16 by default.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# With fewer taps than this, a loop costs a CPU as much as it saves.
_LOOP_FROM = 5
# LLVM vectorises a sum of this many slices, but takes 5 times as long for one of 101.
_MOST_SLICES = 32


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
        image = compute_once(image)  # and its gradient, which three channels share
        for axis in (image.ndim - 3, image.ndim - 2):
            image = _slide_same(image, taps, axis) / _tap_sums(image, taps, axis)
        return compute_once(image)  # value and gradient share it
    sums, weights = image * mask, jnp.broadcast_to(mask, (*image.shape[:-1], 1))
    for axis in (image.ndim - 3, image.ndim - 2):
        sums, weights = _slide_same(sums, taps, axis), _slide_same(weights, taps, axis)
    # The mask decides, not the weights: under the tail of a narrow Gaussian the weights are so
    # small that their square, which the mask's gradient divides by, is 0.
    empty = jnp.broadcast_to(mask, weights.shape) <= 0
    return jnp.where(empty, jnp.zeros_like(sums), sums) / jnp.where(
        empty, jnp.ones_like(weights), weights
    )


def compute_once(image: jax.Array) -> jax.Array:
    """The image itself, which a CPU then computes once, whatever it is used for.

    The same holds for its gradient. Other devices decide for themselves.
    """
    return lax.platform_dependent(
        image, cpu=lambda image: _self_adjoint(_compute_apart, image), default=lambda image: image
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
    """Slides with zeros outside the image, so that the sums are over the pixels that exist.

    The taps are symmetric.
    """
    taps = _reachable(taps, image.shape[axis])
    radius = len(taps) // 2
    if not isinstance(image.shape[axis], int):
        return _slide_at_once(_add_zeros(image, axis, radius), taps, axis)
    return lax.platform_dependent(
        image,
        # The transpose of a sum of slices is a sum of padded arrays, in which a CPU tests each
        # pixel against the border for every tap. With symmetric taps, it is the same sum of slices.
        cpu=lambda image: _self_adjoint(lambda image: _slide_on_cpu(image, taps, axis), image),
        default=lambda image: _slide_at_once(_add_zeros(image, axis, radius), taps, axis),
    )


def _slide_on_cpu(image: jax.Array, taps: tuple[float, ...], axis: int) -> jax.Array:
    """The same sum, without repeating what comes before for each tap.

    The number of slices does not grow with a box.
    """
    image, radius = _compute_apart(image), len(taps) // 2
    padded = _add_zeros(image, axis, radius)
    group = -(-len(taps) // _MOST_SLICES)
    if len(set(taps)) > 1 or group == 1:
        return _slide_at_once(padded, taps, axis)
    # Equal taps: sums of a few neighbours first, then sums of those. Nothing is subtracted, so
    # rounding errors stay within those of adding the pixels one by one.
    window = [1] * image.ndim
    window[axis] = group
    zero, strides = np.zeros((), image.dtype), (1,) * image.ndim
    groups = lax.reduce_window(padded, zero, lax.add, window, strides, "VALID")
    whole, size = len(taps) - len(taps) % group, image.shape[axis]
    parts = [(groups, start) for start in range(0, whole, group)]
    parts += [(padded, start) for start in range(whole, len(taps))]
    slices = (lax.slice_in_dim(sums, start, start + size, axis=axis) for sums, start in parts)
    return taps[0] * sum(slices, start=next(slices))


def _compute_apart(image: jax.Array) -> jax.Array:
    """The image itself, by an operation that XLA's CPU backend fuses with nothing.

    That is a ``reduce_window``, here one that adds a zero from outside an axis of size 1.
    Optimization barriers do not help: they are removed before operations are fused.
    """
    window, strides = (2, *(1,) * image.ndim), (1,) * (image.ndim + 1)
    outside = [(0, 1)] + [(0, 0)] * image.ndim
    zero = np.zeros((), image.dtype)
    return lax.reduce_window(image[None], zero, lax.add, window, strides, outside)[0]


def _self_adjoint(function: Callable[[jax.Array], jax.Array], image: jax.Array) -> jax.Array:
    """``function(image)``, of a linear function whose transpose is the function itself.

    JAX lets no other function of its own be told a transpose that also has vmap and forward mode.
    Here ``function`` is the solver. The system that it would solve is not needed: nothing of it is
    differentiated, and its residual is never computed.
    """
    return lax.custom_linear_solve(
        lambda solution: solution, image, lambda _, image: function(image), symmetric=True
    )


def _add_zeros(image: jax.Array, axis: int, width: int) -> jax.Array:
    widths = [(0, 0)] * image.ndim
    widths[axis] = (width, width)
    return jnp.pad(image, widths)


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


def least_around(mask: jax.Array, image: jax.Array, radius: int) -> jax.Array:
    """The smallest weight within ``radius`` pixels of each pixel of ``image``, inside the image.

    Shape ``[..., H, W, 1]``. It is the weight of a window that reads pixels that far away.
    """
    weights = jnp.broadcast_to(mask, (*mask.shape[:-3], *image.shape[-3:-1], 1))
    for axis in (weights.ndim - 3, weights.ndim - 2):
        around = [(0, 0)] * weights.ndim
        around[axis] = (radius, radius)
        # The pixel at the border lies in every window that the padding lies in
        padded = jnp.pad(weights, around, mode="edge")
        size = weights.shape[axis]
        slices = (lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(2 * radius + 1))
        weights = functools.reduce(jnp.minimum, slices)
    return weights
