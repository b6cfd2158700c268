"""A prediction and its target as metrics and perceptual losses read them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Pair(NamedTuple):
    """Predictions and targets of data range 1, and their weights or None.

    The images are ``[..., H, W, C]``, the weights ``[..., H, W, 1]``.
    """

    predictions: jax.Array
    targets: jax.Array
    mask: jax.Array | None


def zero_where_equal(values: jax.Array, pair: Pair) -> jax.Array:
    """``values`` ``[..., H, W, 1]``, with 0 and slope 0 at pixels whose colours are equal.

    In a compiled function, f(p) - f(t) may leave 1e-6 of Lab for p = t, and with it a slope as
    large as for any difference.
    """
    equal = jnp.all(pair.predictions == pair.targets, axis=-1, keepdims=True)
    return jnp.where(equal, jnp.zeros_like(values), values)


def crop(image: jax.Array, border: int) -> jax.Array:
    """Cuts ``border`` pixels off all four sides of ``[..., H, W, C]``.

    An axis of a mask that has size 1 is left unchanged.
    """
    if border == 0:
        return image
    for axis in (image.ndim - 3, image.ndim - 2):
        size = image.shape[axis]
        if isinstance(size, int) and size == 1:
            continue  # a mask that broadcasts along this axis
        image = jax.lax.slice_in_dim(image, border, size - border, axis=axis)
    return image
