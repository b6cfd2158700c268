"""What a run is: a tree of frozen dataclasses, kept as JSON in the run's folder."""

import dataclasses
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lumloss_jax import losses
from train.bounds import (
    MOST_NOISE,
    MOST_PROCESSES,
    MOST_SEED,
    at_least,
    between,
    check_batch,
    check_name,
    less_than,
    more_than,
)
from train.errors import InputError
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json
from train.files.typed_fields import from_tree
from train.network import parse_model

_LONGEST_FILE = 1_000_000  # bytes of a configuration


@dataclass(frozen=True)
class DataConfig:
    """Photographs, and how patches are cut from them.

    Photographs are named by "photos" (those that scikit-image ships), "folder:PATH" (searched
    recursively), "pairs:LOW_DIR,HIGH_DIR", "pairs:DIR?input=GLOB&target=GLOB" or
    "tfds:NAME[/CONFIG]:SPLIT".
    """

    source: Annotated[str, tyro.conf.arg(name="data")] = "photos"
    """Photographs to train on. To clean ones noise is added afresh in each step; pairs are taken as
    they are."""
    validation_source: Annotated[str | None, tyro.conf.arg(name="validation-data")] = None
    """Photographs to pick settings on. None: those of "photos", or a tenth of --data; "none": no
    validation."""
    test_source: Annotated[str | None, tyro.conf.arg(name="test-data")] = None
    """Photographs to evaluate on, never trained on. None: those of "photos", or a tenth of
    --data."""
    group_by: Literal["pixels", "folder"] = "pixels"
    """What stays together if a tenth is set aside: copies of one photograph, or all of a folder
    (bursts)."""
    patch_size: int = 40
    """Side of a training patch, in pixels."""
    batch_size: int = 16
    """Patches in a step, over all devices together."""
    sigma: float = 25.0
    """Standard deviation of the Gaussian noise, on the scale of 0 to 255."""
    blind: bool = False
    """Train on noise of every level: each patch has its own, uniform from 0 to --sigma."""
    low_light: tuple[float, float] | None = None
    """Darken instead of --sigma: least and largest share of the light that is left, e.g. 0.02 0.1;
    noise included."""

    def __post_init__(self) -> None:
        between("--patch-size", self.patch_size, 1)
        between("--batch-size", self.batch_size, 1)
        check_batch(self.batch_size, self.patch_size)
        between("--sigma", self.sigma, 0, most=MOST_NOISE)
        if self.low_light and (self.blind or not 0 < self.low_light[0] <= self.low_light[1] <= 1):
            light = " ".join(map(str, self.low_light))
            raise InputError(
                "--low-light must be two shares, 0 < least <= largest <= 1, without --blind; got "
                f"{light}."
            )


# "balanced(METHOD)" or "balanced(METHOD, LOSS)"; the library parses LOSS, and shows its mistakes.
_BALANCED = re.compile(r"\s*balanced\(\s*(?P<method>\w+)\s*(?:,\s*(?P<loss>.+?)\s*)?\)\s*")


@dataclass(frozen=True)
class ModelConfig:
    """The network and what it is trained to make small."""

    model: str = "dncnn(depth=8, features=32, batch_norm=False)"
    """Network and its fields, as lumloss_jax.models.create_model takes them, e.g. "dncnn(depth=17,
    features=64)"."""
    init_from: str | None = None
    """Run or checkpoint whose weights to start from, with a fresh optimizer (fine-tuning). None:
    fresh weights."""
    loss: str = "luminance_l1"
    """Loss, e.g. "luminance_l1(window_size=7)", "mse", "0.8*ssim + 0.2*l1"."""
    balance: Literal["none", "uncertainty", "gradnorm", "dwa"] = "none"
    """Learn the weights of the terms of --loss, or of luminance_l1's two; also --loss
    "balanced(METHOD, LOSS)"."""
    balance_rate: float = 0.025
    """Step of the learned weights, for uncertainty and gradnorm."""
    balance_every: int = 200
    """Steps over which dwa averages the losses that it compares."""
    level_weight: float = 0.0
    """Weight of buifd's noise level; --loss mse --level-weight 1 --blind is its published
    objective, scaled."""
    level_sigma: float = 75.0
    """Noise (0 to 255) that buifd's level of 1 stands for: the highest of its training, 55 or 75 as
    published."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format inside the network. Parameters, losses and all sums over pixels are float32
    either way."""

    def __post_init__(self) -> None:
        loss, balance = self._split_balanced()
        try:
            loss = str(losses.parse_loss(loss))
        except ValueError as error:
            raise InputError(f"--loss: {error}") from None
        # One spelling of a loss is saved, and compared on resume, whatever the user's spaces.
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "balance", balance)
        parse_model(self.model)
        check_name("--init-from", self.init_from)
        more_than("--balance-rate", self.balance_rate, 0)
        between("--balance-every", self.balance_every, 1)
        at_least("--level-weight", self.level_weight, 0)
        more_than("--level-sigma", self.level_sigma, 0)
        between("--level-sigma", self.level_sigma, 0, most=MOST_NOISE)

    def _split_balanced(self) -> tuple[str, str]:
        """--loss and --balance, which "balanced(METHOD, LOSS)" gives in one."""
        balanced = _BALANCED.fullmatch(self.loss)
        if balanced is None:
            return self.loss, self.balance
        method, loss = balanced["method"], balanced["loss"] or "luminance_l1"
        accepted = typing.get_args(typing.get_type_hints(ModelConfig)["balance"])[1:]
        if method not in accepted:
            raise InputError(f"--loss: balanced takes {', '.join(accepted)}; got {method!r}.")
        if self.balance not in ("none", method):
            raise InputError(
                f"--loss {self.loss!r} and --balance {self.balance} contradict each other: "
                "give one."
            )
        return loss, method


@dataclass(frozen=True)
class OptimizerConfig:
    """From gradients to updates."""

    steps: int = 1500
    """Updates to make."""
    learning_rate: float = 2e-3
    """Highest learning rate."""
    schedule: Literal[
        "cosine",
        "constant",
        "step",
        "buifd",
        "dncnn_pytorch",
        "dncnn_kair",
        "drunet",
        "retinexformer",
    ] = "cosine"
    """After the warm-up: half a cosine to 1 %, constant, --decay-steps, or as published
    (train/optimizer.py)."""
    decay_steps: tuple[int, ...] = ()
    """Updates at which --schedule step lowers the rate, e.g. 30000 60000."""
    decay_factor: float = 0.1
    """What it is multiplied by there."""
    warmup_steps: int = 50
    """Steps over which the rate rises from 0; the published schedules have none: 0."""
    optimizer: Literal["adam", "adamw", "lion", "sgd"] = "adam"
    """Lion wants about a tenth of Adam's rate, SGD, with its momentum, up to a hundred times as
    much."""
    weight_decay: float = 0.0
    """Decay of the weights (not of biases and gains) in adamw, lion and sgd."""
    momentum: float = 0.9
    """Momentum of sgd."""
    clip_norm: float | None = None
    """Largest global norm of the gradient; larger ones are scaled down to it. None: no clipping."""
    accumulate: int = 1
    """Parts in which a batch passes the network, one by one, for one update: memory is that of one
    part."""
    ema: float = 0.0
    """Decay of an average of parameters and batch statistics, which is evaluated and released, e.g.
    0.999. 0: none."""
    max_skips: int = 10
    """Updates in a row that may be skipped because something was not finite; the run stops after
    these."""

    def __post_init__(self) -> None:
        between("--steps", self.steps, 1)
        more_than("--learning-rate", self.learning_rate, 0)
        between("--warmup-steps", self.warmup_steps, 0)
        if self.clip_norm is not None:
            more_than("--clip-norm", self.clip_norm, 0)
        if (self.schedule == "step") != bool(self.decay_steps):
            raise InputError("--schedule step and --decay-steps go together: give both or neither.")
        for step in self.decay_steps:
            between("--decay-steps", step, 1)
        more_than("--decay-factor", self.decay_factor, 0)
        at_least("--weight-decay", self.weight_decay, 0)
        if self.weight_decay and self.optimizer == "adam":
            raise InputError("--weight-decay: adam has none; take --optimizer adamw.")
        at_least("--momentum", self.momentum, 0)
        between("--accumulate", self.accumulate, 1)
        at_least("--ema", self.ema, 0)
        less_than("--ema", self.ema, 1)
        between("--max-skips", self.max_skips, 1)


@dataclass(frozen=True)
class RunConfig:
    """Where a run stands, what it writes, and its devices. None of it changes what is learned."""

    out: str | None = None
    """Folder of the run. None: a new numbered folder under runs/."""
    resume: str | None = None
    """Folder of a run to resume, from its last checkpoint and with its configuration."""
    devices: int | None = None
    """Devices that share a batch. None: all there are."""
    parallel: Literal["data", "fsdp"] = "data"
    """What else they share: nothing (data parallel), or parameters, optimizer and average too
    (fully sharded)."""
    shards: int | None = None
    """Devices that hold one copy of these between them under --parallel fsdp. None: all, or those
    of one TPU slice."""
    distributed: bool = False
    """Share the run with other hosts, each of which runs this command: found by itself on TPU pods,
    SLURM and GKE."""
    coordinator: str | None = None
    """Address of process 0, HOST:PORT, if processes do not find one another by themselves."""
    processes: int | None = None
    """Number of processes, if it cannot be detected."""
    process: int | None = None
    """Number of this process, from 0, if it cannot be detected."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always has one."""
    keep_last: int = 2
    """Newest checkpoints to keep: should the newest be damaged, a resume takes the one before."""
    keep_best: int = 1
    """Checkpoints to keep beside them: those of the best --best-metric on the validation
    photographs."""
    best_metric: Literal["psnr", "ssim", "ciede2000"] = "psnr"
    """Validation metric by which checkpoints are best: the highest PSNR or SSIM, or the lowest
    CIEDE2000."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    validate_every: int = 500
    """Steps between validations (middles of 16 photographs, noise that never changes), each with a
    checkpoint."""
    tensorboard: bool = True
    """Write curves, and a validation photograph with its brightness and colour error, enlarged four
    times."""
    profile: tuple[int, int] | None = None
    """First and last step to trace with JAX's profiler, into the run's folder profile, e.g.
    --profile 100 110."""
    memory_mb: int = 4096
    """Megabytes of decoded photographs to keep; what does not fit is decoded over and over:
    slower."""
    workers: int = 0
    """Processes that decode what does not fit --memory-mb. 0: threads, which start sooner. The
    batches are the same."""

    def __post_init__(self) -> None:
        check_name("--out", self.out)
        check_name("--resume", self.resume)
        if self.devices is not None:
            between("--devices", self.devices, 1)
        if self.shards is not None:
            between("--shards", self.shards, 1)
            if self.parallel != "fsdp":
                raise InputError(
                    "--shards divides the state under --parallel fsdp. Give both, or neither."
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
        told = {
            "--coordinator": self.coordinator,
            "--processes": self.processes,
            "--process": self.process,
        }
        given = [flag for flag, value in told.items() if value is not None]
        if given and not self.distributed:
            raise InputError(
                f"{given[0]} is for a run of several processes: give --distributed too."
            )
        if self.coordinator is not None:
            if not re.fullmatch(r".+:\d{1,9}", self.coordinator):
                got = f"got {self.coordinator!r}"
                raise InputError(f"--coordinator takes HOST:PORT of process 0; {got}.")
            port = int(self.coordinator.rpartition(":")[2])
            between("--coordinator's port", port, 1, most=65_535)
        if self.processes is not None:
            between("--processes", self.processes, 1)
        if self.process is not None:
            between("--process", self.process, 0)
            if self.processes is not None:
                less_than("--process", self.process, self.processes)


@dataclass(frozen=True)
class FitConfig:
    """Train a network, evaluate it on photographs that it never saw, write a report."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    seed: int = 0
    """Seed of everything random: initial weights, patches, noise."""

    def __post_init__(self) -> None:
        between("--seed", self.seed, 0, most=MOST_SEED)
        if (traced := self.run.profile) and traced[0] > self.optimizer.steps:
            raise InputError(
                f"--profile {traced[0]} {traced[1]} traces nothing: the run has "
                f"{self.optimizer.steps} steps; take some of these."
            )


def save_config(config: FitConfig, path: Path) -> None:
    """Writes ``config`` as JSON, whole or not at all: a process that resumes may be killed."""
    write_json(dataclasses.asdict(config), path)


def load_config(path: Path) -> FitConfig:
    """Reads what :func:`save_config` wrote, and refuses unknown keys and values of wrong types."""
    return from_tree(FitConfig, read_tree(path), str(path))


def read_tree(path: Path) -> Any:
    """What a configuration's file holds, before it is known to be a configuration."""
    try:
        return read_json(path, longest=_LONGEST_FILE)
    except FileNotFoundError:
        raise InputError(f"{path.parent} holds no run: {path.name} is missing there.") from None
    except UnreadableError as error:
        raise InputError(f"{path} cannot be read as a run's configuration: {error}.") from None
