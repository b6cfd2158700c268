"""SSIM and MS-SSIM, one value per image."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _means, _ssim
from lumloss_jax.metrics._protocol import prepare


def ssim(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Structural similarity of each image.

    .. math::
        \mathrm{mean} \; \frac{2 \mu_p \mu_t + C_1}{\mu_p^2 + \mu_t^2 + C_1} \cdot
        \frac{2 \sigma_{pt} + C_2}{\sigma_p^2 + \sigma_t^2 + C_2},
        \quad C_1 = (0.01 R)^2, \; C_2 = (0.03 R)^2

    over all 11 x 11 Gaussian windows of sigma 1.5 that lie inside the image, each channel on its
    own.

    Protocol: the authors' MATLAB code on full-size images, as in KAIR and Retinexformer,
    ``pytorch_msssim.ssim``, piq without downsampling, and ``skimage.metrics.structural_similarity``
    with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``. The defaults of
    scikit-image (7 x 7 box) and torchmetrics (padded border) give different numbers.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 or 1, at least 11 x 11 pixels; not clipped.
      targets: float array of the same shape.
      data_range: R, the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a window is the smallest weight in it. So a window that touches a 0 does not
        count, and the images are not read there. An image without a window that counts scores NaN
        (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "SSIM
        (GT-mean)".

    Returns:
      Similarity, shape ``[...]``, from -1 to 1 for images in range, 1 for equal images, higher is
      better; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or smaller than the window, a border that leaves nothing, an unknown ``gt_mean``, a
        concrete negative mask or data range.

    References:
      Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
      structural similarity", IEEE Transactions on Image Processing 13(4), 2004.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> targets = jnp.linspace(0, 1, 16 * 16 * 3).reshape(1, 16, 16, 3)
      >>> metric = jax.jit(ssim)
      >>> print(f"{metric(targets, targets)[0]:.4f}")
      1.0000
      >>> print(f"{metric(1 - targets, targets)[0]:.4f}")  # inverted: anticorrelated
      -0.8262
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    _ssim.check_window(pair.targets)
    maps = _ssim.similarity_maps(pair.predictions, pair.targets)
    return _means.image_mean(maps.similarity, _ssim.window_weights(pair.mask, pair.targets))


def ms_ssim(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    scale_weights: Sequence[float] = _ssim.SCALE_WEIGHTS,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Multi-scale structural similarity of each image.

    .. math::
        \mathrm{mean}_c \; \prod_{j<J} \max(\overline{cs}_{j,c}, 0)^{w_j} \cdot
        \max(\overline{ssim}_{J,c}, 0)^{w_J}

    with ssim as in :func:`ssim` and cs its second quotient, averaged over the windows of scale j
    and channel c. From scale to scale, images are averaged over 2 x 2 pixels, and an odd last row
    or column is dropped.

    Protocol: ``ms_ssim`` of pytorch_msssim and piq, for sizes that stay even at every scale. For
    other sizes, the libraries differ in the third decimal: pytorch_msssim pads with zeros on both
    sides and counts them, piq repeats a row and a column, and torchmetrics drops the last row and
    column, as here, but pads SSIM's windows.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 or 1, sides of at least 176 pixels for five
        scales, 11 * 2^(J - 1) for J; not clipped.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a window is the smallest weight in it; the weight of a coarser pixel is the
        smallest of its four. Where the mask is 0, the images are not read. An image without a
        window that counts at the coarsest scale (there it is 176 pixels wide) scores NaN.
      scale_weights: w_1 ... w_J, fine to coarse, above 0, static; the default is from Wang et al.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "MS-SSIM
        (GT-mean)".

    Returns:
      Similarity, shape ``[...]``, from 0 to 1 (for equal images), higher is better; float64 for
      float64 input, else float32. A negative term counts as 0, with gradient 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or too small for the scales, scale weights that are not numbers above 0, a border that
        leaves nothing, an unknown ``gt_mean``, a concrete negative mask or data range.

    References:
      Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment",
      Asilomar 2003.

    Example:
      >>> import functools, jax, jax.numpy as jnp
      >>> targets = jnp.linspace(0, 1, 24 * 24).reshape(1, 24, 24, 1)
      >>> # two scales, since the image is small
      >>> metric = jax.jit(functools.partial(ms_ssim, scale_weights=(0.5, 0.5)))
      >>> print(f"{metric(targets, targets)[0]:.4f} {metric(targets / 2, targets)[0]:.4f}")
      1.0000 0.7333
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    exponents = _ssim.check_scales(pair.targets, scale_weights)
    values, weights = _ssim.multi_scale_similarity(
        pair.predictions, pair.targets, pair.mask, exponents
    )
    return (
        values
        if weights is None
        else jnp.where(weights == 0, jnp.full_like(values, jnp.nan), values)
    )
