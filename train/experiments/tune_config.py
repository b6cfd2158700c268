"""What is searched, and how; read by the command line before anything heavy is imported."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from train.bounds import MOST_SEEDS, MOST_SIDE, between
from train.config import FitConfig
from train.errors import InputError
from train.experiments.compare_config import PopulationMode, check_not_distributed, check_population

TuneMetric = Literal["psnr", "ssim", "ciede2000"]


@dataclass(frozen=True)
class TuneConfig:
    """Search the luminance loss's weight, window, penalty and brightness signal."""

    trials: int = 30
    """Settings to try, over all times that this search was gone on with."""
    batch: int = 1
    """Settings to ask for at once, before any of them is judged: with --population vmap or mesh
    they train together."""
    population: PopulationMode = "loop"
    """Networks of a batch train one after the other, all at once on one device, or at once divided
    over --devices."""
    objective: TuneMetric = "psnr"
    """What is made best on validation photographs; trials that fall behind the median are stopped
    early, in a loop."""
    pareto: bool = False
    """Search for the front of lightness error against chroma error instead; no trial is stopped
    early."""
    luminance_weights: tuple[float, float] = (0.0, 0.95)
    """Lowest and highest luminance weight. The colour weight is 1 less it, so learning rates carry
    over."""
    window_sizes: tuple[int, ...] = (1, 3, 7, 15, 31)
    """Sides of the window to choose from, in pixels."""
    penalties: tuple[Literal["l1", "l2", "charbonnier", "huber"], ...] = ("l1", "charbonnier")
    """Penalties to choose from."""
    brightness: tuple[Literal["luma", "luminance", "lightness"], ...] = ("luma", "lightness")
    """Brightness signals to choose from."""
    seeds: int = 3
    """Trainings of the setting that is chosen and of the default one, from seeds after --seed,
    compared on test."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How each network is trained. --out is the search's folder; one that holds a part of it is
    gone on with."""

    def __post_init__(self) -> None:
        between("--trials", self.trials, 1)
        between("--batch", self.batch, 1, most=MOST_SEEDS)
        between("--seeds", self.seeds, 1, most=MOST_SEEDS)
        check_not_distributed("tune", self.fit)
        check_population(self.population, self.fit)
        if (balance := self.fit.model.balance) != "none":
            raise InputError(
                f"--balance {balance} learns the weights that tune searches: leave one of the two "
                "out."
            )
        low, high = self.luminance_weights
        if not 0 <= low < high <= 1:
            raise InputError(
                f"--luminance-weights takes two numbers, 0 <= lowest < highest <= 1; got {low} "
                f"{high}."
            )
        for size in self.window_sizes:
            between("--window-sizes", size, 1, most=MOST_SIDE)
        if any(size % 2 == 0 for size in self.window_sizes):
            raise InputError(
                f"--window-sizes takes odd numbers of 1 or more; got {self.window_sizes}."
            )
        for flag in ("window_sizes", "penalties", "brightness"):
            if not getattr(self, flag):
                raise InputError(f"--{flag.replace('_', '-')} takes at least one value.")

    def settings(self) -> dict[str, Any]:
        """All settings as JSON holds them."""
        return dataclasses.asdict(self)
