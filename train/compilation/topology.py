"""Devices that are not here, by name: machines that XLA compiles for, and their memory."""

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

# What a program may take of a device's memory, in GiB, as libtpu 0.0.42 says where it refuses one:
# all but a little of the chip's. Of a v4 and a TPU7x each half is a device to the compiler: 32 and
# 192 GiB a chip.
_TPU_ROOM = {
    "TPU v4": 15.25,
    "TPU v5 lite": 15.75,
    "TPU v5": 95.74,
    "TPU v6 lite": 31.25,
    "TPU7x": 94.75,
}
_CHIPS_OF_A_HOST = 4  # that libtpu takes for granted

# libtpu is loaded to compile with, beside other processes that do the same; on a machine without a
# TPU it would ask about the pod that this machine is no part of, and print errors that mean
# nothing. Set by the user they stay.
_ENVIRONMENT = {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
_WITHOUT_TPU = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-1"}

_DESCRIPTIONS = "xla/backends/gpu/target_config/specs of github.com/openxla/xla"


def topology_mesh(topology: str, *, slices: int = 1, gpu: str | None = None) -> Mesh:
    """A mesh of one axis over all devices of a topology such as "v5e:2x2".

    Args:
      topology: of TPUs, or "cuda:8", "cuda:2x8": so many GPUs in a machine, or in each of so many
        machines.
      slices: of TPUs.
      gpu: file with XLA's description of the GPU (a GpuTargetConfig as text); None: the one in this
        machine.

    Returns:
      The mesh.

    Raises:
      InputError: if XLA knows no such machine.
    """
    family, _, sizes = topology.partition(":")
    if family == "cuda":
        devices = _gpus(topology, sizes, slices, gpu)
    elif gpu is not None:
        raise InputError(
            "--gpu describes the GPUs of --topology cuda:8 and its like; got --topology "
            f"{topology}."
        )
    else:
        devices = _tpus(topology, sizes, slices)
    return Mesh(np.asarray(devices), (sharding.BATCH_AXIS,), axis_types=(AxisType.Auto,))


def memory_per_device(mesh: Mesh, *, gpu: str | None = None) -> int | None:
    """Bytes that a program may take of a device's memory; None where nothing says."""
    device = mesh.devices.flat[0]
    if device.platform == "tpu":
        known = _TPU_ROOM.get(device.device_kind)
        return None if known is None else int(known * 2**30)
    if gpu is not None:
        size = re.search(r"device_memory_size:\s*(\d+)", Path(gpu).read_text())
        return int(size[1]) if size else None
    try:
        return (jax.devices("cuda")[0].memory_stats() or {}).get("bytes_limit")
    except RuntimeError:  # JAX was told to leave the GPU alone
        return None


def _tpus(topology: str, sizes: str, slices: int) -> list[Any]:
    # So set by jax where it finds no chips
    without_tpu = os.environ.get("TPU_SKIP_MDS_QUERY") == "1"
    for name, value in (_ENVIRONMENT | (_WITHOUT_TPU if without_tpu else {})).items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    sides = [int(side) for side in re.findall(r"\d+", sizes)]
    if math.prod(sides) < _CHIPS_OF_A_HOST:
        options["chips_per_host_bounds"] = (sides + [1, 1, 1])[:3]  # a part of a host
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **options
        ).devices
    # Libtpu missing, or a name that it does not know: both come in several types
    except Exception as error:
        if importlib.util.find_spec("libtpu") is None:
            raise InputError(
                f"--topology {topology} needs libtpu, the compiler: pip install -e '.[tpu]'."
            ) from None
        raise InputError(
            f"--topology {topology} is none that libtpu compiles for ({first_line(error)}): take "
            "one such as v5e:2x2, v6e:2x4 or v4:2x2x1."
        ) from None


def _gpus(topology: str, sizes: str, slices: int, gpu: str | None) -> list[Any]:
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", sizes) or slices > 1:
        raise InputError(
            f"--topology {topology} --slices {slices}: GPUs are cuda:8, eight in one machine, or "
            "cuda:2x8, in two."
        )
    machines = sizes if "x" in sizes else f"1x{sizes}"
    try:
        options = {} if gpu is None else {"target_config": Path(gpu).read_text()}
    except OSError as error:
        raise InputError(
            f"--gpu {gpu} cannot be read ({error}): take a file of {_DESCRIPTIONS}."
        ) from None
    try:
        return topologies.get_topology_desc(
            platform="cuda", topology=f"1x{machines}", **options
        ).devices
    except Exception as error:  # no plugin, no GPU, or a description that the plugin cannot read
        said = first_line(error)
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        raise InputError(
            f"--topology {topology} needs JAX's CUDA plugin: pip install 'jax[cuda13]'."
        )
    if gpu is None:
        raise InputError(
            f"--topology {topology}: no GPU is here ({said}): give --gpu FILE, one of "
            f"{_DESCRIPTIONS}."
        )
    raise InputError(
        f"--gpu {gpu} is not taken ({said}): take a file of {_DESCRIPTIONS}, and install a CUDA "
        "toolkit."
    )
