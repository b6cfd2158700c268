"""Which metric predicts the votes: rank correlations of differences in scores with preferences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from train.inference.scoring.registry import METRICS
from train.study.rules import FEWEST_FOR_VERDICT
from train.study.statistics import CONFIDENCE, DRAWS, FEWEST_OBSERVERS, Interval, how_often

_LARGEST = 0.9999  # correlation; Fisher's scale is infinite at 1

# Scores of photographs by metric, set and photograph
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class MetricRank:
    """How well a metric predicts the votes.

    Attributes:
      metric: its name.
      correlation: rank correlation, from -1 to 1, with its interval.
      agrees: of the pairs in which both prefer a set, the share in which they prefer the same one;
        None if there is no such pair.
      may_be_best: whether the votes leave open that this metric predicts best.
    """

    metric: str
    correlation: Interval
    agrees: float | None
    may_be_best: bool


@dataclass(frozen=True)
class MetricRanks:
    """Metrics compared by how well they predict the votes.

    Attributes:
      metrics: the best one first; () if none is compared.
      left_out: metrics that do not have a score for every picture, or are the same for all.
      why_not: why no metric is compared, in words; "" if some are.
      confidence: level of the intervals.
    """

    metrics: tuple[MetricRank, ...] = ()
    left_out: tuple[str, ...] = ()
    why_not: str = ""
    confidence: float = CONFIDENCE


def rank_metrics(
    table: np.ndarray,
    photographs: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    scores: Scores,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> MetricRanks:
    """Compares metrics by how well their differences predict which picture people prefer.

    A unit is a photograph in two sets. It has a difference in the metric's scores, and a
    preference: the mean vote, from -1/2 to 1/2. Their correlation is Spearman's, with every unit in
    both directions, since "A against B" and "B against A" say the same. Intervals come from the
    bootstrap that draws photographs and, with three observers or more, observers. For M metrics
    their level is 1 - 0.05 / M, so that all hold together.

    A metric cannot be the best if another one predicts better in enough draws: for M metrics, in
    all except a share of 0.05 / (M - 1). So the best one is kept with a probability of 95 %.

    Args:
      table: votes of :func:`~train.study.ballots.vote_table`,
        ``[photographs, observers, pairs, 3]``.
      photographs: their names.
      pairs: every two sets that were compared.
      scores: scores by metric, set and photograph.
      draws: number of draws of the bootstrap.
      seed: seed of the draws.

    Returns:
      The metrics that can be compared, the best one first.
    """
    if len(photographs) < FEWEST_FOR_VERDICT:
        return MetricRanks(
            why_not=f"{len(photographs)} photographs are too few to say which metric predicts the "
            f"votes. At least {FEWEST_FOR_VERDICT} are needed"
        )
    differences: dict[str, np.ndarray] = {}
    for metric, sets in scores.items():
        sign = 1.0 if METRICS[metric].higher_is_better else -1.0
        found = np.array(
            [
                [_score(sets, one, name) - _score(sets, two, name) for one, two in pairs]
                for name in photographs
            ]
        )
        has_votes = table.sum(axis=(1, 3)) > 0
        if np.isfinite(found[has_votes]).all() and (found[has_votes] != 0).any():
            differences[metric] = sign * np.where(has_votes, found, 0.0)
    left_out = tuple(metric for metric in scores if metric not in differences)
    preferences, rows, over_observers = _drawn(table, draws, seed)
    if not differences or not (preferences[0] != 0).any():
        why = (
            "no metric has a score for every picture"
            if not differences
            else "every vote says “no difference”"
        )
        return MetricRanks(left_out=left_out, why_not=why)
    drawn = {
        metric: _correlations(found, preferences, rows) for metric, found in differences.items()
    }
    may_be_best = _possibly_best(drawn)
    confidence = 1 - (1 - CONFIDENCE) / len(drawn)
    ranks = [
        MetricRank(
            metric,
            Interval(float(values[0]), *_ends(values, confidence), over_observers),
            _agreement(differences[metric], preferences[0]),
            metric in may_be_best,
        )
        for metric, values in drawn.items()
    ]
    ranks.sort(key=lambda rank: -rank.correlation.mean)
    return MetricRanks(tuple(ranks), left_out, confidence=confidence)


def _score(sets: Mapping[str, Mapping[str, float]], letter: str, photograph: str) -> float:
    return sets.get(letter, {}).get(photograph, math.nan)


def _drawn(table: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Preferences and photographs of everything and then of each draw.

    Returns:
      Mean votes from -1/2 to 1/2, ``[1 + draws, photographs, pairs]``, 0 if there is none; the
      photographs that each draw takes, ``[1 + draws, photographs]``; and whether observers were
      drawn.
    """
    photographs, observers = table.shape[:2]
    times = how_often(photographs, draws, seed).astype(int)
    everything = np.arange(photographs)
    rows = np.repeat(np.tile(everything, draws), times.ravel()).reshape(draws, photographs)
    columns = np.ones((1 + draws, observers))
    over_observers = observers >= FEWEST_OBSERVERS
    if over_observers:
        columns[1:] = how_often(observers, draws, seed + 1)
    lead = (table[..., 0] - table[..., 2]) / 2  # [photographs, observers, pairs]
    total = np.einsum("do,pon->dpn", columns, lead)
    count = np.einsum("do,pon->dpn", columns, table.sum(axis=-1))
    means = np.where(count > 0, total / np.maximum(count, 1), 0.0)
    return means, np.concatenate([everything[None], rows]), over_observers


def _correlations(differences: np.ndarray, preferences: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rank correlation of each draw, ``[1 + draws]``; 0 if a draw has no difference.

    If every unit is in both directions, the rank of x among all is that of -x with the sign turned,
    so it is sign(x) * (rank of |x| - 1/2), as in Wilcoxon's signed-rank test.
    """
    draws = len(rows)
    found = signed_ranks(differences[rows].reshape(draws, -1))
    given = np.take_along_axis(preferences, rows[:, :, None], axis=1).reshape(draws, -1)
    wanted = signed_ranks(given)
    product = (found * wanted).sum(axis=1)
    size = np.sqrt((found**2).sum(axis=1) * (wanted**2).sum(axis=1))
    return np.where(size > 0, product / np.maximum(size, 1e-12), 0.0)


def _ends(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Ends of the interval of the first of these correlations, from the draws that follow it.

    Observers who are drawn several times make preferences noisier, which lowers the correlations of
    draws. So quantiles are shifted, on Fisher's scale, by as much as their median is too low.
    benchmarks/study_coverage.py measures how often the interval then contains the truth.
    """
    scaled = np.arctanh(np.clip(values, -_LARGEST, _LARGEST))
    tail = (1 - confidence) / 2
    low, middle, high = np.quantile(scaled[1:], [tail, 0.5, 1 - tail])
    shift = scaled[0] - middle
    return (
        min(float(np.tanh(low + shift)), float(values[0])),
        max(float(np.tanh(high + shift)), float(values[0])),
    )


def signed_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each value among all values and their negatives, minus the middle one.

    Args:
      values: ``[draws, units]``.
    """
    return np.sign(values) * (scipy.stats.rankdata(np.abs(values), axis=1) - 0.5)


def _agreement(differences: np.ndarray, preferences: np.ndarray) -> float | None:
    both = (differences != 0) & (preferences != 0)
    if not both.any():
        return None
    return float((np.sign(differences[both]) == np.sign(preferences[both])).mean())


def _possibly_best(drawn: Mapping[str, np.ndarray]) -> set[str]:
    """The metrics than which no other one predicts better in almost all draws."""
    kept = set()
    for metric, values in drawn.items():
        others = [other for name, other in drawn.items() if name != metric]
        level = (1 - CONFIDENCE) / max(len(others), 1)
        chances = [
            (1 + np.sum(other[1:] <= values[1:])) / len(other) for other in others
        ]  # that this one predicts as well, by the draws
        if all(chance >= level for chance in chances):
            kept.add(metric)
    return kept
