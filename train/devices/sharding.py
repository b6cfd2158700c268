"""Where arrays lie and how functions are compiled: mesh, shardings, compiler options.

Two ways to use many devices, both of which divide every batch over all of them. Data parallel: each
device holds the whole state, and gradients are summed over devices. Fully sharded (FSDP): devices
of a group divide the large arrays of the state between them, parameters, optimizer moments and
average alike, and gather a parameter when it is used; groups hold copies of one another.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.config import FitConfig, RunConfig
from train.data.batch import Batch
from train.errors import InputError, first_line
from train.state import Step, TrainState

T = TypeVar("T")

BATCH_AXIS = "data"
STATE_AXIS = "fsdp"
# Arrays of fewer elements (32 KiB of float32) are held whole: to gather them would take longer than
# they save memory.
SMALLEST_DIVIDED = 8192

# jaxlib 0.10 sends CPU convolutions to a one-threaded path whose weight gradient is slow; this
# keeps them with Eigen and about halves the time of a training step.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


class DoesNotFit(InputError):
    """A step that needs more memory than a device has."""


def make_mesh(devices: int | None = None, run: RunConfig | None = None) -> Mesh:
    """The mesh of a run over the first ``devices`` devices, or over all of them."""
    available = jax.devices()
    if devices is not None and devices > len(available):
        raise InputError(
            f"--devices {devices}: there are {len(available)} here; take that many or fewer."
        )
    if devices is not None and devices < len(available) and jax.process_count() > 1:
        raise InputError(
            f"--devices {devices}: of several processes all {len(available)} devices are taken; "
            "drop it."
        )
    return mesh_of(available[:devices], run)


def mesh_of(devices: Sequence[Any], run: RunConfig | None = None) -> Mesh:
    """A mesh over these devices.

    Data parallel it has one axis. With FSDP it has two: groups that hold a copy of the state each,
    and the devices of a group.
    """
    sharded = run is not None and run.parallel == "fsdp"
    arranged = (
        _arrange(devices, run.shards) if run is not None and sharded else _arrange(devices, 1)[:, 0]
    )
    names = (BATCH_AXIS, STATE_AXIS)[: arranged.ndim]
    return Mesh(arranged, names, axis_types=(AxisType.Auto,) * len(names))


def _arrange(devices: Sequence[Any], shards: int | None) -> np.ndarray:
    """``[copies, shards]``, neighbours in the network next to each other.

    Slices of TPUs are linked by a slow network: a copy of the state lies within one, unless it is
    asked to be larger.
    """
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    each = len(devices) // slices
    shards = shards or each
    if len(devices) % shards:
        sizes = [size for size in range(1, len(devices) + 1) if len(devices) % size == 0]
        raise InputError(
            f"--shards {shards} does not divide {len(devices)} devices: take one of {sizes}."
        )
    # Where no whole axes of a torus make up a group, it takes a part of one.
    split = {"allow_split_physical_axes": True}
    if slices == 1:
        try:
            return mesh_utils.create_device_mesh((each // shards, shards), devices, **split)
        except AssertionError:  # by --devices, chips that fill no box: as they stand in JAX's list
            return np.asarray(devices).reshape(each // shards, shards)
    within = math.gcd(each, shards)
    beyond = shards // within
    inner, outer = (each // within, within), (slices // beyond, beyond)
    return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, **split)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_batch(mesh: Mesh) -> NamedSharding:
    """The first axis is divided over all devices."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def state_sharding(state: TrainState, mesh: Mesh) -> TrainState:
    """Where each array of a state lies, by its shape alone.

    Moments and average so follow their parameter.

    Of an array that is large enough the longest axis that the devices of a group divide is divided
    over them (of two as long the last one: output channels); every other array is whole on each
    device.

    Args:
      state: shapes, or the state itself.
      mesh: of :func:`mesh_of`; without an axis for the state everything is whole.
    """
    shards = mesh.shape.get(STATE_AXIS, 1)

    def lay(x: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(x.shape) if size % shards == 0]
        if shards == 1 or math.prod(x.shape) < SMALLEST_DIVIDED or not axes:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: (x.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, STATE_AXIS))

    return jax.tree.map(lay, state)


def check_divides(batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Refuses a batch that does not divide over the devices, or over the parts of a step.

    Args:
      batch_size: of all devices together.
      mesh: the devices.
      parts: of ``--accumulate``.

    Raises:
      InputError: it does not divide; the error names the nearest sizes that do.
    """
    divisor = mesh.size * parts
    if batch_size % divisor == 0:
        return
    below, above = batch_size // divisor * divisor, -(-batch_size // divisor) * divisor
    sizes = f"{below} or {above}" if below else str(above)
    what = (
        f"{mesh.size} devices"
        if parts == 1
        else f"{mesh.size} devices in {parts} parts (--accumulate)"
    )
    raise InputError(f"--batch-size {batch_size} does not divide over {what}: take {sizes}.")


def rows_of_process(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Numbers of a batch's rows that the devices of this process take, ascending.

    No block where a mesh winds through the hosts: on a v5e-16 the first takes devices 0, 1, 6 and
    15.
    """
    places = split_by_batch(mesh).addressable_devices_indices_map((batch_size,))
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in places.values()]))


def to_devices(batches: Iterator[Batch], mesh: Mesh) -> Iterator[Any]:
    """Global arrays of this process's rows, each sent to the devices one batch ahead of its use."""

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
    """The same items, each asked for before the one before it is given.

    What begins to move to a device when it is made so arrives while the device is at work.
    """
    waiting: list[T] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def whole(tree: Any) -> Any:
    """All of every array on this host, wherever its parts lie. Every process has to call this."""

    def gathered(x: jax.Array) -> np.ndarray:
        if x.is_fully_replicated:
            return np.asarray(x.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(gathered, tree)


def compile_step(step: Step, mesh: Mesh, layout: TrainState | None = None) -> Step:
    """The step over a mesh: the batch is divided, and the state is donated.

    XLA adds what has to move between devices.

    Args:
      step: the update.
      mesh: of :func:`mesh_of`.
      layout: of :func:`state_sharding`; None: the state is whole on every device.
    """
    lies = replicated(mesh) if layout is None else layout
    return jax.jit(
        step,
        in_shardings=(lies, split_by_batch(mesh)),
        out_shardings=(lies, replicated(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options() if mesh.devices.flat[0].platform == "cpu" else None,
    )


@contextlib.contextmanager
def within_memory(error_of: Callable[[str], InputError]) -> Iterator[None]:
    """Within it, that a device's memory is exhausted becomes the error that ``error_of`` makes.

    Args:
      error_of: from the backend's own words to an error that says what to do, such as
        :func:`does_not_fit` of a run.

    Raises:
      InputError: the one that ``error_of`` made.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise error_of(first_line(error)) from None


def does_not_fit(config: FitConfig, why: str) -> DoesNotFit:
    """The error of a run whose step needs more memory than a device has."""
    whole = (
        " Where the state alone is too large, --parallel fsdp divides it."
        if config.run.parallel == "data"
        else ""
    )
    return DoesNotFit(
        f"--batch-size {config.data.batch_size} does not fit a device's memory ({why}): take a "
        f"smaller one, --accumulate 2 or --dtype bfloat16.{whole}"
    )


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """Options for this backend, where a trial compilation accepts them.

    An unknown name is an error that can be caught here; in XLA_FLAGS it would end the process.
    """
    if jax.default_backend() != "cpu":
        return None
    trial: Any = jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS)
    try:
        trial.lower(0.0).compile()
    # An older or newer jaxlib names its options differently, and its error has no one type
    except Exception:
        return None
    return dict(_CPU_OPTIONS)
