"""Everything that an update reads, writes and reports."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from train.balancing.learned_weights import Terms
from train.data.batch import Pair


@flax.struct.dataclass
class Guard:
    """Counts of skipped updates, which were not finite. guard.py explains them."""

    skipped: jax.Array  # (), int32: skipped updates in the whole run
    consecutive_skips: jax.Array  # (), int32: skipped updates since the last applied one
    # (), int32: bit i is set if the i-th quantity of the last skipped step was not finite
    nonfinite: jax.Array


@flax.struct.dataclass
class TrainState:
    """A pytree with everything that a run needs between two steps. Checkpoints contain it."""

    step: jax.Array  # (), int32: number of batches so far, which is the index of the next batch
    params: Any
    batch_stats: Any  # {} for networks without batch norm
    opt_state: optax.OptState
    average: Any  # moving average of params; {} without one
    average_stats: Any  # moving average of batch_stats; {} without one
    balance: Any  # state of learned loss weights; {} if they are fixed
    guard: Guard

    @property
    def eval_params(self) -> Any:
        """The parameters to evaluate: the average, if there is one."""
        return self.average or self.params

    @property
    def eval_batch_stats(self) -> Any:
        """The batch statistics for :attr:`eval_params`. An average needs averaged statistics."""
        return self.average_stats or self.batch_stats


def create_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    *,
    averaged: bool = False,
    balance: Any = None,
) -> TrainState:
    """Makes the state before the first update from a network's variables.

    Args:
      variables: "params" and "batch_stats", as :func:`train.network.init_variables` makes them.
      optimizer: the optimizer whose state is kept.
      averaged: keep a moving average of parameters and batch statistics.
      balance: state of learned loss weights; None if they are fixed.

    Returns:
      The state.
    """
    params = variables["params"]
    # Each count is a separate array, because the state is donated to the step, and a buffer can be
    # donated only once.
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
    """What an update reports. All values are scalars."""

    step: jax.Array  # the new state's step
    loss: jax.Array
    terms: Terms
    weights: Terms  # learned weights of the terms
    gradient_norm: jax.Array  # global L2 norm, before clipping
    learning_rate: jax.Array
    guard: Guard


Step = Callable[[TrainState, jax.Array | Pair], tuple[TrainState, Metrics]]
