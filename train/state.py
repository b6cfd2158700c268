"""All that an update reads, writes and reports."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from train.balancing import Terms
from train.data.batch import Pair


@flax.struct.dataclass
class Guard:
    """What became of updates that were not finite; see guard.py."""

    skipped: jax.Array  # (), int32: of the whole run
    consecutive_skips: jax.Array  # (), int32: up to now; 0 after each update that was applied
    # (), int32: bit i is set if the i-th quantity of the last skipped step was not finite
    nonfinite: jax.Array


@flax.struct.dataclass
class TrainState:
    """A pytree: the whole of a run between two steps, which is what a checkpoint holds."""

    step: jax.Array  # (), int32: batches seen so far, and so the index of the next one
    params: Any
    batch_stats: Any  # {} for networks without batch norm
    opt_state: optax.OptState
    average: Any  # moving average of params; {} without one
    average_stats: Any  # that of batch_stats, to be used with it; {} without one
    balance: Any  # state of learned loss weights; {} where they are fixed
    guard: Guard

    @property
    def eval_params(self) -> Any:
        """The parameters to run the network with: the average, where there is one."""
        return self.average or self.params

    @property
    def eval_batch_stats(self) -> Any:
        """The batch statistics to run them with. Averaged weights need averaged statistics."""
        return self.average_stats or self.batch_stats


def create_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    *,
    averaged: bool = False,
    balance: Any = None,
) -> TrainState:
    """The state before the first update, from a network's variables."""
    params = variables["params"]
    # Each count is an array of its own: the state is donated to the step, and no buffer can be
    # given away twice.
    step, skipped, consecutive_skips, nonfinite = (jnp.zeros((), jnp.int32) for _ in range(4))
    return TrainState(
        step=step,
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(params),
        average=jax.tree.map(jnp.copy, params) if averaged else {},
        average_stats=jax.tree.map(jnp.copy, variables["batch_stats"]) if averaged else {},
        balance={} if balance is None else balance,
        guard=Guard(skipped=skipped, consecutive_skips=consecutive_skips, nonfinite=nonfinite),
    )


class Metrics(NamedTuple):
    """What an update has to report."""

    step: jax.Array  # of the new state
    loss: jax.Array
    terms: Terms
    weights: Terms  # learned ones
    gradient_norm: jax.Array
    learning_rate: jax.Array
    guard: Guard


Step = Callable[[TrainState, jax.Array | Pair], tuple[TrainState, Metrics]]
