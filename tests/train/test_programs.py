"""One compiled step for all runs that differ in seed, learning rate and clipping only."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from tests.slow_cases import slow_for
from train import assembly
from train.assembly import RunPrograms, assemble
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig
from train.devices import sharding
from train.run_config import RunConfig
from train.state import TrainState

CLEAN = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
# One configuration for each way to compute a rate, with a rate that has many digits.
SCHEDULES = (
    {"schedule": "cosine", "warmup_steps": 3},
    {"schedule": "cosine", "warmup_steps": 0},
    {"schedule": "constant", "warmup_steps": 3},
    {"schedule": "step", "decay_steps": (2,), "warmup_steps": 0},
    {"schedule": "retinexformer", "warmup_steps": 0},
    {"schedule": "nafnet", "warmup_steps": 0},
    {"schedule": "cidnet", "warmup_steps": 0},
)


def config_of(*, seed: int = 0, sigma: float = 25.0, loss: str = "l1", **fields) -> FitConfig:
    return FitConfig(
        data=DataConfig(patch_size=8, batch_size=4, sigma=sigma),
        model=ModelConfig(model="dncnn(depth=3, features=4)", loss=loss),
        optimizer=OptimizerConfig(steps=7, **{"learning_rate": 0.0123456789, **fields}),
        seed=seed,
    )


def trained(run: RunPrograms, *, steps: int = 4) -> TrainState:
    """The state after some steps of the shared program, and the metrics of the last one."""
    state = run.fresh_state()
    for _ in range(steps):
        state, metrics = run.step(state, CLEAN)
    return jax.device_get((state, metrics))


def trained_alone(config: FitConfig, *, steps: int = 4) -> TrainState:
    """The same by a program in which every number is a constant."""
    mesh, own = sharding.make_mesh(1), assemble(config)
    layout = sharding.state_sharding(jax.eval_shape(own.fresh_state), mesh)
    step = sharding.compile_step(own.update, mesh, layout=layout, cpu_step=config.run.cpu_step)
    state = jax.jit(own.fresh_state, out_shardings=layout)()
    for _ in range(steps):
        state, metrics = step(state, CLEAN)
    return jax.device_get((state, metrics))


# The default schedule, and the one with most arithmetic of its own.
QUICK = (SCHEDULES[0], SCHEDULES[4])


@slow_for(
    "fields",
    SCHEDULES,
    [fields for fields in SCHEDULES if fields not in QUICK],
    ids=lambda fields: " ".join(map(str, fields.values())),
)
@slow_for("clip_norm", [None, 0.0321], [None])  # which computes less
def test_the_shared_program_computes_the_bits_of_a_program_with_constants(fields, clip_norm):
    config = config_of(seed=11, clip_norm=clip_norm, ema=0.9, **fields)
    shared = trained(RunPrograms(config, sharding.make_mesh(1)))
    alone = trained_alone(config)
    chex.assert_trees_all_equal_structs(shared, alone)
    chex.assert_trees_all_equal(shared, alone)


def test_seeds_rates_and_clipping_are_compiled_once():
    mesh = sharding.make_mesh(1)
    assembly._programs.cache_clear()
    runs = [
        RunPrograms(config_of(seed=seed, learning_rate=rate, clip_norm=clip_norm), mesh)
        for seed, rate, clip_norm in ((0, 1e-3, 0.5), (2**40 + 5, 1e-3, 0.5), (1, 0.02, 0.01))
    ]
    weights = [trained(run)[0].params for run in runs]
    (step,) = {run._shared.step for run in runs}
    assert step._cache_size() == 1
    assert runs[0]._shared.draw._cache_size() == 1
    # Each was trained with its own numbers.
    for one, other in ((0, 1), (1, 2), (0, 2)):
        with pytest.raises(AssertionError):
            chex.assert_trees_all_equal(weights[one], weights[other])


def test_whatever_else_changes_the_step_has_a_program_of_its_own():
    """A field that is neither here nor among those that do not matter fails this test."""
    changed = {
        "data": {
            "patch_size": 9,
            "batch_size": 5,
            "sigma": 15.0,
            "blind": True,
            "low_light": (0.1, 0.2),
        },
        "model": {
            "model": "dncnn(depth=4, features=4)",
            "loss": "mse",
            "balance": "dwa",
            "balance_rate": 0.1,
            "balance_every": 5,
            "level_weight": 1.0,
            "level_sigma": 50.0,
            "dtype": "bfloat16",
        },
        "optimizer": {
            "steps": 8,
            "schedule": "constant",
            "decay_factor": 0.5,
            "decay_steps": (3,),
            "warmup_steps": 1,
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "momentum": 0.5,
            "beta2": 0.9,
            "accumulate": 2,
            "ema": 0.5,
            "max_skips": 3,
            "clip_norm": 0.5,  # but not from one norm to another
        },
        "run": {"cpu_step": "plain"},
    }
    # Photographs and numbers
    shared = {
        "data": {
            "source": "folder:a",
            "validation_source": "folder:b",
            "test_source": "folder:c",
            "group_by": "folder",
        },
        "model": {"init_from": "runs/1"},
        "optimizer": {"learning_rate": 0.5},
        "run": {"out": "runs/2", "devices": 2, "log_every": 7},
    }
    needs = {"decay_steps": {"schedule": "step"}, "weight_decay": {"optimizer": "adamw"}}
    config = FitConfig()
    usual = assembly._without_numbers(config)
    for group in ("data", "model", "optimizer", "run"):
        part = getattr(config, group)
        if group != "run":
            names = {field.name for field in dataclasses.fields(part)}
            assert names == changed[group].keys() | shared[group].keys()
        for name, value in (changed[group] | shared[group]).items():
            also = {**needs.get(name, {}), name: value}
            other = dataclasses.replace(config, **{group: dataclasses.replace(part, **also)})
            same = assembly._without_numbers(other) == usual
            assert same == (name in shared[group]), name
    norms = [dataclasses.replace(config.optimizer, clip_norm=norm) for norm in (0.5, 2.0)]
    one, other = [dataclasses.replace(config, optimizer=optimizer) for optimizer in norms]
    assert assembly._without_numbers(one) == assembly._without_numbers(other)


def test_the_program_of_a_loss_that_needs_large_patches():
    data = DataConfig(patch_size=180, batch_size=1)
    config = dataclasses.replace(config_of(loss="ms_ssim"), data=data)
    run = RunPrograms(config, sharding.make_mesh(1))
    assert run.abstract.params["conv_first"]["kernel"].shape == (3, 3, 3, 4)


def test_a_shared_program_divides_its_batch_and_state_over_devices():
    config = dataclasses.replace(
        config_of(clip_norm=None), run=RunConfig(parallel="fsdp", devices=2)
    )
    wide = dataclasses.replace(
        config, model=dataclasses.replace(config.model, model="dncnn(depth=3, features=32)")
    )
    mesh = sharding.make_mesh(2, run=wide.run)
    run = RunPrograms(wide, mesh)
    state = run.fresh_state()
    assert not state.params["block_0"]["conv"]["kernel"].sharding.is_fully_replicated
    chex.assert_trees_all_equal_structs(state, run.abstract, run.layout)
    batch = jax.device_put(CLEAN, sharding.split_by_batch(mesh))
    state, _ = run.step(state, batch)
    for leaf, layout in zip(jax.tree.leaves(state), jax.tree.leaves(run.layout), strict=True):
        assert leaf.sharding.is_equivalent_to(layout, leaf.ndim)
