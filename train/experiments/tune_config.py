"""Settings of a search. The command line reads them before anything heavy is imported."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from train.bounds import MOST_SEEDS, MOST_SIDE, between, hint
from train.config import FitConfig
from train.errors import InputError
from train.experiments.compare_config import PopulationMode, check_not_distributed, check_population
from train.inference.scoring.registry import Added, MetricName, columns


@dataclass(frozen=True)
class TuneConfig:
    """Search for the best weight, window, penalty and brightness signal of the luminance loss."""

    trials: int = 30
    """Number of settings to try, including those of earlier runs of this search."""
    batch: int = 1
    """Number of trials to propose together, before any of them is scored.
    With --population vmap or mesh they train together."""
    population: PopulationMode = "loop"
    """How the networks of a batch are trained. loop: one after the other.
    vmap: all at once on one device; mesh: all at once, divided over --devices."""
    objective: MetricName = "psnr"
    """Metric to optimize on validation photographs.
    With --population loop, trials that fall behind the median are stopped early."""
    metrics: Annotated[tuple[Added, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Metrics to show for test photographs in addition to the default ones and --objective.
    all: every metric that needs no weights.
    The default ones are PSNR, PSNR-Y, SSIM, CIEDE2000, |ΔL*|, |ΔC*|, HaarPSI and FLIP."""
    pareto: bool = False
    """Search for the Pareto front of brightness error and chroma error instead of optimizing
    --objective. No trial is stopped early."""
    luminance_weights: tuple[float, float] = (0.0, 0.95)
    """Lowest and highest luminance weight.
    The colour weight is 1 minus the luminance weight, so that learning rates carry over."""
    window_sizes: tuple[int, ...] = (1, 3, 7, 15, 31)
    """Side lengths of the window to choose from, in pixels."""
    penalties: tuple[Literal["l1", "l2", "charbonnier", "huber"], ...] = ("l1", "charbonnier")
    """Penalties to choose from."""
    brightness: tuple[Literal["luma", "luminance", "lightness"], ...] = ("luma", "lightness")
    """Brightness signals to choose from."""
    seeds: int = 3
    """Number of training runs for each of two settings: the best one and the default.
    These runs use seeds --seed + 1, --seed + 2 and so on.
    They are compared on test photographs."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How each network is trained. --out is the folder of the search.
    To continue an unfinished search, repeat its command with that folder as --out."""

    def __post_init__(self) -> None:
        between("--trials", self.trials, 1)
        between("--batch", self.batch, 1, most=MOST_SEEDS)
        between("--seeds", self.seeds, 1, most=MOST_SEEDS)
        check_not_distributed("tune", self.fit)
        check_population(self.population, self.fit)
        if (balance := self.fit.model.balance) != "none":
            raise InputError(
                f"--balance {balance} learns the weights that tune searches for. Leave --balance "
                "out, or train with fit."
            )
        low, high = self.luminance_weights
        if not 0 <= low < high <= 1:
            raise InputError(
                "--luminance-weights must be two numbers with 0 <= lowest < highest <= 1; got "
                f"{low} {high}."
            )
        for size in self.window_sizes:
            between("--window-sizes", size, 1, most=MOST_SIDE)
        if any(size % 2 == 0 for size in self.window_sizes):
            given = " ".join(map(str, self.window_sizes))
            raise InputError(f"--window-sizes must be odd numbers, 1 or more; got {given}.")
        for flag in ("window_sizes", "penalties", "brightness"):
            if not getattr(self, flag):
                raise InputError(f"--{flag.replace('_', '-')} must be one value or more; got none.")

    @property
    def decisive(self) -> tuple[str, ...]:
        """Metrics that the search optimizes."""
        return ("brightness_error", "chroma_error") if self.pareto else (self.objective,)

    @property
    def judged_fit(self) -> FitConfig:
        """How each network is trained, if its validations measure what the search optimizes."""
        if self.pareto:  # no trial is judged before it ends
            return self.fit
        run = dataclasses.replace(self.fit.run, best_metric=self.objective)
        return dataclasses.replace(self.fit, run=run)

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics that the test photographs are scored by."""
        return columns(self.metrics, also=self.decisive)

    def settings(self) -> dict[str, Any]:
        """All settings in the form of the JSON file."""
        return dataclasses.asdict(self)
