"""What is compared, and how; read by the command line before anything heavy is imported."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from train.bounds import MOST_SEEDS, between, more_than, noise_levels
from train.config import FitConfig, ModelConfig
from train.errors import InputError

PopulationMode = Literal["loop", "vmap", "mesh"]
Primary = Literal["psnr", "psnr_y", "ssim", "ciede2000", "brightness_error", "chroma_error"]

_DEFAULT = ModelConfig().loss


def canonical_loss(loss: str) -> str:
    """One spelling of a loss, whatever the user's spaces.

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
    """Refuses to share an experiment with other hosts."""
    if fit.run.distributed:
        raise InputError(
            f"{verb} takes no --distributed: it runs in one process, on all of its devices."
        )


def check_population(population: PopulationMode, fit: FitConfig) -> None:
    """Refuses what networks that train at once cannot do."""
    if population == "loop":
        return
    if fit.run.profile is not None:
        raise InputError(
            f"--profile traces one network's training; --population {population} has many: loop."
        )
    if fit.run.parallel != "data":
        raise InputError(
            f"--population {population} holds each network whole: leave --parallel out."
        )
    if population == "vmap" and (fit.run.devices or 1) > 1:
        raise InputError(
            "--population vmap trains on one device: take mesh for --devices, or leave these out."
        )


@dataclass(frozen=True)
class CompareConfig:
    """Train a network under several losses, and say which restores best and how sure that is."""

    losses: tuple[str, ...] = ("luminance_l1", "mse", "l1")
    """Losses; the first is compared with each of the others. Also "balanced(METHOD, LOSS)", weights
    being learned."""
    seeds: int = 3
    """Trainings of each loss, with seeds --seed, --seed + 1 and so on."""
    sigmas: tuple[float, ...] = ()
    """Noise levels (0 to 255) to score at. None given: --sigma."""
    primary: Primary = "psnr"
    """The metric that verdicts are on, and settings are picked by; all others are shown and not
    claimed."""
    primary_sigmas: tuple[float, ...] = ()
    """Those of --sigmas that verdicts are on, by the mean over them. None given: all."""
    margin: float | None = None
    """Difference in --primary that matters, for "not worse". None: 0.1 dB; of what is not in dB
    nothing is tested."""
    learning_rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    """Learning rates to pick from, for each loss."""
    clip_norms: tuple[float, ...] = (1.0,)
    """Gradient norms to try clipping at, beside not clipping, at the learning rate that was
    picked."""
    population: PopulationMode = "loop"
    """Networks train one after the other, all at once on one device, or at once divided over
    --devices."""
    draws: int = 1
    """Draws of noise that a score is the mean of."""
    crops: int = 4
    """Photographs to show in the report: those on which the losses differ most."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How each network is trained. --out is the comparison's folder; if it already holds an
    unfinished comparison, that one is continued."""

    def __post_init__(self) -> None:
        spelled = tuple(map(canonical_loss, self.losses))
        if len(spelled) < 2 or len(set(spelled)) < len(spelled):
            raise InputError(
                "--losses takes two or more different losses; got "
                f"{', '.join(self.losses) or 'none'}."
            )
        object.__setattr__(self, "losses", spelled)
        between("--seeds", self.seeds, 1, most=MOST_SEEDS)
        between("--draws", self.draws, 1, most=MOST_SEEDS)
        between("--crops", self.crops, 0, most=MOST_SEEDS)
        noise_levels("--sigmas", self.sigmas)
        if set(self.primary_sigmas) - set(self.levels) or len(set(self.primary_sigmas)) < len(
            self.primary_sigmas
        ):
            raise InputError(
                "--primary-sigmas takes different ones of --sigmas, "
                f"{' '.join(f'{s:g}' for s in self.levels)}; got "
                f"{' '.join(f'{s:g}' for s in self.primary_sigmas)}."
            )
        if self.margin is not None:
            more_than("--margin", self.margin, 0)
        if not self.learning_rates:
            raise InputError("--learning-rates must be at least one number.")
        for rate in self.learning_rates:
            more_than("--learning-rates", rate, 0)
        for norm in self.clip_norms:
            more_than("--clip-norms", norm, 0)
        check_not_distributed("compare", self.fit)
        check_population(self.population, self.fit)

    @property
    def levels(self) -> tuple[float, ...]:
        """Noise levels to score at: --sigmas, or else --sigma.

        They are not written into ``sigmas``: of a preset, that would stay when a flag changes
        --sigma.
        """
        return self.sigmas or (self.fit.data.sigma,)

    def settings(self) -> dict[str, Any]:
        """All settings as JSON holds them, with the noise levels that are scored at."""
        return {**dataclasses.asdict(self), "sigmas": self.levels}
