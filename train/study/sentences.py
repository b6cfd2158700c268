"""Plain sentences about the results of a study, for the console and the page."""

from train.study.results import PairResult, StudyResults
from train.study.statistics import FEWEST_OBSERVERS


def label(results: StudyResults, letter: str) -> str:
    """A set with its letter and what it is called."""
    return f"{letter.upper()} ({results.about.name_of(letter)})"


def headline(results: StudyResults, pair: PairResult) -> str:
    """The verdict, or why there is none."""
    first, second = label(results, pair.first), label(results, pair.second)
    fidelity = results.about.task == "fidelity"
    if pair.outcome == "no verdict":
        return f"There is no verdict on {first} compared with {second}: {pair.why_not}."
    if pair.outcome == "cannot tell":
        what = "is closer to the original" if fidelity else "is preferred"
        return f"The votes do not show whether {first} or {second} {what}."
    better, worse = (first, second) if pair.outcome == "first" else (second, first)
    if fidelity:
        return f"{better} looks closer to the original than {worse}."
    return f"{better} is preferred to {worse}."


def measurement(results: StudyResults, pair: PairResult) -> str:
    """What was measured, with its interval and for whom it holds."""
    interval = pair.interval
    kind = "confidence sequence" if results.about.stop == "sequential" else "interval"
    said = (
        f"Score of {label(results, pair.first)}: {percent(interval.mean)}, {level(pair)} {kind} "
        f"{end(interval.low)} to {end(interval.high)}. 50 % means that neither is ahead, and each "
        f"“no difference” counts half. {choices(pair)} {whom(pair)}"
    )
    return said.rstrip()


def level(pair: PairResult) -> str:
    """The confidence level of the interval of a pair."""
    return f"{100 * pair.confidence:.3g} %"


def choices(pair: PairResult) -> str:
    """How many votes there are, and for what."""
    for_first, ties, for_second = pair.choices
    return (
        f"{sum(pair.choices)} votes on {len(pair.photographs)} photographs: {for_first} for "
        f"{pair.first.upper()}, {ties} for no difference, {for_second} for {pair.second.upper()}."
    )


def whom(pair: PairResult) -> str:
    """For whom the score of a pair holds; "" if there is no verdict."""
    if pair.outcome == "no verdict":
        return ""
    if pair.interval.over_observers:
        return "This holds for observers and photographs like these."
    return (
        f"This holds for {_these(len(pair.observers))} and photographs like these. For other "
        f"people, at least {FEWEST_OBSERVERS} observers are needed."
    )


def percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{100 * share:.0f} %"


def end(share: float) -> str:
    """An end of an interval. If it is near 50 %, it shows on which side it lies: that decides."""
    for digits in range(4):
        text = f"{100 * share:.{digits}f}"
        if share == 0.5 or float(text) != 50:
            break
    return f"{text} %"


def _these(count: int) -> str:
    return "this observer" if count == 1 else f"these {count} observers"


def description(pair: PairResult) -> str:
    """What describes the votes, but decides nothing."""
    low, high = pair.wilson
    said = (
        "As a description only: if all votes were independent, which they are not, the interval "
        f"would be {percent(low)} to {percent(high)} (Wilson). Agreement between observers "
    )
    if len(pair.observers) < 2:
        return f"{said}needs at least two of them."
    alpha = (
        "undefined, because all votes are equal or nobody shares a photograph"
        if pair.alpha is None
        else f"{pair.alpha:.2f} (1 is full agreement, 0 is chance)"
    )
    return f"{said}(Krippendorff's alpha): {alpha}."


def notes(results: StudyResults) -> list[str]:
    """What a reader should know before believing it."""
    said = []
    if results.ended_early:
        said.append(
            f"The study was ended early: {results.given} of {results.planned} planned votes are "
            "in. If it was ended because of what the votes said, the verdict is worth less."
        )
    if results.viewing == "plain":
        said.append(
            "Only votes are used for which the observer neither zoomed nor flipped between the "
            "pictures, so there is no verdict."
        )
    if results.viewing == "boosted":
        said.append(
            "Only votes are used for which the observer zoomed or flipped between the pictures, so "
            "there is no verdict."
        )
    excluded = [observer for observer in results.observers if observer.excluded]
    for observer in excluded:
        said.append(f"Observer {observer.number} was excluded: {observer.excluded}.")
    controls = results.controls
    if controls.same:
        said.append(
            f"Identical pictures: {controls.same_none} of {controls.same} votes said “no "
            "difference”."
        )
    if controls.repeats:
        said.append(
            f"Repeated pairs with swapped sides: {controls.repeats_equal} of {controls.repeats} "
            "votes were the same as the first time. They are averaged with the first vote."
        )
    return said


def rules(results: StudyResults) -> str:
    """The rules that were fixed before the first vote."""
    about = results.about
    if about.observers == 1:
        exclusion = "A single observer is never excluded, because the study is about that person."
    else:
        exclusion = (
            "An observer is excluded for not choosing the better picture of the obvious pair "
            f"({about.obvious[0]} next to {about.obvious[1]}), or for choosing the same side in "
            f"over {percent(about.most_on_one_side)} of at least {about.fewest_for_sides} votes."
        )
    number = f"the number of votes ({results.planned}, with control pairs)"
    if about.stop == "sequential":
        number = (
            f"that the study ends when the votes suffice, or after {results.planned} votes (the "
            "confidence sequence takes into account that the votes are checked after each one)"
        )
    return (
        f"Fixed before the first vote: {number}, the order and the "
        f"sides of all pairs (seed {about.seed}), and who is excluded. {exclusion} Control "
        "pairs never count."
    )
