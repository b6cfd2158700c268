"""All that an update reads and writes."""

from typing import Any

import flax.linen as nn
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


def create_state(model: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """A fresh state; the parameters do not depend on the size of the image they are made with."""
    variables = model.init(key, jnp.zeros((1, 16, 16, 3), jnp.float32))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )
