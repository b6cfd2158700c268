"""Matches names with a glob, in time that grows with their length times the number of asterisks.

A regular expression with twenty ``*`` may try more ways to match a name than there are atoms. Here
the parts between the asterisks are placed from right to left, so each is tried once at each place.
"""

import fnmatch
import re
from collections.abc import Sequence

from train.errors import InputError

MOST_ASTERISKS = 100


class Glob:
    """A pattern in which ``*`` matches any text without "/", and ``?`` and ``[...]`` one letter.

    ``.*`` at the end matches any ending, which is not part of the result. A glob with a "/" is
    matched with the whole path. A glob without one is matched with the file's name in any folder.
    """

    def __init__(self, text: str) -> None:
        stem = text.removesuffix(".*")
        self._ending = stem != text
        self._anywhere = "/" not in text
        parts = stem.split("*")
        if len(parts) > MOST_ASTERISKS:
            raise InputError(
                f"{text[:80]!r}... has {len(parts) - 1} asterisks, and at most "
                f"{MOST_ASTERISKS - 1} are accepted."
            )
        self._parts = [
            re.compile(fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z"))
            for part in parts
        ]

    def match(self, name: str) -> str | None:
        """The folder and what each ``*`` matches, joined by "_"; None if there is no match."""
        folder = ""
        if self._anywhere:
            folder, slash, name = name.rpartition("/")
            folder += slash
        if self._ending:
            stem, dot, ending = name.rpartition(".")
            if not dot or "/" in ending:
                return None
            name = stem
        taken = _match_parts(name, self._parts)
        return None if taken is None else folder + "_".join(taken)


def _match_parts(name: str, parts: Sequence[re.Pattern[str]]) -> list[str] | None:
    """The text between the parts; None if they do not match.

    Each text is as long as possible, and earlier ones take precedence.
    """
    # For each part, from the last to the first: the places where it may begin so that all following
    # parts match, each with the place where it ends
    begins: list[dict[int, int]] = []
    # From each place to the farthest place that a "*" there may reach; first for the name's end
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
    """For each place, the last place in ``fits`` that no "/" separates from it."""
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
