"""One compiled step for all runs that differ in seed, learning rate and clipping only."""

import chex
import jax
import numpy as np
import pytest

from train.assembly import RunPrograms, assemble
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig
from train.devices import sharding
from train.state import TrainState

CLEAN = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
# One configuration for each way to compute a rate, with a rate that has many digits.
SCHEDULES = (
    {"schedule": "cosine", "warmup_steps": 3},
    {"schedule": "cosine", "warmup_steps": 0},
    {"schedule": "constant", "warmup_steps": 3},
    {"schedule": "step", "decay_steps": (2,), "warmup_steps": 0},
    {"schedule": "retinexformer", "warmup_steps": 0},
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


@pytest.mark.parametrize(
    "fields", SCHEDULES, ids=lambda fields: " ".join(map(str, fields.values()))
)
@pytest.mark.parametrize("clip_norm", [None, 0.0321])
def test_the_shared_program_computes_the_bits_of_a_program_with_constants(fields, clip_norm):
    config = config_of(seed=11, clip_norm=clip_norm, ema=0.9, **fields)
    shared = trained(RunPrograms(config, sharding.make_mesh(1)))
    alone = trained_alone(config)
    chex.assert_trees_all_equal_structs(shared, alone)
    chex.assert_trees_all_equal(shared, alone)
