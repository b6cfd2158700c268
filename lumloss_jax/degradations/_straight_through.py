"""Steps that need a derivative of their own: rounding, and clipping that includes its edges."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def round_half_up(values: jax.Array) -> jax.Array:
    """The nearest whole number, halves up, with the derivative of x."""
    return jnp.floor(values + 0.5)


@jax.custom_jvp
def round_half_down(values: jax.Array) -> jax.Array:
    """The nearest whole number, halves down, with the derivative of x."""
    return jnp.ceil(values - 0.5)


@jax.custom_jvp
def round_half_away(values: jax.Array) -> jax.Array:
    """The nearest whole number, halves away from 0, with the derivative of x."""
    return jnp.sign(values) * jnp.floor(jnp.abs(values) + 0.5)


@jax.custom_jvp
def floor(values: jax.Array) -> jax.Array:
    """The whole number at or below x, with the derivative of x."""
    return jnp.floor(values)


for _step in (round_half_up, round_half_down, round_half_away, floor):
    _step.defjvps(lambda tangent, _result, _values: tangent)


def clip_to_range(values: jax.Array, low: float = 0.0, high: float = 1.0) -> jax.Array:
    """Clips to [low, high]: the derivative is 1 from end to end and 0 outside.

    ``jnp.clip`` halves it at the ends, where black and white pixels are.
    """
    return jnp.where(values < low, low, jnp.where(values > high, high, values)).astype(values.dtype)
