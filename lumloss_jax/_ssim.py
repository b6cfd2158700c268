"""Structural similarity for the metrics and the losses: local maps, masks and scales.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 13(4), 2004; Wang, Simoncelli, Bovik, "Multiscale structural similarity for
image quality assessment", Asilomar 2003.

Images are ``[..., H, W, C]`` in the accumulation dtype. They are already checked, divided by their
data range, and 0 where the mask is 0 (``_means.hide_masked``). Every channel is compared on its
own. Only windows inside the image are used.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _filters

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
# From Wang et al. 2003, section 3.2, fine to coarse.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# (K1 L)^2 and (K2 L)^2 of Wang et al. 2004 with L = 1. They also keep the quotients and their
# gradients finite.
_C1 = 0.01**2
_C2 = 0.03**2
# x^w has an infinite slope at 0. A mean contrast below this is 0 up to float32 rounding, so it
# counts as 0, with slope 0.
_SMALLEST_BASE = 1e-20
# Before version 0.10, jax raises an error instead of transposing a loop of a custom derivative.
# With the loop written out, the gradient is right in those versions too, but slow on CPUs.
_LOOPS_ARE_TRANSPOSED = jax.__version_info__ >= (0, 10)

_T = TypeVar("_T")


class SimilarityMaps(NamedTuple):
    """SSIM and its contrast-structure factor at every window inside the image.

    Shape ``[..., H - 10, W - 10, C]``.
    """

    similarity: jax.Array
    contrast: jax.Array


class Moments(NamedTuple):
    """What SSIM needs to know about two images under a window; each ``[..., H, W, C]``."""

    mean_p: jax.Array
    mean_t: jax.Array
    variances: jax.Array  # variance of the predictions plus variance of the targets
    variance_of_difference: jax.Array  # variances minus twice the covariance


def similarity_maps(predictions: jax.Array, targets: jax.Array) -> SimilarityMaps:
    r"""SSIM and its contrast-structure factor, window by window.

    .. math::
        \mathrm{SSIM} = \frac{2 \mu_p \mu_t + C_1}{\mu_p^2 + \mu_t^2 + C_1} \cdot
        \underbrace{\frac{2 \sigma_{pt} + C_2}{\sigma_p^2 + \sigma_t^2 + C_2}}_\text{contrast}

    The moments are population moments under an 11 x 11 Gaussian of sigma 1.5. Both quotients are
    written as 1 minus a difference, so that they are exact near 1, and exactly 1 for equal images.
    """
    m = _moments(predictions, targets)
    difference = m.mean_p - m.mean_t
    luminance = 1 - difference * difference / (m.mean_p * m.mean_p + m.mean_t * m.mean_t + _C1)
    contrast = 1 - m.variance_of_difference / (m.variances + _C2)
    return SimilarityMaps(similarity=luminance * contrast, contrast=contrast)


def window_weights(mask: jax.Array | None, image: jax.Array) -> jax.Array | None:
    """The weight of each window of ``image``: the smallest value of ``mask`` in it.

    Shape ``[..., H - 10, W - 10, 1]``.
    """
    if mask is None:
        return None
    weights = jnp.broadcast_to(mask, (*mask.shape[:-3], *image.shape[-3:-1], 1))
    return _by_platform(_least_by_taps, weights)


def multi_scale_similarity(
    predictions: jax.Array,
    targets: jax.Array,
    mask: jax.Array | None,
    scale_weights: tuple[float, ...] = SCALE_WEIGHTS,
) -> tuple[jax.Array, jax.Array | None]:
    r"""MS-SSIM per image ``[...]``, and the weight of each image ``[...]`` (None without a mask).

    .. math::
        \mathrm{mean}_c \; \prod_{j<J} \max(\overline{cs}_{j,c}, 0)^{w_j} \cdot
        \max(\overline{ssim}_{J,c}, 0)^{w_J}

    From scale to scale, images are averaged over 2 x 2 pixels and an odd last row or column is
    dropped; the mask keeps the smallest of the four. The weight of an image is the mean weight of
    its windows at the coarsest scale. If that is 0, there is nothing to compare at that scale, and
    the value is 0.
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


def check_scales(image: jax.Array, scale_weights: Any) -> tuple[float, ...]:
    """Checks the exponents, fine to coarse, and that the image is large enough for all of them."""
    if isinstance(scale_weights, jax.core.Tracer):
        raise ValueError(
            "scale_weights are traced, but they must be static Python numbers: bind them before "
            "jit with functools.partial."
        )
    try:
        exponents = tuple(float(weight) for weight in scale_weights)
    except (TypeError, ValueError):
        raise ValueError(
            f"scale_weights must be a sequence of numbers; got {scale_weights!r}."
        ) from None
    if not exponents or not all(math.isfinite(weight) and weight > 0 for weight in exponents):
        raise ValueError(
            f"scale_weights must be one or more finite numbers above 0; got {scale_weights!r}."
        )
    side = WINDOW_SIZE * 2 ** (len(exponents) - 1)
    scales = f"{len(exponents)} scale{'s' if len(exponents) > 1 else ''}"
    _checks.check_sides(
        image, side, f"MS-SSIM with {scales}", advice="Use fewer scale_weights, or ssim."
    )
    return exponents


def check_window(image: jax.Array) -> None:
    """Checks that an image holds at least one window."""
    _checks.check_sides(image, WINDOW_SIZE, "SSIM's window")


@jax.custom_jvp
def _moments(predictions: jax.Array, targets: jax.Array) -> Moments:
    """Moments under the window by the law of total variance, first down columns, then along rows.

    E[x^2] - E[x]^2 would lose up to 4e-4 of SSIM to float32 cancellation in flat bright windows,
    where only C2 keeps the quotient meaningful. Squares of differences from the mean lose 1e-6, and
    no variance comes out negative.
    """
    return _by_platform(_moments_by_taps, predictions, targets)


@_moments.defjvp
def _moments_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[Moments, Moments]:
    """The derivative in closed form, d var(x) = 2 (E[x dx] - E[x] E[dx]).

    It stores two images instead of one for each tap.
    """
    (p, t), (dp, dt) = primals, tangents
    m = _moments(p, t)
    mean_dp, mean_dt, products, products_of_difference = _by_platform(
        _means_by_taps, dp, dt, p * dp + t * dt, (p - t) * (dp - dt), loop=_LOOPS_ARE_TRANSPOSED
    )
    return m, Moments(
        mean_p=mean_dp,
        mean_t=mean_dt,
        variances=2 * (products - m.mean_p * mean_dp - m.mean_t * mean_dt),
        variance_of_difference=2
        * (products_of_difference - (m.mean_p - m.mean_t) * (mean_dp - mean_dt)),
    )


def _by_platform(by_taps: Callable[..., _T], *images: jax.Array, loop: bool = True) -> _T:
    """The same sum over taps, written in two ways: on CPUs as a loop, unless ``loop`` is False.

    XLA's CPU backend fuses the passes along both axes and what follows, and computes the first pass
    again for every tap of the second, so that value and gradient take 45 times as long. It does not
    fuse across a loop. On other devices, a loop would only read the images again for every tap.
    """
    return lax.platform_dependent(
        *images,
        cpu=functools.partial(by_taps, unroll=not loop),
        default=functools.partial(by_taps, unroll=True),
    )


def _moments_by_taps(predictions: jax.Array, targets: jax.Array, *, unroll: bool) -> Moments:
    zeros = jnp.zeros_like(predictions)
    moments = Moments(predictions, targets, zeros, zeros)
    for axis in (predictions.ndim - 3, predictions.ndim - 2):
        moments = _moments_along(moments, axis, unroll)
    return moments


def _moments_along(m: Moments, axis: int, unroll: bool) -> Moments:
    mean_p, mean_t = _means_along((m.mean_p, m.mean_t), axis, unroll)
    weights = _weights(mean_p.dtype)

    def variances(k: ArrayLike) -> tuple[jax.Array, ...]:
        off_p, off_t = _tap(m.mean_p, k, axis) - mean_p, _tap(m.mean_t, k, axis) - mean_t
        return (
            weights[k] * (_tap(m.variances, k, axis) + off_p * off_p + off_t * off_t),
            weights[k] * (_tap(m.variance_of_difference, k, axis) + jnp.square(off_p - off_t)),
        )

    return Moments(mean_p, mean_t, *_over_taps(variances, jnp.add, unroll))


def _means_by_taps(*images: jax.Array, unroll: bool) -> tuple[jax.Array, ...]:
    for axis in (images[0].ndim - 3, images[0].ndim - 2):
        images = _means_along(images, axis, unroll)
    return images


def _means_along(images: tuple[jax.Array, ...], axis: int, unroll: bool) -> tuple[jax.Array, ...]:
    weights = _weights(images[0].dtype)

    def means(k: ArrayLike) -> tuple[jax.Array, ...]:
        return tuple(weights[k] * _tap(image, k, axis) for image in images)

    return _over_taps(means, jnp.add, unroll)


def _least_by_taps(weights: jax.Array, *, unroll: bool) -> jax.Array:
    for axis in (weights.ndim - 3, weights.ndim - 2):
        weights = _least_along(weights, axis, unroll)
    return weights


def _least_along(weights: jax.Array, axis: int, unroll: bool) -> jax.Array:
    def weight(k: ArrayLike) -> tuple[jax.Array]:
        return (_tap(weights, k, axis),)

    return _over_taps(weight, jnp.minimum, unroll)[0]


def _weights(dtype: jnp.dtype) -> jax.Array:
    return jnp.asarray(_filters.gaussian_taps(WINDOW_SIZE, WINDOW_SIGMA), dtype)


def _tap(image: jax.Array, k: ArrayLike, axis: int) -> jax.Array:
    """The pixel under the k-th tap of every window inside the image."""
    return lax.dynamic_slice_in_dim(image, k, image.shape[axis] - (WINDOW_SIZE - 1), axis)


def _over_taps(
    term: Callable[[ArrayLike], tuple[jax.Array, ...]],
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    unroll: bool,
) -> tuple[jax.Array, ...]:
    """Combines ``term(0)`` to ``term(10)``.

    The loop starts from the first term and not from zeros, because shard_map would take zeros for
    values that all shards share.
    """

    def step(k: ArrayLike, total: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return jax.tree.map(combine, total, term(k))

    # Even if unrolled, a fori_loop counts as a loop when it is transposed
    if unroll and not _LOOPS_ARE_TRANSPOSED:
        return functools.reduce(lambda total, k: step(k, total), range(1, WINDOW_SIZE), term(0))
    return lax.fori_loop(1, WINDOW_SIZE, step, term(0), unroll=unroll)


def _spatial_mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Mean over H and W, ``[..., C]``; 0 if the weights are all 0."""
    if weights is None:
        return jnp.mean(values, axis=(-3, -2))
    total = jnp.sum(values * weights, axis=(-3, -2))
    weight = jnp.sum(weights, axis=(-3, -2))
    return total / jnp.where(weight == 0, jnp.ones_like(weight), weight)


def _power(base: jax.Array, exponent: float) -> jax.Array:
    positive = base > _SMALLEST_BASE
    safe = jnp.where(positive, base, jnp.ones_like(base))
    return jnp.where(positive, safe**exponent, jnp.zeros_like(base))


def _halve(image: jax.Array) -> jax.Array:
    """Mean of each 2 x 2 block; an odd last row or column is dropped.

    This is one reduction, not a sum of four slices of the reshaped image: on CPUs, the compiler of
    jax 0.12 gets the derivative of that sum wrong, by as much as the gradient itself.
    """
    height, width = image.shape[-3] // 2, image.shape[-2] // 2
    blocks = image[..., : 2 * height, : 2 * width, :]
    blocks = blocks.reshape(*image.shape[:-3], height, 2, width, 2, image.shape[-1])
    return jnp.mean(blocks, axis=(-4, -2))


def _halve_mask(mask: jax.Array | None) -> jax.Array | None:
    """The smallest of each 2 x 2 block; an axis of size 1, which broadcasts, stays as it is."""
    if mask is None:
        return None
    for axis in (mask.ndim - 3, mask.ndim - 2):
        size = mask.shape[axis]
        if isinstance(size, int) and size == 1:
            continue
        even, odd = (
            lax.slice_in_dim(mask, start, size // 2 * 2, stride=2, axis=axis) for start in (0, 1)
        )
        mask = jnp.minimum(even, odd)
    return mask
