"""The part of a run's configuration that does not change what is learned.

The text below a field is its help text. Each line of it is a line of ``--help``.
"""

import re
from dataclasses import dataclass
from typing import Literal

from train.bounds import MOST_PROCESSES, between, check_name, less_than
from train.devices.cpu_programs import CpuStep
from train.errors import InputError
from train.inference.scoring.registry import MetricName


@dataclass(frozen=True)
class RunConfig:
    """Where a run is stored, what it writes and logs, and the devices that it uses.

    These options do not change what is learned, apart from rounding.
    """

    out: str | None = None
    """Folder to write to. None: a new numbered folder in runs/."""
    resume: str | None = None
    """Folder of a run to resume, from its newest checkpoint and with its configuration."""
    devices: int | None = None
    """Number of devices that share a batch. None: all of them."""
    parallel: Literal["data", "fsdp"] = "data"
    """What is divided among the devices. data: only the batch (data parallel).
    fsdp: also parameters, optimizer state and the average of --ema (fully sharded)."""
    shards: int | None = None
    """Number of devices that share one copy of the state under --parallel fsdp.
    None: all devices or, with several TPU slices, the devices of one slice."""
    cpu_step: CpuStep = "fast"
    """How the step is compiled on CPUs, which changes its speed and the last bits of its results.
    fast: the faster way; plain: the way of older versions, which did not have this flag.
    A run that was started with an older version is always resumed with plain."""
    distributed: bool = False
    """Train on several hosts together. Run the same command on each.
    The hosts find each other automatically on TPU pods, SLURM and GKE."""
    coordinator: str | None = None
    """Address of process 0 as HOST:PORT, if the processes do not find each other automatically."""
    processes: int | None = None
    """Number of processes, if it cannot be detected."""
    process: int | None = None
    """Index of this process, counted from 0, if it cannot be detected."""
    checkpoint_every: int = 500
    """Steps between checkpoints. The last step always saves one."""
    keep_last: int = 2
    """Number of newest checkpoints to keep.
    If the newest one is damaged, resuming uses the one before it."""
    keep_best: int = 1
    """Number of best checkpoints to keep in addition to the newest ones.
    They score best on the validation photographs, by --best-metric (with tune: by --objective)."""
    best_metric: MetricName = "psnr"
    """Validation metric that decides which checkpoints are best.
    PSNR, SSIM and CIEDE2000 are logged in any case, and this one as well."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    validate_every: int = 500
    """Steps between validations, each of which saves a checkpoint.
    Each uses the centres of up to 16 photographs, with the same noise every time.
    tune stops trials only at a validation."""
    tensorboard: bool = True
    """Write curves and validation pictures for TensorBoard.
    The pictures include errors in brightness and colour, multiplied by four for visibility."""
    profile: tuple[int, int] | None = None
    """First and last step to trace with JAX's profiler, e.g. 100 110.
    The trace is written to the folder "profile" of the run."""
    memory_mb: int = 4096
    """Megabytes of decoded photographs to keep in memory.
    Photographs beyond that are decoded again whenever they are needed, which is slower."""
    workers: int = 0
    """Number of processes that decode the photographs that do not fit in --memory-mb.
    0: use threads, which start faster. The batches do not depend on it."""

    def __post_init__(self) -> None:
        check_name("--out", self.out)
        check_name("--resume", self.resume)
        if self.devices is not None:
            between("--devices", self.devices, 1)
        if self.shards is not None:
            between("--shards", self.shards, 1)
            if self.parallel != "fsdp":
                raise InputError(
                    f"--shards {self.shards} needs --parallel fsdp, which divides the state. "
                    "Give both, or neither."
                )
        self._check_hosts()
        between("--checkpoint-every", self.checkpoint_every, 1)
        between("--keep-last", self.keep_last, 1)
        between("--keep-best", self.keep_best, 0)
        between("--log-every", self.log_every, 1)
        between("--validate-every", self.validate_every, 1)
        if self.profile is not None:
            between("--profile", self.profile[0], 1)
            between("--profile's last step", self.profile[1], self.profile[0])
        between("--memory-mb", self.memory_mb, 0)
        between("--workers", self.workers, 0, most=MOST_PROCESSES)

    def _check_hosts(self) -> None:
        values = {
            "--coordinator": self.coordinator,
            "--processes": self.processes,
            "--process": self.process,
        }
        given = [flag for flag, value in values.items() if value is not None]
        if given and not self.distributed:
            raise InputError(
                f"{given[0]} is for a run of several processes. Give --distributed too."
            )
        if self.coordinator is not None:
            if not re.fullmatch(r".+:\d{1,9}", self.coordinator):
                raise InputError(
                    f"--coordinator must be the HOST:PORT of process 0; got {self.coordinator!r}."
                )
            port = int(self.coordinator.rpartition(":")[2])
            between("--coordinator's port", port, 1, most=65_535)
        if self.processes is not None:
            between("--processes", self.processes, 1)
        if self.process is not None:
            between("--process", self.process, 0)
            if self.processes is not None:
                less_than("--process", self.process, self.processes)
