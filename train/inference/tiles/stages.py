"""Runs Retinexformer with several stages in tiles, one stage after the other.

Between two stages the photograph lies on disk, in the folder for temporary files, which the
environment variable TMPDIR sets. It is removed when the next stage has been written.

A stage reads the whole photograph that the stage before it made. If all stages ran on one tile, the
tile would have to extend beyond its core by as many receptive fields as there are stages.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from train.errors import InputError
from train.inference.tiles.tiles import Grid, Rows, StreamedPhotograph, in_float


def with_padding(photograph: StreamedPhotograph, grid: Grid) -> StreamedPhotograph:
    """Pads a photograph to a multiple of the stride, because stages see the padding too."""
    lines, columns = grid.rows.pixels, grid.columns.pixels

    def open_rows() -> Rows:
        rows = photograph.open()

        def padded(start: int, stop: int) -> np.ndarray:
            # Padding reflects, so its rows may come in reverse order; but a file is only read
            # forwards.
            top, bottom = int(lines[start:].min()), int(lines[:stop].max()) + 1
            return in_float(rows(top, bottom)[lines[start:stop] - top][:, columns])

        return padded

    return StreamedPhotograph(grid.rows.padded, grid.columns.padded, open_rows)


@contextmanager
def on_disk(strips: Iterable[np.ndarray], height: int, width: int) -> Iterator[StreamedPhotograph]:
    """Keeps strips on disk as a photograph, until the block ends.

    Args:
      strips: pixels from top to bottom, ``[h, width, 3]`` in float32.
      height: height of the photograph, in pixels.
      width: its width, in pixels.

    Returns:
      The photograph.

    Raises:
      InputError: if the disk is full.
    """
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
                    "variable TMPDIR to a different folder."
                ) from None

        def rows(start: int, stop: int) -> np.ndarray:
            file.seek(start * row)
            return np.frombuffer(file.read((stop - start) * row), np.float32).reshape(-1, width, 3)

        yield StreamedPhotograph(height, width, lambda: rows)
