"""Structural similarity, shared by the metrics and the losses: local maps, their weights under a mask, five scales.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE TIP
13(4), 2004; Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003.

Images are ``[..., H, W, C]`` in the accumulation dtype, checked, divided by their data range, with 0 under the zeros of
the mask (``_reduction.hide_masked``). Every channel is compared on its own. Windows lie inside the image only.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lumloss_jax import _filters, _reduction

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
# Wang et al. 2003, section 3.2, from fine to coarse.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# (K1 L)^2 and (K2 L)^2 of Wang et al. 2004 with L = 1. They also keep the quotients and their gradients finite.
_C1 = 0.01**2
_C2 = 0.03**2
# x^w has an infinite slope at 0. A mean of contrasts below this is 0 to float32 rounding, so it counts as 0, slope 0.
_SMALLEST_BASE = 1e-20


class SimilarityMaps(NamedTuple):
    """SSIM and its contrast-structure factor at every window inside the image, ``[..., H - 10, W - 10, C]``."""

    similarity: jax.Array
    contrast: jax.Array


class Moments(NamedTuple):
    """What SSIM needs to know of two images under a window; each ``[..., H, W, C]``."""

    mean_p: jax.Array
    mean_t: jax.Array
    variances: jax.Array  # of the predictions plus of the targets
    variance_of_difference: jax.Array  # the sum of the variances less twice the covariance


def similarity_maps(predictions: jax.Array, targets: jax.Array) -> SimilarityMaps:
    r"""SSIM and its contrast-structure factor, window by window.

    .. math::
        \mathrm{SSIM} = \frac{2 \mu_p \mu_t + C_1}{\mu_p^2 + \mu_t^2 + C_1} \cdot
        \underbrace{\frac{2 \sigma_{pt} + C_2}{\sigma_p^2 + \sigma_t^2 + C_2}}_\text{contrast}

    Moments are those of the population under an 11 x 11 Gaussian of sigma 1.5. Both quotients are written as 1 less
    what is missing, so that they are exact near 1, and 1 for equal images.
    """
    m = _moments(predictions, targets)
    off = m.mean_p - m.mean_t
    luminance = 1 - off * off / (m.mean_p * m.mean_p + m.mean_t * m.mean_t + _C1)
    contrast = 1 - m.variance_of_difference / (m.variances + _C2)
    return SimilarityMaps(similarity=luminance * contrast, contrast=contrast)


def window_weights(mask: jax.Array | None, image: jax.Array) -> jax.Array | None:
    """What each window of ``image`` counts: the least of ``mask`` over it, ``[..., H - 10, W - 10, 1]``."""
    if mask is None:
        return None
    weights = jnp.broadcast_to(mask, (*mask.shape[:-3], *image.shape[-3:-1], 1))
    for axis in (weights.ndim - 3, weights.ndim - 2):
        size = weights.shape[axis] - (WINDOW_SIZE - 1)
        least = lax.slice_in_dim(weights, 0, size, axis=axis)
        for k in range(1, WINDOW_SIZE):
            least = jnp.minimum(least, lax.slice_in_dim(weights, k, k + size, axis=axis))
        weights = least
    return weights


def multi_scale_similarity(
    predictions: jax.Array,
    targets: jax.Array,
    mask: jax.Array | None,
    scale_weights: tuple[float, ...] = SCALE_WEIGHTS,
) -> tuple[jax.Array, jax.Array | None]:
    r"""MS-SSIM per image ``[...]``, and what each image counts ``[...]`` (None without a mask).

    .. math::
        \mathrm{mean}_c \; \prod_{j<J} \max(\overline{cs}_{j,c}, 0)^{w_j} \cdot \max(\overline{ssim}_{J,c}, 0)^{w_J}

    From scale to scale images are averaged 2 x 2, an odd last row or column dropped, and the mask takes the least of
    the four. An image counts with the mean weight of its windows at the coarsest scale; where that is 0 the scale has
    nothing to compare, and the value is 0.
    """
    product = None
    weights = None
    for scale, exponent in enumerate(scale_weights):
        last = scale == len(scale_weights) - 1
        maps = similarity_maps(predictions, targets)
        weights = window_weights(mask, predictions)
        term = _spatial_mean(maps.similarity if last else maps.contrast, weights)  # [..., C]
        factor = _power(term, exponent)
        product = factor if product is None else product * factor
        if not last:
            predictions, targets = _halve(predictions), _halve(targets)
            mask = _halve_mask(mask)
    assert product is not None  # there is at least one scale
    values = jnp.mean(product, axis=-1)
    if weights is None:
        return values, None
    return values, jnp.broadcast_to(jnp.mean(weights, axis=(-3, -2, -1)), values.shape)


def check_scales(image: jax.Array, scale_weights: object) -> tuple[float, ...]:
    """Checks the exponents, fine to coarse, and that the image is large enough for as many scales."""
    if isinstance(scale_weights, jax.core.Tracer):
        raise ValueError("scale_weights are traced, but they must be static Python numbers: bind them before jit.")
    try:
        exponents = tuple(float(weight) for weight in scale_weights)  # type: ignore[attr-defined]  # caught below
    except (TypeError, ValueError):
        raise ValueError(f"scale_weights must be a sequence of numbers; got {scale_weights!r}.") from None
    if not exponents or not all(math.isfinite(weight) and weight > 0 for weight in exponents):
        raise ValueError(f"scale_weights must be one or more finite numbers above 0; got {scale_weights!r}.")
    side = WINDOW_SIZE * 2 ** (len(exponents) - 1)
    scales = f"{len(exponents)} scale{'s' if len(exponents) > 1 else ''}"
    _reduction.check_sides(
        image,
        side,
        f"{scales} of MS-SSIM need at least {side} x {side}; give fewer scale_weights, or use ssim",
    )
    return exponents


def check_window(image: jax.Array) -> None:
    """Checks that an image holds at least one window."""
    _reduction.check_sides(image, WINDOW_SIZE, f"SSIM's window needs at least {WINDOW_SIZE} x {WINDOW_SIZE}")


def _moments(predictions: jax.Array, targets: jax.Array) -> Moments:
    """Moments under the window, by the law of total variance: first down the columns, then of those along the rows.

    E[x^2] - E[x]^2 would lose up to 4e-4 of SSIM to float32 cancellation in flat bright windows, where C2 is all that
    the quotient stands on. Squares of what differs from the mean lose 1e-6, and no variance comes out negative.
    """
    taps = _filters.gaussian_taps(WINDOW_SIZE, WINDOW_SIGMA)
    zeros = jnp.zeros_like(predictions)
    moments = Moments(predictions, targets, zeros, zeros)
    for axis in (predictions.ndim - 3, predictions.ndim - 2):
        moments = _moments_along(moments, taps, axis)
    return moments


def _moments_along(m: Moments, taps: tuple[float, ...], axis: int) -> Moments:
    """Moments under the window along one axis, one tap per turn of a loop.

    Unrolled, the gradient adds up 11 padded copies of each image: XLA's CPU backend compiled that for 11 s and ran it
    14 times longer. A turn keeps nothing for the gradient but the moments themselves (checkpoint).
    """
    size = m.mean_p.shape[axis] - (len(taps) - 1)
    weights = (jnp.arange(len(taps)), jnp.asarray(taps, m.mean_p.dtype))

    def tap(image: jax.Array, k: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(image, k, size, axis=axis)

    def add_means(sums: tuple[jax.Array, jax.Array], weighted: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        (k, weight), (mean_p, mean_t) = weighted, sums
        return (mean_p + weight * tap(m.mean_p, k), mean_t + weight * tap(m.mean_t, k)), None

    def add_variances(sums: tuple[jax.Array, jax.Array], weighted: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        (k, weight), (variances, of_difference) = weighted, sums
        off_p, off_t = tap(m.mean_p, k) - mean_p, tap(m.mean_t, k) - mean_t
        variances += weight * (tap(m.variances, k) + off_p * off_p + off_t * off_t)
        of_difference += weight * (tap(m.variance_of_difference, k) + jnp.square(off_p - off_t))
        return (variances, of_difference), None

    zeros = jnp.zeros_like(lax.slice_in_dim(m.mean_p, 0, size, axis=axis))
    (mean_p, mean_t), _ = lax.scan(add_means, (zeros, zeros), weights)
    add_variances = jax.checkpoint(add_variances, prevent_cse=False)
    (variances, variance_of_difference), _ = lax.scan(add_variances, (zeros, zeros), weights)
    return Moments(mean_p, mean_t, variances, variance_of_difference)


def _spatial_mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Mean over H and W, ``[..., C]``; 0 where the weights are all 0."""
    if weights is None:
        return jnp.mean(values, axis=(-3, -2))
    total = jnp.sum(values * weights, axis=(-3, -2))
    weight = jnp.sum(weights, axis=(-3, -2))
    return total / jnp.where(weight == 0, jnp.ones_like(weight), weight)


def _power(base: jax.Array, exponent: float) -> jax.Array:
    positive = base > _SMALLEST_BASE
    safe = jnp.where(positive, base, jnp.ones_like(base))
    return jnp.where(positive, safe**exponent, jnp.zeros_like(base))


def _quarters(image: jax.Array) -> tuple[jax.Array, ...]:
    """The four pixels of each 2 x 2 block, an odd last row or column dropped, each ``[..., H // 2, W // 2, C]``."""
    height, width = image.shape[-3] // 2, image.shape[-2] // 2
    blocks = image[..., : 2 * height, : 2 * width, :]
    blocks = blocks.reshape(*image.shape[:-3], height, 2, width, 2, image.shape[-1])
    return tuple(blocks[..., i, :, j, :] for i in (0, 1) for j in (0, 1))


def _halve(image: jax.Array) -> jax.Array:
    first, second, third, fourth = _quarters(image)
    return (first + second + third + fourth) * 0.25


def _halve_mask(mask: jax.Array | None) -> jax.Array | None:
    """The least of each 2 x 2 block; an axis of size 1, which broadcasts, stays."""
    if mask is None:
        return None
    for axis in (mask.ndim - 3, mask.ndim - 2):
        size = mask.shape[axis]
        if isinstance(size, int) and size == 1:
            continue
        even, odd = (lax.slice_in_dim(mask, start, size // 2 * 2, stride=2, axis=axis) for start in (0, 1))
        mask = jnp.minimum(even, odd)
    return mask
