"""One update. Pure, and knows no device: sharding.py decides where it runs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import optax

from lumloss_jax import degradations
from train.data.batch import Pair
from train.objective import Objective
from train.state import TrainState

Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, jax.Array | Pair], tuple[TrainState, Metrics]]

# One stream of random numbers for each purpose of a run's seed.
INIT_STREAM, NOISE_STREAM = 0, 1


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    sigma: float,
    seed: int,
) -> Step:
    """step(state, batch) -> (state, metrics): restores, and moves the parameters down the gradient.

    To clean patches fresh noise is added first; a :class:`~train.data.batch.Pair` is taken as it is.

    Args:
      model: the network; gives the restored image.
      optimizer: what turns a gradient into an update.
      objective: (restored, clean) -> (loss, terms).
      sigma: standard deviation of the noise in image units (25/255). The noisy image is not clipped.
      seed: with the step's number, all that the noise depends on.
    """
    known = sigma if model.takes_sigma else None

    def step(state: TrainState, batch: jax.Array | Pair) -> tuple[TrainState, Metrics]:
        if isinstance(batch, Pair):
            noisy, clean = batch
        else:
            clean = batch
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), NOISE_STREAM), state.step)
            noisy = degradations.gaussian_noise(key, clean, sigma=sigma)
        chex.assert_rank([noisy, clean], 4)  # (B, H, W, C)

        def loss_of(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            restored, updated = model.apply(variables, noisy, sigma=known, train=True, mutable=["batch_stats"])
            loss, terms = objective(restored, clean)
            return loss, (terms, updated.get("batch_stats", state.batch_stats))

        (loss, (terms, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return new_state, {"loss": loss, **terms, "gradient_norm": optax.tree.norm(gradients)}

    return step
