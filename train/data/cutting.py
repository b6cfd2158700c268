"""Cuts patches out of photographs in threads. :mod:`.workers` does so in processes."""

import collections
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from train.data.photographs import Photographs
from train.data.sources import Source
from train.errors import InputError

# Row and column of a patch's upper left pixel in its photograph, and its orientation, 0 to 7
Corner = tuple[int, int, int]
# Numbers of the patches to cut, by the number of the photograph
Wanted = dict[int, list[int]]

# Directions of rows and columns in each orientation, after odd ones have been transposed
_ROWS, _COLUMNS = (1, -1, -1, 1, 1, -1, -1, 1), (1, 1, -1, -1, -1, -1, 1, 1)
_WHOLE_ROWS = (0, 6)  # orientations in which a row of pixels stays a row


class Cutter:
    """Cuts square patches that all have the same size.

    A cutter can be sent to another process, which then decodes the photographs itself.
    """

    def __init__(self, source: Source, patch_size: int) -> None:
        """Makes a cutter for both sides of pairs, the degraded one first."""
        self._names = source.names
        self._shapes = [(entry.height, entry.width, 3) for entry in source.entries]
        self._size = patch_size
        # Each side, with the largest number of bits of its photographs
        self._sides: list[tuple[Sequence[np.ndarray], int]] = []
        if source.inputs is not None:
            bits = max(entry.input_bits or 0 for entry in source.entries)
            self._sides.append((source.inputs, bits))
        self._sides.append((source.images, max(entry.bits for entry in source.entries)))

    @property
    def sides(self) -> tuple[Sequence[np.ndarray], ...]:
        """The photographs of each side."""
        return tuple(images for images, _ in self._sides)

    def is_decoded(self, side: int, photograph: int) -> bool:
        """Whether a photograph is decoded already."""
        images, _ = self._sides[side]
        return not isinstance(images, Photographs) or images.is_decoded(photograph)

    def empty_patches(self, side: int, count: int) -> np.ndarray:
        """An empty array for ``count`` patches, with 16 bits if any photograph of the side has."""
        dtype = np.uint8 if self._sides[side][1] == 8 else np.uint16
        return np.empty((count, self._size, self._size, 3), dtype)

    def cut(
        self, side: int, photograph: int, corners: Iterable[Corner], out: Iterable[np.ndarray]
    ) -> None:
        """Writes patches of one photograph into arrays of :meth:`empty_patches`.

        Args:
          side: index in :attr:`sides`.
          photograph: the photograph's number.
          corners: the place of each patch.
          out: an array for each patch.

        Raises:
          InputError: if the photograph has changed since the source was opened.
        """
        images, bits = self._sides[side]
        image = images[photograph]
        if image.shape != self._shapes[photograph] or image.dtype.itemsize * 8 > bits:
            raise InputError(
                f"{self._names[photograph]} has changed since the run began. Restore the file, and "
                "resume the run."
            )
        for (row, column, orientation), patch in zip(corners, out, strict=True):
            crop = image[row : row + self._size, column : column + self._size]
            if crop.dtype != patch.dtype:
                crop = crop * np.uint16(257)  # 255 becomes 65535: the same brightness, exactly
            _turn(crop, orientation, patch)


class PatchFiller(Protocol):
    """Cuts all patches that are wanted."""

    def fill(
        self, side: int, wanted: Wanted, corners: Sequence[Corner], patches: np.ndarray
    ) -> None:
        """Cuts all patches.

        Args:
          side: which side of pairs to cut.
          wanted: numbers of the patches to cut, by photograph.
          corners: the place of each patch, by its number.
          patches: the array that the patches are written to, by their numbers.
        """


class Threads:
    """Threads that decode photographs for one cutter. One thread means the caller's own.

    The caller's thread cuts from photographs that are decoded already. Cutting holds Python's lock
    most of the time, and several threads that wait for it are slower than one.
    """

    def __init__(self, number: int, cutter: Cutter) -> None:
        self._cutter = cutter
        self._pool = ThreadPoolExecutor(number) if number > 1 else None

    def fill(
        self, side: int, wanted: Wanted, corners: Sequence[Corner], patches: np.ndarray
    ) -> None:
        """Cuts all patches, as :class:`PatchFiller` says.

        Args:
          side: which side of pairs to cut.
          wanted: numbers of the patches to cut, by photograph.
          corners: the place of each patch, by its number.
          patches: the array that the patches are written to, by their numbers.
        """

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
        collections.deque(done, maxlen=0)  # an error in a thread is raised here

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _turn(crop: np.ndarray, orientation: int, out: np.ndarray) -> None:
    """Writes one of the eight flips and rotations of a crop.

    Args:
      crop: ``[P, P, 3]``.
      orientation: 0 to 7: ``orientation % 4`` quarter turns, and mirrored from 4 on.
      out: the array that the patch is written to.
    """
    if orientation not in _WHOLE_ROWS:
        # A copy fits into the processor's cache, while the rows of a photograph lie far apart.
        crop = np.ascontiguousarray(crop)
    upright = crop.swapaxes(0, 1) if orientation % 2 else crop
    turned = upright[:: _ROWS[orientation], :: _COLUMNS[orientation]]
    if orientation in _WHOLE_ROWS:
        out[...] = turned
        return
    # One channel at a time is faster, because NumPy then loops over rows, not over single pixels.
    for channel in range(3):
        out[..., channel] = turned[..., channel]
