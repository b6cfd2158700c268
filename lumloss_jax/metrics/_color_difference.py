"""CIEDE2000, one value per image."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _reduction
from lumloss_jax.color._lab import rgb_to_lab
from lumloss_jax.metrics._protocol import prepare

_25_TO_7 = 25.0**7


def ciede2000(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Mean CIEDE2000 colour difference of each image.

    .. math::
        \Delta E_{00} = \sqrt{
          \Big(\frac{\Delta L'}{S_L}\Big)^2 + \Big(\frac{\Delta C'}{S_C}\Big)^2 + \Big(\frac{\Delta H'}{S_H}\Big)^2
          + R_T \frac{\Delta C'}{S_C} \frac{\Delta H'}{S_H}}

    with all parametric factors 1. One unit is about a just noticeable difference.

    Protocol: ``skimage.color.deltaE_ciede2000(rgb2lab(p), rgb2lab(t)).mean()`` (D65, 2 degree observer).

    Args:
      predictions: float array ``[..., H, W, 3]``, gamma-encoded sRGB: red, green, blue; not clipped.
      targets: float array of the same shape.
      data_range: the value of white, above 0; images are divided by it first. It may be traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; the mean becomes a
        weighted mean. Where it is 0 the images are not read. An image whose weights are all 0 scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; name the number "CIEDE2000 (GT-mean)".

    Returns:
      Mean difference, shape ``[...]``, 0 or more, lower is better; float64 for float64 input, else float32. The
      gradient where two colours are equal is 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 3]`` of one shape, a border that leaves
        nothing, an unknown ``gt_mean``, a concrete negative mask or data range.

    References:
      Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes, supplementary test data, and
      mathematical observations", Color Research and Application 30(1), 2005.

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
    difference = ciede2000_of_lab(rgb_to_lab(pair.predictions), rgb_to_lab(pair.targets))
    return _reduction.image_mean(difference, pair.mask)


def ciede2000_of_lab(lab_1: jax.Array, lab_2: jax.Array) -> jax.Array:
    """CIEDE2000 of two arrays of Lab colours ``[..., 3]``, as ``[..., 1]``; equation numbers as in Sharma et al."""
    l_1, a_1, b_1 = (lab_1[..., i : i + 1] for i in range(3))
    l_2, a_2, b_2 = (lab_2[..., i : i + 1] for i in range(3))
    # (2)-(7): a is stretched near grey, then chroma and hue of that.
    g = 0.5 * (1 - _seventh_power_share((_hypot(a_1, b_1) + _hypot(a_2, b_2)) / 2))
    a_1, a_2 = (1 + g) * a_1, (1 + g) * a_2
    c_1, c_2 = _hypot(a_1, b_1), _hypot(a_2, b_2)
    h_1, h_2 = _hue(a_1, b_1), _hue(a_2, b_2)
    # (8)-(11): the hue difference goes the short way round; with a grey it is 0.
    grey = c_1 * c_2 == 0
    dh = h_2 - h_1
    dh = jnp.where(dh > math.pi, dh - 2 * math.pi, jnp.where(dh < -math.pi, dh + 2 * math.pi, dh))
    dh = jnp.where(grey, jnp.zeros_like(dh), dh)
    dl, dc = l_2 - l_1, c_2 - c_1
    dh = 2 * _sqrt(c_1 * c_2) * jnp.sin(dh / 2)
    # (12)-(14): means; that of two hues more than half a turn apart lies on the other side.
    mean_l, mean_c, hue_sum = (l_1 + l_2) / 2, (c_1 + c_2) / 2, h_1 + h_2
    apart = jnp.abs(h_1 - h_2) > math.pi
    other_side = jnp.where(hue_sum < 2 * math.pi, hue_sum / 2 + math.pi, hue_sum / 2 - math.pi)
    mean_h = jnp.where(grey, hue_sum, jnp.where(apart, other_side, hue_sum / 2))
    # (15)-(21): weighting functions and the rotation of blue.
    t = (
        1
        - 0.17 * jnp.cos(mean_h - math.radians(30))
        + 0.24 * jnp.cos(2 * mean_h)
        + 0.32 * jnp.cos(3 * mean_h + math.radians(6))
        - 0.20 * jnp.cos(4 * mean_h - math.radians(63))
    )
    from_50 = jnp.square(mean_l - 50)
    s_l = 1 + 0.015 * from_50 / jnp.sqrt(20 + from_50)
    s_c = 1 + 0.045 * mean_c
    s_h = 1 + 0.015 * mean_c * t
    turn = math.radians(30) * jnp.exp(-jnp.square((mean_h - math.radians(275)) / math.radians(25)))
    r_t = -jnp.sin(2 * turn) * 2 * _seventh_power_share(mean_c)
    # (22)
    dl, dc, dh = dl / s_l, dc / s_c, dh / s_h
    return _sqrt(dl * dl + dc * dc + dh * dh + r_t * dc * dh)


def _seventh_power_share(chroma: jax.Array) -> jax.Array:
    """sqrt(c^7 / (c^7 + 25^7)), which is c^3.5 / sqrt(...): its slope at 0 is 0."""
    return chroma * chroma * chroma * _sqrt(chroma) / jnp.sqrt(chroma**7 + _25_TO_7)


def _sqrt(square: jax.Array) -> jax.Array:
    """Square root with slope 0 at 0, where its own is infinite; the square is not negative but for rounding."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, jnp.ones_like(square))), jnp.zeros_like(square))


def _hypot(a: jax.Array, b: jax.Array) -> jax.Array:
    return _sqrt(a * a + b * b)


def _hue(a: jax.Array, b: jax.Array) -> jax.Array:
    """Angle from 0 to 2 pi; 0, with slope 0, for a grey."""
    grey = (a == 0) & (b == 0)
    angle = jnp.arctan2(b, jnp.where(grey, jnp.ones_like(a), a))
    return jnp.where(angle < 0, angle + 2 * math.pi, angle)
