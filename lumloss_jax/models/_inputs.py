"""Checks and steps for every network's input: images, noise level, padding to a multiple."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks


def check_features(features: tuple[int, ...]) -> None:
    """Checks the widths of a UNet's levels."""
    if not features or any(width < 1 for width in features):
        raise ValueError(
            f"features must hold one width of at least 1 for each level; got {features}."
        )


def check_images(images: ArrayLike, channels: int) -> jax.Array:
    """Checks float images ``[..., H, W, channels]``; returns them in float32 (float64 is kept)."""
    got = np.shape(images)
    if len(got) >= 3 and got[-1] in (1, 3) and channels in (1, 3) and got[-1] != channels:
        remedy = (
            "create the model with channels=1"
            if got[-1] == 1
            else "create the model with channels=3"
        )
        other = (
            "repeat the channel three times" if got[-1] == 1 else "convert the images to greyscale"
        )
        raise ValueError(
            f"images have shape {got}, but this network has channels={channels}: {remedy}, or "
            f"{other}."
        )
    return _checks.check_image("images", images, channels=(channels,))


def refuse_sigma(network: str, sigma: ArrayLike | None) -> None:
    """Raises an error if a blind network gets a noise level, which it would silently ignore."""
    if sigma is not None:
        raise ValueError(
            f"{network} is blind and does not accept sigma, because it estimates the noise itself: "
            "leave sigma out, or use drunet, which accepts it."
        )


def check_sigma(network: str, sigma: ArrayLike | None, images: jax.Array) -> jax.Array:
    """Checks a noise level against images ``[..., H, W, C]``; returns it as ``[..., H, W, 1]``.

    It is one number, one number per image (the images' shape without H, W, C), or a map ``[..., H,
    W]`` or ``[..., H, W, 1]`` in which any size may be 1. It is in image units: 25 grey levels of
    255 are 25 / 255.
    """
    if sigma is None:
        raise ValueError(
            f"{network} needs the noise's standard deviation: pass sigma=25 / 255, one value per "
            "image, or a map."
        )
    dtype = sigma.dtype if isinstance(sigma, jax.Array) else np.asarray(sigma).dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise ValueError(
            f"sigma has dtype {dtype}, but it must be a float in image units, such as 25 / 255."
        )
    if not isinstance(sigma, jax.core.Tracer):
        _check_level(sigma)
    level = jnp.asarray(sigma)
    *batch, height, width, _ = images.shape
    if level.ndim == 0 or level.shape == tuple(batch):
        level = level.reshape(*level.shape, *(1,) * (images.ndim - level.ndim))
    elif level.ndim == images.ndim - 1:
        level = level[..., None]
    wanted = (*batch, height, width, 1)
    fits = level.ndim == images.ndim and all(
        size == 1 or size == full or not (isinstance(size, int) and isinstance(full, int))
        for size, full in zip(level.shape, wanted, strict=True)
    )
    if not fits:
        raise ValueError(
            f"sigma has shape {np.shape(sigma)} for images of shape {images.shape}: it must have "
            f"shape (), {tuple(batch)}, {wanted[:-1]} or {wanted}, where any size may be 1."
        )
    return jnp.broadcast_to(level.astype(images.dtype), wanted)


def pad_to_multiple(images: jax.Array, multiple: int, *, zeros: bool = False) -> jax.Array:
    """Repeats the last row and column, or adds zeros, until height and width are multiples.

    Crop the result to the original size.

    The next multiple is written as ((h + m - 1) // m) * m, because symbolic sizes of ``jax.export``
    support this form.
    """
    *batch, height, width, _ = images.shape
    padded = [((size + multiple - 1) // multiple) * multiple for size in (height, width)]
    if padded == [height, width]:
        return images
    widths = [(0, 0)] * len(batch) + [(0, padded[0] - height), (0, padded[1] - width), (0, 0)]
    return jnp.pad(images, widths, mode="constant" if zeros else "edge")


def pad_by_reflection(images: jax.Array, axis: int, multiple: int) -> jax.Array:
    """Extends one axis at its end by reflection until its size is a multiple.

    It gathers, which symbolic sizes of ``jax.export`` need.
    """
    size = images.shape[axis]
    padded = ((size + multiple - 1) // multiple) * multiple
    if padded == size:
        return images
    # One period is there and back; an axis of size 1 repeats its pixel
    period = jnp.maximum(2 * jnp.arange(size)[-1], 1)
    position = jnp.arange(padded) % period
    return jnp.take(images, jnp.minimum(position, period - position), axis=axis)


def _check_level(sigma: ArrayLike) -> None:
    """Refuses concrete levels that are negative, not finite, or meant for a scale of 0 to 255."""
    if isinstance(sigma, jax.Array) and not sigma.is_fully_addressable:
        return  # a global array of several hosts: this process cannot read it
    try:
        # device_get is an explicit transfer: it stays allowed under jax.transfer_guard("disallow").
        values = np.asarray(jax.device_get(sigma)).astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"sigma must be a number or an array of numbers; got {sigma!r}.") from None
    if values.size and not (np.isfinite(values).all() and values.min() >= 0):
        raise ValueError("sigma must be finite and not negative.")
    if values.size and values.max() > 1:
        raise ValueError(
            f"sigma is {values.max():g}, but it is in image units, at most 1: divide by 255."
        )
