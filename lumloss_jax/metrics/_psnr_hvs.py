"""PSNR-HVS and PSNR-HVS-M: PSNR in which each frequency counts by how well the eye sees it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax import _local_similarity as local
from lumloss_jax._ciede2000 import safe_sqrt
from lumloss_jax._dct import COSINES, LUMINANCE_STEPS, NORM, transform
from lumloss_jax._pair import Pair
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels
from lumloss_jax.metrics._distortion import LUMA_SHARES, decibels
from lumloss_jax.metrics._protocol import prepare_difference

_BLOCK = 8
# The authors print both tables with six decimals. They follow from JPEG's steps.
_SENSITIVITY = np.round(25.73509 / np.array(LUMINANCE_STEPS), 6)
_MASKING = np.round((10 / np.array(LUMINANCE_STEPS)) ** 2, 6)
# The mean is not maskable, and it masks nothing.
_DETAILS = np.ones((_BLOCK, _BLOCK))
_DETAILS[0, 0] = 0
# A block whose pixels vary by less than 1e-7 of the data range is flat. Its quotient of variances
# is rounding, and the square of its variance, which the gradient divides by, underflows.
_FLAT = 64 * 1e-7**2


def psnr_hvs(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
    luma_range: str = "full",
    floor: ArrayLike = 1e-10,
) -> jax.Array:
    r"""PSNR-HVS in dB, of each image: the PSNR of luma with the eye's contrast sensitivity.

    .. math::
        10 \log_{10} \frac{1}{\max(E, \text{floor})}, \quad
        E = \mathrm{mean}_{\text{blocks}, k} \; \big(s \, c_k \, D_k(P - T) / R\big)^2

    with D the discrete cosine transform of a block of 8 x 8 pixels, :math:`c_k` the sensitivity of
    the eye to its frequency k, and s the share of the data range that luma takes.

    Pixels at the right and at the bottom that fill no block are left out.

    Protocol: the authors' ``psnrhvsm.m`` on luma from 0 to 255 (``"full"``). The published numbers
    of TID2013 use ``"studio"`` range, which reads 1.3219 dB higher, and round luma to 8 bits. A
    table must say which. Metrics of this name in video encoders have other tables.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, at least 8 x 8
        pixels; not clipped.
      targets: float array of the same shape.
      data_range: R, the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        block counts with the least of its 64 weights. Where the mask is 0 the images are not read.
        An image in which no block counts scores NaN (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; name the number "PSNR-HVS
        (GT-mean)".
      luma_range: ``"full"`` or ``"studio"``.
      floor: least E; see :func:`psnr`.

    Returns:
      dB, shape ``[...]``, higher is better, at most 100 with the default floor; float64 for float64
      input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or smaller than 8 x 8, a border that leaves nothing, an unknown ``luma_range`` or
        ``gt_mean``, a concrete negative mask, floor or data range.

    References:
      Egiazarian, Astola, Ponomarenko, Lukin, Battisti, Carli, "New full-reference quality metrics
      based on HVS", Workshop on Video Processing and Quality Metrics, 2006.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 8, 8, 1), 0.5)
      >>> brighter = targets + 0.05
      >>> # the same error pixel by pixel, in fine detail, which the eye sees less well
      >>> striped = targets.at[:, :, ::2].add(0.05).at[:, :, 1::2].add(-0.05)
      >>> print(f"{psnr_hvs(brighter, targets)[0]:.2f} {psnr_hvs(striped, targets)[0]:.2f}")
      21.89 29.18
    """
    return _psnr(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
        luma_range=luma_range,
        floor=floor,
        masking=False,
    )


def psnr_hvs_m(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
    luma_range: str = "full",
    floor: ArrayLike = 1e-10,
) -> jax.Array:
    r"""PSNR-HVS-M in dB, of each image: :func:`psnr_hvs` without the errors that texture hides.

    .. math::
        E = \mathrm{mean}_{\text{blocks}, k} \; \Big(s \, c_k
        \max\big(|D_k(P - T)| / R - m / q_k, \, 0\big)\Big)^2, \quad
        m = \max\big(m(P), m(T)\big)

    where m of a block is the energy of its details, lowered if an edge carries it, and :math:`q_k`
    says how well a detail of frequency k hides errors. Errors of the mean are never hidden.

    As a loss it needs a pixel loss beside it, because an error that is hidden has slope 0.

    Protocol: the authors' ``psnrhvsm.m`` on luma from 0 to 255; see :func:`psnr_hvs`.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, at least 8 x 8
        pixels; not clipped.
      targets: float array of the same shape.
      data_range: R, the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        block counts with the least of its 64 weights. Where the mask is 0 the images are not read.
        An image in which no block counts scores NaN (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; name the number "PSNR-HVS-M
        (GT-mean)".
      luma_range: ``"full"`` or ``"studio"``.
      floor: least E; see :func:`psnr`. Different images reach it if every error is hidden.

    Returns:
      dB, shape ``[...]``, higher is better, at most 100 with the default floor; float64 for float64
      input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or smaller than 8 x 8, a border that leaves nothing, an unknown ``luma_range`` or
        ``gt_mean``, a concrete negative mask, floor or data range.

    References:
      Ponomarenko, Silvestri, Egiazarian, Carli, Astola, Lukin, "On between-coefficient contrast
      masking of DCT basis functions", Workshop on Video Processing and Quality Metrics, 2007.

    Example:
      >>> import jax
      >>> texture = jax.random.uniform(jax.random.key(0), (1, 32, 32, 1))
      >>> noise = 0.1 * jax.random.normal(jax.random.key(1), texture.shape)
      >>> seen, hidden = psnr_hvs(texture + noise, texture), psnr_hvs_m(texture + noise, texture)
      >>> print(f"{seen[0]:.2f} {hidden[0]:.2f}")
      19.98 24.70
    """
    return _psnr(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
        luma_range=luma_range,
        floor=floor,
        masking=True,
    )


def _psnr(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike,
    crop_border: int,
    mask: ArrayLike | None,
    gt_mean: str | None,
    luma_range: str,
    floor: ArrayLike,
    masking: bool,
) -> jax.Array:
    """Both metrics, without and with masking."""
    _checks.check_option("luma_range", luma_range, LUMA_SHARES)
    pair, difference = prepare_difference(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    floor = _checks.check_scalar("floor", floor, pair.targets.dtype)
    local.check_smallest(pair.targets, _BLOCK, "PSNR-HVS-M" if masking else "PSNR-HVS")
    # The transform of the difference, which is exact where the images are equal
    errors = local.magnitude(_coefficients(_blocks(_luma(difference))))
    if masking:
        hidden = jnp.maximum(
            *(_masking(_luma(image)) for image in (pair.predictions, pair.targets))
        )
        maskable = _table(_DETAILS / _MASKING, errors)
        errors = jnp.maximum(errors - hidden * maskable, jnp.zeros_like(errors))
    errors = errors * _table(_SENSITIVITY * LUMA_SHARES[luma_range], errors)
    of_blocks = jnp.mean(jnp.square(errors), axis=(-3, -1))[..., None]  # [..., H/8, W/8, 1]
    return decibels(_means.image_mean(of_blocks, _least_of_blocks(pair)), floor)


def _luma(image: jax.Array) -> jax.Array:
    return sum_channels(image, COEFFICIENTS["rec601"])


def _blocks(plane: jax.Array, side: int = _BLOCK) -> jax.Array:
    """``[..., H, W, 1]`` in blocks ``[..., H / side, side, W / side, side]``.

    What fills no block of 8 x 8 pixels is left out.
    """
    down, across = plane.shape[-3] // _BLOCK, plane.shape[-2] // _BLOCK
    whole = plane[..., : down * _BLOCK, : across * _BLOCK, 0]
    parts = _BLOCK // side
    return jnp.reshape(whole, (*plane.shape[:-3], down * parts, side, across * parts, side))


def _table(values: np.ndarray, blocks: jax.Array) -> jax.Array:
    """A table of 8 x 8 factors, laid out to multiply the coefficients of all blocks."""
    shape = (*(1,) * (blocks.ndim - 4), 1, _BLOCK, 1, _BLOCK)
    return jnp.asarray(values, blocks.dtype).reshape(shape)


def _coefficients(blocks: jax.Array) -> jax.Array:
    """The orthonormal cosine transform of every block."""
    return transform(blocks, jnp.asarray(COSINES, blocks.dtype)) * _table(NORM, blocks)


def _masking(luma: jax.Array) -> jax.Array:
    """M of every block, ``[..., H // 8, 1, W // 8, 1]``: sqrt(A V4 / V) / 32.

    A is the energy of the details, V the variation of the block, V4 that of its four quarters. An
    edge varies less within the quarters than between them, so it hides less than texture does.
    """
    blocks = _blocks(luma)
    details = jnp.square(_coefficients(blocks)) * _table(_DETAILS * _MASKING, blocks)
    energy = jnp.sum(details, axis=(-3, -1), keepdims=True)
    variation = _variation(blocks)
    quarters = _variation(_blocks(luma, _BLOCK // 2))[..., 0, :, 0]  # [..., H / 4, W / 4]
    down, across = blocks.shape[-4], blocks.shape[-2]
    quarters = jnp.reshape(quarters, (*quarters.shape[:-2], down, 2, across, 2))
    of_quarters = jnp.sum(quarters, axis=(-3, -1), keepdims=True)
    flat = variation <= _FLAT
    share = of_quarters / jnp.where(flat, jnp.ones_like(variation), variation)
    return safe_sqrt(energy * jnp.where(flat, jnp.zeros_like(share), share)) / 32


def _variation(blocks: jax.Array) -> jax.Array:
    """N times the sample variance of each block, whose two axes are kept as 1."""
    axes = (-3, -1)
    count = blocks.shape[-3] * blocks.shape[-1]
    off = blocks - jnp.mean(blocks, axes, keepdims=True)
    return count / (count - 1) * jnp.sum(jnp.square(off), axes, keepdims=True)


def _least_of_blocks(pair: Pair) -> jax.Array | None:
    """The weight of each block, ``[..., H // 8, W // 8, 1]``: the least of its pixels'."""
    if pair.mask is None:
        return None
    weights = jnp.broadcast_to(pair.mask, (*pair.mask.shape[:-3], *pair.targets.shape[-3:-1], 1))
    return jnp.min(_blocks(weights), axis=(-3, -1))[..., None]
