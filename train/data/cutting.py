"""Patches out of photographs: one after the other, by threads, or (:mod:`train.data.workers`) by processes."""

import collections
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from train.data.photographs import Photographs
from train.data.sources import Source
from train.errors import InputError

# Row and column of a patch's upper left pixel in its photograph; orientation
Corner = tuple[int, int, int]
Wanted = dict[int, list[int]]  # photograph: numbers of the patches to cut from it

# Which way rows and columns run in each orientation, once odd ones are transposed.
_ROWS, _COLUMNS = (1, -1, -1, 1, 1, -1, -1, 1), (1, 1, -1, -1, -1, -1, 1, 1)
_WHOLE_ROWS = (0, 6)  # orientations in which a row of pixels stays a row


class Cutter:
    """Cuts patches of one size. Another process may be sent it: photographs are decoded where they are cut."""

    def __init__(self, source: Source, patch_size: int) -> None:
        """Of pairs both sides are cut, the degraded one first."""
        self._names = source.names
        self._shapes = [(entry.height, entry.width, 3) for entry in source.entries]
        clean = (source.images, max(entry.bits for entry in source.entries))
        degraded = (
            ()
            if source.inputs is None
            else ((source.inputs, max(e.input_bits or 0 for e in source.entries)),)
        )
        self._sides: tuple[tuple[Sequence[np.ndarray], int], ...] = (*degraded, clean)
        self._size = patch_size

    @property
    def sides(self) -> tuple[Sequence[np.ndarray], ...]:
        """The photographs that are cut."""
        return tuple(images for images, _ in self._sides)

    def is_decoded(self, side: int, photograph: int) -> bool:
        """Whether a photograph is decoded already."""
        images, _ = self._sides[side]
        return not isinstance(images, Photographs) or images.is_decoded(photograph)

    def empty_patches(self, side: int, count: int) -> np.ndarray:
        """An empty array for ``count`` patches, of 16 bits where any photograph of that side has 16."""
        return np.empty(
            (count, self._size, self._size, 3), np.uint8 if self._sides[side][1] == 8 else np.uint16
        )

    def cut(
        self, side: int, photograph: int, corners: Iterable[Corner], out: Iterable[np.ndarray]
    ) -> None:
        """Writes one photograph's patches into arrays of :meth:`empty_patches`."""
        images, bits = self._sides[side]
        image = images[photograph]
        if image.shape != self._shapes[photograph] or image.dtype.itemsize * 8 > bits:
            raise InputError(
                f"{self._names[photograph]} is not the photograph any more that it was when the "
                "run began."
            )
        for (row, column, orientation), patch in zip(corners, out, strict=True):
            crop = image[row : row + self._size, column : column + self._size]
            if crop.dtype != patch.dtype:
                crop = crop * np.uint16(257)  # 255 becomes 65535: the same brightness, exactly
            _turn(crop, orientation, patch)


class PatchFiller(Protocol):
    """Whoever cuts all that is wanted."""

    def fill(
        self, side: int, wanted: Wanted, corners: Sequence[Corner], patches: np.ndarray
    ) -> None:
        """Writes patch after patch; each of ``corners`` and ``patches`` belongs to one number in ``wanted``."""


class Threads:
    """Threads with one cutter, for which they decode a photograph at a time each; a single one is the caller's own.

    What is decoded already the caller cuts: cutting holds Python's lock for most of its time, and
    threads that wait for that are slower together than one alone.
    """

    def __init__(self, number: int, cutter: Cutter) -> None:
        self._cutter = cutter
        self._pool = ThreadPoolExecutor(number) if number > 1 else None

    def fill(
        self, side: int, wanted: Wanted, corners: Sequence[Corner], patches: np.ndarray
    ) -> None:
        """As :class:`PatchFiller` says."""

        def cut(photograph: int) -> None:
            numbers = wanted[photograph]
            self._cutter.cut(
                side, photograph, [corners[i] for i in numbers], [patches[i] for i in numbers]
            )

        decoded = {
            photograph
            for photograph in wanted
            if self._pool is None or self._cutter.is_decoded(side, photograph)
        }
        waiting = wanted.keys() - decoded
        done = self._pool.map(cut, waiting) if self._pool is not None else ()
        collections.deque(map(cut, decoded), maxlen=0)
        collections.deque(done, maxlen=0)  # an error in one of them is raised here

    def close(self) -> None:
        """Ends them."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _turn(crop: np.ndarray, orientation: int, out: np.ndarray) -> None:
    """One of the eight flips and rotations: ``orientation % 4`` quarter turns, from 4 on mirrored as well."""
    if orientation not in _WHOLE_ROWS:
        # Turned in the processor's cache: rows of photographs lie far apart
        crop = np.ascontiguousarray(crop)
    upright = crop.swapaxes(0, 1) if orientation % 2 else crop
    turned = upright[:: _ROWS[orientation], :: _COLUMNS[orientation]]
    if orientation in _WHOLE_ROWS:
        out[...] = turned
        return
    # One plane at a time: NumPy walks rows of pixels then, not pixels of three bytes
    for channel in range(3):
        out[..., channel] = turned[..., channel]
