"""Thumbnails of photographs, made while the photographs are decoded in strips."""

import math
from collections.abc import Callable

import numpy as np
import PIL.Image

from train.data.images import Rows, to_float, to_uint8

LONGEST_SIDE = 128  # pixels of a thumbnail's longer side
# Squares of pixels are averaged first, into a picture that is at least this many times as large as
# the thumbnail. Pillow calls this the reducing gap.
_GAP = 2.0


class ThumbnailBuilder:
    """Makes a small picture of a photograph whose rows come in strips.

    Its pixels equal those that Pillow's ``thumbnail`` makes from the whole photograph.
    """

    def __init__(self, height: int, width: int) -> None:
        self._given = (width, height)
        self._size = _small_size(width, height)
        self._factor = tuple(
            int(side / small / _GAP) or 1
            for side, small in zip(self._given, self._size, strict=True)
        )
        self._waiting: list[np.ndarray] = []  # rows that do not fill squares yet
        self._parts: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Adds the next rows, ``[n, W, 3]``, uint8 or uint16."""
        self._waiting.append(np.array(rows) if rows.dtype == np.uint8 else to_uint8(to_float(rows)))
        if sum(map(len, self._waiting)) >= self._factor[1]:
            whole = np.concatenate(self._waiting)
            full = len(whole) - len(whole) % self._factor[1]
            self._reduce(whole[:full])
            self._waiting = [whole[full:]]

    def picture(self) -> PIL.Image.Image:
        """The thumbnail, once all rows have been added."""
        if sum(map(len, self._waiting)):
            self._reduce(np.concatenate(self._waiting))
            self._waiting = []
        reduced = PIL.Image.fromarray(np.concatenate(self._parts))
        if self._size == self._given:
            return reduced
        box = (0, 0, self._given[0] / self._factor[0], self._given[1] / self._factor[1])
        return reduced.resize(self._size, PIL.Image.Resampling.BICUBIC, box)

    def _reduce(self, rows: np.ndarray) -> None:
        self._parts.append(np.asarray(PIL.Image.fromarray(rows).reduce(self._factor)))


def make_thumbnail(rows: Rows) -> np.ndarray:
    """A small uint8 picture of a photograph."""
    small = ThumbnailBuilder(rows.height, rows.width)
    for strip in rows.strips:
        small.add(strip)
    return np.asarray(small.picture())


def _small_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the thumbnail, rounded so that the aspect ratio changes least."""
    if max(width, height) <= LONGEST_SIDE:
        return width, height
    aspect = width / height
    if aspect <= 1:
        side = _rounded(LONGEST_SIDE * aspect, lambda side: abs(aspect - side / LONGEST_SIDE))
        return side, LONGEST_SIDE
    side = _rounded(
        LONGEST_SIDE / aspect, lambda side: abs(aspect - LONGEST_SIDE / side) if side else 0
    )
    return LONGEST_SIDE, side


def _rounded(exact: float, misfit: Callable[[int], float]) -> int:
    """The whole number next to ``exact`` with the smaller misfit, at least 1."""
    return max(min(math.floor(exact), math.ceil(exact), key=misfit), 1)
