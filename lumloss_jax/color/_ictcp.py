"""Conversion to and from ICtCp, the colour space of HDR video, built on PQ."""

import jax
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax.color._luminance_encodings import light_of_pq, pq_of_light
from lumloss_jax.color._oklab import Matrix, apply, inverse
from lumloss_jax.color._srgb import encode, linearise

# ITU-R BT.2087: linear light from the primaries of BT.709, which sRGB uses, to BT.2020's.
_TO_BT2020: Matrix = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))
# ITU-R BT.2100, in parts of 4096.
_TO_LMS: Matrix = (
    (1688 / 4096, 2146 / 4096, 262 / 4096),
    (683 / 4096, 2951 / 4096, 462 / 4096),
    (99 / 4096, 309 / 4096, 3688 / 4096),
)
_TO_ICTCP: Matrix = (
    (2048 / 4096, 2048 / 4096, 0.0),
    (6610 / 4096, -13613 / 4096, 7003 / 4096),
    (17933 / 4096, -17390 / 4096, -543 / 4096),
)
_FROM_BT2020, _FROM_LMS, _FROM_ICTCP = inverse(_TO_BT2020), inverse(_TO_LMS), inverse(_TO_ICTCP)
_SMALLEST_WHITE = 1e-6  # the inverse divides by it


def rgb_to_ictcp(
    image: ArrayLike, *, white: ArrayLike = 100.0, floor: ArrayLike = 0.005
) -> jax.Array:
    r"""ICtCp of a gamma-encoded sRGB image: intensity, blue-yellow (tritan) and red-green (protan).

    .. math:: (I, C_T, C_P)^T = M_2 \, \mathrm{PQ}\big(M_1 \, \text{white} \, (R, G, B)^T\big)

    with R, G, B linear light with the primaries of BT.2020, and PQ as in :func:`linear_to_pq`.
    Delta E_ITP is 720 times the length of :math:`(\Delta I, \Delta C_T / 2, \Delta C_P)`; 1 is
    about a just noticeable difference.

    Protocol: equals ``colour.RGB_to_ICtCp`` of absolute BT.2020 light if the floor is 0.

    Args:
      image: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1]; nothing is
        clipped.
      white: luminance of white in cd/m2, above 0; it may be traced. 100 or 203 are usual for SDR.
      floor: smallest cone signal in cd/m2, 0 or more; it may be traced. It is needed because PQ's
        slope grows without bound towards black. Below the floor, the gradient is 0.

    Returns:
      I (0 to 1), C_T, C_P (-0.5 to 0.5; 0 for greys) as ``[..., H, W, 3]``; float64 for float64
      input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, a concrete white of 0 or less,
        or a concrete negative floor.

    References:
      ITU-R BT.2100-2; BT.2087-0; BT.2124-0.

    Example:
      >>> import jax.numpy as jnp
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> [round(float(v), 3) for v in rgb_to_ictcp(red)[0, 0]]
      [0.364, -0.102, 0.258]
    """
    image = _checks.check_image("image", image, channels=(3,))
    light = linearise(image) * _checks.check_scalar(
        "white", white, image.dtype, minimum=_SMALLEST_WHITE
    )
    floor = _checks.check_scalar("floor", floor, image.dtype)
    return apply(_TO_ICTCP, pq_of_light(apply(_TO_LMS, apply(_TO_BT2020, light)), floor))


def ictcp_to_rgb(image: ArrayLike, *, white: ArrayLike = 100.0) -> jax.Array:
    r"""Gamma-encoded sRGB of ICtCp: the inverse of :func:`rgb_to_ictcp` above its floor.

    .. math::
        (R', G', B')^T = \mathrm{enc}\Big( \frac{1}{\text{white}} \, M_0^{-1} M_1^{-1} \,
        \mathrm{PQ}^{-1} \big(M_2^{-1} (I, C_T, C_P)^T\big) \Big)

    with M_0 the matrix from BT.709 to BT.2020 and enc the sRGB curve, :func:`linear_to_srgb`.

    Args:
      image: float array ``[..., H, W, 3]`` of I, C_T, C_P.
      white: luminance of white in cd/m2, as given to :func:`rgb_to_ictcp`.

    Returns:
      Red, green, blue ``[..., H, W, 3]``; colours that sRGB cannot show lie outside [0, 1], because
      nothing is clipped. float64 for float64 input, else float32.

    Raises:
      ValueError: for an image that is not float ``[..., H, W, 3]``, or a concrete white of 0 or
        less.

    References:
      ITU-R BT.2100-2; BT.2087-0.

    Example:
      >>> import jax.numpy as jnp
      >>> half = jnp.full((1, 1, 3), 0.5)
      >>> print(f"{ictcp_to_rgb(rgb_to_ictcp(half))[0, 0, 0]:.3f}")
      0.500
    """
    image = _checks.check_image("image", image, channels=(3,))
    white = _checks.check_scalar("white", white, image.dtype, minimum=_SMALLEST_WHITE)
    light = apply(_FROM_LMS, light_of_pq(apply(_FROM_ICTCP, image)))
    return encode(apply(_FROM_BT2020, light / white))
