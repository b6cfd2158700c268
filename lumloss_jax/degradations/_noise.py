"""Gaussian noise with one level, a level per image, or a level that varies in the image."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax.degradations import _inputs
from lumloss_jax.degradations._straight_through import clip_to_range

AXES = ("width", "height")
# A level above the whole range was meant for the scale of 0 to 255.
_LEVEL: dict[str, Any] = {
    "maximum": 1.0,
    "advice": "levels are in image units, so divide levels for 0 to 255 by 255",
}


def gaussian_noise(
    key: jax.Array, image: ArrayLike, *, sigma: ArrayLike, clip: bool = False
) -> jax.Array:
    r"""Adds white Gaussian noise.

    .. math:: y = x + \sigma n, \quad
        n \sim \mathcal{N}(0, 1) \text{ independently for every pixel and channel}

    The function is pure: you can jit, differentiate, vmap and shard it. The same key gives the same
    noise on any number of devices.

    Args:
      key: one random key, typed or legacy, for the whole batch.
      image: float array ``[..., H, W, C]``, C = 3 or 1, nominal range [0, 1].
      sigma: standard deviation in image units, 0 to 1: 25/255 is what the literature calls sigma
        25. One number; or one per image, ``image.shape[:-3]`` (:func:`blind_sigma` draws them); or
        a map ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1 (:func:`sigma_ramp`
        makes one). It may be traced.
      clip: whether to clip the result to [0, 1], as an 8-bit file would. Denoisers are mostly
        trained without clipping. Clipped noise is no longer Gaussian near black and white, and its
        mean is not 0 there; clipped values pass no gradient.

    Returns:
      The noisy image, same shape; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for something that is not a random key, an image that is not float
        ``[..., H, W, 1 or 3]``, a sigma of a different shape, or a concrete one that is not in [0,
        1].

    References:
      Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising",
      TIP 2017.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> clean = jnp.full((2, 32, 32, 3), 0.5)
      >>> noisy = gaussian_noise(jax.random.key(0), clean, sigma=25 / 255)
      >>> print(f"{255 * jnp.std(noisy - clean):.0f}")
      25
    """
    key, image = _inputs.check_degradation(key, image)
    sigma = _inputs.check_amount("sigma", sigma, image.shape, image.dtype, maps=True, **_LEVEL)
    clip = _inputs.check_flag("clip", clip)
    noisy = image + sigma * jax.random.normal(key, image.shape, image.dtype)
    chex.assert_equal_shape([noisy, image])
    return clip_to_range(noisy) if clip else noisy


def blind_sigma(
    key: jax.Array, shape: tuple[int, ...], *, minimum: ArrayLike, maximum: ArrayLike
) -> jax.Array:
    r"""Draws noise levels uniformly from [minimum, maximum): one per image for blind training.

    .. math:: \sigma \sim \mathcal{U}[\text{minimum}, \text{maximum})

    Blind denoisers see a different level in every image. The levels are drawn separately from the
    noise, so that a network that reads or predicts them can use them, and you can log them. Use two
    keys, one for the levels and one for the noise.

    Args:
      key: one random key, typed or legacy.
      shape: shape of the result, ``images.shape[:-3]`` for one level per image.
      minimum: lowest level in image units, 0 to 1; one number, may be traced.
      maximum: highest level in image units, ``minimum`` to 1; one number, may be traced. 55/255 and
        75/255 are customary.

    Returns:
      The levels, float32, of ``shape``.

    Raises:
      ValueError: for something that is not a random key, a shape that is not a tuple of sizes,
        concrete bounds that are not in [0, 1] or in the wrong order.

    References:
      El Helou and Susstrunk, "Blind Universal Bayesian Image Denoising with Gaussian Noise Level
      Learning", TIP 2020.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> images = jnp.full((2, 32, 32, 3), 0.5)
      >>> key_of_levels, key_of_noise = jax.random.split(jax.random.key(0))
      >>> sigma = blind_sigma(key_of_levels, images.shape[:-3], minimum=0, maximum=55 / 255)
      >>> noisy = gaussian_noise(key_of_noise, images, sigma=sigma)
      >>> [f"{level:.1f}" for level in noisy.std(axis=(1, 2, 3)) / sigma]
      ['1.0', '1.0']
    """
    key = _inputs.check_key(key)
    shape = _inputs.check_sizes("shape", shape)
    lowest, highest = _inputs.check_range("minimum", minimum, "maximum", maximum)
    _inputs.check_bounds("maximum", maximum, **_LEVEL)
    return jax.random.uniform(key, shape, jnp.float32, lowest, highest)


def sigma_ramp(
    image_shape: tuple[int, ...], *, start: ArrayLike, stop: ArrayLike, axis: str = "width"
) -> jax.Array:
    r"""A noise level that rises linearly across the image, for :func:`gaussian_noise`.

    .. math:: \sigma_i = a + (b - a) \, i / (n - 1), \quad i = 0 \ldots n - 1

    along one axis of n pixels. It tests whether a denoiser follows a level that is not the same
    everywhere. BUIFD's test uses ramps along the width, from 10/255 below to 10/255 above centres
    of 15, 25, 40, 55 and 65 over 255.

    Args:
      image_shape: shape of the images, ``[..., H, W, C]``.
      start: level at the left (or top) edge in image units, 0 to 1: one number or one per image;
        may be traced.
      stop: level at the right (or bottom) edge, in the same form.
      axis: ``"width"`` or ``"height"``, the axis along which it rises.

    Returns:
      The map, float32 ``[..., H, W]`` (``image_shape`` without the channels). An axis of one pixel
      holds ``start``.

    Raises:
      ValueError: for a shape with fewer than three axes, an unknown axis, levels of a different
        shape, or concrete levels that are not in [0, 1].

    References:
      El Helou and Susstrunk, "Blind Universal Bayesian Image Denoising with Gaussian Noise Level
      Learning", TIP 2020.

    Example:
      >>> sigma = sigma_ramp((2, 5, 3), start=15 / 255, stop=35 / 255)
      >>> [round(255 * float(level)) for level in sigma[0]]
      [15, 20, 25, 30, 35]
    """
    if not isinstance(image_shape, tuple) or len(image_shape) < 3:
        raise ValueError(
            f"image_shape must be the shape of images [..., H, W, C]; got {image_shape!r}."
        )
    _checks.check_option("axis", axis, AXES)
    dtype = jnp.dtype(jnp.float32)
    first = _inputs.check_amount("start", start, image_shape, dtype, **_LEVEL)
    last = _inputs.check_amount("stop", stop, image_shape, dtype, **_LEVEL)
    # From one per image [..., 1, 1, 1] to one per map [..., 1, 1].
    first, last = (jnp.squeeze(level, -1) if level.ndim else level for level in (first, last))
    width = axis == "width"
    fraction = jnp.linspace(0.0, 1.0, image_shape[-2 if width else -3], dtype=dtype)
    fraction = jnp.reshape(
        fraction, (*(1,) * (len(image_shape) - 3), *((1, -1) if width else (-1, 1)))
    )
    # In this form both ends are exact, and so is a ramp from a level to itself.
    return jnp.broadcast_to(first * (1 - fraction) + last * fraction, image_shape[:-1])
