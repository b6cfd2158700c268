"""How often the interval of ``study score`` contains the truth, with simulated observers.

Each observer prefers the first set with a probability that depends on the observer and on the
photograph: on the scale of logits, both have normal deviations. Observers may also answer "no
difference" to a share of the pairs.

    python benchmarks/study_coverage.py
"""

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import tyro

from train.study.sequential import excluded
from train.study.statistics import crossed_bootstrap

IMAGE_SD = 0.8  # logits
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


@dataclass(frozen=True)
class CoverageConfig:
    """Settings of the simulation."""

    studies: int = 1000
    """Number of studies for each cell of the first table."""
    looks: int = 2000
    """Number of studies for each row of the second table, about stopping early."""
    photographs: int = 20
    """Photographs of a study."""
    preferences: tuple[float, ...] = (0.6, 0.75, 1.0)
    """Mean preference of the observers for the first set, without ties."""
    ties: tuple[float, ...] = (0.0, 0.2)
    """Share of "no difference"."""


def mean_logit(preference: float, spread: float) -> float:
    """The logit whose mean preference over a normal spread is ``preference``."""
    if preference in (0, 1):
        return np.inf if preference else -np.inf

    def off(logit: float) -> float:
        chances = 1 / (1 + np.exp(-(logit + spread * _NODES)))
        return float(_WEIGHTS @ chances / _WEIGHTS.sum()) - preference

    return float(scipy.optimize.brentq(off, -20, 20))


def simulate(
    random: np.random.Generator,
    observers: int,
    photographs: int,
    *,
    preference: float = 0.5,
    ties: float = 0.0,
    observer_sd: float = 0.0,
    image_sd: float = IMAGE_SD,
) -> np.ndarray:
    """The scores of one study with simulated observers, ``[photographs, observers]``."""
    logits = (
        mean_logit(preference, float(np.hypot(observer_sd, image_sd)))
        + image_sd * random.standard_normal((photographs, 1))
        + observer_sd * random.standard_normal(observers)
    )
    for_first = random.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return np.where(random.random(logits.shape) < ties, 0.5, for_first)


def coverage(
    studies: int,
    observers: int,
    photographs: int,
    *,
    preference: float,
    ties: float,
    observer_sd: float,
) -> float:
    """Share of studies whose 95 % interval contains the true mean score."""
    random = np.random.default_rng(1)
    truth = (1 - ties) * preference + ties / 2
    covered = 0
    for _ in range(studies):
        scores = simulate(
            random,
            observers,
            photographs,
            preference=preference,
            ties=ties,
            observer_sd=observer_sd,
        )
        interval = crossed_bootstrap(scores)
        covered += interval.low - 1e-9 <= truth <= interval.high + 1e-9
    return covered / studies


def false_alarms(studies: int, photographs: int, *, image_sd: float) -> float:
    """Share of studies without a preference in which the check after any vote finds one."""
    random = np.random.default_rng(2)
    alarms = 0
    for _ in range(studies):
        scores = simulate(random, 1, photographs, image_sd=image_sd)[:, 0]
        alarms += excluded(scores.tolist(), 0.5)
    return alarms / studies


def main(config: CoverageConfig) -> None:
    """Prints both tables."""
    print(f"{config.studies} studies of {config.photographs} photographs for each cell")
    scenarios = list(itertools.product(config.preferences, config.ties))
    heads = [f"{100 * p:.0f} %{f', {100 * t:.0f} % ties' if t else ''}" for p, t in scenarios]
    print(f"\n| observers | spread over observers (logits) | {' | '.join(heads)} |")
    print("|---|---|" + "---|" * len(scenarios))
    for observers, observer_sd in itertools.product((3, 5, 10), (0.0, 0.5, 1.0)):
        cells = [
            coverage(
                config.studies,
                observers,
                config.photographs,
                preference=preference,
                ties=ties,
                observer_sd=observer_sd,
            )
            for preference, ties in scenarios
        ]
        numbers = " | ".join(f"{100 * cell:.1f} %" for cell in cells)
        print(f"| {observers} | {observer_sd:g} | {numbers} |", flush=True)
    print(f"\n{config.looks} studies of one observer for each row, with a check after every vote")
    print("\n| photographs | spread over photographs (logits) | studies with a false alarm |")
    print("|---|---|---|")
    for photographs, image_sd in itertools.product((20, 40), (0.0, IMAGE_SD)):
        alarms = false_alarms(config.looks, photographs, image_sd=image_sd)
        print(f"| {photographs} | {image_sd:g} | {100 * alarms:.1f} % |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(CoverageConfig))
