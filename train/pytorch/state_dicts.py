"""Finds the dictionary in a file that fits the network. If several fit, it prefers an average."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.console import printable
from train.errors import InputError

_DEEPEST = 64  # levels of nested dictionaries
_MOST_ENTRIES = 500_000  # in all dictionaries together, counted as often as they occur
_MOST_TRIED = 16  # The state of an optimizer has a small dictionary for each parameter.

# Names that training programs give to moving averages: params_ema, ema_state_dict, model_ema, swa.
_AVERAGE = re.compile(r"(?:^|[_.\-])(?:ema|swa|averaged?)(?:$|[_.\-])", re.IGNORECASE)

Misfit = Callable[[Mapping[str, np.ndarray]], str | None]


class StateDict(NamedTuple):
    """A dictionary of arrays in a file, and the keys that lead to it, outermost first."""

    where: tuple[str, ...]
    arrays: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """The keys, joined with dots."""
        return ".".join(self.where)

    @property
    def shown(self) -> str:
        """The name of the dictionary in messages."""
        return f'"{printable(self.name[:200])}"' if self.where else "the outermost dictionary"

    @property
    def size(self) -> int:
        """The number of all elements of the arrays."""
        return sum(array.size for array in self.arrays.values())

    @property
    def is_average(self) -> bool:
        """Whether its name says that it is an average of the weights over training steps."""
        return any(_AVERAGE.search(key) for key in self.where)


def named_leaves(content: Any, kind: type) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yields every nested dictionary with values of ``kind``, and the keys that lead to it.

    Raises:
      ValueError: the dictionaries do not end, as in a dictionary that contains itself.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    entries = 0
    for where, value in waiting:  # The list grows during the loop.
        if not isinstance(value, dict):
            continue
        entries += len(value)
        if entries > _MOST_ENTRIES or len(where) > _DEEPEST:
            raise ValueError(
                "its dictionaries contain each other in a circle, or are nested too deeply"
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
    """The chosen dictionary, and others that would fit too."""

    chosen: StateDict
    others: tuple[StateDict, ...]


def choose(found: Sequence[StateDict], misfit: Misfit, *, named: str | None = None) -> Choice:
    """Chooses the dictionary that fits the network. If several fit, it prefers an average.

    Args:
      found: all dictionaries of a file.
      misfit: says why arrays do not fit the network; None if they fit.
      named: the keys of the dictionary to use, joined with dots, or its last key. None to choose
        one.

    Returns:
      The dictionary, and others that fit too.

    Raises:
      InputError: no dictionary fits, several different ones fit equally well, or none has the name.
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
    """Finds the dictionary with this name."""
    matches = [one for one in found if one.name == named]
    matches = matches or [one for one in found if one.where and one.where[-1] == named]
    if len(matches) == 1:
        return matches[0]
    listed = sorted(matches or found, key=lambda one: one.size, reverse=True)[:_MOST_TRIED]
    names = ", ".join(one.shown for one in listed)
    count = "several dictionaries" if matches else "no dictionary"
    raise InputError(f"it contains {count} of arrays with the name {named!r}. There are: {names}.")


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
    """Makes a line about other dictionaries that may contain the weights."""
    named = [f"{one.shown} ({len(one.arrays)} arrays)" for one in also if len(one.arrays) > 3]
    if not named:
        return ""
    return f"\n  This is about {nearest.shown}. The file also contains {', '.join(named)}."
