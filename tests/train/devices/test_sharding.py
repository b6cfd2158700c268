import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from optax.tree_utils import tree_get

from train.assembly import assemble
from train.compilation import aot
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.devices import sharding
from train.errors import InputError
from train.state import Metrics, TrainState

# With SGD, since Adam would hide a gradient that is off by a factor; its momentum is the gradient
# after one update.
CONFIG = FitConfig(
    data=DataConfig(patch_size=8, batch_size=8),
    model=ModelConfig(model="dncnn(depth=3, features=32)"),
    optimizer=OptimizerConfig(
        optimizer="sgd", schedule="constant", learning_rate=0.1, warmup_steps=0, ema=0.9
    ),
)
CLEAN = np.random.default_rng(0).random((8, 8, 8, 3), np.float32)
RUNS = {
    "data": RunConfig(parallel="data"),
    "fsdp": RunConfig(parallel="fsdp"),
    "two copies": RunConfig(parallel="fsdp", shards=2),
}


@pytest.mark.parametrize(
    ("batch", "sizes"), [(100, None), (102, "Use 100 or 104"), (3, "Use 4"), (5, "Use 4 or 8")]
)
def test_a_batch_must_divide_over_the_devices(batch: int, sizes: str | None) -> None:
    mesh = sharding.make_mesh(4)
    if sizes is None:
        sharding.check_divides(batch, mesh)
    else:
        with pytest.raises(
            InputError, match=f"--batch-size {batch} does not divide over 4 devices. {sizes}"
        ):
            sharding.check_divides(batch, mesh)


def test_a_batch_must_divide_into_its_parts_too() -> None:
    sharding.check_divides(16, sharding.make_mesh(4), parts=2)
    with pytest.raises(
        InputError,
        match=r"12 cannot be split evenly into 2 parts \(--accumulate\) on 4 devices. Use 8 or 16",
    ):
        sharding.check_divides(12, sharding.make_mesh(4), parts=2)


def test_a_mesh_takes_the_devices_asked_for_or_all() -> None:
    assert sharding.make_mesh(None).size == len(jax.devices()) == 4
    assert sharding.make_mesh(2).size == 2
    with pytest.raises(InputError, match="--devices 5 is too many, because there are 4 devices"):
        sharding.make_mesh(5)


def test_a_single_device_is_spoken_of_in_the_singular(monkeypatch: pytest.MonkeyPatch) -> None:
    one = jax.devices()[:1]
    monkeypatch.setattr(sharding.jax, "devices", lambda: one)
    with pytest.raises(InputError, match="there is only 1 device. Use --devices 1.$"):
        sharding.make_mesh(4)
    with pytest.raises(InputError, match="on 1 device. Use 9 or 12.$"):
        sharding.check_divides(10, sharding.make_mesh(None), parts=3)


def test_batches_arrive_in_order_and_divided() -> None:
    mesh = sharding.make_mesh(4)
    batches = [np.full((8, 2, 2, 3), i, np.float32) for i in range(3)]
    arrived = list(sharding.to_devices(iter(batches), mesh))
    assert [float(b[0, 0, 0, 0]) for b in arrived] == [0, 1, 2]
    assert all(b.sharding == sharding.split_by_batch(mesh) for b in arrived)
    assert list(sharding.to_devices(iter([]), mesh)) == []


@functools.cache
def initial() -> TrainState:
    """A state whose last layer is not zero, so that gradients reach the layers before it."""
    state = jax.jit(assemble(CONFIG).fresh_state)()
    random = np.random.default_rng(1)
    params = jax.tree.map(
        lambda p: p + 0.03 * random.standard_normal(p.shape).astype(np.float32), state.params
    )
    return jax.device_get(
        state.replace(params=params, average=params, step=jnp.asarray(5, jnp.int32))
    )


@functools.cache
def compiled(devices: int, run: RunConfig) -> Any:
    mesh = sharding.make_mesh(devices, run=run)
    layout = sharding.state_sharding(initial(), mesh)
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), initial())
    return (
        sharding.compile_step(assemble(CONFIG).update, mesh, layout=layout)
        .lower(state, CLEAN)
        .compile()
    )


@functools.cache
def after_one_step(devices: int, run: RunConfig) -> tuple[TrainState, Metrics]:
    step = compiled(devices, run)
    (state, batch), _ = step.input_shardings
    return step(jax.device_put(initial(), state), jax.device_put(CLEAN, batch))


def off(ours: Any, wanted: Any) -> float:
    """The norm of the difference divided by the norm of the wanted values, over all arrays."""
    ours, wanted = jax.device_get((jax.tree.leaves(ours), jax.tree.leaves(wanted)))
    squares = [np.sum((x - y.astype(np.float64)) ** 2) for x, y in zip(ours, wanted, strict=True)]
    return float(np.sqrt(sum(squares) / sum(np.sum(y.astype(np.float64) ** 2) for y in wanted)))


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_loss_and_gradient_are_those_of_one_device(run: RunConfig) -> None:
    (ours, metrics), (wanted, wanted_metrics) = (
        after_one_step(4, run),
        after_one_step(1, RUNS["data"]),
    )
    gradient, wanted_gradient = (tree_get(state.opt_state, "trace") for state in (ours, wanted))
    for got, expected in (
        (metrics, wanted_metrics),
        (gradient, wanted_gradient),
        (ours.params, wanted.params),
        (ours.average, wanted.average),
        (ours.batch_stats, wanted.batch_stats),
    ):
        assert off(got, expected) < 1e-6


def test_under_fsdp_each_device_holds_its_part_of_what_is_large() -> None:
    kernels = {}
    for name, run in RUNS.items():
        state, _ = after_one_step(4, run)
        for tree in (state.params, state.average, tree_get(state.opt_state, "trace")):
            assert tree["block_0"]["conv"]["kernel"].shape == (3, 3, 32, 32)
            kernels.setdefault(name, set()).add(
                tree["block_0"]["conv"]["kernel"].addressable_shards[0].data.shape
            )
            assert tree["conv_first"]["kernel"].is_fully_replicated  # 864 elements
        assert state.step.is_fully_replicated
    assert kernels == {
        "data": {(3, 3, 32, 32)},
        "fsdp": {(3, 3, 32, 8)},
        "two copies": {(3, 3, 32, 16)},
    }


def test_the_longest_axis_of_large_arrays_is_divided() -> None:
    def spec(*shape: int, devices: int = 4, run: RunConfig = RUNS["fsdp"]) -> PartitionSpec:
        mesh = sharding.make_mesh(devices, run=run)
        return sharding.state_sharding(jax.ShapeDtypeStruct(shape, jnp.float32), mesh).spec

    axis = sharding.STATE_AXIS
    assert spec(3, 3, 64, 32) == PartitionSpec(None, None, axis)
    assert spec(3, 3, 64, 64) == PartitionSpec(None, None, None, axis)
    # 62 is longer, and not divisible by 4
    assert spec(3, 3, 62, 32) == PartitionSpec(None, None, None, axis)
    assert spec(3, 3, 62, 62, run=RUNS["two copies"]) == PartitionSpec(None, None, None, axis)
    assert spec(3, 3, 62, 62) == spec(3, 3, 64, 64, devices=1) == PartitionSpec()
    assert spec(8191) == spec(8, 8, 4, 4) == spec() == PartitionSpec()
    assert spec(8192) == PartitionSpec(axis)


def test_fsdp_needs_less_memory_and_gathers_parameters() -> None:
    """The size of the compiled step's arguments (state and batch) in bytes per device."""
    data, fsdp = (compiled(4, RUNS[name]) for name in ("data", "fsdp"))
    held = [program.memory_analysis().argument_size_in_bytes for program in (data, fsdp)]
    # A kernel of 36 KiB, its momentum and its average: a quarter of each on a device.
    assert held[0] - held[1] == 3 * 36 * 1024 * 3 // 4
    gathers = [
        "all-gather" in aot.read_collectives(program.as_text())[0] for program in (data, fsdp)
    ]
    assert gathers == [False, True]


def test_the_step_is_compiled_ahead_of_time_as_it_will_run() -> None:
    config = dataclasses.replace(CONFIG, run=RUNS["fsdp"])
    program = aot.compile_for(config, sharding.make_mesh(4))
    assert program.collectives == aot.read_collectives(compiled(4, RUNS["fsdp"]).as_text())[0]


def test_shards_divide_the_devices() -> None:
    with pytest.raises(
        InputError, match=r"--shards 3 does not divide 4 devices. Use one of \[1, 2, 4\]"
    ):
        sharding.make_mesh(4, run=RunConfig(parallel="fsdp", shards=3))
    with pytest.raises(InputError, match="--shards 2 needs --parallel fsdp"):
        RunConfig(shards=2)


@dataclasses.dataclass(frozen=True)
class Chip:
    """A stand-in for a TPU, with the attributes that are used."""

    id: int
    slice_index: int = 0
    coords: tuple[int, int, int] = (0, 0, 0)
    core_on_chip: int = 0
    device_kind: str = "cpu"
    platform: str = "cpu"


def torus(*sizes: int) -> list[Chip]:
    return [
        Chip(i, coords=at, device_kind="TPU v4", platform="tpu")
        for i, at in enumerate(np.ndindex(*sizes))
    ]


@pytest.mark.parametrize(("shards", "groups"), [(None, [4, 4]), (2, [2] * 4), (8, [8])])
def test_a_copy_of_the_state_lies_within_a_slice_where_it_can(
    shards: int | None, groups: list[int]
) -> None:
    chips = [Chip(id=i, slice_index=i % 2) for i in range(8)]
    arranged = sharding.mesh_of(chips, run=RunConfig(parallel="fsdp", shards=shards)).devices
    assert [len(group) for group in arranged] == groups
    slices = [{chip.slice_index for chip in group} for group in arranged]
    assert all(len(found) == (2 if shards == 8 else 1) for found in slices)
    assert sorted(chip.id for chip in arranged.flat) == list(range(8))


@pytest.mark.parametrize("shards", [2, 4, 8, 32, 64])
def test_a_copy_of_the_state_lies_on_chips_side_by_side(shards: int) -> None:
    """This holds even if no axes of a torus have that many chips: 2, 8 and 32 of 4x4x4."""
    chips = torus(4, 4, 4)
    arranged = sharding.mesh_of(chips, run=RunConfig(parallel="fsdp", shards=shards)).devices
    assert sorted(chip.id for chip in arranged.flat) == list(range(64))
    for group in arranged:
        assert len(group) == shards
        places = np.array([chip.coords for chip in group])
        assert np.prod(places.max(0) - places.min(0) + 1) == shards  # they fill a box


def test_chips_that_fill_no_box_are_taken_as_they_stand() -> None:
    chips = torus(2, 2, 1)[:3]
    assert list(sharding.mesh_of(chips).devices) == chips
    assert [
        list(group) for group in sharding.mesh_of(chips, run=RunConfig(parallel="fsdp")).devices
    ] == [chips]
