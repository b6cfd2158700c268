"""The training step compiled ahead of time for devices that are not here: does it fit, what moves, what does it cost.

XLA's compiler for TPUs comes with libtpu and needs no TPU: the program is the one that a TPU would run, and what it
asks of a chip's memory and of the links between chips can be read off it.
"""

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from rich.console import Console

from train import sharding
from train.assembly import assemble
from train.config import FitConfig
from train.errors import InputError

# Memory of a chip in GiB, by the kind that the compiler's topology names (Google Cloud's TPU documentation).
_HBM = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32, "TPU7x": 192}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "s8": 1, "u8": 1, "f64": 8, "s64": 8, "u64": 8}


@dataclass(frozen=True)
class Program:
    """What the compiled step asks of each device."""

    flops: float
    bytes_accessed: float
    memory: int  # bytes at the fullest moment: arguments, results and temporaries
    collectives: dict[str, int]  # how many of each kind in a step
    collective_bytes: int  # that they take in


def topology_mesh(topology: str, slices: int = 1) -> Mesh:
    """A mesh of one axis over all chips of a topology such as "v5e:2x2", in as many slices as asked for."""
    try:
        options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
        if topology.endswith(":1x1"):
            options["chips_per_host_bounds"] = [1, 1, 1]  # one chip is less than the host of four that is assumed
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except Exception as error:  # libtpu missing, or a name that it does not know: both come in several types
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"--topology {topology} cannot be compiled for ({first[:200]}): take one such as v5e:2x2, v6e:2x4 or "
            "v4:2x2x1, and install libtpu by pip install -e '.[tpu]'."
        ) from None
    return Mesh(np.asarray(described.devices), (sharding.BATCH_AXIS,), axis_types=(AxisType.Auto,))


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Keeps the persistent cache from storing programs: those for devices that are not here cannot be read back."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, float("inf"))
    try:
        yield
    finally:
        jax.config.update(name, before)


def compile_for(config: FitConfig, mesh: Mesh) -> Program:
    """Compiles a run's step for the devices of ``mesh``."""
    sharding.check_divides(config.data.batch_size, mesh, config.optimizer.accumulate)
    assembly = assemble(config)
    mesh = sharding.mesh_of(list(mesh.devices.flat), config.run)
    abstract = jax.eval_shape(assembly.fresh_state)
    layout = sharding.state_sharding(abstract, mesh)
    state = _laid_out(abstract, layout)
    size = config.data.patch_size
    shape = (config.data.batch_size, size, size, assembly.model.channels)
    batch = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding.split_by_batch(mesh))
    step: Any = sharding.compile_step(assembly.update, mesh, layout)
    with uncached():
        compiled = step.lower(state, batch).compile()
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    counts, moved = read_collectives(compiled.as_text())
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Program(
        flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
        memory=held - memory.alias_size_in_bytes,
        collectives=counts,
        collective_bytes=moved,
    )


def largest_batch(config: FitConfig, mesh: Mesh, console: Console) -> int:
    """The largest batch, among the given one times powers of two, whose step fits into the devices' memory.

    The compiler itself says no: a program that needs more memory than a chip has is an error.
    """
    size, fits = config.data.batch_size, 0
    while True:
        larger = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=size))
        try:
            program = compile_for(larger, mesh)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            console.print(f"batch {size}: does not fit", soft_wrap=True)
            return fits
        console.print(f"batch {size}: {program.memory / 2**20:.1f} MiB a device", soft_wrap=True)
        fits, size = size, 2 * size


@dataclass(frozen=True)
class CompileConfig:
    """Compile a run's training step for TPUs that are not here, and say what it asks of them."""

    topology: str = "v5e:2x2"
    """Chips to compile for, such as v5e:1x1, v5e:2x4, v6e:2x2, v4:2x2x1, v5p:2x2x1."""
    slices: int = 1
    """Slices of that topology, linked by the data centre's network."""
    largest_batch: bool = False
    """Also double the batch until it no longer fits: a compilation each."""
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.slices < 1:
            raise InputError(f"--slices must be at least 1; got {self.slices}.")


def report(compiling: CompileConfig) -> None:
    """Prints what the compiled step asks of each device, and the largest batch that fits where that is asked for."""
    console, config = Console(), compiling.fit
    mesh = topology_mesh(compiling.topology, compiling.slices)
    kind = mesh.devices.flat[0].device_kind
    program = compile_for(config, mesh)
    what = f"{config.model.model}, batch {config.data.batch_size}, on {mesh.size} x {kind}"
    console.print(f"{what}: it compiles", soft_wrap=True)
    room = f" of {_HBM[kind]} GiB" if kind in _HBM else ""
    lines = {
        "arithmetic": f"{program.flops / 1e9:.2f} GFLOP a step and device",
        "memory traffic": f"{program.bytes_accessed / 2**20:.1f} MiB a step and device",
        "intensity": f"{program.flops / program.bytes_accessed:.1f} FLOP per byte",
        "memory": f"{program.memory / 2**20:.1f} MiB{room} a device",
        "between devices": _said(program),
    }
    for what, line in lines.items():
        console.print(f"{what:>15}  {line}", soft_wrap=True)
    if compiling.largest_batch:
        fits = largest_batch(config, mesh, console)
        console.print(f"largest batch that fits, by doubling: {fits}")


def read_collectives(text: str) -> tuple[dict[str, int], int]:
    """How many collectives of each kind a compiled program's text holds, and the bytes that go into them.

    A collective that is split into its start and its end counts once.
    """
    counts: Counter[str] = Counter()
    moved = 0
    pattern = rf"= (.*?) ({'|'.join(_COLLECTIVES)})(-start)?\("
    for result, kind, _ in re.findall(pattern, text):
        counts[kind] += 1
        moved += sum(_size_of(dtype, sizes) for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", result))
    return dict(counts), moved


def _size_of(dtype: str, sizes: str) -> int:
    return _BYTES.get(dtype, 4) * int(np.prod([int(size) for size in sizes.split(",") if size], dtype=np.int64))


def _said(program: Program) -> str:
    if not program.collectives:
        return "nothing moves"
    kinds = ", ".join(f"{count} {kind}" for kind, count in program.collectives.items())
    return f"{kinds}; {program.collective_bytes / 2**20:.2f} MiB a step"


def _laid_out(tree: Any, layout: Any) -> Any:
    return jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree, layout)
