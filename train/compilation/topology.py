"""Devices of other machines, which XLA can compile for, and the size of their memory."""

import importlib.util
import math
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from train.devices import sharding
from train.errors import InputError, first_line

# Memory of a device that a program may use, in GiB. libtpu 0.0.42 gives these numbers when it
# refuses a program. They are a little less than the chip's memory. For the compiler, each half of a
# v4 chip (32 GiB) and of a TPU7x chip (192 GiB) is a device.
_TPU_ROOM = {
    "TPU v4": 15.25,
    "TPU v5 lite": 15.75,
    "TPU v5": 95.74,
    "TPU v6 lite": 31.25,
    "TPU7x": 94.75,
}
_CHIPS_OF_A_HOST = 4  # libtpu assumes this number

# libtpu is only used to compile, so several processes may load it. On a machine without a TPU it
# would ask for the machine's pod and print meaningless errors. Values that the user has set are
# kept.
_ENVIRONMENT = {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
_WITHOUT_TPU = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-1"}

_DESCRIPTIONS = "xla/backends/gpu/target_config/specs in github.com/openxla/xla"


def topology_mesh(topology: str, *, slices: int = 1, gpu: str | None = None) -> Mesh:
    """Makes a mesh with one axis over all devices of a topology such as "v5e:2x2".

    Args:
      topology: arrangement of TPUs; "cuda:8" for 8 GPUs in a machine, or "cuda:2x8" for two such
        machines.
      slices: number of TPU slices.
      gpu: file with XLA's description of the GPU (a GpuTargetConfig as text); None for the GPU in
        this machine.

    Returns:
      The mesh.

    Raises:
      InputError: XLA does not know such a machine.
    """
    family, _, sizes = topology.partition(":")
    if family == "cuda":
        devices = _gpus(topology, sizes, slices, gpu)
    elif gpu is not None:
        raise InputError(
            "--gpu describes GPUs, and needs a --topology such as cuda:8; got --topology "
            f"{topology}."
        )
    else:
        devices = _tpus(topology, sizes, slices)
    return Mesh(np.asarray(devices), (sharding.BATCH_AXIS,), axis_types=(AxisType.Auto,))


def memory_per_device(mesh: Mesh, *, gpu: str | None = None) -> int | None:
    """Returns the bytes of a device's memory that a program may use; None if that is not known."""
    device = mesh.devices.flat[0]
    if device.platform == "tpu":
        known = _TPU_ROOM.get(device.device_kind)
        return None if known is None else int(known * 2**30)
    if gpu is not None:
        size = re.search(r"device_memory_size:\s*(\d+)", Path(gpu).read_text())
        return int(size[1]) if size else None
    try:
        return (jax.devices("cuda")[0].memory_stats() or {}).get("bytes_limit")
    except RuntimeError:  # JAX was told not to use the GPU.
        return None


def _tpus(topology: str, sizes: str, slices: int) -> list[Any]:
    # JAX sets this if it does not find any chips.
    without_tpu = os.environ.get("TPU_SKIP_MDS_QUERY") == "1"
    for name, value in (_ENVIRONMENT | (_WITHOUT_TPU if without_tpu else {})).items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    sides = [int(side) for side in re.findall(r"\d+", sizes)]
    if math.prod(sides) < _CHIPS_OF_A_HOST:
        options["chips_per_host_bounds"] = (sides + [1, 1, 1])[
            :3
        ]  # These chips are part of a host.
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **options
        ).devices
    # libtpu is missing, or does not know the name. Both raise errors of several types.
    except Exception as error:
        if importlib.util.find_spec("libtpu") is None:
            raise InputError(
                f"--topology {topology} needs the compiler libtpu. Install it with: pip install "
                "-e '.[tpu]'"
            ) from None
        raise InputError(
            f"libtpu does not accept --topology {topology}{_why(error)}. Use one such as v5e:2x2, "
            "v6e:2x4 or v4:2x2x1."
        ) from None


def _why(error: Exception) -> str:
    """Returns libtpu's reason after a colon. A regular expression would not help anybody."""
    reason = first_line(error).removeprefix("INVALID_ARGUMENT: ")
    return "" if "regex" in reason else f": {reason.rstrip('.')}"


def _gpus(topology: str, sizes: str, slices: int, gpu: str | None) -> list[Any]:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", sizes) or slices > 1:
        raise InputError(
            f"--topology {topology} --slices {slices} is not accepted. For GPUs, use cuda:8 (8 in "
            "one machine) or cuda:2x8 (8 in each of two machines), without --slices."
        )
    machines = sizes if "x" in sizes else f"1x{sizes}"
    try:
        options = {} if gpu is None else {"target_config": Path(gpu).read_text()}
    except OSError as error:
        raise InputError(
            f"--gpu {gpu} cannot be read ({error}). Use a file from {_DESCRIPTIONS}."
        ) from None
    try:
        return topologies.get_topology_desc(
            platform="cuda", topology=f"1x{machines}", **options
        ).devices
    # There is no plugin or no GPU, or the plugin cannot read the description.
    except Exception as error:
        reason = first_line(error)
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        raise InputError(
            f"--topology {topology} needs JAX's CUDA plugin. Install it with: pip install "
            "'jax[cuda13]'"
        )
    if gpu is None:
        raise InputError(
            f"--topology {topology} needs --gpu, because this machine does not have a GPU "
            f"({reason}). Give --gpu FILE with a file from {_DESCRIPTIONS}."
        )
    raise InputError(
        f"--gpu {gpu} was not accepted ({reason}). Use a file from {_DESCRIPTIONS}, and install a "
        "CUDA toolkit."
    )
