"""The configuration of a run: a tree of frozen dataclasses, saved as JSON in the run's folder.

The text below a field is its help text. Each line of it is a line of ``--help``.
"""

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
    MOST_SEED,
    at_least,
    between,
    check_batch,
    check_name,
    hint,
    less_than,
    more_than,
)
from train.errors import InputError
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json
from train.files.typed_fields import from_tree
from train.network import parse_model
from train.run_config import RunConfig

_LONGEST_FILE = 1_000_000  # bytes of a configuration file


@dataclass(frozen=True)
class DataConfig:
    """Photographs, and how training patches are made from them.

    A data set is named by "photos" (the photographs in scikit-image), "samples" (the same, with
    more pictures to test on), "folder:PATH" (searched recursively), "pairs:LOW_DIR,HIGH_DIR",
    "pairs:DIR?input=GLOB&target=GLOB" or "tfds:NAME[/CONFIG]:SPLIT".
    """

    source: Annotated[str, tyro.conf.arg(name="data")] = "photos"
    """Data set to train on.
    Clean photographs get new noise in every step; pairs are used as they are."""
    validation_source: Annotated[
        str | None, tyro.conf.arg(name="validation-data", help_behavior_hint=hint)
    ] = None
    """Data set for validation during training and for choosing settings.
    None, the default: about a tenth of --data is set aside.
    "photos" and "samples" have their own validation photographs.
    "none", in lower case: train without validation. compare and tune need validation."""
    test_source: Annotated[str | None, tyro.conf.arg(name="test-data", help_behavior_hint=hint)] = (
        None
    )
    """Data set to evaluate on. The network is never trained on it.
    Default: about a tenth of --data is set aside.
    "photos" and "samples" have their own test photographs."""
    group_by: Literal["pixels", "folder"] = "pixels"
    """Which photographs of --data are kept together in one split: training, validation or test.
    pixels: exact copies (identical pixels); folder: photographs in one folder, such as a burst."""
    patch_size: int = 40
    """Side of a training patch, in pixels."""
    batch_size: int = 16
    """Patches per step, over all devices together."""
    sigma: float = 25.0
    """Standard deviation of the Gaussian noise, on the scale of 0 to 255."""
    blind: bool = False
    """Train on all noise levels: each patch has its own, drawn uniformly from 0 to --sigma."""
    low_light: tuple[float, float] | None = None
    """Darken the clean photographs and add a sensor's noise, instead of adding noise of --sigma.
    The numbers are the smallest and the largest share of light that is left, e.g. 0.02 0.1."""

    def __post_init__(self) -> None:
        between("--patch-size", self.patch_size, 1)
        between("--batch-size", self.batch_size, 1)
        check_batch(self.batch_size, self.patch_size)
        between("--sigma", self.sigma, 0, most=MOST_NOISE)
        if self.low_light and (self.blind or not 0 < self.low_light[0] <= self.low_light[1] <= 1):
            light = " ".join(map(str, self.low_light))
            raise InputError(
                f"--low-light {light} is not accepted. Give two shares of the light, smallest "
                "first, above 0 and at most 1, and leave out --blind."
            )


# "balanced(METHOD)" or "balanced(METHOD, LOSS)". The library parses LOSS and reports its mistakes.
_BALANCED = re.compile(r"\s*balanced\(\s*(?P<method>\w+)\s*(?:,\s*(?P<loss>.+?)\s*)?\)\s*")


@dataclass(frozen=True)
class ModelConfig:
    """The network, and the loss that it is trained with."""

    model: str = "dncnn(depth=8, features=32, batch_norm=False)"
    """Network and its settings, as for lumloss_jax.models.create_model.
    Example: "dncnn(depth=17, features=64)"."""
    init_from: str | None = None
    """Run, checkpoint or bundled network to load initial weights from. The optimizer starts fresh.
    None: random weights."""
    loss: str = "luminance_l1"
    """Loss, e.g. "luminance_l1(window_size=7)", "mse" or "0.8*ssim + 0.2*l1"."""
    balance: Literal[
        "none", "uncertainty", "gradnorm", "dwa", "upgrad", "cagrad", "mgda", "pcgrad"
    ] = "none"
    """How to balance the terms of --loss (brightness and colour for luminance_l1).
    uncertainty, gradnorm and dwa learn weights.
    upgrad, cagrad, mgda and pcgrad combine the terms' gradients, so they need more time.
    The same can be written as --loss "balanced(METHOD, LOSS)"."""
    balance_rate: float = 0.025
    """Learning rate of the weights of the terms, for uncertainty and gradnorm."""
    balance_every: int = 200
    """Number of steps over which dwa averages losses before it compares them."""
    level_weight: float = 0.0
    """For buifd: how much the error in the predicted noise level counts in the loss.
    BUIFD's published objective, up to a constant factor, is
    `fit --loss mse --level-weight 1 --blind`."""
    level_sigma: float = 75.0
    """For buifd: noise standard deviation (0 to 255) that corresponds to a predicted level of 1.
    Set it to the highest noise used in training. Published values are 55 and 75."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format inside the network.
    Parameters, losses and all sums over pixels are always float32."""

    def __post_init__(self) -> None:
        loss, balance = self._split_balanced()
        try:
            loss = str(losses.parse_loss(loss))
        except ValueError as error:
            raise InputError(f"--loss: {error}") from None
        # A loss is saved in one spelling, whatever spaces the user typed, so that the losses can be
        # compared when the run is resumed.
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
        """Returns --loss and --balance, both of which "balanced(METHOD, LOSS)" gives."""
        balanced = _BALANCED.fullmatch(self.loss)
        if balanced is None:
            return self.loss, self.balance
        method, loss = balanced["method"], balanced["loss"] or "luminance_l1"
        accepted = typing.get_args(typing.get_type_hints(ModelConfig)["balance"])[1:]
        if method not in accepted:
            raise InputError(
                f"--loss: balanced accepts the methods {', '.join(accepted)}; got {method!r}."
            )
        if self.balance not in ("none", method):
            raise InputError(
                f"--loss {self.loss!r} and --balance {self.balance} contradict each other. "
                "Give only one of them."
            )
        return loss, method


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become updates of the weights."""

    steps: int = 1500
    """Number of updates."""
    learning_rate: float = 2e-3
    """Highest learning rate of the schedule."""
    schedule: Literal[
        "cosine",
        "constant",
        "step",
        "buifd",
        "dncnn_pytorch",
        "dncnn_kair",
        "drunet",
        "retinexformer",
        "nafnet",
        "cidnet",
    ] = "cosine"
    """Learning rate after the warm-up. constant: it stays at --learning-rate.
    cosine: half a cosine, down to 1 % of --learning-rate; step: lowered at --decay-steps.
    The others are published schedules, which train/optimizer.py describes."""
    decay_steps: Annotated[tuple[int, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Updates at which --schedule step lowers the learning rate, e.g. 30000 60000."""
    decay_factor: float = 0.1
    """Factor that the learning rate is multiplied by at each of --decay-steps."""
    warmup_steps: int = 50
    """Number of steps over which the learning rate rises from 0.
    The published schedules have no warm-up. To follow one, set this to 0."""
    optimizer: Literal["adam", "adamw", "lion", "sgd"] = "adam"
    """Algorithm that updates the weights. Each one needs its own learning rate.
    The rate of lion is about a tenth of adam's, and that of sgd up to a hundred times adam's."""
    weight_decay: float = 0.0
    """Weight decay of adamw, lion and sgd. Biases and normalization scales are not decayed."""
    momentum: float = 0.9
    """Momentum of sgd."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients of adam and adamw. NAFNet was trained with 0.9."""
    clip_norm: float | None = None
    """Largest global norm of the gradient. Larger gradients are scaled down to it.
    None: no clipping."""
    accumulate: int = 1
    """Number of parts that a batch is divided into. They run one after the other.
    The mean of their gradients makes one update. Only one part at a time needs memory."""
    ema: float = 0.0
    """Decay of a moving average of parameters and batch statistics, e.g. 0.999.
    Evaluation, restoration and export use the average. 0: no average."""
    max_skips: int = 10
    """Number of updates in a row that may be skipped because a value was not finite.
    The run stops after that many."""

    def __post_init__(self) -> None:
        between("--steps", self.steps, 1)
        more_than("--learning-rate", self.learning_rate, 0)
        between("--warmup-steps", self.warmup_steps, 0)
        if self.clip_norm is not None:
            more_than("--clip-norm", self.clip_norm, 0)
        if (self.schedule == "step") != bool(self.decay_steps):
            raise InputError(
                "--schedule step and --decay-steps belong together. Give both, or neither."
            )
        for step in self.decay_steps:
            between("--decay-steps", step, 1)
        more_than("--decay-factor", self.decay_factor, 0)
        at_least("--weight-decay", self.weight_decay, 0)
        if self.weight_decay and self.optimizer == "adam":
            raise InputError("--weight-decay has no effect on adam. Use --optimizer adamw.")
        at_least("--momentum", self.momentum, 0)
        at_least("--beta2", self.beta2, 0)
        less_than("--beta2", self.beta2, 1)
        if self.beta2 != 0.999 and not self.optimizer.startswith("adam"):
            raise InputError(
                f"--beta2 has no effect on {self.optimizer}. Use --optimizer adam or adamw."
            )
        between("--accumulate", self.accumulate, 1)
        at_least("--ema", self.ema, 0)
        less_than("--ema", self.ema, 1)
        between("--max-skips", self.max_skips, 1)


@dataclass(frozen=True)
class FitConfig:
    """Train a network, evaluate it on photographs that it never saw, and write a report."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    seed: int = 0
    """Seed of everything random: initial weights, patches and noise."""

    def __post_init__(self) -> None:
        between("--seed", self.seed, 0, most=MOST_SEED)
        if (traced := self.run.profile) and traced[0] > self.optimizer.steps:
            raise InputError(
                f"--profile {traced[0]} {traced[1]} would trace nothing, because the run has "
                f"{self.optimizer.steps} steps. Choose some of these."
            )


def save_config(config: FitConfig, path: Path) -> None:
    """Writes ``config`` as JSON, completely or not at all, because a process may be killed."""
    write_json(dataclasses.asdict(config), path)


def load_config(path: Path) -> FitConfig:
    """Reads a file of :func:`save_config`, and refuses unknown keys and values of wrong types."""
    return from_tree(FitConfig, read_tree(path), str(path))


def read_tree(path: Path) -> Any:
    """Reads a configuration file without checking that it contains a configuration."""
    try:
        return read_json(path, longest=_LONGEST_FILE)
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not a run's folder: it has no {path.name}.") from None
    except UnreadableError as error:
        raise InputError(f"{path} cannot be read as the configuration of a run: {error}.") from None
