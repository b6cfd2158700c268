"""The update under jax.pmap, for pipelines that are built on it. ``fit`` does not use this.

    step = pmap_step(config)
    state = replicate(jax.jit(assemble(config).fresh_state)())
    for batch in batches:                       # NumPy, [B, H, W, C]
        state, metrics = step(state, shard(batch))
    network = unreplicate(state).eval_params

Every array has a leading axis over the devices, as pmap needs it. The state is the same on all
devices, and each has its share of a batch. From the same state and batch, the step makes the same
update as the step of ``fit``, with the same noise.
"""

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.assembly import BatchNorm, assemble
from train.config import FitConfig
from train.data.batch import Batch
from train.devices import sharding
from train.errors import InputError
from train.state import Step
from train.step import AcrossDevices

AXIS = "devices"


class MappedAxis(AcrossDevices):
    """The devices of a mapped axis: each has its share of a batch (jax.pmap, jax.shard_map)."""

    def __init__(self, axis_name: str) -> None:
        self.axis_name: str = axis_name

    def _count(self) -> int:
        return jax.lax.psum(1, self.axis_name)

    def rows(self, size: int) -> tuple[jax.Array, jax.Array | int]:
        """Returns the indices of this device's rows, and the number of rows of all devices."""
        here = jnp.arange(size)
        return jax.lax.axis_index(self.axis_name) * size + here, self._count() * size

    def mean(self, tree: Any) -> Any:
        """Computes the mean of every array over the devices."""
        return jax.lax.pmean(tree, self.axis_name)

    def norm(self, tree: Any) -> Any:
        """Computes norms over the gradients of all images.

        In the loss of the whole batch, an image counts less than in the loss of a share, by a
        factor of the number of devices.
        """
        squares = self.mean(jax.tree.map(jnp.square, tree))
        return jax.tree.map(lambda square: jnp.sqrt(square / self._count()), squares)

    def own(self, tree: Any) -> Any:
        """Marks arrays as different on each device.

        jax.shard_map automatically sums gradients of values that all devices share. A mean after
        that changes nothing, so the gradients would be too large by the number of devices. For
        jax.pmap, every value is different on each device anyway.
        """
        lax: Any = jax.lax  # The function is called pvary in JAX 0.7, and pcast in later versions.
        if hasattr(lax, "pcast"):
            return lax.pcast(tree, self.axis_name, to="varying")
        return lax.pvary(tree, self.axis_name)


def pmap_step(
    config: FitConfig,
    *,
    batch_norm: BatchNorm = "global",
    devices: Sequence[jax.Device] | None = None,
) -> Step:
    """Makes the update of a run under jax.pmap: ``step(state, batch) -> (state, metrics)``.

    The state is donated, so it cannot be read after it was given to the step. Gradient, loss,
    terms, learned weights and batch statistics are means over the devices. So the state stays the
    same on all devices, also after skipped updates.

    Args:
      config: the run. Its batch size counts the patches of all devices together. Fields that do not
        concern the update have no effect.
      batch_norm: "global" normalizes with the statistics of the whole batch, as the step of ``fit``
        does. It costs two small sums over the devices for each batch norm, one in the forward and
        one in the backward pass. "per_device" normalizes with the statistics of each device's
        share. It costs nothing, but it trains differently, because smaller shares have noisier
        statistics. The running statistics are then the means over the devices, and their variance
        lacks the variance between the devices' means.
      devices: the devices to run on; all devices by default.

    Returns:
      The step.

    Raises:
      InputError: ``batch_norm`` has another value, there are several processes, or the batch does
        not divide over the devices.
    """
    if batch_norm not in ("global", "per_device"):
        raise InputError(f'batch_norm must be "global" or "per_device"; got {batch_norm!r}.')
    if jax.process_count() > 1:
        raise InputError(
            f"pmap_step is for one process, and there are {jax.process_count()}. To share a run, "
            "use python -m train fit --distributed."
        )
    devices = jax.devices() if devices is None else list(devices)
    sharding.check_divides(
        config.data.batch_size, _mesh(devices), parts=config.optimizer.accumulate
    )
    update = assemble(config, across=MappedAxis(AXIS), batch_norm=batch_norm).update
    return cast(Step, jax.pmap(update, axis_name=AXIS, devices=devices, donate_argnums=0))


def replicate(tree: Any, *, devices: Sequence[jax.Device] | None = None) -> Any:
    """Copies every array to each device, and adds a leading axis over the devices."""
    mesh = _mesh(jax.devices() if devices is None else devices)
    return jax.tree.map(
        lambda x: _put(np.broadcast_to(np.asarray(x), (mesh.size, *x.shape)), mesh), tree
    )


def shard(batch: Batch, *, devices: Sequence[jax.Device] | None = None) -> Any:
    """Divides a batch over the devices: ``[B, ...]`` becomes ``[devices, B / devices, ...]``.

    The rows stay in order.
    """
    mesh = _mesh(jax.devices() if devices is None else devices)
    sharding.check_divides(len(jax.tree.leaves(batch)[0]), mesh)
    return jax.tree.map(lambda x: _put(x.reshape(mesh.size, -1, *x.shape[1:]), mesh), batch)


def unreplicate(tree: Any) -> Any:
    """Returns the first device's arrays to the host. State and metrics are equal on all devices."""
    return jax.tree.map(lambda x: np.asarray(x[0]), jax.device_get(tree))


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _put(x: np.ndarray, mesh: Mesh) -> jax.Array:
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(AXIS)))
