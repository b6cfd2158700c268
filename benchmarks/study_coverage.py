"""How often the interval of ``study score`` contains the truth, with simulated observers.

Each observer prefers the first set with a probability that depends on the observer and on the
photograph: on the scale of logits, both have normal deviations. Observers may also answer "no
difference" to a share of the pairs. With three sets, each set has a worth, and votes follow
Davidson's model.

    python benchmarks/study_coverage.py
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import tyro

from train.study.davidson import Worths, fit_worths
from train.study.metric_ranks import rank_metrics
from train.study.scale import make_scale
from train.study.sequential import excluded
from train.study.statistics import crossed_bootstrap, stepdown_intervals

IMAGE_SD = 0.8  # logits
TIES = 0.6  # v in Davidson's model: 23 % of votes on equal sets
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


@dataclass(frozen=True)
class CoverageConfig:
    """Settings of the simulation."""

    studies: int = 1000
    """Number of studies for each cell of the first table. 0 leaves a table out, here and below."""
    looks: int = 2000
    """Number of studies for each row of the second table, about stopping early."""
    scales: int = 1000
    """Number of studies for each row of the third table, about three sets."""
    correlations: int = 1000
    """Number of studies for each row of the fourth table, about metrics that predict votes."""
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


def simulate_sets(
    random: np.random.Generator,
    logits: Sequence[float] | np.ndarray,
    observers: int,
    photographs: int,
    *,
    ties: float,
    observer_sd: float,
    image_sd: float = IMAGE_SD,
) -> np.ndarray:
    """The votes of one study of several sets, ``[photographs, observers, pairs, 3]``.

    Args:
      random: the source of randomness.
      logits: logarithms of the worths of the sets, ``[sets]``, or of each picture,
        ``[photographs, sets]``.
      observers: number of observers.
      photographs: number of photographs.
      ties: how often they see no difference, v in Davidson's model.
      observer_sd: standard deviation over observers of the difference of two sets, in logits.
      image_sd: the same over photographs.
    """
    sets = np.shape(logits)[-1]
    worths = (
        np.asarray(logits)[..., None, :]
        + image_sd / np.sqrt(2) * random.standard_normal((photographs, 1, sets))
        + observer_sd / np.sqrt(2) * random.standard_normal((1, observers, sets))
    )
    first, second = zip(*itertools.combinations(range(sets), 2), strict=True)
    chances = _chances(worths[..., first] - worths[..., second], ties)
    chosen = (random.random(chances.shape[:-1])[..., None] > chances.cumsum(axis=-1)).sum(axis=-1)
    return np.eye(3)[chosen]


def _chances(differences: np.ndarray, ties: float) -> np.ndarray:
    """Chances of a vote for the first set, for no difference and for the second, ``[..., 3]``."""
    terms = (np.exp(differences / 2), np.full_like(differences, ties), np.exp(-differences / 2))
    return np.stack(terms, axis=-1) / sum(terms)[..., None]


def true_scale(logits: Sequence[float], *, ties: float, spread: float) -> Worths:
    """The scale of endlessly many votes, if differences have a normal spread."""
    pairs = list(itertools.combinations(range(len(logits)), 2))
    chances = [
        _WEIGHTS @ _chances(logits[one] - logits[two] + spread * _NODES, ties) / _WEIGHTS.sum()
        for one, two in pairs
    ]
    return fit_worths(np.array(chances), pairs, prior_votes=0)


def coverage_of_scale(
    studies: int,
    observers: int,
    photographs: int,
    *,
    logits: Sequence[float] = (0.0, 0.6, 1.2),
    ties: float,
    observer_sd: float,
    draws: int = 1000,
) -> float:
    """Share of places in JOD that lie in their 95 % intervals."""
    random = np.random.default_rng(3)
    truth = true_scale(logits, ties=ties, spread=float(np.hypot(observer_sd, IMAGE_SD))).jod
    letters = "abcdef"[: len(logits)]
    pairs = list(itertools.combinations(letters, 2))
    covered = 0
    for _ in range(studies):
        table = simulate_sets(
            random, logits, observers, photographs, ties=ties, observer_sd=observer_sd
        )
        for placed in make_scale(table, letters, pairs, draws=draws).sets:
            place = truth[letters.index(placed.letter)]
            covered += placed.jod.low <= place <= placed.jod.high
    return covered / (studies * len(logits))


def wrong_verdicts(
    studies: int, observers: int, photographs: int, *, ties: float, observer_sd: float
) -> float:
    """Share of studies of three equal sets in which any verdict is given."""
    random = np.random.default_rng(4)
    wrong = 0
    for _ in range(studies):
        votes = simulate_sets(
            random, (0, 0, 0), observers, photographs, ties=ties, observer_sd=observer_sd
        )
        scores = votes[..., 0] + votes[..., 1] / 2
        intervals = stepdown_intervals([scores[..., pair] for pair in range(3)])
        wrong += any(not each.low <= 0.5 <= each.high for each, _ in intervals)
    return wrong / studies


def coverage_of_correlation(
    studies: int, observers: int, photographs: int, *, noise: float, draws: int = 1000
) -> float:
    """Share of 95 % intervals of a metric's rank correlation that contain its mean over studies.

    Args:
      studies: number of studies.
      observers: number of observers.
      photographs: number of photographs.
      noise: standard deviation of the metric around the worths of pictures, in logits.
      draws: draws of the bootstrap.
    """
    random = np.random.default_rng(5)
    names = [str(number) for number in range(photographs)]
    found = []
    for _ in range(studies):
        worths = np.array([0.0, 0.6, 1.2]) + IMAGE_SD / np.sqrt(2) * random.standard_normal(
            (photographs, 3)
        )
        votes = simulate_sets(
            random, worths, observers, photographs, ties=TIES, observer_sd=0.5, image_sd=0
        )
        measured = worths + noise * random.standard_normal(worths.shape)
        scores = {
            letter: dict(zip(names, column.tolist(), strict=True))
            for letter, column in zip("abc", measured.T, strict=True)
        }
        pairs = list(itertools.combinations("abc", 2))
        ranks = rank_metrics(votes, names, pairs, {"psnr": scores}, draws=draws)
        found.append(ranks.metrics[0].correlation)
    truth = np.mean([each.mean for each in found])
    return float(np.mean([each.low <= truth <= each.high for each in found]))


def main(config: CoverageConfig) -> None:
    """Prints the tables."""
    if config.studies:
        print_coverage(config)
    if config.looks:
        print(
            f"\n{config.looks} studies of one observer for each row, with a check after every vote"
        )
        print("\n| photographs | spread over photographs (logits) | studies with a false alarm |")
        print("|---|---|---|")
        for photographs, image_sd in itertools.product((20, 40), (0.0, IMAGE_SD)):
            alarms = false_alarms(config.looks, photographs, image_sd=image_sd)
            print(f"| {photographs} | {image_sd:g} | {100 * alarms:.1f} % |", flush=True)
    if config.scales:
        print(f"\n{config.scales} studies of three sets and {config.photographs} photographs")
        heads = ("observers", "spread over observers (logits)", "places in JOD", "wrong verdicts")
        print(f"\n| {' | '.join(heads)} |\n|---|---|---|---|")
        for observers, observer_sd in itertools.product((3, 5, 10), (0.0, 0.5, 1.0)):
            settings = (config.scales, observers, config.photographs)
            places = coverage_of_scale(*settings, ties=TIES, observer_sd=observer_sd)
            wrong = wrong_verdicts(*settings, ties=TIES, observer_sd=observer_sd)
            print(
                f"| {observers} | {observer_sd:g} | {100 * places:.1f} % | {100 * wrong:.1f} % |",
                flush=True,
            )
    if config.correlations:
        print(f"\n{config.correlations} studies of three sets and a metric")
        print("\n| observers | a precise metric | a poor metric |\n|---|---|---|")
        for observers in (3, 5, 10):
            settings = (config.correlations, observers, config.photographs)
            cells = [coverage_of_correlation(*settings, noise=noise) for noise in (0.2, 1.5)]
            print(f"| {observers} | {100 * cells[0]:.1f} % | {100 * cells[1]:.1f} % |", flush=True)


def print_coverage(config: CoverageConfig) -> None:
    """Prints the first table."""
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


if __name__ == "__main__":
    main(tyro.cli(CoverageConfig))
