"""Whether an update is applied.

An update is applied completely or not at all. If the loss, one of its terms, the gradient or
anything in the new state is not finite, then parameters, batch statistics, optimizer, average and
learned weights all stay unchanged, and the next step uses the next batch. After ``max_skips`` such
steps in a row the state never changes again. The loop reads it only from time to time, and finds it
as it was then.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from train.balancing.learned_weights import Terms
from train.state import Guard, TrainState


def should_apply(guard: Guard, nonfinite: jax.Array, max_skips: int) -> jax.Array:
    """Whether everything is finite, and not too many updates before this one were skipped in a row.

    Args:
      guard: the guard before the update.
      nonfinite: from :func:`nonfinite_bits`.
      max_skips: number of updates in a row that may be skipped.

    Returns:
      A boolean scalar.
    """
    return (nonfinite == 0) & (guard.consecutive_skips < max_skips)


def commit(
    state: TrainState, new: TrainState, nonfinite: jax.Array, *, max_skips: int
) -> TrainState:
    """Chooses the new state if the update should be applied, and otherwise the old one.

    Step and guard count in both cases.

    Args:
      state: the state before the update.
      new: the new state, from :func:`train.step.propose`.
      nonfinite: from :func:`nonfinite_bits`.
      max_skips: number of updates in a row that may be skipped.

    Returns:
      The state after the step.
    """
    chosen = should_apply(state.guard, nonfinite, max_skips)
    stopped = state.guard.consecutive_skips >= max_skips
    kept = jax.tree.map(lambda now, old: jnp.where(chosen, now, old), new, state)
    guard = _next_guard(state.guard, nonfinite, stopped)
    return dataclasses.replace(kept, step=state.step + jnp.where(stopped, 0, 1), guard=guard)


def nonfinite_bits(
    loss: jax.Array, terms: Terms, gradient_norm: jax.Array, sound: jax.Array
) -> jax.Array:
    """Returns one number that says which quantities of a step are not finite.

    Args:
      loss: a scalar.
      terms: scalars by name.
      gradient_norm: a scalar.
      sound: whether the new state is finite.

    Returns:
      An int32 scalar, 0 if all quantities are finite. Each quantity has its own bit, in the order
      of :func:`nonfinite_names`.
    """
    ordered = [terms[name] for name in sorted(terms)]
    finite = [*(jnp.isfinite(value) for value in (loss, *ordered, gradient_norm)), sound]
    # No two quantities share a bit, so the sum of the bits keeps all of them.
    bits = [jnp.where(is_finite, 0, 1 << i).astype(jnp.int32) for i, is_finite in enumerate(finite)]
    return sum(bits, start=jnp.int32(0))


def nonfinite_names(guard: Guard, terms: Iterable[str]) -> list[str]:
    """Names the quantities that were not finite in the last skipped step."""
    names = ("loss", *sorted(terms), "gradient", "update")
    return [name for i, name in enumerate(names) if int(guard.nonfinite) >> i & 1]


def all_finite(tree: Any) -> jax.Array:
    """Whether all floating-point numbers of a tree are finite; True if it has none."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    if not floats:
        return jnp.bool_(True)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))


def _next_guard(guard: Guard, nonfinite: jax.Array, stopped: jax.Array) -> Guard:
    bad = (nonfinite != 0) & ~stopped
    return Guard(
        skipped=guard.skipped + bad,
        consecutive_skips=jnp.where(
            stopped, guard.consecutive_skips, jnp.where(bad, guard.consecutive_skips + 1, 0)
        ),
        nonfinite=jnp.where(bad, nonfinite, guard.nonfinite),
    )
