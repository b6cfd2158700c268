"""Settings of a comparison. The command line reads them before anything heavy is imported."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from train.bounds import MOST_SEEDS, between, check_name, hint, more_than, noise_levels
from train.config import FitConfig, ModelConfig
from train.errors import InputError
from train.inference.scoring.classical import BaselineName
from train.inference.scoring.registry import Added, MetricName, columns

PopulationMode = Literal["loop", "vmap", "mesh"]

_DEFAULT = ModelConfig().loss
# Learning rates to try. Those for fine-tuning were measured with the bundled network and l1, on
# scikit-image's photographs: with 0.001 the PSNR on validation photographs was 29.22 dB after 100
# and 29.79 dB after 400 of 400 updates; with 0.0003 it was 29.56 dB after 100 and 29.72 dB after
# 300. So each was ahead at some length.
_FROM_SCRATCH, _FINE_TUNING = (1e-3, 2e-3, 4e-3), (3e-4, 1e-3)


def canonical_loss(loss: str) -> str:
    """The one spelling of a loss, however the user placed spaces.

    ``balanced(METHOD)`` balances the default loss.
    """
    try:
        model = ModelConfig(loss=loss)
    except InputError as error:
        raise InputError(str(error).replace("--loss", "--losses", 1)) from None
    if model.balance == "none":
        return model.loss
    return f"balanced({model.balance}{'' if model.loss == _DEFAULT else f', {model.loss}'})"


def check_not_distributed(verb: str, fit: FitConfig) -> None:
    """Raises an error if an experiment would be shared with other hosts."""
    if fit.run.distributed:
        raise InputError(
            f"{verb} does not accept --distributed: it runs in one process, on all devices of that "
            "process."
        )


def check_population(population: PopulationMode, fit: FitConfig) -> None:
    """Raises an error for options that networks which train at once do not support."""
    if population == "loop":
        return
    if fit.run.profile is not None:
        raise InputError(
            f"--profile traces the training of one network, but --population {population} trains "
            "several at once. Use --population loop, or leave --profile out."
        )
    if fit.run.parallel != "data":
        raise InputError(
            f"--parallel {fit.run.parallel} divides a network, but --population {population} "
            "keeps each network whole. Leave --parallel out."
        )
    if population == "vmap" and (fit.run.devices or 1) > 1:
        raise InputError(
            f"--devices {fit.run.devices} does not fit --population vmap, which trains on one "
            "device. Use --population mesh, or leave --devices out."
        )


@dataclass(frozen=True)
class CompareConfig:
    """Train a network with each loss; report which one restores best, and how certain that is."""

    losses: tuple[str, ...] = ("luminance_l1", "mse", "l1")
    """Losses. The first is compared with each of the others.
    "balanced(METHOD, LOSS)" learns the weights of the terms of LOSS.
    --losses replaces the flags --loss and --balance of fit."""
    seeds: int = 3
    """Number of training runs for each loss, with seeds --seed, --seed + 1 and so on."""
    sigmas: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Noise levels (0 to 255) to score at. If none are given: --sigma."""
    primary: MetricName = "psnr"
    """Metric that verdicts are based on and that settings are picked by.
    The other metrics are shown without a verdict."""
    metrics: Annotated[tuple[Added, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Metrics to show in addition to the default ones and --primary.
    all: every metric that needs no weights.
    The default ones are PSNR, PSNR-Y, SSIM, CIEDE2000, |ΔL*|, |ΔC*|, HaarPSI and FLIP."""
    baselines: Annotated[tuple[BaselineName, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Classical denoisers of scikit-image to show too: gaussian, nlm, wavelet, tv.
    They are told the noise level, and take no part in any verdict."""
    primary_sigmas: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """The levels in --sigmas whose mean score decides the verdict. Default: all of them."""
    margin: float | None = None
    """Smallest difference in --primary that matters.
    Two losses are called equal if the scores rule out that either is better by this or more.
    None: 0.1 dB. For a metric that is not in dB, None means that this is not tested."""
    learning_rates: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Learning rates to pick from, for each loss.
    Default: 0.001 0.002 0.004, or 0.0003 0.001 for fine-tuning (--init-from or --starts).
    --learning-rates replaces the flag --learning-rate of fit."""
    clip_norms: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint=hint)] = (1.0,)
    """Gradient norms to try clipping at, with the learning rate that was picked.
    Training without clipping is always tried too.
    --clip-norms replaces the flag --clip-norm of fit."""
    starts: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Runs, checkpoints or bundled networks to fine-tune: one for each seed, in the order of the
    seeds. Needs --init-from None. Use --init-from to start all seeds from the same network.
    Verdicts then hold for that network only."""
    settings_from: Path | None = None
    """Folder of an earlier comparison. Each loss uses the learning rate and the gradient clipping
    that were picked for it there. None: they are picked from --learning-rates and --clip-norms."""
    lengths: Annotated[tuple[int, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Numbers of updates to train for, each with a full schedule, e.g. 1000 4000 8000.
    Only the longest training gets verdicts. Settings are picked with the shortest one.
    --lengths replaces --steps."""
    plan: bool = False
    """Do not compare. Say how many seeds and photographs are needed to detect a difference of
    --margin, and about how long the training takes here. How much the differences between losses
    vary over photographs and seeds is read from --settings-from. Without it, and only for
    fine-tuning, it is taken from a measurement that comes with this program."""
    population: PopulationMode = "loop"
    """How networks are trained. loop: one after the other.
    vmap: all at once on one device; mesh: all at once, divided over --devices."""
    draws: int = 1
    """Number of noise draws that each score is averaged over."""
    crops: int = 4
    """Number of photographs to show in the report: those on which the losses differ most."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How each network is trained. --out is the folder of the comparison.
    To continue an unfinished comparison, repeat its command with that folder as --out."""

    def __post_init__(self) -> None:
        spelled = tuple(map(canonical_loss, self.losses))
        if len(spelled) < 2 or len(set(spelled)) < len(spelled):
            raise InputError(
                f"--losses must be two or more different losses; got "
                f"{', '.join(self.losses) or 'none'}."
            )
        object.__setattr__(self, "losses", spelled)
        between("--seeds", self.seeds, 1, most=MOST_SEEDS)
        between("--draws", self.draws, 1, most=MOST_SEEDS)
        between("--crops", self.crops, 0, most=MOST_SEEDS)
        noise_levels("--sigmas", self.sigmas)
        if len(set(self.baselines)) < len(self.baselines):
            raise InputError(f"--baselines must differ; got {', '.join(self.baselines)}.")
        if set(self.primary_sigmas) - set(self.levels) or len(set(self.primary_sigmas)) < len(
            self.primary_sigmas
        ):
            accepted = " ".join(f"{sigma:g}" for sigma in self.levels)
            given = " ".join(f"{sigma:g}" for sigma in self.primary_sigmas)
            raise InputError(
                f"--primary-sigmas must be among --sigmas ({accepted}), each at most once; got "
                f"{given}."
            )
        if self.margin is not None:
            more_than("--margin", self.margin, 0)
        for rate in self.learning_rates:
            more_than("--learning-rates", rate, 0)
        for norm in self.clip_norms:
            more_than("--clip-norms", norm, 0)
        check_name("--settings-from", self.settings_from)
        self._check_lengths()
        self._check_starts()
        check_not_distributed("compare", self.fit)
        check_population(self.population, self.fit)

    def _check_lengths(self) -> None:
        for steps in self.lengths:
            between("--lengths", steps, 1)
        if self.lengths and len(set(self.lengths)) < max(2, len(self.lengths)):
            given = " ".join(map(str, self.lengths))
            raise InputError(
                f"--lengths must be two or more different numbers of updates; got {given}. For "
                "one length, use --steps."
            )

    def each_length(self) -> list["CompareConfig"]:
        """The comparison with each of --lengths, the shortest first, or only with --steps."""
        found = []
        for steps in sorted(self.lengths) or [self.fit.optimizer.steps]:
            optimizer = dataclasses.replace(self.fit.optimizer, steps=steps)
            fit = dataclasses.replace(self.fit, optimizer=optimizer)
            found.append(dataclasses.replace(self, fit=fit))
        return found

    def _check_starts(self) -> None:
        for start in self.starts:
            check_name("--starts", start)
        if not self.starts:
            return
        if self.fit.model.init_from is not None:
            raise InputError(
                "--init-from gives one start for all seeds and --starts gives one for each seed. "
                "Give only one of them; --init-from None removes that of a preset."
            )
        if len(self.starts) != self.seeds:
            raise InputError(
                f"--starts must be one for each of the {self.seeds} seeds; got "
                f"{len(self.starts)}. Change --seeds, or use --init-from for one start for all "
                "seeds."
            )

    @property
    def start_of_seed(self) -> dict[int, str]:
        """The network that each seed fine-tunes; {} if networks start from random weights."""
        seeds = range(self.fit.seed, self.fit.seed + self.seeds)
        if self.starts:
            return dict(zip(seeds, self.starts, strict=True))
        one = self.fit.model.init_from
        return {} if one is None else dict.fromkeys(seeds, one)

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates to pick from: --learning-rates, or else those that suit the training."""
        return self.learning_rates or (_FINE_TUNING if self.start_of_seed else _FROM_SCRATCH)

    @property
    def levels(self) -> tuple[float, ...]:
        """Noise levels to score at: --sigmas, or else --sigma.

        They are not written into ``sigmas``: a preset would then keep them when a flag changes
        --sigma.
        """
        return self.sigmas or (self.fit.data.sigma,)

    @property
    def ending(self) -> str:
        """End of the names of files and folders that each length has of its own."""
        return f"-{self.fit.optimizer.steps}" if self.lengths else ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics that the test photographs are scored by."""
        return columns(self.metrics, also=(self.primary,))

    def settings(self) -> dict[str, Any]:
        """All settings in the form of the JSON file, including values that depend on others."""
        folder = None if self.settings_from is None else str(self.settings_from)
        return {
            **dataclasses.asdict(self),
            "sigmas": self.levels,
            "learning_rates": self.rates,
            "settings_from": folder,
        }
