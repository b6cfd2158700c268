"""Powers with exponents below 1, by exponential and logarithm.

On a CPU, XLA computes these two on vectors of numbers. It computes ``pow`` more slowly and calls a
function of the C library for each ``cbrt``. The gradients reuse the power instead of computing a
second one.
"""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def power(base: jax.Array, exponent: float) -> jax.Array:
    """base^exponent for a base above 0.

    Its relative error grows with exponent * log(base): the rounding of the product becomes an error
    of the exponential. So the exponent must be small.
    """
    return jnp.exp(exponent * jnp.log(base))


@power.defjvp
def _power_jvp(
    exponent: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (base,), (tangent,) = primals, tangents
    result = power(base, exponent)
    return result, tangent * (exponent * result / base)


@jax.custom_jvp
def power_2_4(base: jax.Array) -> jax.Array:
    """base^2.4 for a base above 0, as base^2 base^0.4."""
    return base * base * power(base, 0.4)


@power_2_4.defjvp
def _power_2_4_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (base,), (tangent,) = primals, tangents
    root = power(base, 0.4)
    return base * base * root, tangent * (2.4 * base * root)
