"""PQ and PU21 and their inverses: encodings of absolute light whose steps look about equal.

Linear images are in units of their white, whose luminance in cd/m2 is an argument. Images that are
already in cd/m2 have a white of 1.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks

_PEAK = 10000.0  # cd/m2, where both encodings end
_DARKEST = 0.005  # cd/m2
_SMALLEST_WHITE = 1e-6  # an inverse divides by it
# Far beyond the peak luminance, the inverses would divide by 0, and light and its gradient would be
# infinite.
_LEAST_DENOMINATOR = 0.05

# SMPTE ST 2084. c1 = 1 - (c2 - c3), so that the curve can be written in differences from 1, which
# keep their digits.
_M_1, _M_2 = 2610 / 16384, 2523 / 32
_C_2, _C_3 = 2413 / 128, 2392 / 128
_STEP = _C_2 - _C_3

# PU21, variant banding_glare, which its authors recommend.
_P_1, _P_2, _P_3, _P_4 = 0.353487901, 0.3734658629, 8.277049286e-05, 0.9062562627
_P_5, _P_6, _P_7 = 0.09150303166, 0.9099517204, 596.3148142


def linear_to_pq(
    image: ArrayLike, *, white: ArrayLike = 100.0, floor: ArrayLike = _DARKEST
) -> jax.Array:
    r"""Perceptual quantizer (PQ) values of linear light, the encoding of HDR video.

    .. math::
        N = \left( \frac{c_1 + c_2 \, y^{m_1}}{1 + c_3 \, y^{m_1}} \right)^{m_2}, \quad
        y = \frac{\max(\text{white} \cdot x, \text{floor})}{10000}

    Args:
      image: float array ``[..., H, W, C]``, C = 1 or 3, of linear light x, in units of its white.
      white: luminance of x = 1 in cd/m2, above 0; it may be traced. 100 or 203 are usual for SDR,
        and images in cd/m2 have 1.
      floor: smallest luminance in cd/m2, 0 or more; it may be traced. It is needed because the
        slope of :math:`y^{m_1}` grows without bound towards black. Below the floor, the gradient is
        0.

    Returns:
      Encoded values, same shape: 0.508 for 100 cd/m2, 1 for 10000, more beyond; float64 for float64
      input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``, a concrete white of 0 or
        less, or a concrete negative floor.

    References:
      SMPTE ST 2084:2014; ITU-R BT.2100-2.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{linear_to_pq(jnp.ones((1, 1, 1)))[0, 0, 0]:.4f}")
      0.5081
    """
    image = _checks.check_image("image", image)
    return pq_of_light(_light(image, white), _check_floor(floor, image))


def pq_to_linear(image: ArrayLike, *, white: ArrayLike = 100.0) -> jax.Array:
    r"""Linear light of perceptual quantizer (PQ) values: the inverse of :func:`linear_to_pq`.

    .. math::
        x = \frac{10000}{\text{white}}
        \left( \frac{\max(N^{1/m_2} - c_1, 0)}{c_2 - c_3 N^{1/m_2}} \right)^{1/m_1}

    Args:
      image: float array ``[..., H, W, C]``, C = 1 or 3, of encoded values from 0 to 1.
      white: luminance of x = 1 in cd/m2, as given to :func:`linear_to_pq`.

    Returns:
      Linear light, same shape, in units of white; values below that of black give 0. float64 for
      float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``, or a concrete white of 0
        or less.

    References:
      SMPTE ST 2084:2014; ITU-R BT.2100-2.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{pq_to_linear(linear_to_pq(jnp.full((1, 1, 1), 0.5)))[0, 0, 0]:.4f}")
      0.5000
    """
    image = _checks.check_image("image", image)
    return light_of_pq(image) / _check_white(white, image)


def linear_to_pu21(image: ArrayLike, *, white: ArrayLike = 100.0) -> jax.Array:
    r"""PU21 values of linear light: metrics and losses made for SDR images then suit HDR ones.

    .. math::
        V = \max\left(p_7 \left( \left(
        \frac{p_1 + p_2 L^{p_4}}{1 + p_3 L^{p_4}} \right)^{p_5} - p_6 \right), 0\right)

    with :math:`L = \text{white} \cdot x` in cd/m2, clipped to [0.005, 10000], and the variant
    "banding_glare". 100 cd/m2 give 256, so that SDR images keep roughly their 8-bit scale: the
    authors compute PSNR and SSIM of V with a data range of 256.

    Args:
      image: float array ``[..., H, W, C]``, C = 1 or 3, of linear light x, in units of its white.
      white: luminance of x = 1 in cd/m2, above 0; it may be traced. Images in cd/m2 have 1.

    Returns:
      Encoded values, same shape, from 0 to 595.4; float64 for float64 input, else float32. Outside
      [0.005, 10000] cd/m2 the gradient is 0: the slope of :math:`L^{p_4}` would grow without bound
      towards black.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``, or a concrete white of 0
        or less.

    References:
      Mantiuk, Azimi, "PU21: a novel perceptually uniform encoding for adapting existing quality
      metrics for HDR", PCS 2021.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{linear_to_pu21(jnp.ones((1, 1, 1)))[0, 0, 0]:.2f}")
      256.38
    """
    image = _checks.check_image("image", image)
    power = jnp.clip(_light(image, white), _DARKEST, _PEAK) ** _P_4
    value = _P_7 * (((_P_1 + _P_2 * power) / (1 + _P_3 * power)) ** _P_5 - _P_6)
    return jnp.maximum(value, jnp.zeros_like(value))


def pu21_to_linear(image: ArrayLike, *, white: ArrayLike = 100.0) -> jax.Array:
    r"""Linear light of PU21 values: the inverse of :func:`linear_to_pu21` within its range.

    .. math::
        x = \frac{1}{\text{white}}
        \left( \frac{\max(w - p_1, 0)}{p_2 - p_3 w} \right)^{1/p_4}, \quad
        w = \max(V / p_7 + p_6, 0)^{1/p_5}

    Args:
      image: float array ``[..., H, W, C]``, C = 1 or 3, of encoded values from 0 to 595.4.
      white: luminance of x = 1 in cd/m2, as given to :func:`linear_to_pu21`.

    Returns:
      Linear light, same shape, in units of white; float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``, or a concrete white of 0
        or less.

    References:
      Mantiuk, Azimi, "PU21: a novel perceptually uniform encoding for adapting existing quality
      metrics for HDR", PCS 2021.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{pu21_to_linear(linear_to_pu21(jnp.full((1, 1, 1), 0.5)))[0, 0, 0]:.4f}")
      0.5000
    """
    image = _checks.check_image("image", image)
    white = _check_white(white, image)
    w = _power(image / _P_7 + _P_6, 1 / _P_5)
    below = jnp.maximum(_P_2 - _P_3 * w, jnp.full_like(w, _LEAST_DENOMINATOR))
    return _power((w - _P_1) / below, 1 / _P_4) / white


def pq_of_light(light: jax.Array, floor: jax.Array) -> jax.Array:
    """PQ of cd/m2: exp(m2 log(1 - (c2 - c3) (1 - u) / (1 + c3 u))) with u = y^m1."""
    u = _power(jnp.maximum(light, floor) / _PEAK, _M_1)
    return jnp.exp(_M_2 * jnp.log1p(-_STEP * (1 - u) / (1 + _C_3 * u)))


def light_of_pq(values: jax.Array) -> jax.Array:
    """cd/m2 of PQ: with e = N^(1 / m2) - 1 the quotient is (c2 - c3 + e) / (c2 - c3 - c3 e)."""
    positive = values > 0
    e = jnp.expm1(jnp.log(jnp.where(positive, values, jnp.ones_like(values))) / _M_2)
    below = jnp.maximum(_STEP - _C_3 * e, jnp.full_like(e, _LEAST_DENOMINATOR))
    light = _PEAK * _power((_STEP + e) / below, 1 / _M_1)
    return jnp.where(positive, light, jnp.zeros_like(light))


def _power(base: jax.Array, exponent: float) -> jax.Array:
    """x^q; for x of 0 or less, where it is NaN or has an infinite slope, 0 with slope 0."""
    positive = base > 0
    return jnp.where(
        positive, jnp.where(positive, base, jnp.ones_like(base)) ** exponent, jnp.zeros_like(base)
    )


def _light(image: jax.Array, white: ArrayLike) -> jax.Array:
    return image * _check_white(white, image)


def _check_white(white: ArrayLike, image: jax.Array) -> jax.Array:
    return _checks.check_scalar("white", white, image.dtype, minimum=_SMALLEST_WHITE)


def _check_floor(floor: ArrayLike, image: jax.Array) -> jax.Array:
    return _checks.check_scalar("floor", floor, image.dtype)
