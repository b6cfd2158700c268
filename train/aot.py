"""The training step compiled ahead of time for devices that are not here: does it fit, what moves, what does it cost.

XLA's compiler for TPUs comes with libtpu and needs no TPU: the program is the one that a TPU would run, and what it
asks of a chip's memory and of the links between chips can be read off it.
"""

import contextlib
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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
from train.errors import InputError, first_line

# Memory of a chip in GiB, by the kind that the compiler's topology names (Google Cloud's TPU documentation).
_HBM = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32, "TPU7x": 192}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "s8": 1, "u8": 1, "f64": 8, "s64": 8, "u64": 8}


# libtpu is loaded to compile with, beside other processes that do the same; on a machine without a TPU it would ask
# about the pod that this machine is no part of, and print errors that mean nothing. Set by the user they stay.
_ENVIRONMENT = {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
_WITHOUT_TPU = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-1"}


@dataclass(frozen=True)
class Program:
    """What the compiled step asks of each device."""

    flops: float | None  # None where XLA does not tell, as for GPUs
    bytes_accessed: float | None
    memory: int  # bytes at the fullest moment: arguments, results and temporaries
    collectives: dict[str, int]  # how many of each kind in a step
    collective_bytes: int  # that they take in
    slice_transfers: int = 0  # sums over slices, by the hosts' network
    slice_bytes: int = 0


def topology_mesh(topology: str, slices: int = 1, gpu: str | None = None) -> Mesh:
    """A mesh of one axis over all chips of a topology such as "v5e:2x2", in as many slices as asked for.

    Args:
      topology: of TPUs, or "cuda:8", "cuda:2x8": so many GPUs in a machine, or in each of so many machines.
      slices: of TPUs.
      gpu: file with XLA's description of the GPU (a GpuTargetConfig as text); None: the one in this machine.
    """
    family, _, sizes = topology.partition(":")
    if family == "cuda":
        devices = _gpus(topology, sizes, slices, gpu)
    elif gpu is not None:
        raise InputError(f"--gpu describes the GPUs of --topology cuda:8 and its like; got --topology {topology}.")
    else:
        devices = _tpus(topology, slices)
    return Mesh(np.asarray(devices), (sharding.BATCH_AXIS,), axis_types=(AxisType.Auto,))


def _tpus(topology: str, slices: int) -> list[Any]:
    without_tpu = os.environ.get("TPU_SKIP_MDS_QUERY") == "1"  # so set by jax where it finds no chips
    for name, value in (_ENVIRONMENT | (_WITHOUT_TPU if without_tpu else {})).items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    if topology.endswith(":1x1"):
        options["chips_per_host_bounds"] = [1, 1, 1]  # one chip is less than the host of four that is assumed
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices
    except Exception as error:  # libtpu missing, or a name that it does not know: both come in several types
        raise InputError(
            f"--topology {topology} cannot be compiled for ({first_line(error)}): take one such as v5e:2x2, v6e:2x4 "
            "or v4:2x2x1, and install libtpu by pip install -e '.[tpu]'."
        ) from None


def _gpus(topology: str, sizes: str, slices: int, gpu: str | None) -> list[Any]:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", sizes) or slices > 1:
        raise InputError(
            f"--topology {topology} --slices {slices}: GPUs are cuda:8, eight in one machine, or cuda:2x8, in two."
        )
    machines = sizes if "x" in sizes else f"1x{sizes}"
    try:
        options = {} if gpu is None else {"target_config": Path(gpu).read_text()}
        return topologies.get_topology_desc(platform="cuda", topology=f"1x{machines}", **options).devices
    except Exception as error:  # no file, no plugin, no GPU, or a description that the plugin cannot read
        raise InputError(
            f"--topology {topology} cannot be compiled for ({first_line(error)}): it needs JAX's CUDA plugin (pip "
            "install 'jax[cuda13]'), a CUDA toolkit, and a GPU in this machine or --gpu FILE, XLA's description of one "
            "such as xla/backends/gpu/target_config/specs/h100_sxm.txtpb of github.com/openxla/xla."
        ) from None


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
    """Compiles a run's step for the devices of ``mesh``, or :class:`~train.sharding.DoesNotFit`."""
    sharding.check_divides(config.data.batch_size, mesh, config.optimizer.accumulate)
    assembly = assemble(config)
    mesh = sharding.mesh_of(list(mesh.devices.flat), config.run)
    abstract = jax.eval_shape(assembly.fresh_state)
    layout = sharding.state_sharding(abstract, mesh)
    state = _laid_out(abstract, layout)
    size = config.data.patch_size
    shape = (config.data.batch_size, size, size, assembly.model.channels)
    # As photographs of 8 bits travel.
    batch = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=sharding.split_by_batch(mesh))
    step: Any = sharding.compile_step(assembly.update, mesh, layout)
    with uncached():
        lowered = step.lower(state, batch)
        with sharding.within_memory(config):
            compiled = lowered.compile()
    cost, memory, text = compiled.cost_analysis() or {}, compiled.memory_analysis(), compiled.as_text() or ""
    counts, moved = read_collectives(text)
    transfers, between_slices = read_slice_transfers(text)
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Program(
        flops=cost.get("flops"),
        bytes_accessed=cost.get("bytes accessed"),
        memory=held - memory.alias_size_in_bytes,
        collectives=counts,
        collective_bytes=moved,
        slice_transfers=transfers,
        slice_bytes=between_slices,
    )


def largest_batch(config: FitConfig, mesh: Mesh, console: Console) -> int:
    """The largest batch, among the given one times powers of two, whose step fits into the devices' memory."""
    size, fits = config.data.batch_size, 0
    while True:
        larger = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=size))
        try:
            program = compile_for(larger, mesh)
        except sharding.DoesNotFit:
            console.print(f"batch {size}: does not fit", soft_wrap=True)
            return fits
        console.print(f"batch {size}: {program.memory / 2**20:.1f} MiB a device", soft_wrap=True)
        fits, size = size, 2 * size


@dataclass(frozen=True)
class CompileConfig:
    """Compile a run's training step for TPUs or GPUs that are not here, and say what it asks of them."""

    topology: str = "v5e:2x2"
    """Chips: v5e and v6e:1x1 to 16x16; v4, v5p and tpu7x:2x2x1 and up; GPUs cuda:8, or cuda:2x8 in two machines."""
    gpu: str | None = None
    """File of XLA's description of the GPU, such as its h100_sxm.txtpb. None: the one in this machine."""
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
    mesh = topology_mesh(compiling.topology, compiling.slices, compiling.gpu)
    kind = mesh.devices.flat[0].device_kind
    program = compile_for(config, mesh)
    what = f"{config.model.model}, batch {config.data.batch_size}, on {mesh.size} x {kind}"
    console.print(f"{what}: it compiles", soft_wrap=True)
    room = f" of {_HBM[kind]} GiB" if kind in _HBM else ""
    lines = {"memory": f"{program.memory / 2**20:.1f} MiB{room} a device"}
    if program.flops is not None and program.bytes_accessed is not None:
        lines |= {
            "arithmetic": f"{program.flops / 1e9:.2f} GFLOP a step and device",
            "memory traffic": f"{program.bytes_accessed / 2**20:.1f} MiB a step and device",
            "intensity": f"{program.flops / program.bytes_accessed:.1f} FLOP per byte",
            "between devices": _said(program),
        }
    else:
        lines["not told"] = "arithmetic, traffic and collectives: XLA keeps them to itself for GPUs that are not here"
    if program.slice_transfers:
        transfers = f"{program.slice_transfers} sums by the hosts' network"
        lines["between slices"] = f"{transfers}; {program.slice_bytes / 2**20:.2f} MiB a step and device"
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


def read_slice_transfers(text: str) -> tuple[int, int]:
    """How many sums over slices of TPUs a compiled program's text holds, and the bytes that a device gives to them.

    Within a slice the chips sum first; each then sends its share through its host, which sums with the other slices'.
    """
    sent = re.findall(r"= \((\w+)\[([\d,]*)\][^=]*? send\(.*?_xla_megascale_transfer_type", text)
    return len(sent), sum(_size_of(dtype, sizes) for dtype, sizes in sent)


def _size_of(dtype: str, sizes: str) -> int:
    return _BYTES.get(dtype, 4) * int(np.prod([int(size) for size in sizes.split(",") if size], dtype=np.int64))


def _said(program: Program) -> str:
    if not program.collectives:
        return "nothing moves"
    kinds = ", ".join(f"{count} {kind}" for kind, count in program.collectives.items())
    return f"{kinds}; {program.collective_bytes / 2**20:.2f} MiB a step"


def _laid_out(tree: Any, layout: Any) -> Any:
    return jax.tree.map(lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree, layout)
