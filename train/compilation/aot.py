"""Compiles the training step ahead of time for devices of other machines.

It reports whether the step fits, how much moves between devices, and what it costs.

XLA's compiler for TPUs is part of libtpu and does not need a TPU. It makes the program that a TPU
would run, and the program says how much memory of a chip and traffic between chips it needs.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from train.assembly import assemble
from train.bounds import MOST_PROCESSES, between, check_name
from train.compilation.hlo import read_collectives, read_hbm_bytes, read_slice_transfers
from train.compilation.topology import memory_per_device, topology_mesh
from train.config import FitConfig
from train.console import make_console
from train.data.batch import Pair
from train.devices import sharding
from train.errors import InputError

# Number of sizes to try between the largest batch that fits and the smallest that does not.
_REFINEMENTS = 2


@dataclass(frozen=True)
class Program:
    """What the compiled step needs of each device. None: XLA does not report it, as for GPUs."""

    memory: int  # peak in bytes: arguments, results and temporary arrays
    flops: float | None = None  # floating-point operations per step
    bytes_accessed: float | None = None  # per step, by XLA's count
    hbm_bytes: int | None = None  # per step, to and from a TPU's memory at most
    collectives: dict[str, int] | None = None  # number of each kind per step
    collective_bytes: dict[str, int] = field(default_factory=dict)  # bytes sent per kind
    slice_transfers: int = 0  # sums over slices, over the hosts' network
    slice_bytes: int = 0  # bytes sent in them


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Keeps programs for other machines out of the persistent cache.

    They could not be loaded from it.
    """
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, float("inf"))
    try:
        yield
    finally:
        jax.config.update(name, before)


def compile_for(config: FitConfig, mesh: Mesh, *, room: int | None = None) -> Program:
    """Compiles a run's step for the devices of ``mesh``.

    Args:
      config: the run. Photographs are assumed to have 8 bits, and to be pairs if its data set is
        ``pairs:``.
      mesh: the devices.
      room: bytes of a device's memory, for compilers that do not refuse larger programs.

    Returns:
      What the compiled program needs.

    Raises:
      DoesNotFit: the program needs more memory than a device has.
    """
    compiled = _compile(config, mesh)
    memory = _memory(compiled, config, room)
    cost, text = _cost(compiled, config, mesh), compiled.as_text()
    flops, accessed = (None, None) if cost is None else map(float, cost)
    moved = (*read_collectives(text), *read_slice_transfers(text)) if text else ()
    hbm = read_hbm_bytes(text) if text and cost is not None else None
    return Program(memory, flops, accessed, hbm, *moved)


def _compile(config: FitConfig, mesh: Mesh, *, unroll: int = 1) -> jax.stages.Compiled:
    sharding.check_divides(config.data.batch_size, mesh, parts=config.optimizer.accumulate)
    assembly = assemble(config, unroll=unroll)
    mesh = sharding.mesh_of(list(mesh.devices.flat), run=config.run)
    abstract = jax.eval_shape(assembly.fresh_state)
    layout = sharding.state_sharding(abstract, mesh)
    state = _laid_out(abstract, layout)
    size = config.data.patch_size
    shape = (config.data.batch_size, size, size, assembly.model.channels)
    patches = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=sharding.split_by_batch(mesh))
    step: Any = sharding.compile_step(
        assembly.update, mesh, layout=layout, cpu_step=config.run.cpu_step
    )
    with uncached():
        lowered = step.lower(state, Pair(patches, patches) if _is_paired(config) else patches)
        with sharding.within_memory(functools.partial(sharding.does_not_fit, config)):
            return lowered.compile()


def _is_paired(config: FitConfig) -> bool:
    return config.data.source.startswith("pairs:")


def _memory(compiled: jax.stages.Compiled, config: FitConfig, room: int | None) -> int:
    found: Any = compiled.memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    memory = held - found.alias_size_in_bytes
    if room is not None and memory > room:
        raise sharding.does_not_fit(config, f"{memory / 2**30:.2f} GiB of {room / 2**30:.2f}")
    return memory


def _cost(compiled: jax.stages.Compiled, config: FitConfig, mesh: Mesh) -> np.ndarray | None:
    """Counts the operations of a step, and the bytes that they read and write.

    XLA counts the body of a loop only once. So if a batch is divided into parts, the step is
    compiled again with several parts in the body. The difference is the cost of the added parts.

    Returns:
      The two numbers; None if they are not known.
    """
    once, parts = _counted(compiled), config.optimizer.accumulate
    if parts == 1 or once is None:
        return once
    several = next(size for size in range(2, parts + 1) if parts % size == 0)
    try:
        more = _counted(_compile(config, mesh, unroll=several))
    except sharding.DoesNotFit:  # Several parts at once may need too much memory.
        return None
    return None if more is None else once + (parts - 1) * (more - once) / (several - 1)


def _counted(compiled: jax.stages.Compiled) -> np.ndarray | None:
    cost: Any = compiled.cost_analysis() or {}
    names = ("flops", "bytes accessed")
    return np.array([cost[name] for name in names]) if all(name in cost for name in names) else None


def largest_batch(
    config: FitConfig, mesh: Mesh, console: Console, *, fits: bool, room: int | None = None
) -> int:
    """Searches for the largest batch that fits.

    It doubles or halves the given batch, and then tries sizes in between.

    Args:
      config: the run.
      mesh: the devices.
      console: prints each size.
      fits: whether the given batch fits.
      room: as in :func:`compile_for`.

    Returns:
      The number of patches; 0 if no batch fits.
    """
    unit = mesh.size * config.optimizer.accumulate  # Every batch is a multiple of this.

    def tried(units: int) -> bool:
        size = units * unit
        other = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=size))
        try:
            memory = _memory(_compile(other, mesh), other, room)
        except sharding.DoesNotFit:
            console.print(f"batch {size}: does not fit", soft_wrap=True)
            return False
        console.print(f"batch {size}: {memory / 2**20:.1f} MiB per device", soft_wrap=True)
        return True

    given = config.data.batch_size // unit
    low, high = (given, 2 * given) if fits else (given // 2, given)
    while fits and tried(high):
        low, high = high, 2 * high
    while not fits and low and not tried(low):
        low, high = low // 2, low
    for _ in range(_REFINEMENTS):
        middle = (low + high) // 2
        if middle > low:
            low, high = (middle, high) if tried(middle) else (low, middle)
    return low * unit


@dataclass(frozen=True)
class CompileConfig:
    """Compile a training step for a TPU or GPU, present or not, and report its memory use."""

    topology: str = "v5e:2x2"
    """Kind and arrangement of the chips.
    v5e and v6e have two axes, from v5e:1x1 to v5e:16x16, but not every size in between exists.
    v4, v5p and tpu7x have three axes, such as v4:2x2x1.
    cuda:8 means 8 GPUs in a machine, and cuda:2x8 means two such machines."""
    gpu: str | None = None
    """For --topology cuda: file with XLA's description of the GPU, such as h100_sxm.txtpb from
    XLA's repository. None: the GPU in this machine."""
    slices: int = 1
    """Number of TPU slices of this topology, connected by the data centre's network."""
    largest_batch: bool = False
    """Also search for the largest batch that fits.
    The search starts at --batch-size and compiles the step for each size that it tries."""
    fit: FitConfig = field(default_factory=FitConfig)
    """The run whose training step is compiled. Nothing is trained."""

    def __post_init__(self) -> None:
        between("--slices", self.slices, 1, most=MOST_PROCESSES)
        check_name("--gpu", self.gpu)


def report(compiling: CompileConfig) -> None:
    """Prints what the compiled step needs of each device, and the largest batch on request."""
    console, config = make_console(), compiling.fit
    if config.run.devices is not None:
        raise InputError(
            f"compile does not accept --devices {config.run.devices}. Give the number of devices "
            "in --topology."
        )
    if config.run.distributed:
        raise InputError(
            "compile does not accept --distributed, because one process compiles for all hosts of "
            "--topology. Leave it out."
        )
    mesh = topology_mesh(compiling.topology, slices=compiling.slices, gpu=compiling.gpu)
    kind, room = mesh.devices.flat[0].device_kind, memory_per_device(mesh, gpu=compiling.gpu)
    if compiling.largest_batch and room is None:
        raise InputError(
            f"--largest-batch: the memory of a {kind} is not known. Give a --gpu FILE that has it."
        )
    what = f"{config.model.model}, batch {config.data.batch_size}, on {mesh.size} x {kind}"
    try:
        program = compile_for(config, mesh, room=room)
    except sharding.DoesNotFit as error:
        if not compiling.largest_batch:
            raise sharding.DoesNotFit(f"{error} --largest-batch finds a size that fits.") from None
        console.print(f"{what}: does not fit", soft_wrap=True)
        fits = False
    else:
        console.print(f"{what}: it compiles", soft_wrap=True)
        for name, line in _lines(program, config, room).items():
            console.print(f"{name:>15}  {line}", soft_wrap=True)
        fits = True
    if compiling.largest_batch:
        largest = largest_batch(config, mesh, console, fits=fits, room=room)
        console.print(f"largest batch that fits: {largest or 'none'}")
    else:
        console.print(
            "  largest batch  not searched; --largest-batch compiles the step for other sizes too",
            soft_wrap=True,
        )


def _lines(program: Program, config: FitConfig, room: int | None) -> dict[str, str]:
    """Returns the lines about a program by their names."""
    of_room = "" if room is None else f" of {room / 2**30:.2f} GiB that a program may use"
    size = config.data.patch_size
    kind = "degraded and clean" if _is_paired(config) else "clean, degraded in the step"
    lines = {
        "assumed": f"patches of {size} x {size} from 8-bit photographs, {kind}",
        "memory": f"{program.memory / 2**20:.1f} MiB per device{of_room}",
    }
    if program.flops is None or program.hbm_bytes is None:
        lines["not known"] = "arithmetic and traffic, which XLA does not count for this program"
    else:
        lines |= {
            "arithmetic": f"{program.flops / 1e9:.2f} GFLOP per step and device",
            "memory traffic": f"at most {program.hbm_bytes / 2**20:.1f} MiB per step and device",
            "intensity": f"at least {program.flops / program.hbm_bytes:.1f} FLOP per byte",
        }
    if program.collectives:
        kinds = ", ".join(f"{count} {kind}" for kind, count in program.collectives.items())
        sent = sum(program.collective_bytes.values()) / 2**20
        lines["between devices"] = f"{kinds}; each device sends {sent:.2f} MiB per step"
    else:
        lines["between devices"] = "not known" if program.collectives is None else "nothing moves"
    if count := program.slice_transfers:
        sums = f"{count} sum{'s' * (count > 1)} over the hosts' network"
        slice_mib = program.slice_bytes / 2**20
        lines["between slices"] = f"{sums}; each device sends {slice_mib:.2f} MiB per step"
    return lines


def _laid_out(tree: Any, layout: Any) -> Any:
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree, layout
    )
