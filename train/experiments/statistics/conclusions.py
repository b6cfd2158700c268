"""From the table of scores to conclusions: differences with intervals, p-values and outcomes.

The candidate, which is the first loss, is compared with each of the others. One metric and one set
of noise levels are primary and chosen in advance; Holm's correction is over the losses compared
there. Everything else is exploratory: its intervals are shown without a claim.
:mod:`train.experiments.report.wording` puts comparisons into words.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.errors import InputError
from train.experiments.statistics import stats
from train.experiments.statistics.comparison_table import (
    ComparisonRow,
    metrics_of,
    score_table,
)
from train.experiments.statistics.stats import Difference, Outcome
from train.inference.scoring.registry import METRICS

# The margin of "not worse" if none is given: smaller differences in PSNR are assumed to be of no
# use to anybody.
MARGIN_DB = 0.1
ALPHA = 0.05  # accepted chance of a false alarm
START = "unchanged start"  # stands where tables have a loss, for a network before fine-tuning


@dataclass(frozen=True)
class FineTuned:
    """What the networks that are compared were before they were fine-tuned."""

    starts: int  # number of networks; with one, conclusions hold for that network only
    losses: tuple[str, ...]  # the losses that they were trained with, as far as recorded


@dataclass(frozen=True)
class Comparison:
    """The candidate against one other loss in one metric.

    A positive difference favours the candidate.
    """

    candidate: str
    other: str
    metric: str
    sigmas: tuple[float, ...]
    difference: Difference
    adjusted_p: float | None  # None if exploratory
    family: int  # number of primary comparisons to correct p-values for; 1 if exploratory
    margin: float | None  # in the metric's unit, for the next two; None: neither is tested
    not_worse_p: float | None  # for "not worse by the margin or more", after Holm's correction
    equal_p: float | None  # for "neither is better by the margin or more", also corrected
    wilcoxon_p: float
    outcome: Outcome
    fine_tuned: FineTuned | None = None  # None: trained from random weights

    @property
    def within_margin(self) -> bool:
        """Whether the test says that neither is better by the margin or more."""
        return self.equal_p is not None and self.equal_p < ALPHA

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would probably decide it, corrected for the family; None: too many."""
        # For the smallest p-value of a family Holm's bound is Bonferroni's; for others it is laxer.
        return stats.seeds_that_would_tell(self.difference, confidence=1 - ALPHA / self.family)


@dataclass(frozen=True)
class _Family:
    """The corrected p-values of the primary comparisons, by the other loss."""

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
    fine_tuned: FineTuned | None = None,
) -> list[Comparison]:
    """Compares ``losses[0]`` with each of the others.

    Args:
      rows: scores, complete for these losses.
      losses: two or more losses.
      primary: the metric that verdicts are based on.
      primary_sigmas: noise levels (0 to 255) whose mean score decides the verdict; (): all.
      margin: smallest difference in ``primary`` that matters, for "not worse". None: 0.1 dB, or no
        test if the metric is not in dB.
      fine_tuned: what the networks were before; None if they were trained from random weights.

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
        for metric in metrics_of(rows):
            for other in others:
                gains[other, metric, levels] = _gain(rows, candidate, other, metric, levels)
    differences = {key: stats.paired_difference(gain) for key, gain in gains.items()}

    # --- corrections, over the primary differences
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
            one = _primary(candidate, other, difference, wilcoxon_p, family)
        else:
            one = _exploratory(candidate, other, metric, levels, difference, wilcoxon_p)
        comparisons.append(dataclasses.replace(one, fine_tuned=fine_tuned))
    return sorted(comparisons, key=lambda comparison: comparison.adjusted_p is None)


def changes_from_start(
    rows: Sequence[ComparisonRow], losses: Sequence[str], *, sigmas: Sequence[float] = ()
) -> list[Comparison]:
    """Compares the networks of each loss with the ones that they started from, without a verdict.

    Args:
      rows: scores of these losses and of ``START``.
      losses: the losses.
      sigmas: noise levels (0 to 255) whose mean score is compared; (): all.

    Returns:
      For each loss a comparison in each metric.
    """
    levels = tuple(sorted(sigmas)) or tuple(sorted({row.sigma for row in rows}))
    changes = []
    for loss in losses:
        for metric in metrics_of(rows):
            gain = _gain(rows, loss, START, metric, levels)
            difference = stats.paired_difference(gain)
            wilcoxon_p = stats.wilcoxon_p(gain)
            changes.append(_exploratory(loss, START, metric, levels, difference, wilcoxon_p))
    return changes


def _exploratory(
    candidate: str,
    other: str,
    metric: str,
    sigmas: tuple[float, ...],
    difference: Difference,
    wilcoxon_p: float,
) -> Comparison:
    return Comparison(
        candidate=candidate,
        other=other,
        metric=metric,
        sigmas=sigmas,
        difference=difference,
        adjusted_p=None,
        family=1,
        margin=None,
        not_worse_p=None,
        equal_p=None,
        wilcoxon_p=wilcoxon_p,
        outcome=stats.outcome(difference, 1.0, alpha=ALPHA),
    )


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
        outcome=stats.outcome(difference, p, equal_p=family.equal_p.get(other), alpha=ALPHA),
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
    if other == START and second.shape[1] == 1:  # all seeds have the same start
        second = np.broadcast_to(second, first.shape)
    if first.shape != second.shape:
        raise InputError(
            f"{candidate!r} has scores of {first.shape[0]} photographs and {first.shape[1]} "
            f"seeds, but {other!r} of {second.shape[0]} and {second.shape[1]}. A paired comparison "
            "needs the same photographs and seeds for both."
        )
    return first - second if METRICS[metric].higher_is_better else second - first
