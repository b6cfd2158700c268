"""The update under jax.pmap, for pipelines that are built on it. ``fit`` has no use for this.

    step = pmap_step(config)
    state = replicate(jax.jit(assemble(config).fresh_state)())
    for batch in batches:                       # NumPy, [B, H, W, C]
        state, metrics = step(state, shard(batch))
    network = unreplicate(state).eval_params

Every array has a leading axis over the devices, as pmap has it: the state the same on each, a batch
its share. The step is that of ``fit``: from one state and one batch it makes the update that the
sharded step makes, noise included.
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
        """Numbers of this device's rows, and how many rows all devices have."""
        here = jnp.arange(size)
        return jax.lax.axis_index(self.axis_name) * size + here, self._count() * size

    def mean(self, tree: Any) -> Any:
        """The mean of every array over the devices."""
        return jax.lax.pmean(tree, self.axis_name)

    def norm(self, tree: Any) -> Any:
        """Norms over all images' gradients.

        In the loss of the whole batch each image counts less than in that of a share, by the number
        of devices.
        """
        squares = self.mean(jax.tree.map(jnp.square, tree))
        return jax.tree.map(lambda square: jnp.sqrt(square / self._count()), squares)

    def own(self, tree: Any) -> Any:
        """The same arrays, each device's own.

        jax.shard_map sums gradients of what all devices share by itself, and a mean after that
        changes nothing: they would be too large by the number of devices. To pmap every value is a
        device's own.
        """
        lax: Any = jax.lax  # pvary is the function's name in JAX 0.7, pcast since
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

    The state is donated: what was given to the step cannot be read afterwards. Gradient, loss,
    terms, learned weights and batch statistics are means over the devices, so that the state stays
    the same on all, skipped updates too.

    Args:
      config: the run; its batch size is that of all devices together. What is not about the update
        has no effect.
      batch_norm: "global" normalises by the statistics of the whole batch, as the sharded step
        does, which costs two small sums over the devices for each such layer, one on the way
        forward and one back. "per_device" normalises by those of each device's share, which costs
        nothing, and is another training: the noise of the statistics is that of the smaller share.
        The running statistics are the mean of the devices' then; of the variance they lack what the
        devices' means differ by.
      devices: to run on; all by default.

    Returns:
      The step.

    Raises:
      InputError: ``batch_norm`` is neither, there are several processes, or the batch does not
        divide over the devices.
    """
    if batch_norm not in ("global", "per_device"):
        raise InputError(f'batch_norm takes "global" or "per_device"; got {batch_norm!r}.')
    if jax.process_count() > 1:
        raise InputError(
            "pmap_step is for one process; several share a run by python -m train fit "
            "--distributed."
        )
    devices = jax.devices() if devices is None else list(devices)
    sharding.check_divides(config.data.batch_size, _mesh(devices), config.optimizer.accumulate)
    update = assemble(config, across=MappedAxis(AXIS), batch_norm=batch_norm).update
    return cast(Step, jax.pmap(update, axis_name=AXIS, devices=devices, donate_argnums=0))


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """A copy of every array on each device, behind a leading axis."""
    mesh = _mesh(jax.devices() if devices is None else devices)
    return jax.tree.map(
        lambda x: _put(np.broadcast_to(np.asarray(x), (mesh.size, *x.shape)), mesh), tree
    )


def shard(batch: Batch, devices: Sequence[jax.Device] | None = None) -> Any:
    """A batch over the devices, ``[B, ...]`` to ``[devices, B / devices, ...]``, rows in order."""
    mesh = _mesh(jax.devices() if devices is None else devices)
    sharding.check_divides(len(jax.tree.leaves(batch)[0]), mesh)
    return jax.tree.map(lambda x: _put(x.reshape(mesh.size, -1, *x.shape[1:]), mesh), batch)


def unreplicate(tree: Any) -> Any:
    """The arrays of the first device, on the host. All have the same state and metrics."""
    return jax.tree.map(lambda x: np.asarray(x[0]), jax.device_get(tree))


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _put(x: np.ndarray, mesh: Mesh) -> jax.Array:
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec(AXIS)))
