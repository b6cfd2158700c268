"""Three sets or more on one scale, in JOD and in preference, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.study.davidson import fit_worths, groups_compared, groups_never_beaten
from train.study.statistics import (
    CONFIDENCE,
    DRAWS,
    FEWEST_OBSERVERS,
    Interval,
    how_often,
    widened,
    within,
)


@dataclass(frozen=True)
class Placed:
    """A set on the scale.

    Attributes:
      letter: the set.
      jod: its place, with its interval. The mean of all sets is 0.
      preference: its mean score against the others, with its interval. A tie counts half.
    """

    letter: str
    jod: Interval
    preference: Interval


@dataclass(frozen=True)
class Distance:
    """Two sets on the scale.

    Attributes:
      first: letter of the first set.
      second: letter of the other one.
      jod: how far the first one is ahead, with its interval.
      score: the score of the first one that follows from their places.
    """

    first: str
    second: str
    jod: Interval
    score: float


@dataclass(frozen=True)
class Scale:
    """All sets on one scale.

    Attributes:
      sets: the sets, the most preferred one first. () if there is no scale.
      distances: every two sets that were compared.
      ties: the share of votes for no difference that equal sets would get.
      never_beaten: letters of groups of sets. No vote prefers a set to one of an earlier group.
      why_not: why there is no scale, in words; "" if there is one.
    """

    sets: tuple[Placed, ...] = ()
    distances: tuple[Distance, ...] = ()
    ties: float = 0.0
    never_beaten: tuple[str, ...] = ()
    why_not: str = ""


def make_scale(
    table: np.ndarray,
    letters: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Scale:
    """Places all sets on a scale, with 95 % intervals of the crossed bootstrap.

    Args:
      table: votes of :func:`~train.study.ballots.vote_table`,
        ``[photographs, observers, pairs, 3]``.
      letters: the sets.
      pairs: every two sets that were compared.
      draws: draws of the bootstrap.
      seed: seed of the draws.

    Returns:
      The scale, or why there is none.
    """
    numbers = [(letters.index(first), letters.index(second)) for first, second in pairs]
    counts = table.sum(axis=(0, 1))
    groups = groups_compared(counts, numbers, sets=len(letters))
    if len(groups) > 1:
        parts = [" and ".join(letters[one].upper() for one in sorted(group)) for group in groups]
        return Scale(
            why_not=f"no vote compares {parts[0]} with {' or '.join(parts[1:])}, so they have no "
            "common scale"
        )
    if counts[:, [0, 2]].sum() == 0:
        return Scale(why_not="every vote says “no difference”")
    best = fit_worths(counts, numbers)
    drawn, over_observers = _drawn(table, draws, seed)
    places = fit_worths(drawn, numbers, start=best)
    preferences = [_preferences(each, numbers, len(letters)) for each in (counts, drawn)]

    # The variance of a mean of n draws is too small by a factor of (n - 1) / n, which matters for
    # few observers.
    factor = math.sqrt(table.shape[1] / (table.shape[1] - 1)) if over_observers else 1.0

    def interval(of_all: np.ndarray, of_draws: np.ndarray) -> Interval:
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(of_draws, [tail, 1 - tail])
        found = Interval(float(of_all), float(low), float(high), over_observers)
        return widened(found, factor)

    sets = [
        Placed(
            letter,
            interval(best.jod[i], places.jod[:, i]),
            within(interval(preferences[0][i], preferences[1][:, i]), 0, 1),
        )
        for i, letter in enumerate(letters)
    ]
    distances = [
        Distance(
            letters[first],
            letters[second],
            interval(
                best.jod[first] - best.jod[second], places.jod[:, first] - places.jod[:, second]
            ),
            float(best.score(first, second)),
        )
        for first, second in numbers
    ]
    never_beaten = groups_never_beaten(counts, numbers, sets=len(letters))
    return Scale(
        sets=tuple(sorted(sets, key=lambda one: -one.jod.mean)),
        distances=tuple(distances),
        ties=float(best.ties / (2 + best.ties)),
        never_beaten=tuple("".join(letters[i] for i in sorted(group)) for group in never_beaten),
    )


def _drawn(table: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, bool]:
    """Votes of each draw, ``[draws, pairs, 3]``, and whether observers were drawn too."""
    photographs, observers, pairs, _ = table.shape
    rows, columns = how_often(photographs, draws, seed), np.ones((draws, observers))
    over_observers = observers >= FEWEST_OBSERVERS
    if over_observers:
        columns = how_often(observers, draws, seed + 1)
    of_rows = (rows @ table.reshape(photographs, -1)).reshape(draws, observers, pairs, 3)
    return np.einsum("dopc,do->dpc", of_rows, columns), over_observers


def _preferences(votes: np.ndarray, pairs: Sequence[tuple[int, int]], sets: int) -> np.ndarray:
    """The mean score of each set against the others, ``[..., sets]``, from ``[..., pairs, 3]``.

    Each pair counts alike. A pair without a vote is left out.
    """
    count = votes.sum(axis=-1)
    score = (votes[..., 0] + votes[..., 1] / 2) / np.maximum(count, 1e-12)
    total, number = np.zeros((*votes.shape[:-2], sets)), np.zeros((*votes.shape[:-2], sets))
    for i, (first, second) in enumerate(pairs):
        known = count[..., i] > 0
        total[..., first] += np.where(known, score[..., i], 0)
        total[..., second] += np.where(known, 1 - score[..., i], 0)
        number[..., first] += known
        number[..., second] += known
    return np.where(number > 0, total / np.maximum(number, 1), 0.5)
