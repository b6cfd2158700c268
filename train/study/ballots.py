"""The votes in the file of a study, as scores that can be analysed."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from train.errors import InputError
from train.files.json_files import UnreadableError, parse_json
from train.study.rules import (
    CHOICES,
    COUNTED,
    Kind,
)
from train.study.sent import Conditions
from train.study.sequential import arrived
from train.study.study_file import Terms

Viewing = Literal["all", "plain", "boosted"]


@dataclass(frozen=True)
class Vote:
    """One vote, with what was on each side.

    Attributes:
      observer: number of the observer, from 1.
      number: number of the pair in the observer's order, from 1.
      kind: what the pair was for.
      photograph: name of the photograph.
      left: the set on the left.
      right: the set on the right.
      choice: "left", "none" or "right".
      zoomed: whether zoom was used.
      flickered: whether the pictures were alternated in place.
      milliseconds: time from showing the pair to the vote.
    """

    observer: int
    number: int
    kind: Kind
    photograph: str
    left: str
    right: str
    choice: str
    zoomed: bool
    flickered: bool
    milliseconds: int

    @property
    def chosen(self) -> str | None:
        """What was chosen; None for no difference."""
        return {"left": self.left, "right": self.right}.get(self.choice)

    def score_for(self, first: str) -> float:
        """1 if ``first`` was chosen, 0.5 for no difference, 0 otherwise."""
        return 0.5 if self.chosen is None else float(self.chosen == first)


@dataclass(frozen=True)
class Observer:
    """What is known about an observer.

    Attributes:
      number: from 1.
      conditions: how the observer viewed; None as long as no file of votes says it.
      votes: number of pairs voted on, with the practice round.
      planned: number of pairs planned.
      excluded: why the votes do not count, in words; "" if they count.
    """

    number: int
    conditions: Conditions | None
    votes: int
    planned: int
    excluded: str


def read_votes(file: sqlite3.Connection) -> list[Vote]:
    """Reads every vote that was not taken back, except the practice round, in order.

    Raises:
      InputError: if a vote is not one that the server could have written.
    """
    query = (
        "SELECT votes.*, trials.kind, trials.left_name, trials.right_name, photographs.name "
        "FROM votes JOIN trials USING (place, position) "
        "JOIN photographs ON photographs.number = trials.photograph "
        "WHERE undone IS NULL AND kind != 'practice' ORDER BY place, position"
    )
    votes = []
    for row in file.execute(query):
        if row["choice"] not in CHOICES or row["kind"] not in get_args(Kind):
            raise InputError("A vote of the study is damaged. Restore the file from a copy.")
        votes.append(
            Vote(
                observer=row["place"] + 1,
                number=row["position"] + 1,
                kind=row["kind"],
                photograph=row["name"],
                left=row["left_name"],
                right=row["right_name"],
                choice=row["choice"],
                zoomed=bool(row["zoomed"]),
                flickered=bool(row["flickered"]),
                milliseconds=row["milliseconds"],
            )
        )
    return votes


def read_observers(file: sqlite3.Connection, about: Terms, votes: Sequence[Vote]) -> list[Observer]:
    """Reads who took part, and applies the rules of exclusion.

    A single observer is never excluded, because the study is about that person.

    Args:
      file: the open study.
      about: what was decided before the first vote.
      votes: all votes except the practice round.

    Returns:
      The observers in the order of their numbers.
    """
    done = dict(
        file.execute("SELECT place, count(*) FROM votes WHERE undone IS NULL GROUP BY place")
    )
    planned = dict(file.execute("SELECT place, count(*) FROM trials GROUP BY place"))
    rows = file.execute("SELECT place, conditions FROM observers ORDER BY place").fetchall()
    by_observer: dict[int, list[Vote]] = {}
    for vote in votes:
        by_observer.setdefault(vote.observer, []).append(vote)
    observers = []
    for row in rows:
        own = by_observer.get(row["place"] + 1, [])
        try:
            content = parse_json(str(row["conditions"]).encode())
        except UnreadableError:
            content = None
        conditions = Conditions.parse(content) if isinstance(content, dict) else None
        observers.append(
            Observer(
                number=row["place"] + 1,
                conditions=conditions,
                votes=done.get(row["place"], 0),
                planned=planned.get(row["place"], 0),
                excluded=why_excluded(own, about) if about.observers > 1 else "",
            )
        )
    return observers


def why_excluded(votes: Sequence[Vote], about: Terms) -> str:
    """Applies the rules of exclusion to the votes of one observer.

    Args:
      votes: the observer's votes, with those on control pairs.
      about: what was decided before the first vote.

    Returns:
      The reason in words, or "".
    """
    if any(vote.kind == "obvious" and vote.chosen != about.obvious[0] for vote in votes):
        return "did not choose the better picture of the obvious pair"
    for side in ("left", "right"):
        share = sum(vote.choice == side for vote in votes) / max(len(votes), 1)
        if len(votes) >= about.fewest_for_sides and share > about.most_on_one_side:
            return f"chose the {side} picture in {100 * share:.0f} % of {len(votes)} votes"
    return ""


def counted(votes: Sequence[Vote], observers: Sequence[Observer], viewing: Viewing) -> list[Vote]:
    """Selects the votes that decide: without control pairs and excluded observers.

    Args:
      votes: all votes except the practice round.
      observers: who took part.
      viewing: "plain" for votes without zoom and alternation, "boosted" for the others, or "all".

    Returns:
      The selected votes.
    """
    included = {observer.number for observer in observers if not observer.excluded}
    wanted = {"all": (False, True), "plain": (False,), "boosted": (True,)}[viewing]
    return [
        vote
        for vote in votes
        if vote.kind in COUNTED
        and vote.observer in included
        and (vote.zoomed or vote.flickered) in wanted
    ]


def score_table(votes: Sequence[Vote], first: str, second: str) -> tuple[np.ndarray, list[str]]:
    """Scores of two sets, ``[photographs, observers]``, and the names of the photographs.

    All votes of an observer on a photograph are averaged: a repeat with its first vote.

    Args:
      votes: votes that decide.
      first: the set for which a vote scores 1.
      second: the other one. Votes on other sets are left out.

    Returns:
      The scores, NaN if there is no vote, and the names of the photographs.
    """
    own = [vote for vote in votes if {vote.left, vote.right} == {first, second}]
    rows, columns = _axes(own)
    total = np.zeros((len(rows), len(columns)))
    count = np.zeros_like(total)
    for vote in own:
        cell = rows[vote.photograph], columns[vote.observer]
        total[cell] += vote.score_for(first)
        count[cell] += 1
    with np.errstate(invalid="ignore"):
        return total / count, list(rows)


def vote_table(
    votes: Sequence[Vote], pairs: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, list[str]]:
    """Choices in every pair of sets, ``[photographs, observers, pairs, 3]``.

    The last axis holds votes for the first set, for no difference, and for the second. All votes of
    an observer on the same pictures have a weight of 1 together: a repeat shares it with its first
    vote.

    Args:
      votes: votes that decide.
      pairs: the two sets of each pair.

    Returns:
      The table, and the names of the photographs.
    """
    rows, columns = _axes(votes)
    places = {frozenset(pair): i for i, pair in enumerate(pairs)}
    table = np.zeros((len(rows), len(columns), len(pairs), 3))
    for vote in votes:
        pair = places[frozenset((vote.left, vote.right))]
        cell = rows[vote.photograph], columns[vote.observer], pair
        table[cell][round(2 - 2 * vote.score_for(pairs[pair][0]))] += 1
    return table / np.maximum(table.sum(axis=-1, keepdims=True), 1), list(rows)


def _axes(votes: Sequence[Vote]) -> tuple[dict[str, int], dict[int, int]]:
    """The row of each photograph in a table of votes, and the column of each observer."""
    rows = {name: i for i, name in enumerate(sorted({vote.photograph for vote in votes}))}
    columns = {number: i for i, number in enumerate(sorted({vote.observer for vote in votes}))}
    return rows, columns


def read_arrivals(file: sqlite3.Connection, votes: Sequence[Vote], first: str) -> list[float]:
    """The scores of the first observer's photographs whose votes are all in, as they arrived.

    Args:
      file: the open study.
      votes: all votes except the practice round.
      first: the set for which a vote scores 1.

    Returns:
      A score for each photograph.
    """
    query = "SELECT position, photograph FROM trials WHERE place = 0 AND kind IN (?, ?)"
    planned: dict[int, list[int]] = {}
    for row in file.execute(query, COUNTED):
        planned.setdefault(row["photograph"], []).append(row["position"])
    scores = {vote.number - 1: vote.score_for(first) for vote in votes if vote.observer == 1}
    return [score for _, score in arrived(planned, scores)]
