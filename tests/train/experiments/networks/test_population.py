"""Several networks in one update: each gets what its own update would give it.

The tests share their few compilations.
"""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import step as step_of_one
from train.assembly import assemble
from train.compilation import aot
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig
from train.data.batch import Pair
from train.experiments.networks import population as population_module
from train.experiments.networks.device_groups import TrainingRun, deal
from train.experiments.networks.population import (
    Population,
    join,
    make_population_step,
    member_of,
    seeds_of,
)
from train.guard import nonfinite_names
from train.state import Metrics, TrainState

PLAIN = "dncnn(depth=3, features=4, batch_norm=False)"
NORMED = "dncnn(depth=3, features=4)"
# Three losses with two seeds. Each has its own learning rate, and some have a norm to clip at; one
# of these norms does clip.
LOSSES = {
    "luminance_l1": (0.1, None),
    "mse": (0.05, 0.01),
    "balanced(gradnorm, l1 + mse)": (0.2, 100.0),
}
SEEDS = (3, 8)
# There are only few pixels, because the gradient of a bias is a sum over all of them, which XLA
# adds up in a different order for several members. With 512 pixels this alone makes a difference
# of 1.8e-6 of the gradient's norm.
CLEAN = {seed: np.random.default_rng(seed).random((4, 6, 6, 3), np.float32) for seed in SEEDS}


@functools.cache
def configs(model: str, optimizer: str, **options: Any) -> tuple[FitConfig, ...]:
    shared = {"steps": 20, "warmup_steps": 4, "optimizer": optimizer, "max_skips": 3, **options}
    return tuple(
        FitConfig(
            data=DataConfig(patch_size=6, batch_size=4, blind=True),
            model=ModelConfig(model=model, loss=loss),
            optimizer=OptimizerConfig(learning_rate=rate, clip_norm=clip, **shared),
            seed=seed,
        )
        for seed in SEEDS
        for loss, (rate, clip) in LOSSES.items()
    )


def state_of(config: FitConfig) -> TrainState:
    """The state after some steps.

    Its weights make the gradient of every layer count: a last layer of zeros would pass none on.
    """
    state = assemble(config).fresh_state()
    params = jax.tree.map(
        lambda p: p + 0.01 * jnp.arange(p.size).reshape(p.shape) / p.size, state.params
    )
    average = jax.tree.map(jnp.copy, params) if state.average else {}
    counted = jax.tree.map(lambda leaf: leaf if leaf.ndim else leaf + 2, state.opt_state)
    return state.replace(params=params, average=average, opt_state=counted, step=state.step + 2)


@functools.cache
def step_alone(config: FitConfig) -> tuple[TrainState, Metrics]:
    """The result of one's own step."""
    return jax.device_get(jax.jit(assemble(config).update)(state_of(config), CLEAN[config.seed]))


def stacked(seeds: list[int], **instead: np.ndarray) -> np.ndarray:
    return np.stack([instead.get(f"seed{seed}", CLEAN[seed]) for seed in seeds])


@functools.cache
def at_once(model: str, optimizer: str, **options: Any) -> tuple[Any, Population]:
    held = configs(model, optimizer, **options)
    return jax.jit(make_population_step(held)), join([state_of(config) for config in held], held)


def gradient_of(state: TrainState) -> list[np.ndarray]:
    """The optimizer's first moments: for SGD the gradient itself, for Adam a tenth of it."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(state.params)]
    leaves = [leaf for leaf in jax.tree.leaves(state.opt_state) if np.ndim(leaf)]
    assert [leaf.shape for leaf in leaves[: len(shapes)]] == shapes
    return leaves[: len(shapes)]


def assert_same_step(
    made: tuple[TrainState, Metrics], expected: tuple[TrainState, Metrics], config: FitConfig
) -> None:
    """Checks that gradients agree within 1e-6 of their norm, and everything that follows too."""
    (state, metrics), (own, own_metrics) = jax.device_get(made), expected
    chex.assert_trees_all_equal_structs(state, own)
    chex.assert_trees_all_equal_structs(metrics, own_metrics)
    norm = own_metrics.gradient_norm
    assert abs(metrics.gradient_norm - norm) <= 1e-6 * norm
    first = 1.0 if config.optimizer.optimizer == "sgd" else 0.1
    clip = (
        1.0 if config.optimizer.clip_norm is None else min(1.0, config.optimizer.clip_norm / norm)
    )
    for new, old in zip(gradient_of(state), gradient_of(own), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6 * norm * first * clip)
    rate = float(own_metrics.learning_rate)
    for new, old, moment in zip(
        *map(jax.tree.leaves, (state.params, own.params)), gradient_of(own), strict=True
    ):
        # Adam takes a whole step even for the smallest gradient.
        counts = np.abs(moment) > 1e-3 * norm * first * clip
        np.testing.assert_allclose(
            new[counts], old[counts], rtol=1e-6, atol=1e-3 * rate * min(first * norm * clip, 1)
        )
    chex.assert_trees_all_close(state.batch_stats, own.batch_stats, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(state.average_stats, own.average_stats, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(state.balance, own.balance, rtol=1e-5)
    chex.assert_trees_all_equal(state.guard, own.guard)
    chex.assert_trees_all_close(metrics, own_metrics, rtol=1e-5)


SET_UPS = [
    pytest.param(PLAIN, "sgd", id="plain, sgd", marks=pytest.mark.slow),
    pytest.param(NORMED, "adam", id="batch norm, adam"),
    pytest.param(PLAIN, "adam", id="plain, adam", marks=pytest.mark.slow),
    pytest.param(NORMED, "sgd", id="batch norm, sgd", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("model", "optimizer"), SET_UPS)
def test_every_member_makes_the_step_that_it_would_make_alone(model: str, optimizer: str) -> None:
    step, population = at_once(model, optimizer)
    population, metrics = step(population, stacked(list(SEEDS)))
    for i, config in enumerate(configs(model, optimizer)):
        made = (member_of(population, i, config), metrics[i])
        assert_same_step(made, step_alone(config), config)


@pytest.mark.slow
def test_members_on_separate_devices_make_the_same_step() -> None:
    """Nothing moves between the devices."""
    held = configs(PLAIN, "sgd")
    runs = [TrainingRun(config, None, state_of(config)) for config in held]
    groups = deal(runs, jax.devices())
    assert [len(group.runs) for group in groups] == [2, 2, 1, 1] and len(
        {group.device for group in groups}
    ) == 4
    made = []
    for group in groups:
        batch = jax.device_put(stacked(group.seeds), group.device)
        program = group.step.lower(group.population, batch).compile()
        assert not any(aot.read_collectives(program.as_text()))
        group.take_step(batch)
        assert {leaf.device for leaf in jax.tree.leaves(group.population)} == {group.device}
        made += [
            (member_of(group.population, i, r.config), group.metrics[i])
            for i, r in enumerate(group.runs)
        ]
    for one, config in zip(made, held, strict=True):
        assert_same_step(one, step_alone(config), config)


def test_members_of_a_seed_start_alike_and_differ_by_seed() -> None:
    held = configs(PLAIN, "sgd")
    assert seeds_of(held) == list(SEEDS)
    states = [assemble(config).fresh_state().params for config in held]
    chex.assert_trees_all_equal(states[0], states[1], states[2])
    assert np.any(states[0]["conv_first"]["kernel"] != states[3]["conv_first"]["kernel"])


def test_a_member_goes_in_and_comes_out_as_it_was() -> None:
    held = configs(NORMED, "adam")
    states = [state_of(config) for config in held]
    population = join(states, held)
    for i, (state, config) in enumerate(zip(states, held, strict=True)):
        chex.assert_trees_all_equal(member_of(population, i, config), state)


def test_a_nan_of_one_seed_stops_only_the_members_of_that_seed() -> None:
    step, population = at_once(NORMED, "adam")
    bad = np.full_like(CLEAN[SEEDS[0]], np.nan)
    after, metrics = step(population, stacked(list(SEEDS), **{f"seed{SEEDS[0]}": bad}))
    for i, config in enumerate(configs(NORMED, "adam")):
        state, before = (jax.device_get(member_of(p, i, config)) for p in (after, population))
        if config.seed == SEEDS[0]:
            chex.assert_trees_all_equal(state.replace(step=before.step, guard=before.guard), before)
            assert (
                int(state.step),
                int(state.guard.skipped),
                int(state.guard.consecutive_skips),
            ) == (3, 1, 1)
            terms = sorted(metrics[i].terms)
            assert nonfinite_names(metrics[i].guard, terms) == [
                "loss",
                *terms,
                "gradient",
                "update",
            ]
        else:
            # NaN times the zeros between the groups of a convolution would spread to all.
            assert_same_step((state, metrics[i]), step_alone(config), config)


@pytest.mark.slow
def test_batches_in_parts_averages_and_pairs_work_at_once_too() -> None:
    options = {"accumulate": 2, "ema": 0.9}
    step, population = at_once(NORMED, "sgd", **options)
    population, metrics = step(population, stacked(list(SEEDS)))
    for i, config in enumerate(configs(NORMED, "sgd", **options)):
        state, own = member_of(population, i, config), step_alone(config)
        assert_same_step((state, metrics[i]), own, config)
        chex.assert_trees_all_close(
            jax.device_get(state.average), own[0].average, rtol=1e-5, atol=1e-7
        )
    noisy = stacked(list(SEEDS)) + 0.25
    _, metrics = step(population, Pair(noisy, stacked(list(SEEDS))))
    assert all(np.isfinite(one.loss) for one in metrics)


def test_members_may_not_differ_in_other_settings() -> None:
    held = list(configs(PLAIN, "sgd"))
    held[1] = dataclasses.replace(held[1], data=dataclasses.replace(held[1].data, sigma=1.0))
    with pytest.raises(ValueError, match="loss, seed, learning rate, clipping and folder"):
        make_population_step(held)


def overflowing(state: TrainState) -> TrainState:
    """Kernels with a finite output and a gradient that is not: the first gets the others' 1e58."""
    scales = {"conv_first": 1e-30, "block_0": 1e25, "conv_last": 1e33}

    def scaled(path: Any, leaf: jax.Array) -> jax.Array:
        return leaf * (scales[path[0].key] if leaf.ndim == 4 else 0)

    return state.replace(params=jax.tree.map_with_path(scaled, state.params))


@jax.custom_batching.custom_vmap
def mixed(cotangent: jax.Array) -> jax.Array:
    """Adds zero times the sum over all members, as grouped convolutions may do."""
    return cotangent


@mixed.def_vmap
def _(size: int, batched: list[bool], cotangent: jax.Array) -> tuple[jax.Array, bool]:
    return cotangent + 0 * jnp.sum(cotangent, axis=0), True


@jax.custom_vjp
def leaking(image: jax.Array) -> jax.Array:
    """The image; on the way back the gradients of the members mix."""
    return image


leaking.defvjp(lambda image: (image, None), lambda _, cotangent: (mixed(cotangent),))


@pytest.fixture
def leaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks behave as if XLA had merged the convolutions of all members into one."""

    def forward(model: Any, params: Any, batch_stats: Any, batch: Any) -> Any:
        return step_of_one.forward(model, jax.tree.map(leaking, params), batch_stats, batch)

    monkeypatch.setattr(population_module, "forward", forward)


@pytest.mark.slow
@pytest.mark.parametrize("held_still", [False, True], ids=["training", "stopped"])
def test_a_gradient_that_overflows_stops_only_its_own_member(leaky: None, held_still: bool) -> None:
    """The loss of that member is finite."""
    held = configs(PLAIN, "sgd")[:3]
    bad = overflowing(state_of(held[0]))
    own, own_metrics = jax.device_get(jax.jit(assemble(held[0]).update)(bad, CLEAN[held[0].seed]))
    assert np.isfinite(own_metrics.loss) and not np.isfinite(own_metrics.gradient_norm)
    if held_still:
        bad = bad.replace(
            guard=bad.guard.replace(consecutive_skips=bad.guard.consecutive_skips + 3)
        )
    population = join([bad, *(state_of(config) for config in held[1:])], held)
    after, metrics = jax.jit(make_population_step(held))(population, stacked([held[0].seed]))
    for i in (1, 2):
        assert_same_step((member_of(after, i, held[i]), metrics[i]), step_alone(held[i]), held[i])
    kept = jax.device_get(member_of(after, 0, held[0]))
    chex.assert_trees_all_equal(kept.params, jax.device_get(bad.params))
    assert int(kept.guard.consecutive_skips) == (3 if held_still else 1)
    if not held_still:
        assert metrics[0].loss == pytest.approx(own_metrics.loss, rel=1e-5)
        assert int(kept.guard.nonfinite) == int(own.guard.nonfinite)
