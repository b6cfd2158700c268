"""The sRGB transfer curve, its inverse, and relative luminance, which needs linear light."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax.color._luma import Coefficients, check_coefficients, sum_channels

# IEC 61966-2-1: below the threshold the curve is a straight line, above it a power of 2.4 with an
# offset.
_ENCODED_THRESHOLD = 0.04045
_LINEAR_THRESHOLD = 0.0031308
_SLOPE = 12.92
_OFFSET = 0.055
_GAMMA = 2.4


def srgb_to_linear(image: ArrayLike) -> jax.Array:
    r"""Linear light of gamma-encoded sRGB values.

    .. math:: x \le 0.04045: \; x / 12.92 \qquad x > 0.04045: \; ((x + 0.055) / 1.055)^{2.4}

    Nothing is clipped: the straight line continues below 0 and the power above 1.

    Args:
      image: float array ``[..., H, W, C]``, C = 1 or 3, nominal range [0, 1].

    Returns:
      Linear light, same shape and nominal range; float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``.

    References:
      IEC 61966-2-1:1999.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{srgb_to_linear(jnp.full((1, 1, 1), 0.5))[0, 0, 0]:.4f}")
      0.2140
    """
    return linearise(_checks.check_image("image", image))


def linear_to_srgb(image: ArrayLike) -> jax.Array:
    r"""Gamma-encoded sRGB values of linear light: the inverse of :func:`srgb_to_linear`.

    .. math:: x \le 0.0031308: \; 12.92 x \qquad x > 0.0031308: \; 1.055 x^{1/2.4} - 0.055

    Args:
      image: float array ``[..., H, W, C]``, C = 1 or 3, nominal range [0, 1]; nothing is clipped.

    Returns:
      Encoded values, same shape and nominal range; float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``.

    References:
      IEC 61966-2-1:1999.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{linear_to_srgb(jnp.full((1, 1, 1), 0.214))[0, 0, 0]:.3f}")
      0.500
    """
    return encode(_checks.check_image("image", image))


def rgb_to_luminance(image: ArrayLike, *, coefficients: Coefficients = "rec709") -> jax.Array:
    r"""Relative luminance Y of a gamma-encoded sRGB image.

    .. math:: Y = c_r \, \mathrm{lin}(R') + c_g \, \mathrm{lin}(G') + c_b \, \mathrm{lin}(B')

    where lin is :func:`srgb_to_linear` for all coefficients.

    Args:
      image: float array ``[..., H, W, C]``, C = 3, or C = 1, which is only linearised. Red, green,
        blue; nominal range [0, 1]; nothing is clipped.
      coefficients: as in :func:`rgb_to_luma`; the default belongs to sRGB's primaries.

    Returns:
      Relative luminance ``[..., H, W, 1]``, 0 black to 1 white; float64 for float64 input, else
      float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``, or for unknown
        coefficients.

    References:
      IEC 61966-2-1:1999; CIE 15:2004.

    Example:
      >>> import jax.numpy as jnp
      >>> mid_grey = jnp.full((1, 1, 3), 0.5)
      >>> print(f"{rgb_to_luminance(mid_grey)[0, 0, 0]:.4f}")
      0.2140
    """
    image = _checks.check_image("image", image)
    return sum_channels(linearise(image), check_coefficients(coefficients))


def linearise(
    image: jax.Array, power: Callable[[jax.Array], jax.Array] = lambda base: base**_GAMMA
) -> jax.Array:
    """:func:`srgb_to_linear` of an array that is already checked.

    ``power`` raises to 2.4.
    """
    curved = image > _ENCODED_THRESHOLD
    # The power of a value below -0.055 is NaN, and `where` would carry that into the gradient.
    safe = jnp.where(curved, image, jnp.ones_like(image))
    return jnp.where(curved, power((safe + _OFFSET) / (1 + _OFFSET)), image / _SLOPE)


def encode(image: jax.Array) -> jax.Array:
    """:func:`linear_to_srgb` of an array that is already checked."""
    curved = image > _LINEAR_THRESHOLD
    # The power of a value at or below 0 has no finite gradient, and `where` would carry its NaN
    # through.
    safe = jnp.where(curved, image, jnp.ones_like(image))
    return jnp.where(curved, (1 + _OFFSET) * safe ** (1 / _GAMMA) - _OFFSET, image * _SLOPE)


def linearised_difference(first: jax.Array, second: jax.Array) -> jax.Array:
    """linearise(first) - linearise(second), to the relative precision of first - second.

    On the curve, it is lin(b) ((1 + d)^2.4 - 1) with d = (a - b) / (b + 0.055), and expm1 and log1p
    keep all digits of a small d. Near grey, hue depends on these digits.
    """
    plain = linearise(first) - linearise(second)
    close = (jnp.minimum(first, second) > _ENCODED_THRESHOLD) & (
        jnp.abs(first - second) < 0.1 * second
    )
    # Off the curve, base + 0.055 may be 0, and `where` would carry its NaN into the gradient.
    base = jnp.where(close, second, jnp.ones_like(second))
    ratio = jnp.where(close, first - second, jnp.zeros_like(second)) / (base + _OFFSET)
    return jnp.where(close, linearise(base) * jnp.expm1(_GAMMA * jnp.log1p(ratio)), plain)
