"""Photographs that are read row by row, their tiles in batches, and rotations of tiles."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lumloss_jax.models import ReceptiveField
from train.data.images import to_float
from train.inference.tiles.tiling import Axis, Span, cut

# rows(start, stop) returns [stop - start, W, C], as uint8, uint16 or float32 in [0, 1]. Neither
# bound ever decreases from one call to the next.
Rows = Callable[[int, int], np.ndarray]

# Number of rotations by 90 degrees, and whether the result is mirrored.
Transform = tuple[int, bool]
IDENTITY: Transform = (0, False)
TRANSFORMS: tuple[Transform, ...] = tuple(
    (turns, mirrored) for mirrored in (False, True) for turns in range(4)
)

_PASSED_AT_ONCE = 256  # rows that are decoded at a time on the way to later ones


class StreamedPhotograph(NamedTuple):
    """Pixels that are read from top to bottom, as often as they are needed; sizes are in pixels."""

    height: int
    width: int
    open: Callable[[], Rows]


def photograph_of(image: np.ndarray) -> StreamedPhotograph:
    """Wraps a photograph in memory, ``[H, W, C]``."""
    height, width, _ = image.shape
    return StreamedPhotograph(height, width, lambda: lambda start, stop: image[start:stop])


class Tile(NamedTuple):
    """The place of one tile along both axes."""

    rows: Span
    columns: Span


class Grid(NamedTuple):
    """All tiles of a photograph, which have the same size."""

    rows: Axis
    columns: Axis

    @property
    def whole(self) -> bool:
        """Whether a single tile covers the photograph."""
        return len(self.rows.spans) == len(self.columns.spans) == 1

    def count(self, at_once: int) -> int:
        """Number of batches with ``at_once`` tiles each."""
        return len(self.rows.spans) * -(-len(self.columns.spans) // at_once)

    def batches(
        self, photograph: StreamedPhotograph, at_once: int
    ) -> Iterator[tuple[list[Tile], np.ndarray]]:
        """Reads tiles from left to right and top to bottom, in float32 batches of ``at_once``.

        The last batch of each row is filled up with copies of its last tile.
        """
        for span, strip in zip(self.rows.spans, self._strips(photograph), strict=True):
            for first in range(0, len(self.columns.spans), at_once):
                spans = self.columns.spans[first : first + at_once]
                pixels = [in_float(strip[:, self.columns.pixels_of(columns)]) for columns in spans]
                pixels += pixels[-1:] * (at_once - len(pixels))
                yield [Tile(span, columns) for columns in spans], np.stack(pixels)

    def _strips(self, photograph: StreamedPhotograph) -> Iterator[np.ndarray]:
        """Reads the rows of the photograph that each row of tiles covers."""
        lead, padded = self.rows.lead, self.rows.padded
        # If rows wrap, the last rows lie above the first ones, and the first below the last.
        bottom = rows_of(photograph, photograph.height - lead, photograph.height) if lead else None
        rows = photograph.open()
        first = rows(0, lead).copy() if lead else None
        for span in self.rows.spans:
            lines = self.rows.pixels_of(span)
            above, below = (
                max(lead - span.start, 0),
                max(span.start + self.rows.tile - lead - padded, 0),
            )
            middle = lines[above : len(lines) - below]
            top = int(middle.min())
            strip = rows(top, int(middle.max()) + 1)[middle - top]
            if bottom is not None and above:
                strip = np.concatenate([bottom[lines[:above] - photograph.height], strip])
            if first is not None and below:
                strip = np.concatenate([strip, first[lines[len(lines) - below :]]])
            yield strip

    def cores(self, tiles: list[Tile], at_once: int) -> np.ndarray:
        """A mask ``[B, h, w, 1]``: 1 on the core of each tile, 0 elsewhere and on added copies."""
        mask = np.zeros((at_once, self.rows.tile, self.columns.tile, 1), np.float32)
        for one, (rows, columns) in zip(mask, tiles, strict=False):
            y = slice(rows.core_start - rows.start, rows.core_stop - rows.start)
            x = slice(columns.core_start - columns.start, columns.core_stop - columns.start)
            one[y, x] = 1
        return mask


def rows_of(photograph: StreamedPhotograph, start: int, stop: int) -> np.ndarray:
    """Reads some rows, without keeping the rows before them.

    Args:
      photograph: the photograph.
      start: first row.
      stop: row after the last one.

    Returns:
      The rows, ``[stop - start, W, C]``, in the type in which they are stored.
    """
    rows = photograph.open()
    for passed in range(0, start, _PASSED_AT_ONCE):
        rows(passed, min(passed + _PASSED_AT_ONCE, start))
    return rows(start, stop)


def cut_photograph(photograph: StreamedPhotograph, tile: int, field: ReceptiveField) -> Grid:
    """Cuts a photograph into tiles.

    Args:
      photograph: the photograph.
      tile: side of a tile in pixels, a multiple of the stride.
      field: the receptive field of the network.

    Returns:
      The tiles.
    """
    return Grid(cut(photograph.height, tile, field), cut(photograph.width, tile, field))


def apply_transform(batch: np.ndarray, transform: Transform) -> np.ndarray:
    """Rotates and mirrors images ``[B, H, W, C]``."""
    turns, mirrored = transform
    turned = np.rot90(batch, turns, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)


def undo_transform(batch: np.ndarray, transform: Transform) -> np.ndarray:
    """Undoes :func:`apply_transform`."""
    turns, mirrored = transform
    return np.rot90(batch[:, :, ::-1] if mirrored else batch, -turns, axes=(1, 2))


def in_float(pixels: np.ndarray) -> np.ndarray:
    """Converts pixels of any type to float32 in [0, 1]."""
    return pixels if pixels.dtype == np.float32 else to_float(pixels)


def clipped(pixels: np.ndarray) -> np.ndarray:
    """Clips pixels in place to [0, 1]; infinity becomes NaN, not black or white."""
    pixels[np.isinf(pixels)] = np.nan
    return np.clip(pixels, 0, 1, out=pixels)
