"""One update of several networks at once, which differ in loss, seed, learning rate and clipping and in nothing else.

The network and its optimizer are mapped over the members (:func:`jax.vmap`): parameters, batch
statistics and moments have them as their first axis. Losses differ in what they compute and in what
they learn, so each is taken by itself, as plain Python on its member's slice, and the sum of all is
differentiated: no member's gradient depends on another's. What is clipped, skipped and averaged is
so for each member by its own numbers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.assembly import objective_of
from train.config import FitConfig
from train.data.batch import Pair
from train.network import build_model
from train.objective import Seen
from train.optimizer import make_schedule, make_unclipped
from train.pixels import to_unit_range
from train.state import Metrics, TrainState
from train.step import (
    Part,
    all_finite,
    commit,
    degrade,
    in_parts,
    nonfinite_bits,
    propose,
    restore,
    should_apply,
    split,
)


@flax.struct.dataclass
class Population:
    """The states of all members."""

    states: TrainState  # each array has the members as its first axis; without learned loss weights and clipping
    balances: tuple[Any, ...]  # the state of each member's learned loss weights


# Losses, what they saw, batch statistics and gradients, of each member.
Values = tuple[jax.Array, tuple[Seen, ...], Any, Any]

PopulationStep = Callable[[Population, jax.Array | Pair], tuple[Population, tuple[Metrics, ...]]]


def seeds_of(configs: Sequence[FitConfig]) -> list[int]:
    """The members' different seeds, sorted: the first axis of a population's batches."""
    return sorted({config.seed for config in configs})


def join(states: Sequence[TrainState], configs: Sequence[FitConfig]) -> Population:
    """The population of these members, whose states are as ``fit`` has them."""
    inner = [
        state.opt_state
        if config.optimizer.clip_norm is None
        else state.opt_state[1]  # clipping has no state
        for state, config in zip(states, configs, strict=True)
    ]
    bare = [
        dataclasses.replace(s, balance={}, opt_state=o) for s, o in zip(states, inner, strict=True)
    ]
    return Population(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *bare), tuple(s.balance for s in states)
    )


def member_of(population: Population, index: int, config: FitConfig) -> TrainState:
    """One member's state as ``fit`` has it: what :func:`join` was given."""
    state = jax.tree.map(lambda leaf: leaf[index], population.states)
    clipped = config.optimizer.clip_norm is not None
    opt_state = (optax.EmptyState(), state.opt_state) if clipped else state.opt_state
    return dataclasses.replace(state, balance=population.balances[index], opt_state=opt_state)


def make_population_step(configs: Sequence[FitConfig]) -> PopulationStep:
    """step(population, batches) -> (population, metrics of each member): what each member's own step would do.

    Batches have the sorted seeds as their first axis: members of one seed see the same patches
    under the same noise, and start from the same weights.
    """
    shared, seeds = configs[0], seeds_of(configs)
    if len({repr(_alike(config)) for config in configs}) > 1:
        raise ValueError(
            "members of a population differ in loss, seed, learning rate, clipping and folder only."
        )
    model = build_model(shared.model.model, shared.model.dtype)
    objectives = [objective_of(config.model) for config in configs]
    schedules = [make_schedule(config.optimizer) for config in configs]
    rows = np.array([seeds.index(config.seed) for config in configs])
    # A norm beyond which nothing is clipped, where a member asks for none.
    norms = [math.inf if c.optimizer.clip_norm is None else c.optimizer.clip_norm for c in configs]
    most = np.array(norms, np.float32)
    accumulate, max_skips = shared.optimizer.accumulate, shared.optimizer.max_skips

    def step(
        population: Population, batches: jax.Array | Pair
    ) -> tuple[Population, tuple[Metrics, ...]]:
        states = population.states
        whole = parts_of(jnp.max(states.step), jax.tree.map(to_unit_range, batches))
        losses, seen, batch_stats, gradients = sound_gradients_of(population, whole)
        gradient_norms = jax.vmap(optax.tree.norm)(gradients)

        # --- what the updates would make of the states
        made = states.step - states.guard.skipped
        rates = jnp.stack([jnp.asarray(f(made[i]), jnp.float32) for i, f in enumerate(schedules)])
        proposed = jax.vmap(proposed_by)(states, gradients, batch_stats, rates, jnp.asarray(most))
        balances = tuple(
            f.update(b, s) for f, b, s in zip(objectives, population.balances, seen, strict=True)
        )

        # --- whether they are made
        sound = jax.vmap(all_finite)(proposed)
        nonfinite = jnp.stack(
            [
                nonfinite_bits(
                    losses[i], seen[i].terms, gradient_norms[i], sound[i] & all_finite(balances[i])
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
                losses[i],
                seen[i].terms,
                objectives[i].weights(kept[i]),
                gradient_norms[i],
                rates[i],
                jax.tree.map(lambda leaf, i=i: leaf[i], new.guard),
            )
            for i in range(len(configs))
        )
        return Population(new, kept), metrics

    def parts_of(index: jax.Array, batches: jax.Array | Pair) -> Part:
        size = jax.tree.leaves(batches)[0].shape[1]
        data = shared.data
        degraded = functools.partial(
            degrade, sigma=data.sigma / 255, blind=data.blind, low_light=data.low_light
        )
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        parts = jax.vmap(degraded, in_axes=(0, None, 0))(
            keys, index * size + jnp.arange(size), batches
        )
        return jax.tree.map(lambda leaf: leaf[rows], parts)

    def total_of(
        params: Any, batch_stats: Any, balances: tuple[Any, ...], part: Part
    ) -> tuple[jax.Array, tuple[jax.Array, tuple[Seen, ...], Any]]:
        restored, levels, batch_stats = jax.vmap(functools.partial(restore, model))(
            params, batch_stats, part
        )
        taken = [
            objective(
                balances[i],
                restored[i],
                part.clean[i],
                level=None if levels is None else levels[i],
                sigma=part.sigma[i],
            )
            for i, objective in enumerate(objectives)
        ]
        losses = jnp.stack([loss for loss, _ in taken])
        return jnp.sum(losses), (losses, tuple(seen for _, seen in taken), batch_stats)

    def sound_gradients_of(population: Population, whole: Part) -> Values:
        """The gradients; where any of them, or a loss, is not finite, those of each member made again by itself.

        Mapped over members a convolution is one of groups, and XLA makes some of these of dense
        ones with zeros between groups: NaN times zero, one member's would be everyone's, and whose
        it was cannot be seen any more. So all but one are zeros then, weights and patches. Members
        that stand still for good take no part, and get NaN.
        """
        number = jnp.arange(len(configs))
        going = population.states.guard.consecutive_skips < max_skips

        def attempt(
            carry: tuple[jax.Array, jax.Array, Values],
        ) -> tuple[jax.Array, jax.Array, Values]:
            tried, _, before = carry
            chosen = going & ((tried == 0) | (number == tried - 1))

            def of_chosen(now: Any, old: Any) -> Any:
                return jax.tree.map(
                    lambda x, y: jnp.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), x, y), now, old
                )

            def alone(tree: Any) -> Any:
                return of_chosen(tree, jax.tree.map(jnp.zeros_like, tree))

            states = dataclasses.replace(population.states, params=alone(population.states.params))
            losses, seen, batch_stats, gradients = gradients_of(
                dataclasses.replace(population, states=states), alone(whole)
            )
            values = (
                of_chosen(losses, before[0]),
                tuple(
                    jax.tree.map(functools.partial(jnp.where, chosen[i]), now, old)
                    for i, (now, old) in enumerate(zip(seen, before[1], strict=True))
                ),
                of_chosen(batch_stats, before[2]),
                of_chosen(gradients, before[3]),
            )
            finite = jnp.isfinite(values[0]) & jax.vmap(all_finite)(values[3])
            return tried + 1, jnp.all(finite | ~going), values

        def unfinished(carry: tuple[jax.Array, jax.Array, Values]) -> jax.Array:
            tried, finite, _ = carry
            return (tried == 0) | (~finite & (tried <= len(configs)))

        shapes = jax.eval_shape(gradients_of, population, whole)
        nothing = jax.tree.map(
            lambda x: jnp.full(x.shape, jnp.nan if x.dtype.kind == "f" else 0, x.dtype), shapes
        )
        _, _, values = jax.lax.while_loop(
            unfinished, attempt, (jnp.int32(0), jnp.bool_(False), nothing)
        )
        return values

    def gradients_of(population: Population, whole: Part) -> Values:
        states = population.states

        def one(batch_stats: Any, part: Part) -> tuple[Any, Any]:
            differentiate = jax.value_and_grad(total_of, has_aux=True)
            (_, (losses, seen, batch_stats)), gradients = differentiate(
                states.params, batch_stats, population.balances, part
            )
            return batch_stats, (losses, seen, gradients)

        if accumulate == 1:
            batch_stats, values = one(states.batch_stats, whole)
        else:
            cut = jax.vmap(split(accumulate, whole.clean.shape[1]), out_axes=1)
            batch_stats, values = in_parts(one, states.batch_stats, jax.tree.map(cut, whole))
        losses, seen, gradients = values
        return losses, seen, batch_stats, gradients

    def proposed_by(
        state: TrainState, gradients: Any, batch_stats: Any, rate: jax.Array, most: jax.Array
    ) -> TrainState:
        optimizer = optax.chain(
            optax.clip_by_global_norm(most), make_unclipped(shared.optimizer, lambda count: rate)
        )
        clipped = dataclasses.replace(state, opt_state=(optax.EmptyState(), state.opt_state))
        new = propose(clipped, optimizer, gradients, batch_stats, shared.optimizer.ema)
        return dataclasses.replace(new, opt_state=new.opt_state[1])

    return step


def _alike(config: FitConfig) -> FitConfig:
    """What members have in common."""
    return dataclasses.replace(
        config,
        seed=0,
        model=dataclasses.replace(config.model, loss="l1", balance="none"),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1.0, clip_norm=None),
        run=dataclasses.replace(config.run, out=None, resume=None),
    )
