"""Separate errors in brightness and in chroma, which show what a gain in one costs."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _means
from lumloss_jax._ciede2000 import chroma
from lumloss_jax._pair import zero_where_equal
from lumloss_jax.color._lab import lab_lightness, rgb_to_lab
from lumloss_jax.metrics._protocol import prepare


def brightness_error(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Mean absolute error of CIE lightness of each image.

    .. math:: \mathrm{mean} \; |L^*(P) - L^*(T)|

    with L* from 0 (black) to 100 (white). It does not see errors of hue or chroma: use it together
    with :func:`chroma_error`.

    Protocol: ``abs(skimage.color.rgb2lab(p) - skimage.color.rgb2lab(t))[..., 0].mean()``.

    Args:
      predictions: float array ``[..., H, W, C]``, gamma-encoded sRGB, C = 3 (red, green, blue) or 1
        (grey); not clipped.
      targets: float array of the same shape.
      data_range: the value of white, above 0; images are divided by it first. It may be traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; the result is then the error of
        local brightness.

    Returns:
      Units of L*, shape ``[...]``, 0 or more, lower is better; float64 for float64 input, else
      float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask or
        data range.

    References:
      CIE 15:2004, section 8.2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 2, 2, 3), 0.5)
      >>> print(f"{brightness_error(targets + 0.1, targets)[0]:.4f}")
      9.8336
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    difference = lab_lightness(pair.predictions) - lab_lightness(pair.targets)
    return _means.image_mean(zero_where_equal(jnp.abs(difference), pair), pair.mask)


def chroma_error(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Mean absolute error of CIE chroma of each image: colours too pale or too strong.

    .. math:: \mathrm{mean} \; |C^*(P) - C^*(T)|, \quad C^* = \sqrt{a^{*2} + b^{*2}}

    It sees neither errors of hue (:func:`ciede2000` does) nor of brightness
    (:func:`brightness_error` does).

    Protocol: ``abs(c(p) - c(t)).mean()`` with ``c = lambda x:
    numpy.hypot(*skimage.color.rgb2lab(x).T[1:])``.

    Args:
      predictions: float array ``[..., H, W, 3]``, gamma-encoded sRGB: red, green, blue; not
        clipped.
      targets: float array of the same shape.
      data_range: the value of white, above 0; images are divided by it first. It may be traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number with
        "(GT-mean)".

    Returns:
      Units of C*, similar in size to units of L*, shape ``[...]``, 0 or more, lower is better;
      float64 for float64 input, else float32. The gradient of C* at a grey is 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 3]`` of the same shape, a
        border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask or data range.

    References:
      CIE 15:2004, section 8.2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.broadcast_to(jnp.array([0.8, 0.4, 0.4]), (1, 2, 2, 3))
      >>> faded = targets - jnp.array([0.1, 0.0, 0.0])
      >>> chroma = chroma_error(faded, targets)
      >>> brightness = brightness_error(faded, targets)
      >>> print(f"{chroma[0]:.4f} {brightness[0]:.4f}")
      11.0682 3.5586
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
        channels=(3,),
    )
    difference = _chroma(pair.predictions) - _chroma(pair.targets)
    return _means.image_mean(zero_where_equal(jnp.abs(difference), pair), pair.mask)


def _chroma(image: jax.Array) -> jax.Array:
    lab = rgb_to_lab(image)
    return chroma(lab[..., 1:2], lab[..., 2:])
