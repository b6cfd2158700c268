"""Conversion to and from HVI, a space for dark images that draws dark colours together."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks

# Added inside the power of the collapse, to bound its slope at black (by 8e5 for k = 0.2).
_EPSILON = 1e-8
# A colour nearer to black, or to grey, than this counts as black, or as grey, with slope 0: hue and
# saturation are undefined there, and the slopes of the quotients would grow without bound.
_SMALLEST = 1e-12
_SMALLEST_K = 1e-6


def rgb_to_hvi(image: ArrayLike, *, k: ArrayLike = 0.2) -> jax.Array:
    r"""HVI of a gamma-encoded sRGB image: two axes of hue and saturation, and intensity.

    .. math::
        H = C \, S \cos 2 \pi h, \quad V = C \, S \sin 2 \pi h, \quad I = \max(R', G', B'), \quad
        C = \big(\sin \tfrac{\pi I}{2} + 10^{-8}\big)^k

    with h the hue of HSV in turns and S its saturation. C draws dark colours together, so that
    noise in their hue counts less than in HSV, but more than in RGB: an L1 loss weighs it by C / I,
    which is 92 at an intensity of 1/255 for k = 0.2.

    Protocol: HVI-CIDNet's forward transform, without the 1e-8 that it adds to I and to the chroma;
    this changes values by at most 8e-6. Its inverse gives greys a tint of up to 1e-4, while
    :func:`hvi_to_rgb` is exact.

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is
        clipped except I inside C.
      k: exponent of the collapse, above 0; one number, which may be traced and learned.

    Returns:
      H, V (-1 to 1), I (0 to 1) as ``[..., H, W, 3]``; float64 for float64 input, else float32. The
      gradient of H and V is 0 at greys and at black, where hue is undefined.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, or a concrete k of 0 or less.

    References:
      Yan et al., "HVI: a new color space for low-light image enhancement", CVPR 2025,
      arXiv:2502.20272.

    Example:
      >>> import jax.numpy as jnp
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [f"{value:.4f}" for value in rgb_to_hvi(red)[0, 0]]
      ['1.0000', '0.0000', '1.0000']
    """
    image = _checks.check_image("image", image, channels=(3,))
    k = _checks.check_scalar("k", k, image.dtype, minimum=_SMALLEST_K)
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    intensity = jnp.max(image, axis=-1, keepdims=True)
    spread = intensity - jnp.min(image, axis=-1, keepdims=True)
    coloured = (spread > _SMALLEST) & (intensity > _SMALLEST)
    one, nothing = jnp.ones_like(spread), jnp.zeros_like(spread)
    safe_spread, safe_intensity = (
        jnp.where(coloured, spread, one),
        jnp.where(coloured, intensity, one),
    )

    # Ties go to red, then to green.
    sextant = jnp.where(
        red == intensity,
        (green - blue) / safe_spread,
        jnp.where(
            green == intensity, 2 + (blue - red) / safe_spread, 4 + (red - green) / safe_spread
        ),
    )
    # A full turn more or less gives the same point
    angle = jnp.where(coloured, sextant, nothing) * (math.pi / 3)
    radius = _collapse(intensity, k) * jnp.where(coloured, spread / safe_intensity, nothing)
    return jnp.concatenate([radius * jnp.cos(angle), radius * jnp.sin(angle), intensity], axis=-1)


def hvi_to_rgb(image: ArrayLike, *, k: ArrayLike = 0.2) -> jax.Array:
    r"""Gamma-encoded sRGB of HVI: the inverse of :func:`rgb_to_hvi`, exact for greys and black too.

    .. math::
        S = \frac{\sqrt{H^2 + V^2}}{C}, \quad 2 \pi h = \mathrm{atan2}(V, H)

    and then red, green, blue follow from h, S, I as from the hue, saturation and value of HSV.

    Args:
      image: float array ``[..., H, W, 3]`` of H, V, I.
      k: exponent of the collapse, as given to :func:`rgb_to_hvi`. Unlike in the reference code, it
        has a gradient.

    Returns:
      Red, green, blue ``[..., H, W, 3]``; nothing is clipped. float64 for float64 input, else
      float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, or a concrete k of 0 or less.

    References:
      Yan et al., "HVI: a new color space for low-light image enhancement", CVPR 2025,
      arXiv:2502.20272.

    Example:
      >>> import jax.numpy as jnp
      >>> grey = jnp.array([[[0.0, 0.0, 0.5]]])
      >>> [f"{value:.4f}" for value in hvi_to_rgb(grey)[0, 0]]
      ['0.5000', '0.5000', '0.5000']
    """
    image = _checks.check_image("image", image, channels=(3,))
    k = _checks.check_scalar("k", k, image.dtype, minimum=_SMALLEST_K)
    across, up, intensity = (image[..., i : i + 1] for i in range(3))
    square = across * across + up * up
    coloured = square > 0
    one, nothing = jnp.ones_like(square), jnp.zeros_like(square)
    radius = jnp.where(coloured, jnp.sqrt(jnp.where(coloured, square, one)), nothing)
    spread = intensity * radius / _collapse(intensity, k)
    turn = jnp.arctan2(jnp.where(coloured, up, nothing), jnp.where(coloured, across, one)) * (
        3 / math.pi
    )

    channels = []
    # How far each channel lies below the intensity, by the distance from its own sextants
    for start in (
        5,
        3,
        1,
    ):
        place = jnp.mod(start + turn, 6)
        channels.append(intensity - spread * jnp.clip(jnp.minimum(place, 4 - place), 0, 1))
    return jnp.concatenate(channels, axis=-1)


def pair_to_hvi(
    predictions: jax.Array, targets: jax.Array, k: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Both images of a loss in HVI; equal colours are equal there too.

    In a compiled function, the two transforms may be rounded differently for equal colours, and |.|
    would push them apart with its full slope.
    """
    equal = jnp.all(predictions == targets, axis=-1, keepdims=True)
    wanted = rgb_to_hvi(targets, k=k)
    return jnp.where(equal, wanted, rgb_to_hvi(predictions, k=k)), wanted


def _collapse(intensity: jax.Array, k: jax.Array) -> jax.Array:
    return (jnp.sin(math.pi / 2 * jnp.clip(intensity, 0, 1)) + _EPSILON) ** k
