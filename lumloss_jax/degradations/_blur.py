"""Blur: averages over a Gaussian or a box."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _filters
from lumloss_jax.degradations import _inputs

# A Gaussian is cut off at this many sigmas if no size is given, as scipy and scikit-image do.
_TRUNCATE = 4.0
# Below this, the neighbours' weight is 0 even in float64, but its gradient would be 0 times
# infinity.
_NARROWEST = 1e-2


def gaussian_blur(
    key: jax.Array | None, image: ArrayLike, *, sigma: ArrayLike, size: int | None = None
) -> jax.Array:
    r"""Blurs with a Gaussian.

    .. math:: y = \frac{\sum_{i, j} w_i w_j \, x_{u + i, v + j}}{\sum_{i, j} w_i w_j}, \quad
        w_i = \exp\big(-i^2 / (2 \sigma^2)\big)

    over the pixels of the window that lie inside the image: neither black nor a repeated edge is
    mixed in at a border, and a flat image stays flat.

    Args:
      key: ignored, and may be None, because a blur is not random. It exists so that all
        degradations are called in the same way.
      image: float array ``[..., H, W, C]``, C = 3 or 1, nominal range [0, 1].
      sigma: standard deviation in pixels, 0 (no blur) or more: one number or one per image,
        ``image.shape[:-3]``; may be traced, and then ``size`` is needed.
      size: side of the window in pixels, odd, static; by default 2 round(4 sigma) + 1 for the
        largest sigma, as in scipy and scikit-image. It may be larger than the image.

    Returns:
      The blurred image, same shape; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for an image that is not float ``[..., H, W, 1 or 3]``, a sigma of
        another shape or a concrete one that is negative or not finite, an even size, a traced sigma
        without a size, or a key that is neither a key nor None.

    References:
      ``scipy.ndimage.gaussian_filter``, divided by the same filter of ones at the border.

    Example:
      >>> import jax.numpy as jnp
      >>> point = jnp.zeros((5, 5, 1)).at[2, 2].set(1)
      >>> blurred = gaussian_blur(None, point, sigma=0.5)
      >>> print(f"{blurred[2, 2, 0]:.4f} {blurred[2, 3, 0]:.4f}")
      0.6187 0.0838
    """
    image = _inputs.check_fixed_degradation(key, image)
    if size is None:
        size = _size_for(sigma)
    size = _checks.check_odd_size("size", size)
    sigma = _inputs.check_amount("sigma", sigma, image.shape, image.dtype)
    radius = size // 2
    blurs = sigma > _NARROWEST
    variance = jnp.where(blurs, 2 * sigma * sigma, jnp.ones_like(sigma))
    # One weight per distance, each a number or one per image. Both sides of the window share them.
    weights = [
        jnp.where(blurs, jnp.exp(-(i * i) / variance), 0.0).astype(image.dtype)
        for i in range(1, radius + 1)
    ]
    blurred = image
    for axis in (image.ndim - 3, image.ndim - 2):
        ones = jnp.ones(
            [image.shape[axis] if i == axis else 1 for i in range(image.ndim)], image.dtype
        )
        blurred = _weigh(blurred, weights, axis) / _weigh(ones, weights, axis)
    chex.assert_equal_shape([blurred, image])
    return blurred


def box_blur(key: jax.Array | None, image: ArrayLike, *, size: int) -> jax.Array:
    r"""Blurs with a box: each pixel becomes the mean of the square around it.

    .. math:: y_{u, v} = \mathrm{mean} \, \{ x_{u + i, v + j} : |i|, |j| \le (s - 1) / 2 \}

    over the pixels inside the image, so that a flat image stays flat up to its border.

    Args:
      key: ignored, and may be None, because a blur is not random. It exists so that all
        degradations are called in the same way.
      image: float array ``[..., H, W, C]``, C = 3 or 1, nominal range [0, 1].
      size: s, the side of the square in pixels; odd, static; 1 changes nothing. It may be larger
        than the image.

    Returns:
      The blurred image, same shape; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for an image that is not float ``[..., H, W, 1 or 3]``, an even or
        traced size, or a key that is neither a key nor None.

    References:
      ``scipy.ndimage.uniform_filter``, divided by the same filter of ones at the border.

    Example:
      >>> import jax.numpy as jnp
      >>> point = jnp.zeros((5, 5, 1)).at[2, 2].set(1)
      >>> print(f"{box_blur(None, point, size=3)[1, 3, 0]:.4f}")
      0.1111
    """
    image = _inputs.check_fixed_degradation(key, image)
    size = _checks.check_odd_size("size", size)
    blurred = _filters.local_average(image, _filters.box_taps(size))
    chex.assert_equal_shape([blurred, image])
    return blurred


def _size_for(sigma: ArrayLike) -> int:
    """The window that holds ``_TRUNCATE`` sigmas on each side."""
    if isinstance(sigma, jax.core.Tracer):
        raise ValueError(
            "sigma is traced, so the size of the window cannot be derived from it: give size, an "
            "odd int of about 8 times the largest sigma, such as size=17 for sigma up to 2."
        )
    _inputs.check_bounds("sigma", sigma)
    return 2 * math.floor(_TRUNCATE * float(np.max(jax.device_get(sigma))) + 0.5) + 1


def _weigh(image: jax.Array, weights: list[jax.Array], axis: int) -> jax.Array:
    """Sum of the pixels along an axis, weighted by distance, with zeros outside the image."""
    size = image.shape[axis]
    reach = min(len(weights), size - 1) if isinstance(size, int) else len(weights)
    widths = [(0, 0)] * image.ndim
    widths[axis] = (reach, reach)
    padded = jnp.pad(image, widths)
    total = image
    for distance, weight in enumerate(weights[:reach], start=1):
        before = lax.slice_in_dim(padded, reach - distance, reach - distance + size, axis=axis)
        after = lax.slice_in_dim(padded, reach + distance, reach + distance + size, axis=axis)
        total = total + weight * (before + after)
    return total
