"""Checks for degradations only: keys, and amounts per batch, image or pixel.

As in ``_checks``, they look only at static facts and raise ``ValueError`` at trace time.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks


def check_key(key: jax.Array) -> jax.Array:
    """Checks one random key, typed (``jax.random.key``) or legacy (``jax.random.PRNGKey``)."""
    make = "make one with jax.random.key(0)"
    if not isinstance(key, jax.Array | np.ndarray):
        raise ValueError(f"key must be a jax.random key; got {key!r}: {make}.")
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and key.dtype != jnp.uint32:
        raise ValueError(
            f"key must be a jax.random key; got an array of dtype {key.dtype}: {make}."
        )
    if key.ndim != (0 if typed else 1):
        raise ValueError(
            f"key must be one key, but it has shape {key.shape}: one key serves a whole batch. "
            "For a key per image, use jax.vmap over keys and images."
        )
    return jnp.asarray(key)


def check_amount(
    name: str,
    value: ArrayLike,
    image_shape: tuple[int, ...],
    dtype: jnp.dtype,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    advice: str = "",
    maps: bool = False,
) -> jax.Array:
    """Checks an amount that may be traced; returns it in ``dtype``, ready to broadcast to images.

    It is one number, or one per image (``image_shape[:-3]``). With ``maps``, it may also be one per
    pixel: with one axis fewer than the image, or with the same number of axes and a last one of
    size 1; any size may be 1. Concrete values must lie in [minimum, maximum]; ``advice`` ends the
    message if they do not.
    """
    check_bounds(name, value, minimum=minimum, maximum=maximum, advice=advice)
    amount = jnp.asarray(value)
    if jnp.issubdtype(amount.dtype, jnp.complexfloating):
        raise ValueError(f"{name} must be real numbers; got dtype {amount.dtype}.")
    amount = amount.astype(dtype)
    if amount.ndim == 0:
        return amount
    shape, per_image, rank = amount.shape, image_shape[:-3], len(image_shape)
    if shape == per_image:
        return jnp.reshape(amount, (*per_image, 1, 1, 1))
    if maps and amount.ndim == rank - 1:
        amount = amount[..., None]
    fits = all(
        size == 1 or size == wanted or not (isinstance(size, int) and isinstance(wanted, int))
        for size, wanted in zip(amount.shape, (*image_shape[:-1], 1), strict=False)
    )
    if maps and fits and amount.ndim == rank:
        return amount
    accepted = "one number" + (f", one per image {per_image}" if per_image else "")
    if maps:
        accepted += f", or a map {image_shape[:-1]} in which any size may be 1"
    advice = ""
    if maps and per_image and shape == image_shape[-3:-1]:
        advice = f"; for a map that all images share, use {name}[{'None, ' * len(per_image)}...]"
    raise ValueError(
        f"{name} has shape {shape} for images of shape {image_shape}: it must be "
        f"{accepted}{advice}."
    )


def check_bounds(
    name: str,
    value: ArrayLike,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    advice: str = "",
) -> None:
    """Refuses concrete values that are not finite or lie outside [minimum, maximum].

    Traced values cannot be read.

    ``advice`` ends the message.
    """
    if isinstance(value, jax.core.Tracer) or (
        isinstance(value, jax.Array) and not value.is_fully_addressable
    ):
        return
    # device_get is an explicit transfer: it stays allowed under jax.transfer_guard("disallow").
    host = np.asarray(jax.device_get(value))
    if not (jnp.issubdtype(host.dtype, jnp.floating) or jnp.issubdtype(host.dtype, jnp.integer)):
        raise ValueError(f"{name} must be real numbers; got {value!r}.")
    numbers = host.astype(np.float64)
    wrong = numbers[~(np.isfinite(numbers) & (numbers >= minimum) & (numbers <= maximum))]
    if wrong.size:
        if math.isfinite(maximum):
            wanted = f"lie in [{minimum:g}, {maximum:g}]"
        else:
            wanted = (
                "be finite and not negative"
                if minimum == 0
                else f"be finite and at least {minimum:g}"
            )
        raise ValueError(f"{name} must {wanted}; got {wrong.flat[0]:g}{advice and f': {advice}'}.")


def check_range(
    low_name: str, low: ArrayLike, high_name: str, high: ArrayLike, *, minimum: float | None = None
) -> tuple[jax.Array, jax.Array]:
    """Checks the two ends of a range, in this order, and returns them in float32.

    Each is one number that may be traced.
    """
    dtype = jnp.dtype(jnp.float32)
    lowest = _checks.check_scalar(low_name, low, dtype, minimum=minimum)
    highest = _checks.check_scalar(high_name, high, dtype, minimum=minimum)
    if (
        not isinstance(lowest, jax.core.Tracer)
        and not isinstance(highest, jax.core.Tracer)
        and highest < lowest
    ):
        raise ValueError(f"{high_name} must be at least {low_name}, {lowest:g}; got {highest:g}.")
    return lowest, highest


def check_sizes(name: str, shape: object) -> tuple[int, ...]:
    """Checks the shape of an array to draw: a tuple of static sizes."""
    if not isinstance(shape, tuple) or any(isinstance(size, float | jax.Array) for size in shape):
        raise ValueError(
            f"{name} must be a tuple of sizes, such as images.shape[:-3]; got {shape!r}."
        )
    return shape


def check_flag(name: str, value: object) -> bool:
    """Checks a switch, which must be a Python bool because it chooses what is computed."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{name} is traced, but it must be True or False: bind it with functools.partial "
            "before jit."
        )
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return bool(value)


def check_degradation(key: jax.Array, image: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Checks the first two arguments of every random degradation."""
    return check_key(key), _checks.check_image("image", image)


def check_fixed_degradation(key: jax.Array | None, image: ArrayLike) -> jax.Array:
    """Checks the key of a degradation without randomness: it may be None and is not used."""
    if key is not None:
        check_key(key)
    return _checks.check_image("image", image)
