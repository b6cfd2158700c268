"""Structural similarity, shared by the metrics and the losses: local maps, masks, five scales.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE TIP 13(4), 2004; Wang, Simoncelli, Bovik, "Multiscale structural similarity for
image quality assessment", Asilomar 2003.

Images are ``[..., H, W, C]`` in the accumulation dtype, checked, divided by their data range, with
0 under the zeros of the mask (``_means.hide_masked``). Every channel is compared on its own.
Windows lie inside the image only.
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
# Wang et al. 2003, section 3.2, from fine to coarse.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# (K1 L)^2 and (K2 L)^2 of Wang et al. 2004 with L = 1. They also keep the quotients and their
# gradients finite.
_C1 = 0.01**2
_C2 = 0.03**2
# x^w has an infinite slope at 0. A mean of contrasts below this is 0 to float32 rounding, so it
# counts as 0, slope 0.
_SMALLEST_BASE = 1e-20
# Before 0.10 jax raises where it should transpose a loop of a custom derivative. Written out, the
# gradient is right there too, and slow on CPUs.
_LOOPS_ARE_TRANSPOSED = jax.__version_info__ >= (0, 10)

_T = TypeVar("_T")


class SimilarityMaps(NamedTuple):
    """SSIM and its contrast-structure factor at every window inside the image.

    Shape ``[..., H - 10, W - 10, C]``.
    """

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

    Moments are those of the population under an 11 x 11 Gaussian of sigma 1.5. Both quotients are
    written as 1 less what is missing, so that they are exact near 1, and 1 for equal images.
    """
    m = _moments(predictions, targets)
    difference = m.mean_p - m.mean_t
    luminance = 1 - difference * difference / (m.mean_p * m.mean_p + m.mean_t * m.mean_t + _C1)
    contrast = 1 - m.variance_of_difference / (m.variances + _C2)
    return SimilarityMaps(similarity=luminance * contrast, contrast=contrast)


def window_weights(mask: jax.Array | None, image: jax.Array) -> jax.Array | None:
    """The weight of each window of ``image``: the least of ``mask`` over it.

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
    r"""MS-SSIM per image ``[...]``, and what each image counts ``[...]`` (None without a mask).

    .. math::
        \mathrm{mean}_c \; \prod_{j<J} \max(\overline{cs}_{j,c}, 0)^{w_j} \cdot \max(\overline{ssim}_{J,c}, 0)^{w_J}

    From scale to scale images are averaged 2 x 2, an odd last row or column dropped, and the mask
    takes the least of the four. An image counts with the mean weight of its windows at the coarsest
    scale; where that is 0 the scale has nothing to compare, and the value is 0.
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
    """Checks the exponents, fine to coarse, and that the image is large enough for all scales."""
    if isinstance(scale_weights, jax.core.Tracer):
        raise ValueError(
            "scale_weights are traced, but they must be static Python numbers: bind them before "
            "jit."
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
        image,
        side,
        f"{scales} of MS-SSIM need at least {side} x {side}; give fewer scale_weights, or use ssim",
    )
    return exponents


def check_window(image: jax.Array) -> None:
    """Checks that an image holds at least one window."""
    _checks.check_sides(
        image, WINDOW_SIZE, f"SSIM's window needs at least {WINDOW_SIZE} x {WINDOW_SIZE}"
    )


@jax.custom_jvp
def _moments(predictions: jax.Array, targets: jax.Array) -> Moments:
    """Moments under the window by the law of total variance: down columns, then along rows.

    E[x^2] - E[x]^2 would lose up to 4e-4 of SSIM to float32 cancellation in flat bright windows,
    where C2 is all that the quotient stands on. Squares of what differs from the mean lose 1e-6,
    and no variance comes out negative.
    """
    return _by_platform(_moments_by_taps, predictions, targets)


@_moments.defjvp
def _moments_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[Moments, Moments]:
    """The derivative in closed form, d var(x) = 2 (E[x dx] - E[x] E[dx]).

    It keeps two images instead of one for each tap.
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
    """One sum over taps, two ways to write it: on CPUs as a ``loop``, unless told not to.

    XLA's CPU backend fuses the passes along both axes and what follows into one, and computes the
    first again for every tap of the second: 45 times the time for value and gradient. It does not
    fuse across a loop. Elsewhere a loop would only read the images again for every tap.
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
    """What the k-th tap of every window inside the image lies on."""
    return lax.dynamic_slice_in_dim(image, k, image.shape[axis] - (WINDOW_SIZE - 1), axis)


def _over_taps(
    term: Callable[[ArrayLike], tuple[jax.Array, ...]],
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    unroll: bool,
) -> tuple[jax.Array, ...]:
    """Combines ``term(0)`` to ``term(10)``.

    The loop starts from the first term, not from zeros, which shard_map would take for values that
    all shards share.
    """

    def step(k: ArrayLike, total: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return jax.tree.map(combine, total, term(k))

    # An unrolled fori_loop is a loop all the same where it is transposed
    if unroll and not _LOOPS_ARE_TRANSPOSED:
        return functools.reduce(lambda total, k: step(k, total), range(1, WINDOW_SIZE), term(0))
    return lax.fori_loop(1, WINDOW_SIZE, step, term(0), unroll=unroll)


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


def _halve(image: jax.Array) -> jax.Array:
    """Mean of each 2 x 2 block, an odd last row or column dropped.

    It is one reduction, not a sum of four slices of the reshaped image: the compiler of jax 0.12
    gets the derivative of that sum wrong on CPUs, by as much as the gradient itself.
    """
    height, width = image.shape[-3] // 2, image.shape[-2] // 2
    blocks = image[..., : 2 * height, : 2 * width, :]
    blocks = blocks.reshape(*image.shape[:-3], height, 2, width, 2, image.shape[-1])
    return jnp.mean(blocks, axis=(-4, -2))


def _halve_mask(mask: jax.Array | None) -> jax.Array | None:
    """The least of each 2 x 2 block; an axis of size 1, which broadcasts, stays."""
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
