"""The absolute value as losses and metrics need it."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def absolute(difference: jax.Array) -> jax.Array:
    """``|x|`` with derivative sign(x), 0 at 0.

    In jax 0.10, jnp.abs has derivative 1 there and would push pixels that are already right.
    """
    return jnp.abs(difference)


@absolute.defjvp
def _absolute_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (difference,), (tangent,) = primals, tangents
    return jnp.abs(difference), tangent * jnp.sign(difference)
