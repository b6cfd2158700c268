"""One update. Pure, and knows no device: sharding.py decides where it runs.

Updates are made as a whole or not at all: where the loss, one of its terms, the gradient or
anything of the new state is not finite, parameters, batch statistics, optimizer, average and
learned weights all stay what they were, and the next step takes the next batch. After ``max_skips``
of these in a row the state stands still, for good: the loop, which reads now and then only, finds
it as it was when it stopped.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from train.balancing import Terms
from train.data.batch import Pair
from train.degradation import Part, degrade
from train.objective import LEVEL, Objective, Seen
from train.pixels import to_unit_range
from train.state import Guard, Metrics, Step, TrainState


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    sigma: float,
    seed: int,
    blind: bool = False,
    low_light: tuple[float, float] | None = None,
    schedule: optax.Schedule = lambda index: 0.0,
    accumulate: int = 1,
    average_decay: float = 0.0,
    max_skips: int = 10,
    axis_name: str | None = None,
    unroll: int = 1,
) -> Step:
    """step(state, batch) -> (state, metrics): restores, and moves the parameters down the gradient.

    Clean patches are degraded afresh first; a :class:`~train.data.batch.Pair` is taken as it is.
    Both may come as the integers that are stored in files.

    Args:
      model: the network; gives the restored image.
      optimizer: what turns a gradient into an update.
      objective: what the network is to make small.
      sigma: standard deviation of the noise in image units (25/255). The noisy image is not
        clipped.
      seed: with a sample's number in the run, all that its noise depends on.
      blind: sigma is the highest, and each patch has one of its own, uniform from 0.
      low_light: darken clean patches instead, as :func:`~train.degradation.degrade` says.
      schedule: learning rate of an update, for the log.
      accumulate: parts that a batch goes through the network in, one after the other; their mean
        gradient is one update.
      average_decay: of the state's averages of parameters and batch statistics, if it has them.
      max_skips: updates in a row that may be skipped.
      axis_name: of the mapped axis, where each device gets its share of a batch (jax.pmap,
        jax.shard_map): all that the state becomes is then averaged over it, and is the same on
        every device. None under jax.jit, whatever the shardings: the batch is the whole one. Batch
        norm takes its statistics over the whole batch where the network has this axis name too,
        else over each device's share.
      unroll: parts in one turn of the loop over them. The update is the same; train/aot.py counts a
        part's cost by it.
    """

    def step(state: TrainState, batch: jax.Array | Pair) -> tuple[TrainState, Metrics]:
        part = part_of(state.step, jax.tree.map(to_unit_range, batch))
        # The one sum over devices. Shares are of one size and every loss is a mean over images: the
        # mean of the means.
        loss, seen, batch_stats, gradients = mean_over_devices(gradients_of(state, part))
        gradient_norm = optax.tree.norm(gradients)

        new = propose(state, optimizer, gradients, batch_stats, average_decay)
        new = dataclasses.replace(new, balance=objective.update(state.balance, seen))
        nonfinite = nonfinite_bits(loss, seen.terms, gradient_norm, all_finite(new))
        new_state = commit(state, new, nonfinite, max_skips=max_skips)
        rate = jnp.asarray(schedule(state.step - state.guard.skipped), jnp.float32)
        weights = objective.weights(new_state.balance)
        return new_state, Metrics(
            new_state.step, loss, seen.terms, weights, gradient_norm, rate, new_state.guard
        )

    def part_of(index: jax.Array, batch: jax.Array | Pair) -> Part:
        size = batch.degraded.shape[0] if isinstance(batch, Pair) else batch.shape[0]
        share = jnp.arange(size)
        if axis_name is not None:
            share, size = jax.lax.axis_index(axis_name) * size + share, devices() * size
        return degrade(
            jax.random.key(seed),
            index * size + share,
            batch,
            sigma=sigma,
            blind=blind,
            low_light=low_light,
        )

    def loss_of(
        params: Any, batch_stats: Any, balance: Any, part: Part
    ) -> tuple[jax.Array, tuple[Seen, Any]]:
        restored, level, batch_stats = restore(model, params, batch_stats, part)
        loss, seen = objective(balance, restored, part.clean, level=level, sigma=part.sigma)
        if axis_name is not None and seen.norms:
            # A norm over all images' gradients; the loss of the whole batch has each image count
            # less, by the devices.
            squares = mean_over_devices(jax.tree.map(jnp.square, seen.norms))
            seen = seen._replace(
                norms=jax.tree.map(lambda square: jnp.sqrt(square / devices()), squares)
            )
        return loss, (seen, batch_stats)

    def gradients_of(state: TrainState, whole: Part) -> tuple[jax.Array, Seen, Any, Any]:
        differentiate = jax.value_and_grad(loss_of, has_aux=True)
        params, batch_stats, balance = of_each_device(
            (state.params, state.batch_stats, state.balance)
        )

        def one(batch_stats: Any, part: Part) -> tuple[Any, Any]:
            (loss, (seen, batch_stats)), gradients = differentiate(
                params, batch_stats, balance, part
            )
            return batch_stats, (loss, seen, gradients)

        if accumulate == 1:
            batch_stats, (loss, seen, gradients) = one(batch_stats, whole)
        else:
            parts = jax.tree.map(split(accumulate, whole.clean.shape[0]), whole)
            batch_stats, (loss, seen, gradients) = in_parts(
                one, batch_stats, parts, of_each_device, unroll
            )
        return loss, seen, batch_stats, gradients

    def devices() -> int:
        return jax.lax.psum(1, axis_name)

    def mean_over_devices(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def of_each_device(tree: Any) -> Any:
        # jax.shard_map sums gradients of what all devices share by itself, and a mean after that
        # changes nothing: they would be too large by the number of devices. To pmap every value is
        # a device's own.
        if axis_name is None:
            return tree
        lax: Any = jax.lax  # pvary is its name in JAX 0.7, pcast since
        return (
            lax.pcast(tree, axis_name, to="varying")
            if hasattr(lax, "pcast")
            else lax.pvary(tree, axis_name)
        )

    return step


def restore(
    model: nn.Module, params: Any, batch_stats: Any, part: Part
) -> tuple[jax.Array, jax.Array | None, Any]:
    """What a network makes of a part, the noise level that it saw if it tells one, and its new batch statistics."""
    variables = {"params": params, "batch_stats": batch_stats}
    known = part.sigma if model.takes_sigma else None
    restored, updated = model.apply(
        variables, part.noisy, sigma=known, train=True, mutable=["batch_stats", "intermediates"]
    )
    (level,) = updated.get("intermediates", {}).get(LEVEL, (None,))
    return restored, level, updated.get("batch_stats", batch_stats)


def split(parts: int, batch_size: int) -> Callable[[jax.Array], jax.Array]:
    """[B, ...] -> [parts, B / parts, ...]. Each part takes a share of every device's rows: none of them moves."""

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.broadcast_to(x, (batch_size,)) if x.ndim == 0 else x
        return jnp.moveaxis(x.reshape(batch_size // parts, parts, *x.shape[1:]), 1, 0)

    return cut


def in_parts(
    one: Callable[[Any, Part], tuple[Any, Any]],
    batch_stats: Any,
    parts: Part,
    cast: Callable[[Any], Any] = lambda x: x,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """``one(batch_stats, part) -> (batch_stats, values)`` for parts one after the other; the means of its values.

    ``cast`` is what the sums' zeros pass, for mapped axes; ``unroll``: parts in one turn of the
    loop.
    """

    def add(carry: Any, part: Part) -> tuple[Any, None]:
        batch_stats, sums = carry
        batch_stats, values = one(batch_stats, part)
        return (batch_stats, jax.tree.map(jnp.add, sums, values)), None

    _, shapes = jax.eval_shape(one, batch_stats, jax.tree.map(lambda x: x[0], parts))
    zeros = cast(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    # Or what makes the parts would be fused into what uses them, and be counted again for each
    if unroll > 1:
        batch_stats, zeros, parts = jax.lax.optimization_barrier((batch_stats, zeros, parts))
    (batch_stats, sums), _ = jax.lax.scan(add, (batch_stats, zeros), parts, unroll=unroll)
    return batch_stats, jax.tree.map(lambda x: x / parts.clean.shape[0], sums)


def propose(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    gradients: Any,
    batch_stats: Any,
    average_decay: float,
) -> TrainState:
    """What the update would make of the state; of learned loss weights it knows nothing."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    made = state.step - state.guard.skipped  # updates so far
    # An average over more updates than there were would be one of initial weights.
    decay = jnp.minimum(average_decay, (1 + made) / (10 + made))

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


def should_apply(guard: Guard, nonfinite: jax.Array, max_skips: int) -> jax.Array:
    """Whether an update is made: everything is finite, and not too many before it were skipped in a row."""
    return (nonfinite == 0) & (guard.consecutive_skips < max_skips)


def commit(
    state: TrainState, new: TrainState, nonfinite: jax.Array, *, max_skips: int
) -> TrainState:
    """The new state where the update is made, else the old one; step and guard count either way."""
    chosen, stopped = (
        should_apply(state.guard, nonfinite, max_skips),
        state.guard.consecutive_skips >= max_skips,
    )
    kept = jax.tree.map(lambda now, old: jnp.where(chosen, now, old), new, state)
    guard = _next_guard(state.guard, nonfinite, stopped)
    return dataclasses.replace(kept, step=state.step + jnp.where(stopped, 0, 1), guard=guard)


def nonfinite_bits(
    loss: jax.Array, terms: Terms, gradient_norm: jax.Array, sound: jax.Array
) -> jax.Array:
    """What is not finite, a bit each in the order of :func:`nonfinite_names`; ``sound``: whether the new state is."""
    finite = [
        jnp.isfinite(value)
        for value in (loss, *(terms[name] for name in sorted(terms)), gradient_norm)
    ]
    return sum(
        (jnp.where(f, 0, 1 << i).astype(jnp.int32) for i, f in enumerate([*finite, sound])),
        start=jnp.int32(0),
    )


def nonfinite_names(guard: Guard, terms: Iterable[str]) -> list[str]:
    """Names of what was not finite in the last skipped step."""
    names = ("loss", *sorted(terms), "gradient", "update")
    return [name for i, name in enumerate(names) if int(guard.nonfinite) >> i & 1]


def all_finite(tree: Any) -> jax.Array:
    """Whether all floating-point numbers of a tree are finite; of one that has none, yes."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return (
        jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))
        if floats
        else jnp.bool_(True)
    )


def _next_guard(guard: Guard, nonfinite: jax.Array, stopped: jax.Array) -> Guard:
    bad = (nonfinite != 0) & ~stopped
    return Guard(
        skipped=guard.skipped + bad,
        consecutive_skips=jnp.where(
            stopped, guard.consecutive_skips, jnp.where(bad, guard.consecutive_skips + 1, 0)
        ),
        nonfinite=jnp.where(bad, nonfinite, guard.nonfinite),
    )
