"""The update under jax.pmap equals the sharded one, on four devices, from the same state and batch.

Adam would hide a gradient that is off by a factor.
"""

import dataclasses
import functools
from typing import Any

import chex
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from train.assembly import assemble
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig
from train.data.batch import Pair
from train.devices import sharding
from train.errors import InputError
from train.network import build_model
from train.pmap import AXIS, MappedAxis, pmap_step, replicate, shard, unreplicate
from train.state import Metrics, Step, TrainState

PLAIN = FitConfig(
    data=DataConfig(patch_size=8, batch_size=16, sigma=25.0, blind=True),
    model=ModelConfig(model="dncnn(depth=3, features=4, batch_norm=False)"),
    optimizer=OptimizerConfig(
        optimizer="sgd",
        momentum=0.0,
        schedule="constant",
        learning_rate=0.1,
        warmup_steps=0,
        ema=0.9,
        max_skips=2,
    ),
)
# Devices see photographs of their own brightness: statistics of a share are not those of the batch.
BRIGHTNESS = np.linspace(0.1, 1, 16, dtype=np.float32).reshape(-1, 1, 1, 1)
NOISY, CLEAN = (
    BRIGHTNESS * np.random.default_rng(i).random((16, 8, 8, 3), np.float32) for i in range(2)
)


def changed(config: FitConfig = PLAIN, *, accumulate: int = 1, **model: Any) -> FitConfig:
    optimizer = dataclasses.replace(config.optimizer, accumulate=accumulate)
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, **model), optimizer=optimizer
    )


NORMED = changed(model="dncnn(depth=4, features=4)")
CASES = [
    pytest.param(
        changed(accumulate=2, loss="l1 + mse", balance="gradnorm"), id="plain, two parts, GradNorm"
    ),
    pytest.param(changed(NORMED, accumulate=2), id="batch norm, two parts"),
    pytest.param(NORMED, id="batch norm", marks=pytest.mark.slow),
    pytest.param(
        changed(accumulate=2, balance="upgrad"),
        id="plain, two parts, UPGrad",
        marks=pytest.mark.slow,
    ),
]


def batch_of(config: FitConfig) -> Any:
    """Noise is drawn for the plain network. The others use pairs, which compile faster."""
    return CLEAN if "batch_norm=False" in config.model.model else Pair(NOISY, CLEAN)


@functools.cache
def initial(config: FitConfig) -> TrainState:
    """Random numbers in the shapes of a state. Zeros in the last layer would stop all gradients."""
    random = np.random.default_rng(1)
    shapes = jax.eval_shape(assemble(config).fresh_state)

    def filled(tree: Any, low: float, high: float) -> Any:
        return jax.tree.map(lambda x: random.uniform(low, high, x.shape).astype(x.dtype), tree)

    params = filled(shapes.params, -0.2, 0.2)
    return filled(shapes, 0, 0).replace(
        step=np.int32(5),
        params=params,
        average=params,
        batch_stats=filled(shapes.batch_stats, 0.5, 1.5),
        average_stats=filled(shapes.average_stats, 0.5, 1.5),
        balance=filled(shapes.balance, 0.5, 1.5),
    )


@functools.cache
def sharded(config: FitConfig) -> tuple[TrainState, Metrics]:
    mesh = sharding.make_mesh(4)
    state = jax.device_put(initial(config), sharding.replicated(mesh))
    batch = jax.device_put(batch_of(config), sharding.split_by_batch(mesh))
    return jax.device_get(sharding.compile_step(assemble(config).update, mesh)(state, batch))


@functools.cache
def pmapped_step(config: FitConfig, batch_norm: Any = "global") -> Step:
    return pmap_step(config, batch_norm=batch_norm)


@functools.cache
def pmapped(config: FitConfig, batch_norm: Any = "global") -> tuple[TrainState, Metrics]:
    return same_on_all(
        pmapped_step(config, batch_norm)(replicate(initial(config)), shard(batch_of(config)))
    )


def same_on_all(tree: Any) -> Any:
    """Returns the first device's arrays, after a check that all devices have the same bits."""
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    return unreplicate(tree)


def assert_close(one: tuple[TrainState, Metrics], other: tuple[TrainState, Metrics]) -> None:
    """Each part agrees within 1e-6 of its norm. Small entries are differences of larger numbers."""
    chex.assert_trees_all_equal_shapes_and_dtypes(one, other)
    for part, found in {**vars(one[0]), **one[1]._asdict()}.items():
        wanted = getattr(other[0] if part in vars(one[0]) else other[1], part)
        off = jax.tree.map(functools.partial(np.subtract, dtype=np.float64), found, wanted)
        difference, size = _norm(off), _norm(wanted)
        assert difference <= 1e-6 * size, (part, difference / size)


def _norm(tree: Any) -> float:
    return np.linalg.norm([np.linalg.norm(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("config", CASES)
def test_pmap_makes_the_update_of_the_sharded_step(config: FitConfig) -> None:
    """The trace of SGD after the first update is the gradient itself."""
    before, state = initial(config), pmapped(config)[0]
    assert any(np.any(np.abs(leaf) > 1e-3) for leaf in jax.tree.leaves(state.opt_state))
    assert_close(pmapped(config), sharded(config))
    for part in ("params", "average", "batch_stats", "average_stats"):
        moved = zip(
            jax.tree.leaves(getattr(state, part)),
            jax.tree.leaves(getattr(before, part)),
            strict=True,
        )
        assert all(np.any(new != old) for new, old in moved), part
    learned = [*map(jax.tree.leaves, (state.balance, before.balance))]
    assert learned == [[], []] or any(new != old for new, old in zip(*learned, strict=True))


@pytest.mark.slow
def test_per_device_batch_norm_is_the_mean_of_separate_updates() -> None:
    """SGD is linear in the gradient, so the mean of the updates of the shares is expected."""
    state, metrics = pmapped(NORMED, "per_device")
    shares = jax.tree.map(lambda x: x.reshape(4, 4, *x.shape[1:]), batch_of(NORMED))
    alone = jax.jit(jax.vmap(assemble(NORMED).update, in_axes=(None, 0)))(initial(NORMED), shares)
    wanted, wanted_metrics = jax.tree.map(
        lambda x: np.mean(x, axis=0, dtype=x.dtype), jax.device_get(alone)
    )
    # The norm of a mean is no mean of norms.
    assert_close(
        (state, metrics), (wanted, wanted_metrics._replace(gradient_norm=metrics.gradient_norm))
    )
    # And not what the whole batch's statistics give.
    whole, _ = pmapped(changed(NORMED, accumulate=2))
    variances = [x.batch_stats["block_0"]["norm"]["var"] for x in (state, whole)]
    assert np.all(np.abs(variances[0] - variances[1]) > 1e-3 * variances[1])


def test_a_share_that_is_not_finite_skips_the_update_everywhere() -> None:
    config = CASES[0].values[0]
    bad = CLEAN.copy()
    bad[13, 0, 0, 0] = np.nan  # of the last device
    state, metrics = same_on_all(pmapped_step(config)(replicate(initial(config)), shard(bad)))
    chex.assert_trees_all_equal(state.params, initial(config).params)
    chex.assert_trees_all_equal(state.balance, initial(config).balance)
    assert (int(state.step), int(state.guard.skipped), int(metrics.guard.consecutive_skips)) == (
        6,
        1,
        1,
    )


@pytest.mark.slow
def test_the_step_with_an_axis_name_is_right_under_shard_map_too() -> None:
    """It sums gradients of shared parameters itself. They must not be counted once per device."""
    config = changed(NORMED, accumulate=2)
    mesh = jax.make_mesh((4,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    update = jax.shard_map(
        assemble(config, across=MappedAxis(AXIS)).update,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(),
    )
    assert_close(
        jax.device_get(jax.jit(update)(initial(config), batch_of(config))), sharded(config)
    )


def test_what_pmap_cannot_take_is_refused_before_compiling() -> None:
    with pytest.raises(InputError, match="16 does not divide over 3 devices. Use 15 or 18"):
        pmap_step(PLAIN, devices=jax.devices()[:3])
    with pytest.raises(InputError, match="batch-size 6 does not divide over 4 devices. Use 4 or 8"):
        shard(CLEAN[:6])
    with pytest.raises(
        InputError, match='batch_norm must be "global" or "per_device"; got \'local\''
    ):
        pmap_step(PLAIN, batch_norm="local")


def test_networks_without_batch_norm_need_no_axis_name() -> None:
    assert build_model("dncnn", axis_name=AXIS).axis_name == AXIS
    assert build_model("dncnn").axis_name is None
    assert not hasattr(build_model("retinexformer", axis_name=AXIS), "axis_name")
