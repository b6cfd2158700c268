"""Features of a whole photograph in files without names, and sums over windows of their rows.

The files are in the folder for temporary files, which the environment variable TMPDIR sets. They
vanish with the process.
"""

import os
import shutil
import tempfile

import numpy as np

from train.errors import InputError

_GIGABYTE = 1e9


class Features:
    """Features of a whole photograph in a file without a name, ``[H, W, C]`` in float32."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        """Makes an empty file.

        Args:
          height: rows.
          width: pixels in a row.
          channels: numbers in a pixel.
        """
        self.height, self._row = height, (width, channels)
        self._bytes = 4 * width * channels
        self._file = tempfile.TemporaryFile()

    def write(self, start: int, rows: np.ndarray) -> None:
        """Writes rows.

        Args:
          start: number of the first row.
          rows: the rows, ``[h, W, C]``.

        Raises:
          InputError: if the disk is full.
        """
        try:
            self._file.seek(start * self._bytes)
            self._file.write(np.ascontiguousarray(rows, np.float32).data)
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()}, the folder for temporary files, cannot be written "
                f"to: {error.strerror}. Free some space there, or set the environment "
                "variable TMPDIR to a different folder."
            ) from None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Reads rows; those outside the photograph are zeros.

        Args:
          start: number of the first row, which may be below 0.
          stop: number after the last row.

        Returns:
          The rows, ``[stop - start, W, C]``.
        """
        first, last = max(start, 0), min(stop, self.height)
        rows = np.zeros((stop - start, *self._row), np.float32)
        if last > first:
            self._file.seek(first * self._bytes)
            content = self._file.read((last - first) * self._bytes)
            inside = np.frombuffer(content, np.float32).reshape(-1, *self._row)
            rows[first - start : last - start] = inside
        return rows

    def mapped(self) -> np.ndarray:
        """The whole array, of which the system reads what is used."""
        return np.memmap(self._file, np.float32, "r", shape=(self.height, *self._row))

    def close(self) -> None:
        """Frees the space on the disk."""
        self._file.close()


class WindowSums:
    """Sums over a window of rows around each row, which is shifted inwards at the borders."""

    def __init__(self, features: Features, length: int) -> None:
        """Sums over the first window.

        Args:
          features: what to sum.
          length: rows of a window; if there are fewer, all of them.
        """
        self._features, self._length = features, min(length, features.height)
        self._start = 0
        self._total = np.zeros(features.read(0, 1).shape[1:], np.float64)
        for first in range(0, self._length, 64):
            stop = min(first + 64, self._length)
            self._total += features.read(first, stop).sum(axis=0, dtype=np.float64)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Computes means over the windows of some rows, which follow those of the last call.

        Args:
          start: number of the first row.
          stop: number after the last row.

        Returns:
          The means in float32, ``[stop - start, W, C]``.
        """
        last = self._features.height - self._length
        starts = np.clip(np.arange(start, stop) - (self._length - 1) // 2, 0, last)
        means = np.empty((stop - start, *self._total.shape), np.float32)
        entering = self._features.read(self._start + self._length, int(starts[-1]) + self._length)
        leaving = self._features.read(self._start, int(starts[-1]))
        first = self._start
        for i, place in enumerate(starts):
            while self._start < place:
                self._total += entering[self._start - first]
                self._total -= leaving[self._start - first]
                self._start += 1
            means[i] = self._total / self._length
        return means


def check_space(needed: int) -> None:
    """Checks that the folder for temporary files has enough space.

    Args:
      needed: number of bytes.

    Raises:
      InputError: if it has less.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"features of the photograph take up to {needed / _GIGABYTE:.1f} GB on the disk, but "
            f"{folder}, the folder for temporary files, has {free / _GIGABYTE:.1f} GB. Free some "
            "space there, or set the environment variable TMPDIR to a different folder."
        )


def folder_of_features() -> str:
    """The folder in which features are kept."""
    return os.path.abspath(tempfile.gettempdir())
