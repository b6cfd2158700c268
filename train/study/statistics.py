"""Statistics of votes: intervals and agreement.

Photographs and observers are both samples of what the reader cares about, and they are crossed. An
interval that treats votes as independent is too narrow, and is shown as a description only.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

CONFIDENCE = 0.95  # confidence level of an interval
DRAWS = 4000  # draws of the bootstrap
FEWEST_OBSERVERS = 3  # with fewer, observers are not a sample of anybody else
_Z = 1.959963984540054  # quantile of the normal distribution for 95 %


@dataclass(frozen=True)
class Interval:
    """A mean score and its interval. 1 is for the first set, 0 for the second.

    Attributes:
      mean: mean over photographs and observers.
      low: lower end.
      high: upper end.
      over_observers: whether observers were drawn too; otherwise it holds for these observers only.
    """

    mean: float
    low: float
    high: float
    over_observers: bool


def crossed_bootstrap(
    scores: np.ndarray, *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The mean score, with a percentile interval of a bootstrap over photographs and observers.

    Each draw takes photographs and observers with replacement, independently of each other, and
    averages the scores of all their combinations. With one or two observers, only photographs are
    drawn.

    Args:
      scores: ``[photographs, observers]``, from 0 to 1; NaN if there is no vote.
      confidence: confidence level.
      draws: number of draws.
      seed: seed of the draws.

    Returns:
      The mean and its interval.

    Raises:
      ValueError: if there are no scores.
    """
    known = ~np.isnan(scores)
    if scores.ndim != 2 or not known.any():
        raise ValueError(f"scores must be [photographs, observers]; got {scores.shape}.")
    rows = how_often(len(scores), draws, seed)
    columns = np.ones((draws, scores.shape[1]))
    over_observers = scores.shape[1] >= FEWEST_OBSERVERS
    if over_observers:
        columns = how_often(scores.shape[1], draws, seed + 1)
    filled = np.where(known, scores, 0.0)
    total = ((rows @ filled) * columns).sum(axis=1)
    count = ((rows @ known.astype(float)) * columns).sum(axis=1)
    means = total[count > 0] / count[count > 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(scores[known].mean()), float(low), float(high), over_observers)


def stepdown_intervals(
    tables: Sequence[np.ndarray], *, confidence: float = CONFIDENCE
) -> list[tuple[Interval, float]]:
    """Intervals of several comparisons, of which none excludes 1/2 by chance with ``confidence``.

    This is Holm's step-down method (1979). All m intervals are first given the level
    1 - (1 - confidence) / m. Those that exclude 1/2 are done, and the rest starts again with a
    smaller m, until nothing more is decided. So an interval always says the same as its verdict.

    The bootstrap's interval at ``confidence`` becomes one of a higher level by the ratio of
    Student's quantiles. Three observers have no quantiles so far out: at least one draw in 27 is of
    a single one of them, again and again.

    Args:
      tables: scores of each comparison, as for :func:`crossed_bootstrap`.
      confidence: the level for all of them together.

    Returns:
      For each comparison, its interval and the level of that.
    """
    single = [crossed_bootstrap(table, confidence=confidence) for table in tables]
    found: dict[int, tuple[Interval, float]] = {}
    rest = list(range(len(tables)))
    while rest:
        level = 1 - (1 - confidence) / len(rest)
        for i in rest:
            size = tables[i].shape[1 if single[i].over_observers else 0]
            near, far = (
                scipy.special.stdtrit(max(size - 1, 1), (1 + each) / 2)
                for each in (confidence, level)
            )
            wide = widened(single[i], float(far / near))
            found[i] = (
                dataclasses.replace(wide, low=max(wide.low, 0), high=min(wide.high, 1)),
                level,
            )
        undecided = [i for i in rest if found[i][0].low <= 0.5 <= found[i][0].high]
        if len(undecided) == len(rest):
            break
        rest = undecided
    return [found[i] for i in range(len(tables))]


def widened(interval: Interval, factor: float) -> Interval:
    """Moves the ends of an interval away from its mean.

    Args:
      interval: the interval.
      factor: how many times as far the ends will be, 1 or more.

    Returns:
      The wider interval.
    """
    more, mean = factor - 1, interval.mean
    return dataclasses.replace(
        interval,
        low=interval.low - more * max(mean - interval.low, 0),
        high=interval.high + more * max(interval.high - mean, 0),
    )


def within(interval: Interval, least: float, most: float) -> Interval:
    """Cuts off what lies outside of two bounds.

    Args:
      interval: the interval.
      least: the lower bound.
      most: the upper bound.

    Returns:
      What remains.
    """
    return dataclasses.replace(
        interval, low=max(interval.low, least), high=min(interval.high, most)
    )


@functools.lru_cache(maxsize=8)
def how_often(size: int, draws: int, seed: int) -> np.ndarray:
    """How often each of ``size`` things is drawn in each draw, ``[draws, size]``.

    All studies of the same size use the same draws, so a result can be repeated.

    Args:
      size: number of photographs or observers.
      draws: number of draws.
      seed: seed of the draws.

    Returns:
      The counts.
    """
    random = np.random.default_rng(seed)
    return random.multinomial(size, np.full(size, 1 / size), size=draws).astype(float)


def wilson(successes: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, as if the votes were independent (Wilson 1927)."""
    share, square = successes / count, _Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    half /= 1 + square / count
    return max(middle - half, 0.0), min(middle + half, 1.0)


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal values (Krippendorff 2011): 1 is full agreement, 0 chance.

    alpha = 1 - (n - 1) * sum_u[disagreeing pairs of u / (m_u - 1)] / disagreeing pairs overall

    where unit u has m_u values, and n is the number of values of units with two or more.

    Args:
      units: the values that observers gave to each unit. Units with one value do not count.

    Returns:
      Alpha. None if all values are equal, or if nobody shares a unit: alpha is then undefined.
    """
    shared = [Counter(unit) for unit in units if len(unit) > 1]
    overall: Counter[Hashable] = sum(shared, Counter())
    expected = _disagreeing_pairs(overall)
    if expected == 0:
        return None
    observed = sum(_disagreeing_pairs(unit) / (unit.total() - 1) for unit in shared)
    return 1 - (overall.total() - 1) * observed / expected


def _disagreeing_pairs(values: Counter[Hashable]) -> int:
    return values.total() ** 2 - sum(count**2 for count in values.values())
