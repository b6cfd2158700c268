"""Conversion to and from Y'CbCr of Rec. 601, in studio and in full range."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels

_RED, _GREEN, _BLUE = COEFFICIENTS["rec601"]
# Divisors that bring B - Y and R - Y to a range of 1: twice their largest value.
_BLUE_SPAN, _RED_SPAN = 2 * (1 - _BLUE), 2 * (1 - _RED)
# In 8-bit steps: black, the distance from black to white, and the range of Cb and Cr around their
# middle, 128.
_STUDIO = (16.0, 219.0, 224.0)
_FULL = (0.0, 255.0, 255.0)
_MIDDLE = 128 / 255


def rgb_to_ycbcr(image: ArrayLike, *, full_range: bool = False) -> jax.Array:
    r"""Y'CbCr of a gamma-encoded RGB image, with the coefficients of Rec. 601.

    .. math::
        Y = \frac{16 + 219 \, Y'}{255}, \quad
        C_b = \frac{128 + 224 \, (B' - Y') / 1.772}{255}, \quad
        C_r = \frac{128 + 224 \, (R' - Y') / 1.402}{255}

    with Y' the luma (:func:`rgb_to_luma`); in full range, 0, 255, 255 replace 16, 219, 224.

    Protocol: studio range is ``rgb2ycbcr`` of MATLAB, BasicSR and KAIR, and
    ``skimage.color.rgb2ycbcr(image) / 255``. Differences of Y are 219/255 of the differences of
    luma there, so that PSNR on Y reads 1.32 dB higher. Full range is JPEG's (JFIF,
    ``PIL.Image.convert("YCbCr")`` before rounding); OpenCV's floats have 0.5 instead of 128/255.

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is
        clipped.
      full_range: False for studio range (Y from 16 to 235 of 255), True for JPEG's full range;
        static.

    Returns:
      Y, Cb, Cr ``[..., H, W, 3]``; Cb and Cr of a grey are 128/255. float64 for float64 input, else
      float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, or a ``full_range`` that is not
        True or False.

    References:
      ITU-R BT.601-7; ITU-T T.871 (JFIF).

    Example:
      >>> import jax.numpy as jnp
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [f"{255 * value:.1f}" for value in rgb_to_ycbcr(red)[0, 0]]
      ['81.5', '90.2', '240.0']
      >>> [f"{255 * value:.1f}" for value in rgb_to_ycbcr(red, full_range=True)[0, 0]]
      ['76.2', '85.0', '255.5']
    """
    image = _checks.check_image("image", image, channels=(3,))
    black, white_less_black, chroma = _range(full_range)
    luma = sum_channels(image, COEFFICIENTS["rec601"])
    red, blue = image[..., :1], image[..., 2:]
    return jnp.concatenate(
        [
            (black + white_less_black * luma) / 255,
            chroma / 255 * ((blue - luma) / _BLUE_SPAN) + _MIDDLE,
            chroma / 255 * ((red - luma) / _RED_SPAN) + _MIDDLE,
        ],
        axis=-1,
    )


def ycbcr_to_rgb(image: ArrayLike, *, full_range: bool = False) -> jax.Array:
    r"""Gamma-encoded RGB of Rec. 601 Y'CbCr: the inverse of :func:`rgb_to_ycbcr`.

    .. math::
        Y' = \frac{255 \, Y - 16}{219}, \quad B' = Y' + 1.772 \, \frac{255 \, C_b - 128}{224}, \quad
        R' = Y' + 1.402 \, \frac{255 \, C_r - 128}{224}, \quad
        G' = \frac{Y' - 0.299 R' - 0.114 B'}{0.587}

    and in full range with 0, 255, 255 instead of 16, 219, 224.

    Args:
      image: float array ``[..., H, W, 3]`` of Y, Cb, Cr over 255; nothing is clipped.
      full_range: as given to :func:`rgb_to_ycbcr`.

    Returns:
      Red, green, blue ``[..., H, W, 3]``, nominal range [0, 1]; float64 for float64 input, else
      float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, or a ``full_range`` that is not
        True or False.

    References:
      ITU-R BT.601-7; ITU-T T.871 (JFIF).

    Example:
      >>> import jax.numpy as jnp
      >>> studio_white = jnp.array([[[235.0, 128.0, 128.0]]]) / 255
      >>> [f"{value:.4f}" for value in ycbcr_to_rgb(studio_white)[0, 0]]
      ['1.0000', '1.0000', '1.0000']
    """
    image = _checks.check_image("image", image, channels=(3,))
    black, white_less_black, chroma = _range(full_range)
    luma = (255 * image[..., :1] - black) / white_less_black
    blue = luma + 255 / chroma * _BLUE_SPAN * (image[..., 1:2] - _MIDDLE)
    red = luma + 255 / chroma * _RED_SPAN * (image[..., 2:] - _MIDDLE)
    green = (luma - _RED * red - _BLUE * blue) / _GREEN
    return jnp.concatenate([red, green, blue], axis=-1)


def _range(full_range: object) -> tuple[float, float, float]:
    if not isinstance(full_range, bool):
        raise ValueError(
            f"full_range must be True or False, known at trace time; got {full_range!r}."
        )
    return _FULL if full_range else _STUDIO
