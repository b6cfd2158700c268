"""From the table of scores to what may be said: differences with intervals, verdicts, plain sentences.

The candidate, the first loss named, is compared with each of the others. One metric and one set of noise levels are
primary and named in advance; Holm's correction is over the losses compared there. All else is exploratory: its
intervals are shown and nothing is claimed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from train.errors import InputError
from train.experiments import stats
from train.experiments.scores import METRICS, Score, table_of
from train.experiments.stats import Difference, Outcome

# Differences in PSNR below this are taken to be of no use to anybody: the margin of "not worse".
MARGIN_DB = 0.1


@dataclass(frozen=True)
class Comparison:
    """The candidate against one other loss in one metric; a positive difference is to the candidate's good."""

    candidate: str
    other: str
    metric: str
    sigmas: tuple[float, ...]
    difference: Difference
    adjusted_p: float | None  # None where exploratory
    not_worse_p: float | None  # by Holm's correction, as the next
    equal_p: float | None  # of a difference below the margin either way
    wilcoxon_p: float
    outcome: Outcome

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would tell, corrected as this comparison is; None where that is more than anybody trains."""
        p, adjusted = self.difference.p_value, self.adjusted_p
        factor = adjusted / p if adjusted is not None and 0 < p else 1.0
        return stats.seeds_that_would_tell(self.difference, confidence=1 - 0.05 / max(factor, 1.0))

    @property
    def sentence(self) -> str:
        """The comparison in plain words, with its interval."""
        metric, d = METRICS[self.metric], self.difference
        sign = 1 if metric.higher_is_better else -1  # back to the metric's own direction, as readers know it
        unit = f" {metric.unit}" if metric.unit else ""
        ends = sorted((sign * d.low, sign * d.high))
        mean, low, high = (f"{value:+.{metric.digits}f}" for value in (sign * d.mean, *ends))
        numbers = f"{metric.label} {mean}{unit} [{low}, {high}]"
        return f"{self.candidate} against {self.other}: {numbers}. {self._verdict()}"

    def _verdict(self) -> str:
        d = self.difference
        if self.adjusted_p is None:
            return "Exploratory: shown, not claimed."
        if self.outcome == "better":
            return f"Better (p = {self.adjusted_p:.2g} after Holm's correction; all {len(d.by_seed)} seeds agree)."
        if self.outcome == "worse":
            return f"Worse (p = {self.adjusted_p:.2g} after Holm's correction; all {len(d.by_seed)} seeds agree)."
        if self.outcome == "no verdict":
            if len(d.by_seed) < 2:
                return "No verdict: one seed says nothing about the next."
            return f"No verdict: {d.images} photographs are too few, {stats.FEWEST_IMAGES} are the least."
        why = "" if d.seeds_agree else " Seeds contradict each other."
        needed = self.seeds_needed
        more = f" About {needed} seeds would tell." if needed else " More seeds would hardly tell; photographs might."
        safe = ""
        if self.equal_p is not None and self.equal_p < 0.05:
            safe = f" Equal to within {MARGIN_DB:g} dB (p = {self.equal_p:.2g})."
        elif self.not_worse_p is not None and self.not_worse_p < 0.05:
            safe = f" Not worse by {MARGIN_DB:g} dB or more (p = {self.not_worse_p:.2g})."
        return f"Cannot tell (p = {self.adjusted_p:.2g} after Holm's correction).{why}{more}{safe}"


def conclude(scores: Sequence[Score], losses: Sequence[str], *, primary: str = "psnr") -> list[Comparison]:
    """Every comparison of ``losses[0]`` with the others: the primary ones first, then metrics, then single levels."""
    candidate, others = losses[0], losses[1:]
    sigmas = tuple(sorted({row.sigma for row in scores}))
    differences = {
        (other, metric, levels): _difference(scores, candidate, other, metric, levels)
        for metric in METRICS
        for levels in [sigmas, *([(s,) for s in sigmas] if len(sigmas) > 1 else [])]
        for other in others
    }
    family = [differences[other, primary, sigmas][0] for other in others]
    adjusted = _corrected(others, [difference.p_value for difference in family])
    not_worse = _corrected(others, [stats.not_worse_p(difference, MARGIN_DB) for difference in family])
    equal = _corrected(others, [stats.equivalence_p(difference, MARGIN_DB) for difference in family])
    comparisons = []
    for (other, metric, levels), (difference, wilcoxon) in differences.items():
        is_primary = metric == primary and levels == sigmas
        p = adjusted[other] if is_primary else None
        has_margin = is_primary and METRICS[metric].unit == "dB"
        comparisons.append(
            Comparison(
                candidate=candidate,
                other=other,
                metric=metric,
                sigmas=levels,
                difference=difference,
                adjusted_p=p,
                not_worse_p=not_worse[other] if has_margin else None,
                equal_p=equal[other] if has_margin else None,
                wilcoxon_p=wilcoxon,
                outcome=stats.outcome(difference, 1.0 if p is None else p),
            )
        )
    return sorted(comparisons, key=lambda c: (c.adjusted_p is None, len(c.sigmas) == 1 and len(sigmas) > 1))


def still_learning(gain_of_last_quarter: float) -> bool:
    """Whether a training curve was still rising: 0.05 dB or more of validation PSNR in its last quarter."""
    return not math.isnan(gain_of_last_quarter) and gain_of_last_quarter >= 0.05


def _corrected(others: Sequence[str], p_values: Sequence[float]) -> dict[str, float]:
    return dict(zip(others, stats.holm(p_values), strict=True))


def _difference(
    scores: Sequence[Score], candidate: str, other: str, metric: str, sigmas: tuple[float, ...]
) -> tuple[Difference, float]:
    sign = 1 if METRICS[metric].higher_is_better else -1
    first, second = (table_of(scores, metric, loss, sigmas) for loss in (candidate, other))
    if first.shape != second.shape:
        raise InputError(
            f"{candidate!r} has scores of {first.shape[0]} photographs and {first.shape[1]} seeds, {other!r} of "
            f"{second.shape[0]} and {second.shape[1]}: a paired comparison needs the same of both."
        )
    gain = sign * (first - second)
    return stats.paired_difference(gain), stats.wilcoxon_p(gain)
