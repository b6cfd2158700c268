"""Where arrays are stored and how a step is divided over devices: mesh and shardings.

There are two ways to use many devices. Both divide every batch over all devices. Data parallel:
each device stores the whole state, and gradients are summed over devices. Fully sharded (FSDP): the
devices of a group divide the large arrays of the state among them (parameters, optimizer moments
and average), and gather a parameter when it is used. Every group stores a copy of the state.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.config import FitConfig, RunConfig
from train.data.batch import Batch
from train.devices.cpu_programs import CpuStep, compiler_options, transposes_apart
from train.errors import InputError, first_line
from train.state import TrainState

T = TypeVar("T")

BATCH_AXIS = "data"
STATE_AXIS = "fsdp"
# Smaller arrays (below 32 KiB of float32) are stored whole. To gather them would cost more time
# than the saved memory is worth.
SMALLEST_DIVIDED = 8192


class DoesNotFit(InputError):
    """A step that needs more memory than a device has."""


def make_mesh(devices: int | None, *, run: RunConfig | None = None) -> Mesh:
    """Makes a mesh over the first ``devices`` devices, or over all of them if it is None."""
    available = jax.devices()
    if devices is not None and devices > len(available):
        count = len(available)
        there = f"there are {count} devices. Use {count} or fewer."
        if count == 1:
            there = "there is only 1 device. Use --devices 1."
        raise InputError(f"--devices {devices} is too many, because {there}")
    if devices is not None and devices < len(available) and jax.process_count() > 1:
        raise InputError(
            f"--devices {devices} is not accepted, because several processes use all of their "
            f"{len(available)} devices. Leave it out."
        )
    return mesh_of(available[:devices], run=run)


def mesh_of(devices: Sequence[Any], *, run: RunConfig | None = None) -> Mesh:
    """Makes a mesh over these devices.

    A data parallel mesh has one axis. With FSDP it has two axes: groups, each of which stores a
    copy of the state, and the devices of a group.
    """
    sharded = run is not None and run.parallel == "fsdp"
    arranged = (
        _arrange(devices, run.shards) if run is not None and sharded else _arrange(devices, 1)[:, 0]
    )
    names = (BATCH_AXIS, STATE_AXIS)[: arranged.ndim]
    return Mesh(arranged, names, axis_types=(AxisType.Auto,) * len(names))


def _arrange(devices: Sequence[Any], shards: int | None) -> np.ndarray:
    """Arranges devices as ``[copies, shards]``, with neighbours in the network side by side.

    A slow network connects slices of TPUs. So a copy of the state stays within one slice, unless
    --shards is larger than a slice.
    """
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    each = len(devices) // slices
    shards = shards or each
    if len(devices) % shards:
        sizes = [size for size in range(1, len(devices) + 1) if len(devices) % size == 0]
        raise InputError(
            f"--shards {shards} does not divide {len(devices)} devices. Use one of {sizes}."
        )
    # If whole axes of a torus do not make up a group, the group gets a part of an axis.
    split = {"allow_split_physical_axes": True}
    if slices == 1:
        try:
            return mesh_utils.create_device_mesh((each // shards, shards), devices, **split)
        # The chips of --devices do not fill a box. They stay in the order of JAX's list.
        except AssertionError:
            return np.asarray(devices).reshape(each // shards, shards)
    within = math.gcd(each, shards)
    beyond = shards // within
    inner, outer = (each // within, within), (slices // beyond, beyond)
    return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, **split)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device stores whole."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose first axis is divided over all devices."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def state_sharding(state: TrainState, mesh: Mesh) -> TrainState:
    """Chooses where each array of a state is stored, by its shape.

    Moments and averages have the shape of their parameter, so they are stored together with it. A
    large array is divided over the devices of a group along its longest axis that is divisible. If
    two axes have the same length, the last one is divided, which is that of the output channels.
    Every other array is whole on each device.

    Args:
      state: the state, or its shapes.
      mesh: from :func:`mesh_of`. Without an axis for the state, all arrays are whole.

    Returns:
      A state of shardings.
    """
    shards = mesh.shape.get(STATE_AXIS, 1)

    def lay(x: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(x.shape) if size % shards == 0]
        if shards == 1 or math.prod(x.shape) < SMALLEST_DIVIDED or not axes:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: (x.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, STATE_AXIS))

    return jax.tree.map(lay, state)


def check_divides(batch_size: int, mesh: Mesh, *, parts: int = 1) -> None:
    """Refuses a batch that does not divide over the devices and the parts of a step.

    Args:
      batch_size: number of patches on all devices together.
      mesh: the devices.
      parts: value of ``--accumulate``.

    Raises:
      InputError: the batch does not divide. The message gives the nearest sizes that do.
    """
    divisor = mesh.size * parts
    if batch_size % divisor == 0:
        return
    below, above = batch_size // divisor * divisor, -(-batch_size // divisor) * divisor
    sizes = f"{below} or {above}" if below else str(above)
    devices = "1 device" if mesh.size == 1 else f"{mesh.size} devices"
    what = f"does not divide over {devices}"
    if parts > 1:
        what = f"cannot be split evenly into {parts} parts (--accumulate) on {devices}"
    raise InputError(f"--batch-size {batch_size} {what}. Use {sizes}.")


def rows_of_process(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the indices of the batch's rows that this process's devices need, in order.

    They need not be consecutive, because a mesh may wind through the hosts. On a v5e-16, the first
    host has the devices 0, 1, 6 and 15.
    """
    places = split_by_batch(mesh).addressable_devices_indices_map((batch_size,))
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in places.values()]))


def to_devices(batches: Iterator[Batch], mesh: Mesh) -> Iterator[Any]:
    """Makes global arrays of this process's rows, and sends them to the devices one batch ahead."""

    def divided(local: np.ndarray) -> jax.Array:
        size = len(local) * mesh.size // len(mesh.local_devices)
        rows = rows_of_process(mesh, size)

        def part(index: Any) -> np.ndarray:
            first, end, _ = index[0].indices(size)
            at = int(np.searchsorted(rows, first))
            return local[at : at + end - first]

        return jax.make_array_from_callback((size, *local.shape[1:]), split_by_batch(mesh), part)

    return one_ahead(jax.tree.map(divided, batch) for batch in batches)


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields the same items, but takes each one from ``items`` before the previous is yielded.

    So an array that starts to move to a device when it is made arrives while the device is busy.
    """
    waiting: list[T] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def whole(tree: Any) -> Any:
    """Gathers every array completely on this host. Every process must call this."""

    def gathered(x: jax.Array) -> np.ndarray:
        if x.is_fully_replicated:
            return np.asarray(x.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(gathered, tree)


def on_every_device(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays, which every process has, to each device."""

    def copied(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(x.shape, replicated(mesh), lambda index: x[index])

    return jax.tree.map(copied, tree)


def compile_step(
    step: Callable[..., Any],
    mesh: Mesh,
    *,
    layout: TrainState | None = None,
    cpu_step: CpuStep = "fast",
    more_arguments: int = 0,
) -> Any:
    """Compiles a step for a mesh. The batch is divided, and the state is donated.

    XLA adds the transfers between devices.

    Args:
      step: the update.
      mesh: from :func:`mesh_of`.
      layout: from :func:`state_sharding`; None to store the whole state on every device.
      cpu_step: how it is compiled if the devices are CPUs.
      more_arguments: number of arguments that the step has after state and batch, which every
        device stores whole.

    Returns:
      The jitted step.
    """
    state_layout = replicated(mesh) if layout is None else layout
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    if on_cpu and cpu_step == "fast":
        step = transposes_apart(step, lambda state: state.step)
    return jax.jit(
        step,
        in_shardings=(state_layout, split_by_batch(mesh), *[replicated(mesh)] * more_arguments),
        out_shardings=(state_layout, replicated(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options(cpu_step) if on_cpu else None,
    )


@contextlib.contextmanager
def within_memory(error_of: Callable[[str], InputError]) -> Iterator[None]:
    """Replaces the error for exhausted memory of a device by the error that ``error_of`` makes.

    Args:
      error_of: makes an error that says what to do, such as :func:`does_not_fit`, from the
        backend's text.

    Raises:
      InputError: the error that ``error_of`` makes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise error_of(first_line(error)) from None


def does_not_fit(config: FitConfig, why: str) -> DoesNotFit:
    """Makes the error for a run whose step needs more memory than a device has."""
    advice = (
        " If the state alone is too large, --parallel fsdp divides it."
        if config.run.parallel == "data"
        else ""
    )
    return DoesNotFit(
        f"--batch-size {config.data.batch_size} does not fit into a device's memory ({why}). Use a "
        f"smaller one, --accumulate 2 or --dtype bfloat16.{advice}"
    )
