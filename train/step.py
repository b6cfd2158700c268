"""One update, as a pure function. It does not know devices: sharding.py decides where it runs."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from train.balancing.aggregation import gradients_of_parts
from train.data.batch import Pair
from train.degradation import DegradedBatch, degrade
from train.guard import all_finite, commit, nonfinite_bits
from train.objective import LEVEL, Objective, ObjectiveValues
from train.pixels import to_unit_range
from train.state import Metrics, Step, TrainState


class AcrossDevices:
    """What a step must know about devices. This class is for jax.jit, one program for all devices.

    There the step always sees the whole batch, for any sharding, and has nothing to do. A step that
    is mapped over an axis uses a subclass (:class:`train.pmap.MappedAxis`).
    """

    axis_name: str | None = None

    def rows(self, size: int) -> tuple[jax.Array, jax.Array | int]:
        """Returns the indices of this device's ``size`` rows, and the rows of the whole batch."""
        return jnp.arange(size), size

    def mean(self, tree: Any) -> Any:
        """Computes the mean of every array over the devices."""
        return tree

    def norm(self, tree: Any) -> Any:
        """Computes norms over the whole batch from the norms over each device's share."""
        return tree

    def own(self, tree: Any) -> Any:
        """Marks arrays as different on each device, so that their gradients are not summed."""
        return tree


ONE_PROGRAM = AcrossDevices()


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    sigma: float,
    seed: int | jax.Array,
    blind: bool = False,
    low_light: tuple[float, float] | None = None,
    schedule: optax.Schedule = lambda index: 0.0,
    accumulate: int = 1,
    average_decay: float = 0.0,
    max_skips: int = 10,
    across: AcrossDevices = ONE_PROGRAM,
    unroll: int = 1,
) -> Step:
    """Makes ``step(state, batch) -> (state, metrics)``, which follows the gradient downwards.

    Clean patches are degraded first, differently in each step. A :class:`~train.data.batch.Pair` is
    used as it is. Both may contain the integers that files store.

    Args:
      model: the network, which returns the restored image.
      optimizer: turns a gradient into an update.
      objective: what the network is trained to minimise.
      sigma: standard deviation of the noise in image units (25/255). The noisy image is not
        clipped.
      seed: seed of the noise, or its random key. The noise of a sample depends on it and on the
        sample's number in the run, and on nothing else.
      blind: give each patch its own standard deviation, drawn uniformly from 0 to ``sigma``.
      low_light: darken clean patches instead, as :func:`~train.degradation.degrade` describes.
      schedule: learning rate of an update, for the log.
      accumulate: number of microbatches that a batch is divided into. They go through the network
        one after the other, and their mean gradient makes one update.
      average_decay: decay of the averages of parameters and batch statistics, if the state has
        them.
      max_skips: number of updates in a row that may be skipped.
      across: how results of several devices are combined. The state is then the same on every
        device. Batch norm uses the statistics of the whole batch if the network has the axis's name
        too, and otherwise those of each device's share.
      unroll: number of microbatches in one iteration of the loop over them. It does not change the
        update. train/compilation/aot.py uses it to count the cost of a microbatch.

    Returns:
      The step, a pure function.
    """

    def step(state: TrainState, batch: jax.Array | Pair) -> tuple[TrainState, Metrics]:
        degraded = degraded_batch(state.step, jax.tree.map(to_unit_range, batch))
        # This is the only sum over devices. All shares have the same size, and every loss is a mean
        # over images, so the mean of the shares' means is the mean over the batch.
        loss, values, batch_stats, parts = across.mean(gradients_of(state, degraded))
        gradients, values = objective.combine(parts, values, key=run_key(), index=state.step)
        gradient_norm = optax.tree.norm(gradients)

        new = propose(state, optimizer, gradients, batch_stats, average_decay)
        new = dataclasses.replace(new, balance=objective.update(state.balance, values))
        nonfinite = nonfinite_bits(loss, values.terms, gradient_norm, all_finite(new))
        new_state = commit(state, new, nonfinite, max_skips=max_skips)
        rate = jnp.asarray(schedule(state.step - state.guard.skipped), jnp.float32)
        weights = objective.weights(new_state.balance)
        return new_state, Metrics(
            new_state.step, loss, values.terms, weights, gradient_norm, rate, new_state.guard
        )

    def run_key() -> jax.Array:
        return jax.random.key(seed) if isinstance(seed, int) else seed

    def degraded_batch(index: jax.Array, batch: jax.Array | Pair) -> DegradedBatch:
        here = batch.degraded.shape[0] if isinstance(batch, Pair) else batch.shape[0]
        rows, size = across.rows(here)
        return degrade(
            run_key(),
            index * size + rows,
            batch,
            sigma=sigma,
            blind=blind,
            low_light=low_light,
        )

    def parts_of(
        params: Any, *, batch_stats: Any, balance: Any, batch: DegradedBatch
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ObjectiveValues, Any]]:
        restored, level, batch_stats = forward(model, params, batch_stats, batch)
        loss, values = objective(balance, restored, batch.clean, level=level, sigma=batch.sigma)
        if values.norms:
            values = values._replace(norms=across.norm(values.norms))
        return objective.parts(loss, values), (loss, values, batch_stats)

    def gradients_of(
        state: TrainState, whole: DegradedBatch
    ) -> tuple[jax.Array, ObjectiveValues, Any, tuple[Any, ...]]:
        params, batch_stats, balance = across.own((state.params, state.batch_stats, state.balance))

        def one(batch_stats: Any, batch: DegradedBatch) -> tuple[Any, Any]:
            of_params = functools.partial(
                parts_of, batch_stats=batch_stats, balance=balance, batch=batch
            )
            (loss, values, batch_stats), gradients = gradients_of_parts(
                of_params, params, own=across.own
            )
            return batch_stats, (loss, values, gradients)

        if accumulate == 1:
            batch_stats, (loss, values, gradients) = one(batch_stats, whole)
        else:
            batches = microbatches(whole, accumulate, whole.clean.shape[0])
            batch_stats, (loss, values, gradients) = accumulate_means(
                one, batch_stats, batches, own=across.own, unroll=unroll
            )
        return loss, values, batch_stats, gradients

    return step


def forward(
    model: nn.Module, params: Any, batch_stats: Any, batch: DegradedBatch
) -> tuple[jax.Array, jax.Array | None, Any]:
    """Runs a network in training.

    Args:
      model: the network.
      params: its parameters.
      batch_stats: its running batch statistics; {} without batch norm.
      batch: the network's input.

    Returns:
      The restored images, the noise level that the network predicts (None if it predicts none), and
      the new batch statistics.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    known = batch.sigma if model.takes_sigma else None
    restored, updated = model.apply(
        variables, batch.noisy, sigma=known, train=True, mutable=["batch_stats", "intermediates"]
    )
    (level,) = updated.get("intermediates", {}).get(LEVEL, (None,))
    return restored, level, updated.get("batch_stats", batch_stats)


def microbatches(batch: DegradedBatch, count: int, batch_size: int) -> DegradedBatch:
    """Divides a batch: ``[B, ...]`` becomes ``[count, B / count, ...]``.

    Each microbatch gets a share of every device's rows, so no row moves to another device.

    Args:
      batch: the batch. Its noise level may be a scalar.
      count: number of microbatches, which must divide the batch size.
      batch_size: number of rows in the batch.

    Returns:
      All microbatches, stacked.
    """

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.broadcast_to(x, (batch_size,)) if x.ndim == 0 else x
        return jnp.moveaxis(x.reshape(batch_size // count, count, *x.shape[1:]), 1, 0)

    return jax.tree.map(cut, batch)


def accumulate_means(
    one: Callable[[Any, DegradedBatch], tuple[Any, Any]],
    batch_stats: Any,
    batches: DegradedBatch,
    *,
    own: Callable[[Any], Any] = lambda x: x,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """Calls a function for microbatches, one after the other.

    Args:
      one: the function, ``one(batch_stats, batch) -> (batch_stats, values)``.
      batch_stats: batch statistics for the first call. Every other call gets those of the one
        before.
      batches: from :func:`microbatches`.
      own: under a mapped axis, marks the zeros that sums begin with as different on each device.
      unroll: number of microbatches in one iteration of the loop.

    Returns:
      The last batch statistics, and the means of the values.
    """

    def add(carry: Any, batch: DegradedBatch) -> tuple[Any, None]:
        batch_stats, sums = carry
        batch_stats, values = one(batch_stats, batch)
        return (batch_stats, jax.tree.map(jnp.add, sums, values)), None

    _, shapes = jax.eval_shape(one, batch_stats, jax.tree.map(lambda x: x[0], batches))
    zeros = own(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    # Without the barrier, the operations that make the microbatches would be fused into those that
    # use them, and would be counted again for each microbatch.
    if unroll > 1:
        batch_stats, zeros, batches = jax.lax.optimization_barrier((batch_stats, zeros, batches))
    (batch_stats, sums), _ = jax.lax.scan(add, (batch_stats, zeros), batches, unroll=unroll)
    return batch_stats, jax.tree.map(lambda x: x / batches.clean.shape[0], sums)


def propose(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    gradients: Any,
    batch_stats: Any,
    average_decay: float,
) -> TrainState:
    """Computes the state after an update, except for learned loss weights.

    Args:
      state: the state before the update.
      optimizer: turns the gradient into an update.
      gradients: gradients of the parameters.
      batch_stats: the new batch statistics.
      average_decay: decay of the averages after many updates.

    Returns:
      The new state. Its step and guard are still the old ones.
    """
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    applied = state.step - state.guard.skipped  # number of updates so far
    # In the first updates a smaller decay keeps the initial weights from dominating the average.
    decay = jnp.minimum(average_decay, (1 + applied) / (10 + applied))

    # optax.incremental_update adds two products instead, which rounds differently.
    def averaged(old: Any, now: Any) -> Any:
        return jax.tree.map(lambda x, y: x + (1 - decay) * (y - x), old, now) if old else old

    return dataclasses.replace(
        state,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=averaged(state.average, params),
        average_stats=averaged(state.average_stats, batch_stats),
    )
