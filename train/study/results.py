"""What the votes of a study say: comparisons, agreement, and what the control pairs show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from train.study.ballots import Observer, Viewing, Vote, counted, score_table, vote_table
from train.study.metric_ranks import MetricRanks, Scores, rank_metrics
from train.study.rules import why_no_verdict
from train.study.scale import Scale, make_scale
from train.study.sequential import betting_sequence, suffices
from train.study.statistics import (
    CONFIDENCE,
    Interval,
    krippendorff_alpha,
    stepdown_intervals,
    wilson,
)
from train.study.study_file import Terms

Outcome = Literal["first", "second", "cannot tell", "no verdict"]
_MOST_LISTED = 4  # photographs that are shown as examples


@dataclass(frozen=True)
class Mean:
    """The mean score of a photograph or an observer, with its number of votes."""

    name: str
    mean: float
    votes: int


@dataclass(frozen=True)
class PairResult:
    """Two sets compared.

    Attributes:
      first: letter of the set for which a vote scores 1.
      second: letter of the other one.
      outcome: which of them is preferred, if that can be said.
      why_not: why there is no verdict, in words; "" if there is one.
      interval: the mean score with its interval.
      confidence: confidence level of the interval.
      photographs: mean score of each photograph.
      observers: mean score of each observer.
      choices: number of votes for the first set, for neither, and for the second.
      wilson: Wilson's interval of the score, as if votes were independent.
      alpha: Krippendorff's alpha; None if it is undefined.
      split: photographs on which observers chose differently, the most divided first.
      agreed: photographs on which all chose the same set.
    """

    first: str
    second: str
    outcome: Outcome
    why_not: str
    interval: Interval
    confidence: float
    photographs: tuple[Mean, ...]
    observers: tuple[Mean, ...]
    choices: tuple[int, int, int]
    wilson: tuple[float, float]
    alpha: float | None
    split: tuple[str, ...]
    agreed: tuple[str, ...]


@dataclass(frozen=True)
class Controls:
    """What the control pairs show about the observers who count."""

    same: int  # votes on identical pictures
    same_none: int  # those that said "no difference"
    repeats: int  # votes on repeated pairs
    repeats_equal: int  # those that said the same as the first vote


@dataclass(frozen=True)
class StudyResults:
    """Everything that the votes say."""

    about: Terms
    observers: tuple[Observer, ...]
    pairs: tuple[PairResult, ...]
    scale: Scale | None  # if there are three sets or more
    metrics: MetricRanks | None  # if the scores of some metrics are known
    controls: Controls
    viewing: Viewing
    planned: int  # votes of all observers, without the practice round
    given: int
    ended_early: bool


def analyse(
    about: Terms,
    votes: Sequence[Vote],
    observers: Sequence[Observer],
    *,
    planned: int,
    arrivals: Sequence[float] = (),
    scores: Scores | None = None,
    viewing: Viewing = "all",
    end_early: bool = False,
) -> StudyResults:
    """Analyses the votes of a study.

    Args:
      about: what was decided before the first vote.
      votes: all votes except the practice round.
      observers: who took part.
      planned: number of votes that were planned, without the practice round.
      arrivals: for a study that ends when the votes suffice, the score of each photograph whose
        votes are all in, in the order of arrival.
      scores: scores of the photographs by metric, set and photograph, if they are known.
      viewing: which votes to use. Only "all" can lead to a verdict.
      end_early: give a verdict although votes are missing.

    Returns:
      The results. Sets without a vote between them are left out.
    """
    deciding = counted(votes, observers, viewing)
    missing = "" if end_early or len(votes) >= planned else _missing(len(votes), planned)
    sequence = None
    if about.stop == "sequential" and viewing == "all":
        sequence = arrivals
        if not end_early and len(votes) < planned:
            missing = "" if suffices(arrivals) else "more votes are needed"
    if viewing != "all":
        missing = "these are only some of the votes, chosen afterwards"
    comparisons = [
        (first, second)
        for i, first in enumerate(about.sets)
        for second in about.sets[i + 1 :]
        if any({vote.left, vote.right} == {first, second} for vote in deciding)
    ]
    scored = [score_table(deciding, first, second) for first, second in comparisons]
    if sequence is None or not scored:
        intervals = stepdown_intervals([table for table, _ in scored])
    else:
        low, high = betting_sequence(sequence)
        mean = float(np.nanmean(scored[0][0]))
        intervals = [(Interval(mean, low, high, over_observers=False), CONFIDENCE)]
    table, photographs = vote_table(deciding, comparisons)
    included = {observer.number for observer in observers if not observer.excluded}
    return StudyResults(
        about=about,
        observers=tuple(observers),
        pairs=tuple(
            _compare(deciding, *pair, *of_pair, *interval, missing)
            for pair, of_pair, interval in zip(comparisons, scored, intervals, strict=True)
        ),
        scale=make_scale(table, about.sets, comparisons) if len(about.sets) > 2 else None,
        metrics=rank_metrics(table, photographs, comparisons, scores) if scores else None,
        controls=_controls([vote for vote in votes if vote.observer in included]),
        viewing=viewing,
        planned=planned,
        given=len(votes),
        ended_early=end_early and len(votes) < planned,
    )


def _missing(given: int, planned: int) -> str:
    return (
        f"{given} of the {planned} votes are in, and their number was fixed in advance. A verdict "
        "before the end would depend on when somebody looks"
    )


def _compare(
    votes: Sequence[Vote],
    first: str,
    second: str,
    scores: np.ndarray,
    names: Sequence[str],
    interval: Interval,
    confidence: float,
    missing: str,
) -> PairResult:
    own = [vote for vote in votes if {vote.left, vote.right} == {first, second}]
    why_not = missing or why_no_verdict(len(names))
    outcome: Outcome = "no verdict" if why_not else decide(interval)
    numbers = sorted({vote.observer for vote in own})
    of_first = sum(vote.chosen == first for vote in own)
    ties = sum(vote.chosen is None for vote in own)
    firsts = _first_votes(own)
    of_photograph = Counter(vote.photograph for vote in own)
    of_observer = Counter(vote.observer for vote in own)
    return PairResult(
        first=first,
        second=second,
        outcome=outcome,
        why_not=why_not,
        interval=interval,
        confidence=confidence,
        photographs=tuple(
            Mean(name, float(np.nanmean(row)), of_photograph[name])
            for name, row in zip(names, scores, strict=True)
        ),
        observers=tuple(
            Mean(f"observer {number}", float(np.nanmean(column)), of_observer[number])
            for number, column in zip(numbers, scores.T, strict=True)
        ),
        choices=(of_first, ties, len(own) - of_first - ties),
        wilson=wilson(of_first + ties / 2, len(own)),
        alpha=krippendorff_alpha(list(firsts.values())),
        split=_most_divided(firsts),
        agreed=tuple(
            name
            for name, chosen in firsts.items()
            if len(chosen) > 1 and len(set(chosen)) == 1 and chosen[0] is not None
        )[:_MOST_LISTED],
    )


def decide(interval: Interval) -> Outcome:
    """Which set is preferred, if the interval of the mean score excludes one half."""
    if interval.low > 0.5:
        return "first"
    return "second" if interval.high < 0.5 else "cannot tell"


def _first_votes(votes: Sequence[Vote]) -> dict[str, list[str | None]]:
    """What each observer chose when a photograph was shown first, by photograph."""
    seen, chosen = set(), dict[str, list[str | None]]()
    for vote in sorted(votes, key=lambda vote: (vote.photograph, vote.observer, vote.number)):
        if (vote.photograph, vote.observer) not in seen:
            seen.add((vote.photograph, vote.observer))
            chosen.setdefault(vote.photograph, []).append(vote.chosen)
    return chosen


def _most_divided(chosen: dict[str, list[str | None]]) -> tuple[str, ...]:
    """The photographs for which both sets were chosen by some, the most equally divided first."""
    divided = []
    for name, values in chosen.items():
        sets = {value for value in values if value is not None}
        if len(sets) == 2:
            fewer = min(values.count(one) for one in sets)
            divided.append((-fewer / len(values), name))
    return tuple(name for _, name in sorted(divided)[:_MOST_LISTED])


def _controls(votes: Sequence[Vote]) -> Controls:
    same = [vote for vote in votes if vote.kind == "same"]
    firsts = {
        (vote.observer, vote.photograph, frozenset((vote.left, vote.right))): vote.chosen
        for vote in reversed(votes)
        if vote.kind == "pair"
    }
    repeats = [vote for vote in votes if vote.kind == "repeat"]
    equal = sum(
        firsts.get((vote.observer, vote.photograph, frozenset((vote.left, vote.right))), "?")
        == vote.chosen
        for vote in repeats
    )
    return Controls(len(same), sum(vote.choice == "none" for vote in same), len(repeats), equal)
