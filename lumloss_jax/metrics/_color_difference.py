"""Colour differences in CIE L*a*b*: CIE76 and CIEDE2000, one value per image."""

import jax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._ciede2000 import SMALLEST_FACTOR, ciede2000_of_lab, euclidean
from lumloss_jax._pair import zero_where_equal
from lumloss_jax.color._lab import rgb_to_lab
from lumloss_jax.metrics._protocol import prepare


def cie76(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Mean CIE76 colour difference of each image: the distance in L*a*b*.

    .. math:: \Delta E_{76} = \sqrt{(\Delta L^*)^2 + (\Delta a^*)^2 + (\Delta b^*)^2}

    A just noticeable difference is about 2.3. Differences of saturated colours are too large, which
    :func:`ciede2000` corrects.

    Protocol: ``skimage.color.deltaE_cie76(rgb2lab(p), rgb2lab(t)).mean()`` (D65, 2 degree
    observer).

    Args:
      predictions: float array ``[..., H, W, 3]``, gamma-encoded sRGB: red, green, blue; not
        clipped.
      targets: float array of the same shape.
      data_range: the value of white, above 0; images are divided by it first. It may be traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "CIE76
        (GT-mean)".

    Returns:
      Mean difference, shape ``[...]``, 0 or more, lower is better; float64 for float64 input, else
      float32. The gradient where two colours are equal is 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 3]`` of the same shape, a
        border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask or data range.

    References:
      CIE 15:2004, section 8.2.1.3.

    Example:
      >>> import jax.numpy as jnp
      >>> black, white = jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))
      >>> print(f"{cie76(white, black)[0]:.2f}")
      100.00
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
    difference = euclidean(rgb_to_lab(pair.predictions) - rgb_to_lab(pair.targets))
    return _means.image_mean(zero_where_equal(difference, pair), pair.mask)


def ciede2000(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
    lightness_factor: ArrayLike = 1.0,
    chroma_factor: ArrayLike = 1.0,
    hue_factor: ArrayLike = 1.0,
) -> jax.Array:
    r"""Mean CIEDE2000 colour difference of each image.

    .. math::
        \Delta E_{00} = \sqrt{
          \Big(\frac{\Delta L'}{k_L S_L}\Big)^2 + \Big(\frac{\Delta C'}{k_C S_C}\Big)^2
          + \Big(\frac{\Delta H'}{k_H S_H}\Big)^2
          + R_T \frac{\Delta C'}{k_C S_C} \frac{\Delta H'}{k_H S_H}}

    One unit is about a just noticeable difference of two large patches that lie side by side.

    In photographs people tolerate more difference of lightness than between such patches: a
    :math:`k_L` of about 2.3 fitted their judgements best (Liu et al., 2013), and CIE uses 2 for
    textiles. With a factor other than 1 the number is not the CIEDE2000 of other tables, so name
    the factors beside it.

    Protocol: ``skimage.color.deltaE_ciede2000(rgb2lab(p), rgb2lab(t), kL, kC, kH).mean()`` (D65, 2
    degree observer).

    Args:
      predictions: float array ``[..., H, W, 3]``, gamma-encoded sRGB: red, green, blue; not
        clipped.
      targets: float array of the same shape.
      data_range: the value of white, above 0; images are divided by it first. It may be traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the
        mean becomes a weighted mean. Where the mask is 0, the images are not read. An image whose
        weights are all 0 scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "CIEDE2000
        (GT-mean)".
      lightness_factor: k_L, above 0; it may be traced.
      chroma_factor: k_C, above 0; it may be traced.
      hue_factor: k_H, above 0; it may be traced.

    Returns:
      Mean difference, shape ``[...]``, 0 or more, lower is better; float64 for float64 input, else
      float32. The gradient where two colours are equal is 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 3]`` of the same shape, a
        border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask, data range or
        factor.

    References:
      Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes,
      supplementary test data, and mathematical observations", Color Research and Application 30(1),
      2005. Liu, Huang, Cui, Luo, Melgosa, "Color-difference evaluation for digital images using a
      categorical judgment method", Journal of the Optical Society of America A 30(4), 2013.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 2, 2, 3), 128 / 255)
      >>> f"{ciede2000(targets + 2 / 255, targets)[0]:.3f}"
      '0.753'
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
    factors = {
        "lightness_factor": lightness_factor,
        "chroma_factor": chroma_factor,
        "hue_factor": hue_factor,
    }
    checked = {
        name: _checks.check_scalar(name, factor, pair.targets.dtype, minimum=SMALLEST_FACTOR)
        for name, factor in factors.items()
    }
    difference = ciede2000_of_lab(rgb_to_lab(pair.predictions), rgb_to_lab(pair.targets), **checked)
    return _means.image_mean(zero_where_equal(difference, pair), pair.mask)
