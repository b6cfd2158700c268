"""Conversion to and from OKLab, a space in which equal distances look about equal.

In OKLab, hue stays constant as chroma changes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax.color._luma import sum_channels
from lumloss_jax.color._srgb import encode, linearise

Matrix = tuple[tuple[float, float, float], ...]

# The direct matrix from linear sRGB. A conversion through XYZ, with its rounded matrices, is off by
# up to 1e-4.
_RGB_TO_LMS: Matrix = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_ROOTS_TO_LAB: Matrix = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def inverse(matrix: Matrix) -> Matrix:
    """The inverse in float64.

    The published inverses have ten digits, and a round trip through them loses 3e-7.
    """
    return tuple((float(x), float(y), float(z)) for x, y, z in np.linalg.inv(np.array(matrix)))


def apply(matrix: Matrix, image: jax.Array) -> jax.Array:
    """A matrix times the three channels of each pixel."""
    return jnp.concatenate([sum_channels(image, row) for row in matrix], axis=-1)


_LMS_TO_RGB = inverse(_RGB_TO_LMS)
_LAB_TO_ROOTS = inverse(_ROOTS_TO_LAB)


def rgb_to_oklab(image: ArrayLike, *, chord_below: ArrayLike = 0.0) -> jax.Array:
    r"""OKLab of a gamma-encoded sRGB image.

    .. math:: (L, a, b)^T =
        B \, \sqrt[3]{A \, (\mathrm{lin}(R'), \mathrm{lin}(G'), \mathrm{lin}(B'))^T}

    with lin the sRGB curve (:func:`srgb_to_linear`). The cube root is taken of each of the three
    cone signals and keeps the sign. The distance of two colours is Delta E_OK.

    Protocol: CSS Color 4 and coloraide, within 4e-8. colour-science converts through XYZ and
    differs by up to 1.1e-4.

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is
        clipped.
      chord_below: cone signal below which a straight line through 0 replaces the cube root, 0 or
        more; it may be traced. The slope of the root grows without bound towards black. For a loss,
        1.5e-4 (half an 8-bit step) bounds the slope in linear light by 354, and changes no colour
        that 8 bits can tell from black.

    Returns:
      L (0 black to 1 white), a, b (about -0.33 to 0.33 within sRGB) as ``[..., H, W, 3]``; float64
      for float64 input, else float32. The gradient at exact black is 0 without a chord.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, or a concrete negative
        ``chord_below``.

    References:
      Ottosson, "A perceptual color space for image processing", 2020; CSS Color Module Level 4.

    Example:
      >>> import jax.numpy as jnp
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [round(float(v), 3) for v in rgb_to_oklab(red)[0, 0]]
      [0.628, 0.225, 0.126]
    """
    image = _checks.check_image("image", image, channels=(3,))
    chord_below = _checks.check_scalar("chord_below", chord_below, image.dtype)
    signals = apply(_RGB_TO_LMS, linearise(image))
    return apply(_ROOTS_TO_LAB, _root(signals, chord_below))


def oklab_to_rgb(image: ArrayLike, *, chord_below: ArrayLike = 0.0) -> jax.Array:
    r"""Gamma-encoded sRGB of OKLab: the inverse of :func:`rgb_to_oklab`.

    .. math:: (R', G', B')^T = \mathrm{enc}\Big(A^{-1} \big(B^{-1} (L, a, b)^T\big)^3\Big)

    with enc the sRGB curve, :func:`linear_to_srgb`.

    Args:
      image: float array ``[..., H, W, 3]`` of L, a, b.
      chord_below: as given to :func:`rgb_to_oklab`.

    Returns:
      Red, green, blue ``[..., H, W, 3]``; colours that sRGB cannot show lie outside [0, 1], because
      nothing is clipped. float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, or a concrete negative
        ``chord_below``.

    References:
      Ottosson, "A perceptual color space for image processing", 2020.

    Example:
      >>> import jax.numpy as jnp
      >>> white = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [f"{value:.4f}" for value in oklab_to_rgb(white)[0, 0]]
      ['1.0000', '1.0000', '1.0000']
    """
    image = _checks.check_image("image", image, channels=(3,))
    chord_below = _checks.check_scalar("chord_below", chord_below, image.dtype)
    return encode(apply(_LMS_TO_RGB, _cube(apply(_LAB_TO_ROOTS, image), chord_below)))


def _root(signals: jax.Array, chord_below: jax.Array) -> jax.Array:
    # At exactly 0, the slope is infinite, and `where` would carry it into the gradient. So the
    # value there is 0 with slope 0.
    curved = (jnp.abs(signals) >= chord_below) & (signals != 0)
    root = jnp.cbrt(jnp.where(curved, signals, jnp.ones_like(signals)))
    return jnp.where(curved, root, signals * _chord_slope(chord_below))


def _cube(roots: jax.Array, chord_below: jax.Array) -> jax.Array:
    curved = jnp.abs(roots) >= jnp.cbrt(
        jnp.where(chord_below > 0, chord_below, jnp.ones_like(chord_below))
    )
    slope = _chord_slope(chord_below)
    on_chord = roots / jnp.where(slope > 0, slope, jnp.ones_like(slope))
    return jnp.where(curved | (chord_below == 0), roots * roots * roots, on_chord)


def _chord_slope(chord_below: jax.Array) -> jax.Array:
    """c^(1/3) / c, and 0 without a chord."""
    some = chord_below > 0
    return jnp.where(
        some, jnp.where(some, chord_below, jnp.ones_like(chord_below)) ** (-2 / 3), 0 * chord_below
    )
