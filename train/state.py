"""All that an update reads and writes."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """A pytree: the whole of a run between two steps, which is what a checkpoint holds."""

    step: jax.Array  # (), int32: updates made so far, and so the index of the next batch
    params: Any
    batch_stats: Any  # {} for networks without batch norm
    opt_state: optax.OptState


def create_state(variables: Mapping[str, Any], optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update, from a network's variables."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )
