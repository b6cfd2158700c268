"""From the table of scores to what may be said: differences with intervals, verdicts, plain sentences.

The candidate, the first loss named, is compared with each of the others. One metric and one set of
noise levels are primary and named in advance; Holm's correction is over the losses compared there.
All else is exploratory: its intervals are shown and nothing is claimed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from train.errors import InputError
from train.experiments import stats
from train.experiments.convergence import Curve, convergence_warning
from train.experiments.scores import METRICS, Score, score_table
from train.experiments.stats import Difference, Outcome

# Differences in PSNR below this are taken to be of no use to anybody: the margin of "not worse", if
# none is given.
MARGIN_DB = 0.1
_ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """The candidate against one other loss in one metric; a positive difference is to the candidate's good."""

    candidate: str
    other: str
    metric: str
    sigmas: tuple[float, ...]
    difference: Difference
    adjusted_p: float | None  # None where exploratory
    family: int  # of primary comparisons, that p-values are corrected for; 1 where exploratory
    margin: float | None  # of the next two, in the metric's unit; None: neither is tested
    not_worse_p: float | None  # by Holm's correction, as the next
    equal_p: float | None  # of a difference below the margin either way
    wilcoxon_p: float
    outcome: Outcome

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would tell, corrected for the family; None where that is more than anybody trains."""
        # Holm asks the first of a family for what Bonferroni does, and the others for less.
        return stats.seeds_that_would_tell(self.difference, confidence=1 - _ALPHA / self.family)

    @property
    def numbers(self) -> str:
        """The difference with its interval, in the metric's own direction, as readers know it."""
        metric, d = METRICS[self.metric], self.difference
        sign = 1 if metric.higher_is_better else -1
        ends = sorted((sign * d.low, sign * d.high))
        mean, low, high = (f"{value:+.{metric.digits}f}" for value in (sign * d.mean, *ends))
        return f"{metric.label} {mean}{self._unit} [{low}, {high}]"

    @property
    def measured(self) -> str:
        """Who is compared with whom, and what was measured, without a verdict: all that is said of exploratory ones."""
        return f"{self.candidate} against {self.other}: {self.numbers}."

    @property
    def sentence(self) -> str:
        """The comparison in plain words, with its interval."""
        return f"{self.measured} {self._verdict()}"

    @property
    def _unit(self) -> str:
        unit = METRICS[self.metric].unit
        return f" {unit}" if unit else ""

    def _verdict(self) -> str:
        if self.adjusted_p is None:
            return "Exploratory: shown, not claimed."
        d, seeds = self.difference, len(self.difference.by_seed)
        if self.outcome == "no verdict":
            if seeds < 2:
                return "No verdict: one seed says nothing about the next."
            return f"No verdict: {d.images} photographs are too few, {stats.FEWEST_IMAGES} are the least."
        alone = f"{d.p_value:.2g}"
        corrected = f"{self.adjusted_p:.2g} after Holm's correction for {self.family} comparisons, {alone} alone"
        p = f"p = {corrected if self.family > 1 else alone}"
        if self.outcome != "cannot tell":
            agree = sum(value * d.mean > 0 for value in d.by_seed)
            said = (
                f"all {seeds} seeds agree" if agree == seeds else f"{agree} of {seeds} seeds agree"
            )
            return f"{self.outcome.capitalize()} ({p}; {said}).{self._margins()}"
        why = ""
        if not d.seeds_agree:
            asked = (
                f", and up to {stats.MUST_AGREE} must agree" if seeds <= stats.MUST_AGREE else ""
            )
            why = f" Seeds contradict each other{asked}."
        needed = self.seeds_needed
        more = (
            f" About {needed} seeds would tell."
            if needed
            else " More seeds would hardly tell; photographs might."
        )
        return f"Cannot tell ({p}).{why}{more}{self._margins()}"

    def _margins(self) -> str:
        """What is known of differences that matter, whichever way it came out."""
        if self.margin is None or self.equal_p is None or self.not_worse_p is None:
            return ""
        within = f"{self.margin:g}{self._unit}"
        if self.equal_p < _ALPHA:
            return f" Equal to within {within} (p = {self.equal_p:.2g})."
        if self.not_worse_p < _ALPHA:
            return f" Not worse by {within} or more (p = {self.not_worse_p:.2g})."
        return (
            f" That it is not worse by {within} or more is not shown (p = {self.not_worse_p:.2g})."
        )


def conclude(
    scores: Sequence[Score],
    losses: Sequence[str],
    *,
    primary: str = "psnr",
    primary_sigmas: Sequence[float] = (),
    margin: float | None = None,
) -> list[Comparison]:
    """Every comparison of ``losses[0]`` with the others: the primary ones first, then metrics, then single levels.

    Args:
      scores: complete for these losses.
      losses: two or more.
      primary: the metric that verdicts are on.
      primary_sigmas: the noise levels that they are on, their mean; none given: all.
      margin: difference in ``primary`` that matters, for "not worse". None: 0.1 dB, or no test
        where it is not in dB.
    """
    candidate, others = losses[0], losses[1:]
    sigmas = tuple(sorted({row.sigma for row in scores}))
    first = tuple(sorted(primary_sigmas)) or sigmas
    if margin is None and METRICS[primary].unit == "dB":
        margin = MARGIN_DB
    levels = dict.fromkeys([first, sigmas, *((sigma,) for sigma in sigmas)])
    differences = {
        (other, metric, at): _difference(scores, candidate, other, metric, at)
        for at in levels
        for metric in METRICS
        for other in others
    }
    family = [differences[other, primary, first][0] for other in others]
    adjusted = _corrected(others, [difference.p_value for difference in family])
    not_worse = _corrected(others, [stats.not_worse_p(d, margin) for d in family]) if margin else {}
    equal = _corrected(others, [stats.equivalence_p(d, margin) for d in family]) if margin else {}
    comparisons = []
    for (other, metric, at), (difference, wilcoxon) in differences.items():
        is_primary = (metric, at) == (primary, first)
        p = adjusted[other] if is_primary else None
        comparisons.append(
            Comparison(
                candidate=candidate,
                other=other,
                metric=metric,
                sigmas=at,
                difference=difference,
                adjusted_p=p,
                family=len(others) if is_primary else 1,
                margin=margin if is_primary else None,
                not_worse_p=not_worse.get(other) if is_primary else None,
                equal_p=equal.get(other) if is_primary else None,
                wilcoxon_p=wilcoxon,
                outcome=stats.outcome(difference, 1.0 if p is None else p, alpha=_ALPHA),
            )
        )
    return sorted(comparisons, key=lambda comparison: comparison.adjusted_p is None)


def alongside(comparison: Comparison, comparisons: Sequence[Comparison]) -> str:
    """What the other metrics say at the same noise levels, in plain words: shown, not claimed."""
    key = (comparison.other, comparison.sigmas)
    same = [c for c in comparisons if (c.other, c.sigmas) == key and c.metric != comparison.metric]
    return f"Exploratory: {', '.join(c.numbers for c in same)}."


def headline(comparisons: Sequence[Comparison], curves: Sequence[Curve]) -> str:
    """The page's first sentence; networks that were still learning are not judged as if they had learned."""
    primary = [comparison for comparison in comparisons if comparison.adjusted_p is not None]
    texts = {
        "better": "better than",
        "worse": "worse than",
        "cannot tell": "cannot be told from",
        "no verdict": "no verdict against",
    }
    parts = []
    for outcome, text in texts.items():
        others = [comparison.other for comparison in primary if comparison.outcome == outcome]
        if others:
            parts.append(f"{text} {', '.join(others)}")
    return f"{convergence_warning(curves)}{primary[0].candidate}: {'; '.join(parts)}."


def _corrected(others: Sequence[str], p_values: Sequence[float]) -> dict[str, float]:
    return dict(zip(others, stats.holm(p_values), strict=True))


def _difference(
    scores: Sequence[Score], candidate: str, other: str, metric: str, sigmas: tuple[float, ...]
) -> tuple[Difference, float]:
    sign = 1 if METRICS[metric].higher_is_better else -1
    first, second = (score_table(scores, metric, loss, sigmas) for loss in (candidate, other))
    if first.shape != second.shape:
        raise InputError(
            f"{candidate!r} has scores of {first.shape[0]} photographs and {first.shape[1]} "
            f"seeds, {other!r} of {second.shape[0]} and {second.shape[1]}: a paired comparison "
            "needs the same of both."
        )
    gain = sign * (first - second)
    return stats.paired_difference(gain), stats.wilcoxon_p(gain)
