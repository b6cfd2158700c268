"""Where arrays lie and how functions are compiled: the mesh, its shardings, and the backend's compiler options."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.data.batch import Batch
from train.errors import InputError
from train.step import Step

BATCH_AXIS = "data"

# jaxlib 0.10 sends CPU convolutions to a one-threaded path whose weight gradient is slow; this keeps them with Eigen
# and about halves the time of a training step.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh of one axis over the first ``devices`` devices, or over all of them."""
    available = jax.devices()
    if devices is not None and devices > len(available):
        raise InputError(f"--devices {devices}: there are {len(available)} here; take that many or fewer.")
    chosen = available[:devices]
    return jax.make_mesh((len(chosen),), (BATCH_AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_batch(mesh: Mesh) -> NamedSharding:
    """The first axis is divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def check_divides(batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Refuses, before anything is compiled, a batch that does not divide over the devices, or over parts of steps."""
    divisor = mesh.size * parts
    if batch_size % divisor == 0:
        return
    below, above = batch_size // divisor * divisor, -(-batch_size // divisor) * divisor
    sizes = f"{below} or {above}" if below else str(above)
    what = f"{mesh.size} devices" if parts == 1 else f"{mesh.size} devices in {parts} parts (--accumulate)"
    raise InputError(f"--batch-size {batch_size} does not divide over {what}: take {sizes}.")


def to_devices(batches: Iterator[Batch], mesh: Mesh) -> Iterator[Any]:
    """Global arrays of this process's rows, each on its way to the devices one batch ahead of its use."""
    ahead: Any = None
    for batch in batches:
        arriving = jax.tree.map(functools.partial(jax.make_array_from_process_local_data, split_by_batch(mesh)), batch)
        if ahead is not None:
            yield ahead
        ahead = arriving
    if ahead is not None:
        yield ahead


def compile_step(step: Step, mesh: Mesh) -> Step:
    """The step over a mesh: state replicated and donated, batch divided; XLA adds the sums over devices."""
    return jax.jit(
        step,
        in_shardings=(replicated(mesh), split_by_batch(mesh)),
        out_shardings=replicated(mesh),
        donate_argnums=0,
        compiler_options=compiler_options() if mesh.devices.flat[0].platform == "cpu" else None,
    )


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """Options for this backend, where a trial compilation accepts them.

    An unknown name is an error that can be caught here; in XLA_FLAGS it would end the process.
    """
    if jax.default_backend() != "cpu":
        return None
    trial: Callable[..., Any] = jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS)
    try:
        trial.lower(0.0).compile()  # type: ignore[attr-defined]  # jit's result has it; Callable does not say so
    except Exception:  # an older or newer jaxlib names its options differently, and its error has no one type
        return None
    return dict(_CPU_OPTIONS)
