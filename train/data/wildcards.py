"""Names fitted to a glob, in time that grows with their length times the number of asterisks.

A regular expression with twenty ``*`` may try more ways to fit a name than there are atoms. Here
each ``*`` asks from right to left where the rest can begin.
"""

import fnmatch
import re
from collections.abc import Sequence

from train.errors import InputError

MOST_ASTERISKS = 100


class Glob:
    """A pattern of ``*``, any text without "/", and ``?`` and ``[...]``, which are one letter each.

    A last ``.*`` is any ending and counts for nothing. A glob with a "/" is fitted to the path, one
    without to the file's name, in whatever folder.
    """

    def __init__(self, text: str) -> None:
        stem = text.removesuffix(".*")
        self._ending = stem != text
        self._anywhere = "/" not in text
        parts = stem.split("*")
        if len(parts) > MOST_ASTERISKS:
            raise InputError(
                f"{text[:80]!r}... has {len(parts) - 1} asterisks; {MOST_ASTERISKS - 1} are the "
                "most."
            )
        self._parts = [
            re.compile(fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z"))
            for part in parts
        ]

    def stands_for(self, name: str) -> str | None:
        """The folder and what each ``*`` stands for, joined by "_"; None if it does not fit."""
        folder = ""
        if self._anywhere:
            folder, slash, name = name.rpartition("/")
            folder += slash
        if self._ending:
            stem, dot, ending = name.rpartition(".")
            if not dot or "/" in ending:
                return None
            name = stem
        taken = _fit(name, self._parts)
        return None if taken is None else folder + "_".join(taken)


def _fit(name: str, parts: Sequence[re.Pattern[str]]) -> list[str] | None:
    """What stands between the parts; None if they do not fit.

    Each is as long as it can be, the first one first.
    """
    # For each part, from the last to the first: where it may begin so that all that follow fit, and
    # where it ends.
    begins: list[dict[int, int]] = []
    # From a place to the farthest one that its "*" may run to; at the end of all
    reach = {len(name): len(name)}
    for number in range(len(parts) - 1, -1, -1):
        fits = {}
        for start in range(len(name) + 1) if number else (0,):
            match = parts[number].match(name, start)
            if match and match.end() in reach:
                fits[start] = match.end()
        begins.insert(0, fits)
        reach = _reach(name, fits)
    if 0 not in begins[0]:
        return None
    taken = []
    place = begins[0][0]
    for fits in begins[1:]:
        start = _reach(name, fits)[place]
        taken.append(name[place:start])
        place = fits[start]
    return taken


def _reach(name: str, fits: dict[int, int]) -> dict[int, int]:
    """For each place the last one in ``fits`` that no "/" parts from it."""
    reach: dict[int, int] = {}
    farthest: int | None = None
    for place in range(len(name), -1, -1):
        if place < len(name) and name[place] == "/":
            farthest = None
        if place in fits and farthest is None:
            farthest = place
        if farthest is not None:
            reach[place] = farthest
    return reach
