"""CIE XYZ, L*a*b* and lightness, with sRGB's primaries, the D65 white point and the 2 degree observer.

Matrix and white point are those that scikit-image uses, so that Lab values and colour differences agree with it.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _reduction
from lumloss_jax.color._luma import Coefficients, check_coefficients, weighted_sum
from lumloss_jax.color._srgb import linearise

_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)

# CIE 15: below (6/29)^3 the cube root is replaced by the straight line that meets it there.
_THRESHOLD = (6 / 29) ** 3
_SLOPE = (29 / 6) ** 2 / 3
_INTERCEPT = 4 / 29


def rgb_to_lightness(image: ArrayLike, *, coefficients: Coefficients = "rec709") -> jax.Array:
    r"""Lightness L* of a gamma-encoded sRGB image, divided by 100: equal steps of it look equally large.

    .. math:: L^* / 100 = 1.16 f(Y) - 0.16, \quad f(Y) = Y^{1/3} \text{ above } (6/29)^3, \text{ a line below}

    with Y the relative luminance (:func:`rgb_to_luminance`).

    Args:
      image: float array ``[..., H, W, C]``, C = 3 or 1. Red, green, blue; nominal range [0, 1]; nothing is clipped: the
        line goes on below 0.
      coefficients: as in :func:`rgb_to_luma`.

    Returns:
      L*/100, ``[..., H, W, 1]``, 0 black to 1 white; float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``, or for unknown coefficients.

    References:
      CIE 15:2004, section 8.2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> mid_grey = jnp.full((1, 1, 3), 0.5)
      >>> print(f"{rgb_to_lightness(mid_grey)[0, 0, 0]:.4f}")
      0.5339
    """
    image = _reduction.check_image("image", image)
    return lightness(weighted_sum(linearise(image), check_coefficients(coefficients)))


def rgb_to_xyz(image: ArrayLike) -> jax.Array:
    """CIE XYZ of a gamma-encoded sRGB image.

    The channels are linearised (:func:`srgb_to_linear`) and multiplied by the matrix of sRGB's primaries under D65.

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is clipped.

    Returns:
      X, Y, Z as ``[..., H, W, 3]``; white is (0.950456, 1, 1.088754). float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``.

    References:
      IEC 61966-2-1:1999; matrix as in ``skimage.color.rgb2xyz``.

    Example:
      >>> import jax.numpy as jnp
      >>> white = jnp.ones((1, 1, 3))
      >>> [round(float(v), 3) for v in rgb_to_xyz(white)[0, 0]]
      [0.95, 1.0, 1.089]
    """
    linear = linearise(_reduction.check_image("image", image, channels=(3,)))
    return jnp.concatenate([weighted_sum(linear, row) for row in _RGB_TO_XYZ], axis=-1)


def rgb_to_lab(image: ArrayLike) -> jax.Array:
    r"""CIE L*a*b* of a gamma-encoded sRGB image.

    .. math:: L^* = 116 f(Y) - 16, \quad a^* = 500 (f(X/X_n) - f(Y)), \quad b^* = 200 (f(Y) - f(Z/Z_n))

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is clipped.

    Returns:
      L* (0 to 100), a*, b* (about -110 to 110 within sRGB) as ``[..., H, W, 3]``; float64 for float64 input, else
      float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``.

    References:
      CIE 15:2004, section 8.2.1; white point D65, 2 degree observer, as in ``skimage.color.rgb2lab``.

    Example:
      >>> import jax.numpy as jnp
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [round(float(v), 1) for v in rgb_to_lab(red)[0, 0]]
      [53.2, 80.1, 67.2]
    """
    xyz = rgb_to_xyz(image)
    x, y, z = (_f(xyz[..., i : i + 1] / _WHITE[i]) for i in range(3))
    return jnp.concatenate([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lightness(luminance: jax.Array) -> jax.Array:
    """L*/100 of relative luminance."""
    return 1.16 * _f(luminance) - 0.16


def _f(ratio: jax.Array) -> jax.Array:
    curved = ratio > _THRESHOLD
    # The cube root of 0 has an infinite slope and `where` would carry it into the gradient.
    safe = jnp.where(curved, ratio, jnp.ones_like(ratio))
    return jnp.where(curved, jnp.cbrt(safe), _SLOPE * ratio + _INTERCEPT)
