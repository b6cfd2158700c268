"""Penalties: the cost of a difference, element by element, for losses that offer a choice."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax._absolute import absolute

PENALTIES = ("l1", "l2", "charbonnier", "huber")
DEFAULTS = {"charbonnier_epsilon": 1e-3, "huber_delta": 0.05}

# The square of a smaller scale underflows in float32: the gradient of Charbonnier at 0 would be
# 0/0, and the parabola of Huber would vanish.
SMALLEST_SCALE = 1e-18


def make_penalty(
    name: str,
    dtype: jnp.dtype,
    *,
    charbonnier_epsilon: ArrayLike | None = None,
    huber_delta: ArrayLike | None = None,
) -> Callable[[jax.Array], jax.Array]:
    """The named penalty as a function of the difference.

    Raises ``ValueError`` for options that it does not accept.
    """
    _checks.check_option("penalty", name, PENALTIES)
    given = {"charbonnier_epsilon": charbonnier_epsilon, "huber_delta": huber_delta}
    check_scale_is_used(name, given)
    scales = {
        option: _checks.check_scalar(
            option, DEFAULTS[option] if value is None else value, dtype, minimum=SMALLEST_SCALE
        )
        for option, value in given.items()
    }
    if name == "charbonnier":
        return lambda difference: charbonnier(difference, scales["charbonnier_epsilon"])
    if name == "huber":
        return lambda difference: huber(difference, scales["huber_delta"])
    return absolute if name == "l1" else jnp.square


def check_scale_is_used(penalty: str, options: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` for an epsilon or a delta that the penalty would ignore."""
    for option in DEFAULTS:
        user = option.split("_")[0]
        if options.get(option) is not None and penalty != user:
            raise ValueError(
                f"{option} is for penalty={user!r}, but the penalty is {penalty!r}: leave it out, "
                f"or set penalty={user!r}."
            )


@jax.custom_jvp
def charbonnier(difference: jax.Array, epsilon: jax.Array) -> jax.Array:
    """sqrt(x^2 + epsilon^2): L1 rounded off within about epsilon of 0."""
    return jnp.sqrt(difference * difference + epsilon * epsilon)


@charbonnier.defjvp
def _charbonnier_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """With slopes x / sqrt(x^2 + epsilon^2) and epsilon / sqrt(x^2 + epsilon^2).

    With JAX's own rule, XLA writes out the root of every element and reads it for the slope. From
    the reciprocal root, it computes the slope in one pass over the difference.
    """
    (difference, epsilon), (difference_tangent, epsilon_tangent) = primals, tangents
    scale = lax.rsqrt(difference * difference + epsilon * epsilon)
    tangent = difference_tangent * (difference * scale) + epsilon_tangent * (epsilon * scale)
    return charbonnier(difference, epsilon), tangent


def huber(difference: jax.Array, delta: jax.Array) -> jax.Array:
    """x^2 / 2 up to delta, then delta (|x| - delta / 2): optax's form."""
    size = absolute(difference)
    quadratic = jnp.minimum(size, delta)
    return 0.5 * quadratic * quadratic + delta * (size - quadratic)
