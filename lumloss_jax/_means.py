"""Weighted means, accumulated in float32, also over the devices of a mapped axis."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

AxisName = str | Sequence[str]


def accumulation_dtype(*arrays: jax.Array) -> jnp.dtype:
    """float64 if any of ``arrays`` is float64, else float32.

    Half precisions are accumulated in float32.
    """
    return jnp.dtype(
        jnp.float64 if any(array.dtype == jnp.float64 for array in arrays) else jnp.float32
    )


def weighted_mean(
    values: jax.Array, weights: jax.Array | None, axis_name: AxisName | None = None
) -> jax.Array:
    """Mean of ``values`` ``[..., C]`` under ``weights`` ``[..., 1]``: sum(w v) / (C sum(w)).

    It is 0 if all weights are 0.

    With ``axis_name``, numerator and weight are first summed over that mapped axis, which gives the
    mean over all shards.
    """
    if weights is None:
        # All shards have the same shape, so the mean of their means is the mean over all
        mean = jnp.mean(values)
        return mean if axis_name is None else lax.pmean(mean, axis_name)
    total = jnp.sum(values * weights)
    weight = jnp.sum(jnp.broadcast_to(weights, values.shape))
    if axis_name is not None:
        # Each has its own psum: jax 0.7.2 cannot differentiate a psum of both in shard_map, because
        # one of them, the weight, has no gradient.
        total, weight = lax.psum(total, axis_name), lax.psum(weight, axis_name)
    empty = weight == 0
    return jnp.where(empty, jnp.zeros_like(total), total) / jnp.where(
        empty, jnp.ones_like(weight), weight
    )


def image_mean(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Mean of ``values`` ``[..., H, W, C]`` per image, under ``weights`` ``[..., H, W, 1]``.

    If an image's weights are all 0, nothing was measured: its mean is NaN, with a gradient of 0,
    and ``jnp.nanmean`` over the images leaves it out.
    """
    axes = (-3, -2, -1)
    if weights is None:
        return jnp.mean(values, axes)
    return divide_or_nan(
        jnp.sum(values * weights, axes), jnp.sum(jnp.broadcast_to(weights, values.shape), axes)
    )


def divide_or_nan(total: jax.Array, weight: jax.Array) -> jax.Array:
    """``total / weight``, or NaN where the weight is 0.

    The gradient is 0 there, because the quotient is not selected.
    """
    empty = weight == 0
    quotient = total / jnp.where(empty, jnp.ones_like(weight), weight)
    return jnp.where(empty, jnp.full_like(quotient, jnp.nan), quotient)


def hide_masked(image: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Puts 0 where the mask is 0, before any arithmetic.

    Whatever was there, even NaN, reaches neither the value nor the gradient.
    """
    if mask is None:
        return image
    return jnp.where(mask > 0, image, jnp.zeros_like(image))
