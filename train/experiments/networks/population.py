"""One update of several networks that differ only in loss, seed, learning rate and clipping.

The network and its optimizer are mapped over the members (:func:`jax.vmap`): parameters, batch
statistics and moments have the members as their first axis. Losses differ in what they compute and
in what they learn, so each is computed separately, as plain Python on its member's slice. Their sum
is differentiated; no member's gradient depends on another member. Clipping, skipping and averaging
are done for each member by its own numbers.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.assembly import objective_of
from train.balancing.aggregation import gradients_of_parts
from train.config import FitConfig
from train.data.batch import Pair
from train.degradation import DegradedBatch, degrade
from train.experiments.networks.finite_gradients import Gradients, retry_alone
from train.guard import all_finite, commit, nonfinite_bits, should_apply
from train.network import build_model
from train.objective import ObjectiveValues
from train.optimizer import make_schedule, make_unclipped
from train.pixels import to_unit_range
from train.state import Metrics, TrainState
from train.step import accumulate_means, forward, microbatches, propose

_NO_CLIPPING = math.inf  # a norm that no gradient exceeds


@flax.struct.dataclass
class Population:
    """The states of all members."""

    # Each array has the members as its first axis. Learned loss weights and clipping are left out.
    states: TrainState
    balances: tuple[Any, ...]  # the state of each member's learned loss weights


PopulationStep = Callable[[Population, jax.Array | Pair], tuple[Population, tuple[Metrics, ...]]]


def seeds_of(configs: Sequence[FitConfig]) -> list[int]:
    """The different seeds of the members, sorted: the first axis of a population's batches."""
    return sorted({config.seed for config in configs})


def join(states: Sequence[TrainState], configs: Sequence[FitConfig]) -> Population:
    """Joins members into a population, from states in the form that ``fit`` uses."""
    bare = []
    for state, config in zip(states, configs, strict=True):
        clipped = config.optimizer.clip_norm is not None
        # Clipping has no state, only a position in the chain.
        opt_state = state.opt_state[1] if clipped else state.opt_state
        bare.append(dataclasses.replace(state, balance={}, opt_state=opt_state))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *bare)
    return Population(stacked, tuple(state.balance for state in states))


def member_of(population: Population, index: int, config: FitConfig) -> TrainState:
    """Takes one member's state out of a population; this undoes :func:`join`.

    Args:
      population: all members.
      index: index of the member, in the order of :func:`join`.
      config: configuration of the member.

    Returns:
      The state in the form that ``fit`` uses.
    """
    state = jax.tree.map(lambda leaf: leaf[index], population.states)
    clipped = config.optimizer.clip_norm is not None
    opt_state = (optax.EmptyState(), state.opt_state) if clipped else state.opt_state
    return dataclasses.replace(state, balance=population.balances[index], opt_state=opt_state)


def make_population_step(configs: Sequence[FitConfig]) -> PopulationStep:
    """Makes the step that updates each member exactly as its own step would.

    It is ``step(population, batches) -> (population, metrics of each member)``. Batches have the
    sorted seeds as their first axis: members with the same seed see the same patches with the same
    noise, and start from the same weights.
    """
    shared, seeds = configs[0], seeds_of(configs)
    if len({repr(_alike(config)) for config in configs}) > 1:
        raise ValueError(
            "Members of a population may differ only in loss, seed, learning rate, clipping and "
            "folder; these differ in more. Train them separately."
        )
    model = build_model(shared.model.model, dtype=shared.model.dtype)
    objectives = [objective_of(config.model) for config in configs]
    schedules = [make_schedule(config.optimizer) for config in configs]
    batch_of_member = np.array([seeds.index(config.seed) for config in configs])
    clip_norms = np.array(
        [
            _NO_CLIPPING if config.optimizer.clip_norm is None else config.optimizer.clip_norm
            for config in configs
        ],
        np.float32,
    )
    accumulate, max_skips = shared.optimizer.accumulate, shared.optimizer.max_skips

    def step(
        population: Population, batches: jax.Array | Pair
    ) -> tuple[Population, tuple[Metrics, ...]]:
        states = population.states
        degraded = degraded_batches(jnp.max(states.step), jax.tree.map(to_unit_range, batches))

        # --- gradients
        def gradients_of_some(params: Any, some: DegradedBatch) -> Gradients:
            shown = dataclasses.replace(states, params=params)
            return gradients_of(dataclasses.replace(population, states=shown), some)

        standing_still = states.guard.consecutive_skips >= max_skips
        found = retry_alone(gradients_of_some, states.params, degraded, ~standing_still)
        gradients, values = combined(found, states.step)
        gradient_norms = jax.vmap(optax.tree.norm)(gradients)

        # --- proposed states
        applied = states.step - states.guard.skipped
        rates = jnp.stack(
            [jnp.asarray(rate(applied[i]), jnp.float32) for i, rate in enumerate(schedules)]
        )
        proposed = jax.vmap(propose_clipped)(
            states, gradients, found.batch_stats, rates, jnp.asarray(clip_norms)
        )
        balances = tuple(
            objective.update(balance, own)
            for objective, balance, own in zip(objectives, population.balances, values, strict=True)
        )

        # --- updates are applied where they are sound
        sound = jax.vmap(all_finite)(proposed)
        nonfinite = jnp.stack(
            [
                nonfinite_bits(
                    found.losses[i],
                    found.values[i].terms,
                    gradient_norms[i],
                    sound[i] & all_finite(balances[i]),
                )
                for i in range(len(configs))
            ]
        )
        new = jax.vmap(functools.partial(commit, max_skips=max_skips))(states, proposed, nonfinite)
        chosen = should_apply(states.guard, nonfinite, max_skips)
        kept = tuple(
            jax.tree.map(functools.partial(jnp.where, chosen[i]), now, old)
            for i, (now, old) in enumerate(zip(balances, population.balances, strict=True))
        )
        metrics = tuple(
            Metrics(
                new.step[i],
                found.losses[i],
                found.values[i].terms,
                objectives[i].weights(kept[i]),
                gradient_norms[i],
                rates[i],
                jax.tree.map(lambda leaf, i=i: leaf[i], new.guard),
            )
            for i in range(len(configs))
        )
        return Population(new, kept), metrics

    def degraded_batches(index: jax.Array, batches: jax.Array | Pair) -> DegradedBatch:
        size = jax.tree.leaves(batches)[0].shape[1]
        data = shared.data
        degraded = functools.partial(
            degrade, sigma=data.sigma / 255, blind=data.blind, low_light=data.low_light
        )
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        of_seeds = jax.vmap(degraded, in_axes=(0, None, 0))(
            keys, index * size + jnp.arange(size), batches
        )
        return jax.tree.map(lambda leaf: leaf[batch_of_member], of_seeds)

    def parts_of(
        params: Any, *, batch_stats: Any, balances: tuple[Any, ...], batch: DegradedBatch
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, tuple[ObjectiveValues, ...], Any]]:
        restored, levels, batch_stats = jax.vmap(functools.partial(forward, model))(
            params, batch_stats, batch
        )
        taken = [
            objective(
                balances[i],
                restored[i],
                batch.clean[i],
                level=None if levels is None else levels[i],
                sigma=batch.sigma[i],
            )
            for i, objective in enumerate(objectives)
        ]
        losses = jnp.stack([loss for loss, _ in taken])
        # The i-th scalar sums the i-th part of every loss that has one. Most losses have one part.
        parts = [objectives[i].parts(*values) for i, values in enumerate(taken)]
        layers = itertools.zip_longest(*parts)
        sums = tuple(
            jnp.sum(jnp.stack([part for part in layer if part is not None])) for layer in layers
        )
        return sums, (losses, tuple(values for _, values in taken), batch_stats)

    def gradients_of(population: Population, whole: DegradedBatch) -> Gradients:
        states = population.states

        def one(batch_stats: Any, batch: DegradedBatch) -> tuple[Any, Any]:
            of_params = functools.partial(
                parts_of, batch_stats=batch_stats, balances=population.balances, batch=batch
            )
            (losses, values, batch_stats), gradients = gradients_of_parts(of_params, states.params)
            return batch_stats, (losses, values, gradients)

        if accumulate == 1:
            batch_stats, found = one(states.batch_stats, whole)
        else:
            divided = jax.vmap(
                lambda batch: microbatches(batch, accumulate, whole.clean.shape[1]), out_axes=1
            )(whole)
            batch_stats, found = accumulate_means(one, states.batch_stats, divided)
        losses, values, gradients = found
        return Gradients(losses, values, batch_stats, gradients)

    def combined(found: Gradients, steps: jax.Array) -> tuple[Any, tuple[ObjectiveValues, ...]]:
        """Makes one gradient for each member of the gradients of its loss's parts."""
        if len(found.gradients) == 1:
            return found.gradients[0], found.values
        taken = []
        for i, objective in enumerate(objectives):
            # A member whose loss has fewer parts than others has no use for the last gradients.
            count = len(objective.parts(found.losses[i], found.values[i]))
            parts = jax.tree.map(lambda leaf, i=i: leaf[i], found.gradients[:count])
            key = jax.random.key(configs[i].seed)
            taken.append(objective.combine(parts, found.values[i], key=key, index=steps[i]))
        gradients = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(g for g, _ in taken))
        return gradients, tuple(values for _, values in taken)

    def propose_clipped(
        state: TrainState, gradients: Any, batch_stats: Any, rate: jax.Array, clip_norm: jax.Array
    ) -> TrainState:
        optimizer = optax.chain(
            optax.clip_by_global_norm(clip_norm),
            make_unclipped(shared.optimizer, lambda count: rate),
        )
        clipped = dataclasses.replace(state, opt_state=(optax.EmptyState(), state.opt_state))
        new = propose(clipped, optimizer, gradients, batch_stats, shared.optimizer.ema)
        return dataclasses.replace(new, opt_state=new.opt_state[1])

    return step


def _alike(config: FitConfig) -> FitConfig:
    """A configuration reduced to what all members must have in common."""
    return dataclasses.replace(
        config,
        seed=0,
        model=dataclasses.replace(config.model, loss="l1", balance="none", init_from=None),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1.0, clip_norm=None),
        run=dataclasses.replace(config.run, out=None, resume=None),
    )
