"""CIE XYZ, L*a*b* and lightness, for sRGB's primaries, D65 and the 2 degree observer.

Matrix and white point are the same as in scikit-image, so that Lab values and colour differences
agree with it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax.color._luma import Coefficients, check_coefficients, sum_channels
from lumloss_jax.color._powers import power
from lumloss_jax.color._srgb import encode, linearise, linearised_difference

RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_XYZ_TO_RGB = tuple(
    (float(x), float(y), float(z)) for x, y, z in np.linalg.inv(np.array(RGB_TO_XYZ))
)
_WHITE = (0.95047, 1.0, 1.08883)

# CIE 15: below (6/29)^3 the cube root is replaced by the straight line that meets it there.
_THRESHOLD = (6 / 29) ** 3
_SLOPE = (29 / 6) ** 2 / 3
_INTERCEPT = 4 / 29


def rgb_to_lightness(image: ArrayLike, *, coefficients: Coefficients = "rec709") -> jax.Array:
    r"""Lightness L* of a gamma-encoded sRGB image, divided by 100: equal steps look equally large.

    .. math:: L^* / 100 = 1.16 f(Y) - 0.16, \quad
        f(Y) = Y^{1/3} \text{ above } (6/29)^3, \text{ a line below}

    with Y the relative luminance (:func:`rgb_to_luminance`).

    Args:
      image: float array ``[..., H, W, C]``, C = 3 or 1. Red, green, blue; nominal range [0, 1];
        nothing is clipped, and the line continues below 0.
      coefficients: as in :func:`rgb_to_luma`.

    Returns:
      L*/100, ``[..., H, W, 1]``, 0 black to 1 white; float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 1 or 3]``, or for unknown
        coefficients.

    References:
      CIE 15:2004, section 8.2.1.

    Example:
      >>> import jax.numpy as jnp
      >>> mid_grey = jnp.full((1, 1, 3), 0.5)
      >>> print(f"{rgb_to_lightness(mid_grey)[0, 0, 0]:.4f}")
      0.5339
    """
    image = _checks.check_image("image", image)
    return lightness(sum_channels(linearise(image), check_coefficients(coefficients)))


def rgb_to_xyz(image: ArrayLike) -> jax.Array:
    r"""CIE XYZ of a gamma-encoded sRGB image.

    .. math:: (X, Y, Z)^T = M \, (\mathrm{lin}(R'), \mathrm{lin}(G'), \mathrm{lin}(B'))^T

    with lin the sRGB curve (:func:`srgb_to_linear`) and M the matrix of sRGB's primaries under D65.

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is
        clipped.

    Returns:
      X, Y, Z as ``[..., H, W, 3]``; white is (0.950456, 1, 1.088754). float64 for float64 input,
      else float32.

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
    linear = linearise(_checks.check_image("image", image, channels=(3,)))
    return jnp.concatenate([sum_channels(linear, row) for row in RGB_TO_XYZ], axis=-1)


def rgb_to_lab(image: ArrayLike) -> jax.Array:
    r"""CIE L*a*b* of a gamma-encoded sRGB image.

    .. math:: L^* = 116 f(Y) - 16, \quad a^* = 500 (f(X/X_n) - f(Y)), \quad
        b^* = 200 (f(Y) - f(Z/Z_n))

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is
        clipped.

    Returns:
      L* (0 to 100), a*, b* (about -110 to 110 within sRGB) as ``[..., H, W, 3]``; float64 for
      float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``.

    References:
      CIE 15:2004, section 8.2.1; white point D65, 2 degree observer, as in
      ``skimage.color.rgb2lab``.

    Example:
      >>> import jax.numpy as jnp
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [round(float(v), 1) for v in rgb_to_lab(red)[0, 0]]
      [53.2, 80.1, 67.2]
    """
    image = _checks.check_image("image", image, channels=(3,))
    linear = linearise(image)
    x, y, z = (
        sum_channels(linear, row) / white for row, white in zip(RGB_TO_XYZ, _WHITE, strict=True)
    )
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    # a* and b* are small differences of large numbers. Written in differences of channels, which
    # are 0 for a grey, they keep their digits near grey, where the hue of CIEDE2000 depends on
    # them: in float32 its error is then 3e-5 instead of 1e-2.
    from_green = (
        linearised_difference(red, green),
        linear[..., 1:2],
        linearised_difference(blue, green),
    )
    a = 500 * _difference_of_f(x, y, _chromatic(from_green, 0, 1))
    b = 200 * _difference_of_f(y, z, _chromatic(from_green, 1, 2))
    return jnp.concatenate([116 * _f(y, _cube_root) - 16, a, b], axis=-1)


def xyz_to_rgb(image: ArrayLike) -> jax.Array:
    r"""Gamma-encoded sRGB of CIE XYZ: the inverse of :func:`rgb_to_xyz`.

    .. math:: (R', G', B')^T = \mathrm{enc}\big(M^{-1} (X, Y, Z)^T\big)

    with enc the sRGB curve, :func:`linear_to_srgb`.

    Args:
      image: float array ``[..., H, W, 3]`` of X, Y, Z, where Y is 1 for white.

    Returns:
      Red, green, blue ``[..., H, W, 3]``; colours that sRGB cannot show lie outside [0, 1], because
      nothing is clipped. float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``.

    References:
      IEC 61966-2-1:1999; the matrix is the inverse of ``skimage.color.rgb2xyz``'s.

    Example:
      >>> import jax.numpy as jnp
      >>> half = jnp.full((1, 1, 3), 0.5)
      >>> print(f"{xyz_to_rgb(rgb_to_xyz(half))[0, 0, 0]:.4f}")
      0.5000
    """
    return _xyz_to_rgb(_checks.check_image("image", image, channels=(3,)))


def lab_to_rgb(image: ArrayLike) -> jax.Array:
    r"""Gamma-encoded sRGB of CIE L*a*b*: the inverse of :func:`rgb_to_lab`.

    .. math::
        f_Y = (L^* + 16) / 116, \quad X = X_n f^{-1}(f_Y + a^* / 500), \quad Y = f^{-1}(f_Y), \quad
        Z = Z_n f^{-1}(f_Y - b^* / 200)

    Args:
      image: float array ``[..., H, W, 3]`` of L* (0 to 100), a*, b*.

    Returns:
      Red, green, blue ``[..., H, W, 3]``; colours that sRGB cannot show lie outside [0, 1], because
      nothing is clipped (``skimage.color.lab2rgb`` clips). float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``.

    References:
      CIE 15:2004, section 8.2.1; white point D65, 2 degree observer.

    Example:
      >>> import jax.numpy as jnp
      >>> middle_grey = jnp.array([[[50.0, 0.0, 0.0]]])
      >>> print(f"{lab_to_rgb(middle_grey)[0, 0, 1]:.3f}")
      0.466
    """
    lab = _checks.check_image("image", image, channels=(3,))
    f_y = (lab[..., :1] + 16) / 116
    f_x, f_z = f_y + lab[..., 1:2] / 500, f_y - lab[..., 2:] / 200
    xyz = [_inverse_f(f) * white for f, white in zip((f_x, f_y, f_z), _WHITE, strict=True)]
    return _xyz_to_rgb(jnp.concatenate(xyz, axis=-1))


def lightness(luminance: jax.Array) -> jax.Array:
    """L*/100 of relative luminance."""
    return 1.16 * _f(luminance, _cube_root) - 0.16


def lab_lightness(image: jax.Array) -> jax.Array:
    """L* as in :func:`rgb_to_lab`, 0 to 100, ``[..., H, W, 1]``.

    A single channel is taken as its own encoded luminance.
    """
    return 100 * lightness(sum_channels(linearise(image), RGB_TO_XYZ[1]))


def xyz_to_lab(xyz: jax.Array) -> jax.Array:
    """CIE L*a*b* of CIE XYZ ``[..., 3]``; the straight part of f continues below 0."""
    f_x, f_y, f_z = (_f(xyz[..., i : i + 1] / white) for i, white in enumerate(_WHITE))
    return jnp.concatenate([116 * f_y - 16, 500 * (f_x - f_y), 200 * (f_y - f_z)], axis=-1)


def _xyz_to_rgb(xyz: jax.Array) -> jax.Array:
    return encode(jnp.concatenate([sum_channels(xyz, row) for row in _XYZ_TO_RGB], axis=-1))


def _cube_root(ratio: jax.Array) -> jax.Array:
    """A root that is 8 times as fast as jnp.cbrt on a CPU.

    Its error of a few units in the last place is as small as that of what is rooted. Differences of
    two such roots lose digits, so ``xyz_to_lab`` uses the exact root.
    """
    return power(ratio, 1 / 3)


def _f(ratio: jax.Array, cube_root: Callable[[jax.Array], jax.Array] = jnp.cbrt) -> jax.Array:
    curved = ratio > _THRESHOLD
    # The cube root of 0 has an infinite slope and `where` would carry it into the gradient.
    safe = jnp.where(curved, ratio, jnp.ones_like(ratio))
    return jnp.where(curved, cube_root(safe), _SLOPE * ratio + _INTERCEPT)


def _inverse_f(f: jax.Array) -> jax.Array:
    return jnp.where(f > _THRESHOLD ** (1 / 3), f * f * f, (f - _INTERCEPT) / _SLOPE)


def _chromatic(
    from_green: tuple[jax.Array, jax.Array, jax.Array], first: int, second: int
) -> jax.Array:
    """Difference of two of X/Xn, Y/Yn, Z/Zn, computed from R - G, G and B - G."""
    red_less_green, green, blue_less_green = from_green
    weights = [
        RGB_TO_XYZ[first][c] / _WHITE[first] - RGB_TO_XYZ[second][c] / _WHITE[second]
        for c in range(3)
    ]
    return weights[0] * red_less_green + sum(weights) * green + weights[2] * blue_less_green


def _difference_of_f(first: jax.Array, second: jax.Array, difference: jax.Array) -> jax.Array:
    """f(first) - f(second), where ``difference`` has more digits than the two arguments."""
    f_1, f_2 = _f(first, _cube_root), _f(second, _cube_root)
    curved_1, curved_2 = first > _THRESHOLD, second > _THRESHOLD
    curved = curved_1 & curved_2
    squares = f_1 * f_1 + f_1 * f_2 + f_2 * f_2  # a - b = (a^3 - b^3) / (a^2 + a b + b^2)
    # Off the curve, the squares may be 0, and `where` would carry the NaN of the quotient into the
    # gradient.
    on_curve = difference / jnp.where(curved, squares, jnp.ones_like(squares))
    return jnp.where(
        curved, on_curve, jnp.where(curved_1 | curved_2, f_1 - f_2, _SLOPE * difference)
    )
