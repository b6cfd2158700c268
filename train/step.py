"""One update. Pure, and knows no device: sharding.py decides where it runs.

Updates are made as a whole or not at all: where the loss, one of its terms, the gradient or anything of the new state
is not finite, parameters, batch statistics, optimizer, average and learned weights all stay what they were, and the
next step takes the next batch. After ``max_skips`` of these in a row the state stands still, for good: the loop, which
reads now and then only, finds it as it was when it stopped.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from lumloss_jax import degradations
from train.balancing import Terms
from train.data.batch import Pair
from train.objective import LEVEL, Objective, Seen
from train.pixels import to_unit_range
from train.state import Guard, TrainState

# One stream of random numbers for each purpose of a run's seed.
INIT_STREAM, NOISE_STREAM, LEVEL_STREAM = 0, 1, 2


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


class Part(NamedTuple):
    """What the network gets of a batch, and what it should give."""

    noisy: jax.Array
    clean: jax.Array
    sigma: jax.Array  # () or [B]


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    sigma: float,
    seed: int,
    blind: bool = False,
    schedule: optax.Schedule = lambda index: 0.0,
    accumulate: int = 1,
    average_decay: float = 0.0,
    max_skips: int = 10,
    axis_name: str | None = None,
) -> Step:
    """step(state, batch) -> (state, metrics): restores, and moves the parameters down the gradient.

    To clean patches fresh noise is added first; a :class:`~train.data.batch.Pair` is taken as it is. Both may come as
    the integers that are stored in files.

    Args:
      model: the network; gives the restored image.
      optimizer: what turns a gradient into an update.
      objective: what the network is to make small.
      sigma: standard deviation of the noise in image units (25/255). The noisy image is not clipped.
      seed: with a sample's number in the run, all that its noise depends on.
      blind: sigma is the highest, and each patch has one of its own, uniform from 0.
      schedule: learning rate of an update, for the log.
      accumulate: parts that a batch goes through the network in, one after the other; their mean gradient is one
        update.
      average_decay: of the state's average of the parameters, where it has one.
      max_skips: updates in a row that may be skipped.
      axis_name: of the mapped axis, where each device gets its share of a batch (jax.pmap, jax.shard_map): all that the
        state becomes is then averaged over it, and is the same on every device. None under jax.jit, whatever the
        shardings: the batch is the whole one. Batch norm takes its statistics over the whole batch where the network
        has this axis name too, else over each device's share.
    """

    def step(state: TrainState, batch: jax.Array | Pair) -> tuple[TrainState, Metrics]:
        part = degrade(state.step, jax.tree.map(to_unit_range, batch))
        # The one sum over devices. Shares are of one size and every loss is a mean over images: the mean of the means.
        loss, seen, batch_stats, gradients = mean_over_devices(gradients_of(state, part))
        gradient_norm = optax.tree.norm(gradients)

        # --- what the update would make of the state
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        made = state.step - state.guard.skipped  # updates so far
        # An average over more updates than there were would be one of initial weights.
        decay = jnp.minimum(average_decay, (1 + made) / (10 + made))
        new = dataclasses.replace(
            state,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            average=jax.tree.map(lambda old, now: old + (1 - decay) * (now - old), state.average, params)
            if state.average
            else state.average,
            balance=objective.update(state.balance, seen),
        )

        # --- whether it is made
        finite = [jnp.isfinite(value) for value in (loss, *(seen.terms[n] for n in sorted(seen.terms)), gradient_norm)]
        culprits = _bits([*finite, _all_finite(new)])
        stopped = state.guard.in_row >= max_skips
        chosen = (culprits == 0) & ~stopped
        guard = _next_guard(state.guard, culprits, stopped)
        kept = jax.tree.map(lambda now, old: jnp.where(chosen, now, old), new, state)
        new_state = dataclasses.replace(kept, step=state.step + jnp.where(stopped, 0, 1), guard=guard)
        rate = jnp.asarray(schedule(made), jnp.float32)
        weights = objective.weights(new_state.balance)
        return new_state, Metrics(new_state.step, loss, seen.terms, weights, gradient_norm, rate, guard)

    def keys_of(stream: int, numbers: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), stream)
        return jax.vmap(functools.partial(jax.random.fold_in, key))(numbers)

    def degrade(index: jax.Array, batch: jax.Array | Pair) -> Part:
        if isinstance(batch, Pair):
            return Part(batch.degraded, batch.clean, jnp.float32(sigma))
        chex.assert_rank(batch, 4)  # (B, H, W, C)
        # A sample's draws are its own, by its number in the run: however batches are divided over devices.
        share, size = jnp.arange(batch.shape[0]), batch.shape[0]
        if axis_name is not None:
            share, size = jax.lax.axis_index(axis_name) * size + share, devices() * size
        numbers = index * size + share
        level = jnp.full(batch.shape[:1], sigma, jnp.float32)
        if blind:
            level = jax.vmap(lambda key: degradations.blind_sigma(key, (), minimum=0.0, maximum=sigma))(
                keys_of(LEVEL_STREAM, numbers)
            )
        noisy = jax.vmap(lambda key, image, level: degradations.gaussian_noise(key, image, sigma=level))(
            keys_of(NOISE_STREAM, numbers), batch, level
        )
        return Part(noisy, batch, level if blind else jnp.float32(sigma))

    def loss_of(params: Any, batch_stats: Any, balance: Any, part: Part) -> tuple[jax.Array, tuple[Seen, Any]]:
        variables = {"params": params, "batch_stats": batch_stats}
        known = part.sigma if model.takes_sigma else None
        restored, updated = model.apply(
            variables, part.noisy, sigma=known, train=True, mutable=["batch_stats", "intermediates"]
        )
        (level,) = updated.get("intermediates", {}).get(LEVEL, (None,))
        loss, seen = objective(balance, restored, part.clean, level=level, sigma=part.sigma)
        if axis_name is not None and seen.norms:
            # A norm over all images' gradients; the loss of the whole batch has each image count less, by the devices.
            squares = mean_over_devices(jax.tree.map(jnp.square, seen.norms))
            seen = seen._replace(norms=jax.tree.map(lambda square: jnp.sqrt(square / devices()), squares))
        return loss, (seen, updated.get("batch_stats", batch_stats))

    def gradients_of(state: TrainState, whole: Part) -> tuple[jax.Array, Seen, Any, Any]:
        differentiate = jax.value_and_grad(loss_of, has_aux=True)
        params, batch_stats, balance = of_each_device((state.params, state.batch_stats, state.balance))
        if accumulate == 1:
            (loss, (seen, batch_stats)), gradients = differentiate(params, batch_stats, balance, whole)
            return loss, seen, batch_stats, gradients

        def one(batch_stats: Any, part: Part) -> tuple[Any, Any]:
            (loss, (seen, batch_stats)), gradients = differentiate(params, batch_stats, balance, part)
            return batch_stats, (loss, seen, gradients)

        def add(carry: Any, part: Part) -> tuple[Any, None]:
            batch_stats, sums = carry
            batch_stats, values = one(batch_stats, part)
            return (batch_stats, jax.tree.map(jnp.add, sums, values)), None

        parts = jax.tree.map(_split(accumulate, whole.clean.shape[0]), whole)
        _, shapes = jax.eval_shape(one, batch_stats, jax.tree.map(lambda x: x[0], parts))
        zeros = of_each_device(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        (batch_stats, sums), _ = jax.lax.scan(add, (batch_stats, zeros), parts)
        loss, seen, gradients = jax.tree.map(lambda x: x / accumulate, sums)
        return loss, seen, batch_stats, gradients

    def devices() -> int:
        return jax.lax.psum(1, axis_name)

    def mean_over_devices(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def of_each_device(tree: Any) -> Any:
        # jax.shard_map sums gradients of what all devices share by itself, and a mean after that changes nothing: they
        # would be too large by the number of devices. To pmap every value is a device's own.
        if axis_name is None:
            return tree
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(tree, axis_name, to="varying")
        return jax.lax.pvary(tree, axis_name)  # type: ignore[attr-defined]  # its name in JAX 0.7

    return step


def culprits_of(guard: Guard, terms: Iterable[str]) -> list[str]:
    """Names of what was not finite in the last skipped step."""
    names = ("loss", *sorted(terms), "gradient", "update")
    return [name for i, name in enumerate(names) if int(guard.culprits) >> i & 1]


def _split(parts: int, batch_size: int) -> Callable[[jax.Array], jax.Array]:
    """[B, ...] -> [parts, B / parts, ...]. Each part takes a share of every device's rows: none of them moves."""

    def split(x: jax.Array) -> jax.Array:
        x = jnp.broadcast_to(x, (batch_size,)) if x.ndim == 0 else x
        return jnp.moveaxis(x.reshape(batch_size // parts, parts, *x.shape[1:]), 1, 0)

    return split


def _bits(finite: list[jax.Array]) -> jax.Array:
    return sum((jnp.where(f, 0, 1 << i).astype(jnp.int32) for i, f in enumerate(finite)), start=jnp.int32(0))


def _all_finite(tree: Any) -> jax.Array:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))


def _next_guard(guard: Guard, culprits: jax.Array, stopped: jax.Array) -> Guard:
    bad = (culprits != 0) & ~stopped
    return Guard(
        skipped=guard.skipped + bad,
        in_row=jnp.where(stopped, guard.in_row, jnp.where(bad, guard.in_row + 1, 0)),
        culprits=jnp.where(bad, culprits, guard.culprits),
    )
