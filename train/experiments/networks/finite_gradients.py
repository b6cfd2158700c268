"""Gradients of a population in which a NaN of one member does not spread to the others.

A convolution that is mapped over members becomes a grouped convolution, and XLA computes some of
these as dense ones with zeros between the groups. NaN times zero is NaN: the NaN of one member
would spread to all, and nobody could see where it came from. The gradients of all members are
therefore computed at once, and only if any of them is not finite are they computed again, for one
member at a time. The weights and patches of all other members are then zeros, which are harmless.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from train.degradation import DegradedBatch
from train.guard import all_finite
from train.objective import ObjectiveValues


class Gradients(NamedTuple):
    """Results of one pass through the networks, for all members."""

    losses: jax.Array  # [members]
    values: tuple[ObjectiveValues, ...]  # the terms of each loss
    batch_stats: Any
    gradients: tuple[Any, ...]  # for each part of the losses that is differentiated separately


def retry_alone(
    gradients_of: Callable[[Any, DegradedBatch], Gradients],
    params: Any,
    batches: DegradedBatch,
    going: jax.Array,
) -> Gradients:
    """Computes the gradients of all members, each as if it were alone.

    The first attempt is for all members. If one of its losses or gradients is not finite, attempt
    ``i`` is for member ``i - 1``. The loop ends as soon as all are finite, or when each member has
    had its attempt.

    Args:
      gradients_of: maps the parameters and batches of all members to their gradients.
      params: parameters; each array has the members as its first axis.
      batches: batches; each array has the members as its first axis.
      going: whether each member takes part, ``[members]``. The others have stopped for good, and
        get NaN.

    Returns:
      Losses, gradients and new batch statistics.
    """
    count = going.shape[0]
    number = jnp.arange(count)

    def attempt(
        carry: tuple[jax.Array, jax.Array, Gradients],
    ) -> tuple[jax.Array, jax.Array, Gradients]:
        attempts, _, before = carry
        chosen = going & ((attempts == 0) | (number == attempts - 1))

        def of_chosen(now: Any, old: Any) -> Any:
            return jax.tree.map(
                lambda x, y: jnp.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), x, y), now, old
            )

        def zero_others(tree: Any) -> Any:
            return of_chosen(tree, jax.tree.map(jnp.zeros_like, tree))

        now = gradients_of(zero_others(params), zero_others(batches))
        found = Gradients(
            of_chosen(now.losses, before.losses),
            tuple(
                jax.tree.map(functools.partial(jnp.where, chosen[i]), values, old)
                for i, (values, old) in enumerate(zip(now.values, before.values, strict=True))
            ),
            of_chosen(now.batch_stats, before.batch_stats),
            of_chosen(now.gradients, before.gradients),
        )
        finite = jnp.isfinite(found.losses) & jax.vmap(all_finite)(found.gradients)
        return attempts + 1, jnp.all(finite | ~going), found

    def unfinished(carry: tuple[jax.Array, jax.Array, Gradients]) -> jax.Array:
        attempts, finite, _ = carry
        return (attempts == 0) | (~finite & (attempts <= count))

    nothing = jax.tree.map(
        lambda x: jnp.full(x.shape, jnp.nan if x.dtype.kind == "f" else 0, x.dtype),
        jax.eval_shape(gradients_of, params, batches),
    )
    _, _, found = jax.lax.while_loop(unfinished, attempt, (jnp.int32(0), jnp.bool_(False), nothing))
    return found
