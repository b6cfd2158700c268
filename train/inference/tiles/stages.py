"""Retinexformer of several stages in tiles: one stage after the other, the photograph between two of them on disk.

There it lies in the folder for temporary files, which the environment's TMPDIR names; the last but
one goes when the next is written.

A stage reads what the one before made of the whole photograph. Were all of them run on one tile, it
would have to reach beyond its core by as many receptive fields as there are stages.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from train.errors import InputError
from train.inference.tiles.tiles import Grid, Rows, StreamedPhotograph, in_float


def with_padding(photograph: StreamedPhotograph, grid: Grid) -> StreamedPhotograph:
    """The photograph with the rows and columns that fill it up to a multiple of the stride: stages see them too."""
    lines, columns = grid.rows.pixels, grid.columns.pixels

    def open_rows() -> Rows:
        rows = photograph.open()

        def padded(start: int, stop: int) -> np.ndarray:
            # Padding reflects: among its rows later ones may stand for earlier ones, and a file is
            # not read backwards.
            top, bottom = int(lines[start:].min()), int(lines[:stop].max()) + 1
            return in_float(rows(top, bottom)[lines[start:stop] - top][:, columns])

        return padded

    return StreamedPhotograph(grid.rows.padded, grid.columns.padded, open_rows)


@contextmanager
def on_disk(strips: Iterable[np.ndarray], height: int, width: int) -> Iterator[StreamedPhotograph]:
    """Strips ``[h, width, 3]`` of float32 as a photograph, until the block ends."""
    row = width * 3 * np.dtype(np.float32).itemsize
    with tempfile.TemporaryFile() as file:
        for strip in strips:
            content = np.ascontiguousarray(strip, np.float32).data
            try:
                file.write(content)
                file.flush()
            except OSError as error:
                raise InputError(
                    f"{tempfile.gettempdir()}, the folder for temporary files, cannot be written "
                    f"to: {error.strerror}. Free some space there, or set the environment "
                    "variable TMPDIR to another folder."
                ) from None

        def rows(start: int, stop: int) -> np.ndarray:
            file.seek(start * row)
            return np.frombuffer(file.read((stop - start) * row), np.float32).reshape(-1, width, 3)

        yield StreamedPhotograph(height, width, lambda: rows)
