"""Plain sentences about comparisons, for the console, the page and conclusions.json."""

from collections.abc import Sequence

from train.experiments.statistics import stats
from train.experiments.statistics.conclusions import ALPHA, Comparison
from train.experiments.statistics.convergence import Curve, convergence_warning
from train.inference.scoring.registry import METRICS

_UNDECIDED = ("cannot tell", "no verdict")


def describe_difference(comparison: Comparison) -> str:
    """The metric, and the difference with its interval."""
    return " ".join((METRICS[comparison.metric].label, *difference_and_interval(comparison)))


def difference_and_interval(comparison: Comparison) -> tuple[str, str]:
    """The difference and its interval, with the sign that the metric itself has."""
    metric, difference = METRICS[comparison.metric], comparison.difference
    sign = 1 if metric.higher_is_better else -1
    low, high = sorted((sign * difference.low, sign * difference.high))
    mean, low_end, high_end = (
        f"{value:+.{metric.digits}f}" for value in (sign * difference.mean, low, high)
    )
    return f"{mean}{_unit(comparison)}", f"[{low_end}, {high_end}]"


def describe_measurement(comparison: Comparison) -> str:
    """Says which losses are compared and what was measured, without a verdict."""
    return f"{comparison.candidate} against {comparison.other}: {describe_difference(comparison)}."


def describe_comparison(comparison: Comparison) -> str:
    """Says what was measured, and gives the verdict."""
    favoured = "" if comparison.adjusted_p is None else _describe_starts(comparison)
    return f"{describe_measurement(comparison)} {_verdict(comparison)} {favoured}".strip()


def _describe_starts(comparison: Comparison) -> str:
    """Says which losses the starts of a fine-tuning favour; "" if there are no starts."""
    fine_tuned = comparison.fine_tuned
    if fine_tuned is None:
        return ""
    starts = "The start was" if fine_tuned.starts == 1 else "The starts were"
    if not fine_tuned.losses:
        return (
            "It is not recorded which loss a start was trained with. A start favours its own loss."
        )
    if len(fine_tuned.losses) == 1:
        loss = fine_tuned.losses[0]
        compared = loss in (comparison.candidate, comparison.other)
        why = "which favours that loss" if compared else "which is neither of these two losses"
        return f"{starts} trained with {loss}, {why}."
    listed = _list(fine_tuned.losses, word="and")
    return f"{starts} trained with {listed}, and each favours its own loss."


def describe_changes(changes: Sequence[Comparison], margin: float | None) -> str:
    """Says how far the networks of each loss are from their start, in one metric.

    Args:
      changes: a comparison with the start for each loss, all in the same metric.
      margin: smallest difference that matters; None if none was given.

    Returns:
      One sentence, or two if no network has moved as far as the margin.
    """
    listed = ", ".join(f"{change.candidate} {describe_difference(change)}" for change in changes)
    said = f"The scores changed from the start: {listed}."
    if margin is None or any(abs(change.difference.mean) >= margin for change in changes):
        return said
    unit = _unit(changes[0])
    return (
        f"{said} With every loss the mean changed by less than {margin:g}{unit}, so it means "
        f"little if losses are equal to within {margin:g}{unit}."
    )


def describe_other_metrics(comparison: Comparison, comparisons: Sequence[Comparison]) -> str:
    """Lists the other metrics at the same noise levels, which are shown without a claim."""
    by_direction: dict[str, list[str]] = {"higher": [], "lower": []}
    for each in comparisons:
        same = (each.other, each.sigmas) == (comparison.other, comparison.sigmas)
        if same and each.metric != comparison.metric:
            by_direction[better(each.metric)].append(describe_difference(each))
    listed = [
        f"{direction} is better: {', '.join(others)}"
        for direction, others in by_direction.items()
        if others
    ]
    words = "; ".join(listed)
    return f"Exploratory metrics. {words[:1].upper()}{words[1:]}."


def better(metric: str) -> str:
    """Which values of a metric are better: higher or lower ones."""
    return "higher" if METRICS[metric].higher_is_better else "lower"


def explain_differences(first: str, second: str) -> str:
    """Says what a difference is, and when a positive one means worse."""
    return (
        f"Each difference is the score of {first} minus that of {second}. If lower is better, a "
        f"positive difference means that {first} is worse."
    )


def suggests_seeds(comparison: Comparison) -> bool:
    """Whether the sentence about a comparison says how many seeds would probably decide it."""
    return comparison.outcome == "cannot tell" and comparison.seeds_needed is not None


def headline(comparisons: Sequence[Comparison], curves: Sequence[Curve]) -> str:
    """The first sentences of the page; they warn if the networks were still learning."""
    primary = [comparison for comparison in comparisons if comparison.adjusted_p is not None]
    small = "but by less than {margin}, which is too little to matter."
    texts = {
        ("better", False): "{it} is better than {others}{scope}.",
        ("better", True): f"{{it}} is better than {{others}}{{scope}}, {small}",
        ("worse", False): "{it} is worse than {others}{scope}.",
        ("worse", True): f"{{it}} is worse than {{others}}{{scope}}, {small}",
        ("equal", True): "{it} is equal to {others} to within {margin}{scope}.",
        ("cannot tell", False): "{it} cannot be told apart from {others}{scope}.",
        ("no verdict", False): "There is no verdict on {candidate} compared with {others}.",
    }
    candidate = primary[0].candidate
    sentences: list[str] = []
    for (outcome, is_small), text in texts.items():
        others = [
            comparison.other
            for comparison in primary
            if comparison.outcome == outcome
            and (comparison.within_margin == is_small or outcome == "no verdict")
        ]
        if others:
            sentence = text.format(
                it="It" if sentences else candidate,
                candidate=candidate,
                others=_list(others, word="or" if outcome in _UNDECIDED else "and"),
                margin=_margin(primary[0]),
                scope=_scope(primary[0]),
            )
            sentences.append(sentence)
    return convergence_warning(curves) + " ".join(sentences)


def _scope(comparison: Comparison) -> str:
    """With one start, seeds are only the order of the data, so one network is spoken of."""
    one = comparison.fine_tuned is not None and comparison.fine_tuned.starts == 1
    return " for this network" if one else ""


def _margin(comparison: Comparison) -> str:
    return f"{comparison.margin:g}{_unit(comparison)}" if comparison.margin else ""


def _list(names: Sequence[str], *, word: str) -> str:
    """Joins names by commas, and the last two by a word."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def _verdict(comparison: Comparison) -> str:
    """Says what may be claimed, and with what probability of error."""
    if comparison.adjusted_p is None:
        return "This comparison is exploratory: it is shown without a verdict."
    if comparison.outcome == "no verdict":
        return _why_no_verdict(comparison)
    alone = f"{comparison.difference.p_value:.2g}"
    p, scope = f"p = {alone}", _scope(comparison)
    if comparison.family > 1:
        p = (
            f"p = {comparison.adjusted_p:.2g} after Holm's correction for {comparison.family} "
            f"comparisons, {alone} without it"
        )
    if comparison.outcome == "equal":
        return (
            f"Equal to within {_margin(comparison)}{scope} (p = {comparison.equal_p:.2g}"
            f"{_corrected(comparison)}). Differences below this margin are assumed not to matter. "
            f"Within this margin, the scores do not say which of the two is better ({p})."
        )
    if comparison.outcome == "cannot tell":
        undecided = f"Cannot tell which is better{scope} ({p})."
        return f"{undecided}{_what_would_decide(comparison)}{_margins(comparison)}"
    seeds = len(comparison.difference.by_seed)
    agree = sum(value * comparison.difference.mean > 0 for value in comparison.difference.by_seed)
    agreement = f"all {seeds} seeds agree" if agree == seeds else f"{agree} of {seeds} seeds agree"
    verdict = f"{comparison.outcome.capitalize()}{scope} ({p}; {agreement})."
    return f"{verdict}{_margins(comparison)}"


def _why_no_verdict(comparison: Comparison) -> str:
    if len(comparison.difference.by_seed) < 2:
        return "No verdict: one seed says nothing about the next. At least two are needed."
    return (
        f"No verdict: {comparison.difference.images} test photographs are too few. At least "
        f"{stats.FEWEST_IMAGES} are needed."
    )


def _what_would_decide(comparison: Comparison) -> str:
    """Says why a comparison is undecided, and how many seeds would probably decide it."""
    why = ""
    if not comparison.difference.seeds_agree:
        why = " The seeds disagree on which loss is better"
        if len(comparison.difference.by_seed) <= stats.MUST_AGREE:
            why += f", and with up to {stats.MUST_AGREE} seeds all must agree"
        why += "."
    if needed := comparison.seeds_needed:
        return f"{why} About {needed} seeds would probably decide it."
    return (
        f"{why} More seeds would not settle it, because the difference is too small; more "
        "photographs might."
    )


def _corrected(comparison: Comparison) -> str:
    return " after Holm's correction" if comparison.family > 1 else ""


def _margins(comparison: Comparison) -> str:
    """Says what is known about differences that matter, whatever the verdict is."""
    equal_p, not_worse_p = comparison.equal_p, comparison.not_worse_p
    if comparison.margin is None or equal_p is None or not_worse_p is None:
        return ""
    candidate, margin = comparison.candidate, _margin(comparison)
    corrected = _corrected(comparison)
    not_worse = f"(p = {not_worse_p:.2g}{corrected})"
    if comparison.within_margin:
        return (
            f" The difference is real, but smaller than {margin}, the margin below which "
            f"differences are assumed not to matter (p = {equal_p:.2g}{corrected})."
        )
    if not_worse_p < ALPHA:
        if comparison.outcome == "worse":
            return f" {candidate} is worse by less than {margin} {not_worse}."
        return f" {candidate} is not worse by {margin} or more {not_worse}."
    if comparison.outcome == "worse" and comparison.difference.high <= -comparison.margin:
        return ""  # The interval itself says that it is worse by more than the margin.
    return (
        f" {candidate} may still be worse by {margin} or more "
        f"(p = {not_worse_p:.2g} in the test for non-inferiority{corrected})."
    )


def _unit(comparison: Comparison) -> str:
    unit = METRICS[comparison.metric].unit
    return f" {unit}" if unit else ""
