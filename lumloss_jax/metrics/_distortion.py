"""MAE, MSE, PSNR and PSNR of luma, one value per image."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._absolute import absolute
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels
from lumloss_jax.metrics._protocol import prepare_difference

LUMA_SHARES = {"studio": 219 / 255, "full": 1.0}


def mae(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Mean absolute error of each image, as a fraction of the data range.

    .. math:: \mathrm{mean} \; |P - T| / R

    Protocol: ``numpy.abs(p - t).mean()`` on images in [0, 1]; R scales images of any other range to
    it.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 or 1; not clipped.
      targets: float array of the same shape.
      data_range: R, the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "MAE
        (GT-mean)".

    Returns:
      Error, shape ``[...]``, 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask or
        data range.

    References:
      Willmott, Matsuura, "Advantages of the mean absolute error (MAE) over the root mean square
      error (RMSE)", Climate Research 30(1), 2005.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((2, 8, 8, 3))
      >>> [f"{value:.4f}" for value in mae(targets + 51.0, targets, data_range=255.0)]
      ['0.2000', '0.2000']
    """
    pair, difference = prepare_difference(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    return _means.image_mean(absolute(difference), pair.mask)


def mse(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Mean squared error of each image, as a fraction of the squared data range.

    .. math:: \mathrm{mean} \; (P - T)^2 / R^2

    Protocol: ``skimage.metrics.mean_squared_error`` on images in [0, 1]; R scales images of any
    other range to it.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 or 1; not clipped.
      targets: float array of the same shape.
      data_range: R, the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "MSE
        (GT-mean)".

    Returns:
      Error, shape ``[...]``, 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask or
        data range.

    References:
      Wang, Bovik, "Mean squared error: love it or leave it?", IEEE Signal Processing Magazine
      26(1), 2009.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 8, 8, 3))
      >>> print(f"{mse(targets + 0.1, targets)[0]:.4f}")
      0.0100
    """
    pair, difference = prepare_difference(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    return _means.image_mean(jnp.square(difference), pair.mask)


def psnr(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    floor: ArrayLike = 1e-10,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Peak signal-to-noise ratio of each image in dB.

    .. math:: 10 \log_{10} \frac{R^2}{\max(\mathrm{MSE}, \text{floor} \cdot R^2)}

    with R the data range. For a data set, papers report the mean of the images' values
    (``jnp.mean``); the PSNR of the pooled squared error is a lower number.

    Protocol: ``skimage.metrics.peak_signal_noise_ratio`` on unrounded, unclipped floats. If a table
    requires it, round to 8 bits and clip first.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 or 1; not clipped.
      targets: float array of the same shape.
      data_range: R, the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN (``jnp.nanmean`` leaves it out).
      floor: smallest MSE as a fraction of R^2. The default corresponds to 100 dB, and keeps the
        gradient finite as images become equal; 0.0 gives inf for equal images, as scikit-image
        does.
      gt_mean: None changes nothing. ``"luma"`` first scales each prediction to its target's mean
        luma (rec601) and clips to [0, R], as KinD does. (Retinexformer's code swaps the weights of
        red and blue, which makes a difference if the colour casts differ.) ``"channels"`` does the
        same with the mean of all channels. Such numbers are higher and must be reported as "PSNR
        (GT-mean)".

    Returns:
      dB, shape ``[...]``, higher is better, at most 100 with the default floor; float64 for float64
      input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask, floor
        or data range.

    References:
      Huynh-Thu, Ghanbari, "Scope of validity of PSNR in image/video quality assessment",
      Electronics Letters 44(13), 2008.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((2, 8, 8, 3))
      >>> [f"{value:.4f}" for value in psnr(targets + 0.1, targets)]
      ['20.0000', '20.0000']
      >>> print(f"{psnr(targets, targets)[0]:.4f}")
      100.0000
    """
    pair, difference = prepare_difference(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    floor = _checks.check_scalar("floor", floor, pair.targets.dtype)
    return decibels(_means.image_mean(jnp.square(difference), pair.mask), floor)


def psnr_y(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    luma_range: str = "studio",
    floor: ArrayLike = 1e-10,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""PSNR of each image's luma in dB: the PSNR-Y of super-resolution and deblurring tables.

    .. math:: 10 \log_{10} \frac{1}{\max(\mathrm{mean} \, (s \, (y(P) - y(T)) / R)^2, \text{floor})}

    with y the luma of Rec. 601 and s the fraction of the data range that it covers: 1 in full range
    and 219/255 in studio range, which by itself gives 1.3219 dB more. A table must say which it
    uses.

    Protocol: ``"studio"`` is Y of ``rgb2ycbcr`` in MATLAB, BasicSR and KAIR, without their
    rounding; ``"full"`` is the luma of JPEG and of OpenCV's greyscale.

    Args:
      predictions: float array ``[..., H, W, 3]``, gamma-encoded red, green, blue; not clipped.
      targets: float array of the same shape.
      data_range: R, the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN.
      luma_range: ``"studio"`` or ``"full"``.
      floor: smallest mean squared error as a fraction of R^2; see :func:`psnr`.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "PSNR-Y
        (GT-mean)".

    Returns:
      dB, shape ``[...]``, higher is better, at most 100 with the default floor; float64 for float64
      input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 3]`` of the same shape, a
        border that leaves nothing, an unknown ``luma_range`` or ``gt_mean``, a concrete negative
        mask, floor or data range.

    References:
      ITU-R BT.601-7, section 2.5.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 8, 8, 3))
      >>> print(f"{psnr_y(targets + 0.1, targets)[0]:.4f}")
      21.3219
      >>> print(f"{psnr_y(targets + 0.1, targets, luma_range='full')[0]:.4f}")
      20.0000
    """
    _checks.check_option("luma_range", luma_range, LUMA_SHARES)
    pair, difference = prepare_difference(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
        channels=(3,),
    )
    floor = _checks.check_scalar("floor", floor, pair.targets.dtype)
    # Luma is linear, so it is taken once, of the difference
    luma = sum_channels(difference, COEFFICIENTS["rec601"])
    return decibels(_means.image_mean(jnp.square(LUMA_SHARES[luma_range] * luma), pair.mask), floor)


def decibels(mse: jax.Array, floor: jax.Array) -> jax.Array:
    """PSNR of a mean squared error at data range 1."""
    mse = jnp.maximum(mse, floor)
    # Only with a floor of 0: the logarithm of 0 has no finite gradient, and `where` would pass it
    # on.
    zero = mse == 0
    return jnp.where(
        zero, jnp.full_like(mse, jnp.inf), -10 * jnp.log10(jnp.where(zero, jnp.ones_like(mse), mse))
    )
