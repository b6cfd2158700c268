"""Plain sentences about the scale of three sets or more, and about metrics that predict votes."""

from collections.abc import Sequence

from train.inference.scoring.registry import METRICS
from train.study.metric_ranks import MetricRank, MetricRanks
from train.study.results import PairResult, StudyResults
from train.study.scale import Placed
from train.study.sentences import choices, end, level, percent, whom
from train.study.statistics import CONFIDENCE, Interval


def signed(number: float) -> str:
    """A number with its sign, as places on the scale are shown."""
    text = f"{number:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def ends(interval: Interval, *, shares: bool = False) -> str:
    """The ends of an interval, as shares or as places on the scale."""
    show = end if shares else signed
    return f"{show(interval.low)} to {show(interval.high)}"


def cells(placed: Placed) -> tuple[str, str, str, str]:
    """The place of a set, its interval, its score against the other sets, and that interval."""
    return (
        signed(placed.jod.mean),
        ends(placed.jod),
        percent(placed.preference.mean),
        ends(placed.preference, shares=True),
    )


def measurement(pair: PairResult) -> str:
    """What was measured for one of several pairs. The explanation says what it means."""
    return (
        f"Score of {pair.first.upper()}: {percent(pair.interval.mean)}, {level(pair)} interval "
        f"{ends(pair.interval, shares=True)}. {choices(pair)}"
    )


def explanation(results: StudyResults) -> str:
    """What the numbers of three sets or more mean, and for whom they hold."""
    said = (
        "A score of 50 % means that neither set is ahead, and each “no difference” counts half. "
        "With several pairs, intervals are wider, by Holm's method: the chance that any verdict is "
        f"wrong is at most {percent(1 - CONFIDENCE)}. Sets that are 1 JOD apart score 75 % against "
        "each other. Intervals in JOD are not corrected, and decide nothing. "
        f"{whom(results.pairs[0])}"
    )
    return said.rstrip()


def notes(results: StudyResults) -> list[str]:
    """What a reader should know about the scale before believing it."""
    scale = results.scale
    if scale is None:
        return []
    if scale.why_not:
        return [f"There is no scale, because {scale.why_not}."]
    said = []
    for number, group in enumerate(scale.never_beaten[1:], start=1):
        before = "".join(scale.never_beaten[:number])
        said.append(
            f"No vote prefers {_letters(group)} to {_letters(before)}. The distance "
            "between them may be larger than shown, and depends on the vote, half for each, that "
            "the scale adds to every two sets."
        )
    for pair, distance in zip(results.pairs, scale.distances, strict=True):
        first, second = pair.first.upper(), pair.second.upper()
        fits = pair.interval.low <= distance.score <= pair.interval.high
        # The vote that the scale adds moves scores of 0 and 100 %.
        if not fits and len(scale.never_beaten) == 1:
            said.append(
                f"The scale does not describe {first} against {second} well: by their places, "
                f"{first} would score {percent(distance.score)}, and the votes say "
                f"{percent(pair.interval.mean)}."
            )
    if circle := find_circle(results.pairs):
        said.append(
            f"The verdicts run in a circle: {' over '.join(one.upper() for one in circle)}. No "
            "scale can show that."
        )
    return said


def find_circle(pairs: Sequence[PairResult]) -> list[str]:
    """Sets of which each is preferred to the next, and the last is the first; [] if none are."""
    better: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.outcome == "first":
            better.setdefault(pair.first, []).append(pair.second)
        elif pair.outcome == "second":
            better.setdefault(pair.second, []).append(pair.first)

    def walk(path: list[str]) -> list[str]:
        for following in better.get(path[-1], ()):
            if following == path[0]:
                return [*path, following]
            if following not in path and (found := walk([*path, following])):
                return found
        return []

    return next(filter(None, (walk([start]) for start in better)), [])


def prediction(ranks: MetricRanks) -> str:
    """Which metric predicts the votes."""
    left_out = ""
    if ranks.left_out:
        names = ", ".join(METRICS[name].label for name in ranks.left_out)
        left_out = f" Left out, for want of scores or differences: {names}."
    if ranks.why_not:
        return f"No metric is compared with the votes: {ranks.why_not}.{left_out}"
    best = ranks.metrics[0]
    if best.correlation.low <= 0:
        said = (
            "It is not certain that any metric predicts these votes: the interval of the best one, "
            f"{_name(best)}, contains 0."
        )
    else:
        said = (
            f"{_name(best)} has the highest rank correlation with these votes, "
            f"{best.correlation.mean:.2f}."
        )
        others = [_name(rank) for rank in ranks.metrics[1:] if rank.may_be_best]
        if others:
            said += f" The votes leave open whether {_listed(others)} predict them better."
        elif len(ranks.metrics) > 1:
            said += " All others predict them less well."
    return f"{said}{left_out}"


def _name(rank: MetricRank) -> str:
    return METRICS[rank.metric].label


def _letters(group: str) -> str:
    return _listed([one.upper() for one in group])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
