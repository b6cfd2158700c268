"""Finds the dictionary in a file of weights that fits the network; of two, the average."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.console import printable
from train.errors import InputError

_DEEPEST = 64
_MOST_ENTRIES = 500_000  # of all dictionaries together, each counted as often as it occurs
_MOST_TRIED = 16  # an optimizer's state holds a small dictionary for each parameter

# Names under which training code keeps moving averages: params_ema, ema_state_dict, model_ema, swa.
_AVERAGE = re.compile(r"(?:^|[_.\-])(?:ema|swa|averaged?)(?:$|[_.\-])", re.IGNORECASE)

Misfit = Callable[[Mapping[str, np.ndarray]], str | None]


class StateDict(NamedTuple):
    """A file's named arrays, and the keys of the dictionaries around them, outermost first."""

    where: tuple[str, ...]
    arrays: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """The keys, joined with dots."""
        return ".".join(self.where)

    @property
    def shown(self) -> str:
        """How messages call it."""
        return f'"{printable(self.name[:200])}"' if self.where else "the outermost dictionary"

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(array.size for array in self.arrays.values())

    @property
    def is_average(self) -> bool:
        """Whether it is called an average of the weights over the steps of a training."""
        return any(_AVERAGE.search(key) for key in self.where)


def named_leaves(content: Any, kind: type) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dictionary in nested ones that holds values of ``kind`` under names, and its place.

    Raises:
      ValueError: if there is no end to them, as in a dictionary that holds itself.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    entries = 0
    for where, value in waiting:  # it grows while it is walked
        if not isinstance(value, dict):
            continue
        entries += len(value)
        if entries > _MOST_ENTRIES or len(where) > _DEEPEST:
            raise ValueError(
                "its dictionaries hold each other again and again, or are nested too deeply"
            )
        leaves = {}
        for key, inner in value.items():
            if isinstance(inner, dict):
                waiting.append(((*where, str(key)), inner))
            elif isinstance(inner, kind) and isinstance(key, str):
                leaves[key] = inner
        if leaves:
            yield where, leaves


class Choice(NamedTuple):
    """The dictionary that was chosen, and the others that would have fitted too."""

    chosen: StateDict
    others: tuple[StateDict, ...]


def choose(found: Sequence[StateDict], misfit: Misfit, *, named: str | None = None) -> Choice:
    """The dictionary that fits the network; of several the one that is called an average.

    Args:
      found: all dictionaries of a file.
      misfit: says why arrays do not fit the network, or None if they fit.
      named: the one that the user asks for, as its keys joined with dots, or the last of them.

    Returns:
      The dictionary, and others that fit as well.

    Raises:
      InputError: if none fits, if several fit and nothing tells them apart, or if none has that
        name.
    """
    if named is not None:
        return Choice(_check_fits(_called(found, named), misfit), ())
    tried = sorted(found, key=lambda one: one.size, reverse=True)[:_MOST_TRIED]
    reasons = {id(one): misfit(one.arrays) for one in tried}
    fitting = [one for one in tried if reasons[id(one)] is None]
    if not fitting:
        nearest = min(tried, key=lambda one: (reasons[id(one)] or "").count("\n"))
        also = [one for one in tried if one is not nearest]
        raise InputError(f"{reasons[id(nearest)]}{_listed_below(nearest, also)}")

    averages = [one for one in fitting if one.is_average]
    best = averages or fitting
    if len(best) > 1 and not all(_same(one, best[0]) for one in best[1:]):
        names = ", ".join(one.shown for one in best)
        raise InputError(f"several dictionaries fit: {names}. Choose one with --weights.")
    others = tuple(one for one in fitting if one is not best[0])
    return Choice(best[0], others)


def _called(found: Sequence[StateDict], named: str) -> StateDict:
    """The dictionary of that name."""
    matches = [one for one in found if one.name == named]
    matches = matches or [one for one in found if one.where and one.where[-1] == named]
    if len(matches) == 1:
        return matches[0]
    listed = sorted(matches or found, key=lambda one: one.size, reverse=True)[:_MOST_TRIED]
    names = ", ".join(one.shown for one in listed)
    count = "several dictionaries" if matches else "no dictionary"
    raise InputError(f"it holds {count} of arrays with the name {named!r}. There are: {names}.")


def _check_fits(one: StateDict, misfit: Misfit) -> StateDict:
    reason = misfit(one.arrays)
    if reason is not None:
        raise InputError(reason)
    return one


def _same(one: StateDict, other: StateDict) -> bool:
    if one.arrays.keys() != other.arrays.keys():
        return False
    pairs = [(array, other.arrays[name]) for name, array in one.arrays.items()]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def _listed_below(nearest: StateDict, also: Sequence[StateDict]) -> str:
    """A line about the other dictionaries in which the weights might have been."""
    named = [f"{one.shown} ({len(one.arrays)} arrays)" for one in also if len(one.arrays) > 3]
    if not named:
        return ""
    return f"\n  This is about {nearest.shown}. The file also holds {', '.join(named)}."
