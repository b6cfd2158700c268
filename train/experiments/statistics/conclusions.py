"""From the table of scores to conclusions: differences with intervals, p-values, outcomes.

The candidate, the first loss named, is compared with each of the others. One metric and one set of
noise levels are primary and named in advance; Holm's correction is over the losses compared there.
All else is exploratory: its intervals are shown and nothing is claimed. :mod:`.wording` puts
comparisons into words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.errors import InputError
from train.experiments.statistics import stats
from train.experiments.statistics.comparison_table import METRICS, ComparisonRow, score_table
from train.experiments.statistics.stats import Difference, Outcome

# Differences in PSNR below this are taken to be of no use to anybody: the margin of "not worse", if
# none is given.
MARGIN_DB = 0.1
ALPHA = 0.05  # chance of a false alarm that is accepted


@dataclass(frozen=True)
class Comparison:
    """The candidate against one other loss in one metric.

    A positive difference is in favour of the candidate.
    """

    candidate: str
    other: str
    metric: str
    sigmas: tuple[float, ...]
    difference: Difference
    adjusted_p: float | None  # None if exploratory
    family: int  # primary comparisons that p-values are corrected for; 1 if exploratory
    margin: float | None  # of the next two, in the metric's unit; None: neither is tested
    not_worse_p: float | None  # after Holm's correction, as the next
    equal_p: float | None  # of a difference below the margin either way
    wilcoxon_p: float
    outcome: Outcome

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would tell, corrected for the family; None if too many to train."""
        # Holm asks the first of a family for what Bonferroni does, and the others for less.
        return stats.seeds_that_would_tell(self.difference, confidence=1 - ALPHA / self.family)


@dataclass(frozen=True)
class _Family:
    """What the primary comparisons are corrected to, by the other loss."""

    metric: str
    sigmas: tuple[float, ...]
    adjusted_p: dict[str, float]
    margin: float | None
    not_worse_p: dict[str, float]
    equal_p: dict[str, float]


def conclude(
    rows: Sequence[ComparisonRow],
    losses: Sequence[str],
    *,
    primary: str = "psnr",
    primary_sigmas: Sequence[float] = (),
    margin: float | None = None,
) -> list[Comparison]:
    """Compares ``losses[0]`` with each of the others.

    Args:
      rows: scores, complete for these losses.
      losses: two or more.
      primary: the metric that verdicts are on.
      primary_sigmas: the noise levels that verdicts are on, by their mean; none given: all.
      margin: difference in ``primary`` that matters, for "not worse". None: 0.1 dB, or no test if
        the metric is not in dB.

    Returns:
      The primary comparisons first, then the other metrics, then single noise levels.

    Raises:
      InputError: if two losses have scores of different photographs or seeds.
    """
    candidate, others = losses[0], losses[1:]
    sigmas = tuple(sorted({row.sigma for row in rows}))
    first = tuple(sorted(primary_sigmas)) or sigmas
    if margin is None and METRICS[primary].unit == "dB":
        margin = MARGIN_DB

    # --- every difference
    gains: dict[tuple[str, str, tuple[float, ...]], np.ndarray] = {}
    for levels in dict.fromkeys([first, sigmas, *((sigma,) for sigma in sigmas)]):
        for metric in METRICS:
            for other in others:
                gains[other, metric, levels] = _gain(rows, candidate, other, metric, levels)
    differences = {key: stats.paired_difference(gain) for key, gain in gains.items()}

    # --- corrections, over the primary ones
    in_family = [differences[other, primary, first] for other in others]
    family = _Family(
        primary,
        first,
        _correct(others, [difference.p_value for difference in in_family]),
        margin,
        _correct(others, [stats.not_worse_p(d, margin) for d in in_family]) if margin else {},
        _correct(others, [stats.equivalence_p(d, margin) for d in in_family]) if margin else {},
    )

    # --- outcomes
    comparisons = []
    for (other, metric, levels), difference in differences.items():
        wilcoxon_p = stats.wilcoxon_p(gains[other, metric, levels])
        if (metric, levels) == (primary, first):
            comparisons.append(_primary(candidate, other, difference, wilcoxon_p, family))
        else:
            comparisons.append(
                Comparison(
                    candidate=candidate,
                    other=other,
                    metric=metric,
                    sigmas=levels,
                    difference=difference,
                    adjusted_p=None,
                    family=1,
                    margin=None,
                    not_worse_p=None,
                    equal_p=None,
                    wilcoxon_p=wilcoxon_p,
                    outcome=stats.outcome(difference, 1.0, alpha=ALPHA),
                )
            )
    return sorted(comparisons, key=lambda comparison: comparison.adjusted_p is None)


def _primary(
    candidate: str, other: str, difference: Difference, wilcoxon_p: float, family: _Family
) -> Comparison:
    p = family.adjusted_p[other]
    return Comparison(
        candidate=candidate,
        other=other,
        metric=family.metric,
        sigmas=family.sigmas,
        difference=difference,
        adjusted_p=p,
        family=len(family.adjusted_p),
        margin=family.margin,
        not_worse_p=family.not_worse_p.get(other),
        equal_p=family.equal_p.get(other),
        wilcoxon_p=wilcoxon_p,
        outcome=stats.outcome(difference, p, alpha=ALPHA),
    )


def _correct(others: Sequence[str], p_values: Sequence[float]) -> dict[str, float]:
    return dict(zip(others, stats.holm(p_values), strict=True))


def _gain(
    rows: Sequence[ComparisonRow],
    candidate: str,
    other: str,
    metric: str,
    sigmas: tuple[float, ...],
) -> np.ndarray:
    """Paired differences ``[photographs, seeds]``, positive if the candidate is better."""
    first = score_table(rows, metric, candidate, sigmas)
    second = score_table(rows, metric, other, sigmas)
    if first.shape != second.shape:
        raise InputError(
            f"{candidate!r} has scores of {first.shape[0]} photographs and {first.shape[1]} "
            f"seeds, {other!r} of {second.shape[0]} and {second.shape[1]}: a paired comparison "
            "needs the same of both."
        )
    return first - second if METRICS[metric].higher_is_better else second - first
