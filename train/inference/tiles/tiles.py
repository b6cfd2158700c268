"""Photographs that are read row by row, tiles of them in batches, and the eight ways to flip and turn a tile."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lumloss_jax.models import ReceptiveField
from train.data.images import to_float
from train.inference.tiles.tiling import Axis, Span, cut

# rows(start, stop) -> [stop - start, W, C], uint8, uint16 or float32 in [0, 1]. Neither bound ever
# decreases.
Rows = Callable[[int, int], np.ndarray]

# Rotations by 90 degrees, and whether mirrored after them.
Transform = tuple[int, bool]
IDENTITY: Transform = (0, False)
TRANSFORMS: tuple[Transform, ...] = tuple(
    (turns, mirrored) for mirrored in (False, True) for turns in range(4)
)

_PASSED_AT_ONCE = 256  # rows that are decoded on the way to later ones


class StreamedPhotograph(NamedTuple):
    """Pixels that are read from top to bottom, as often as they are needed."""

    height: int
    width: int
    open: Callable[[], Rows]


def photograph_of(image: np.ndarray) -> StreamedPhotograph:
    """A photograph that is in memory, ``[H, W, C]``."""
    height, width, _ = image.shape
    return StreamedPhotograph(height, width, lambda: lambda start, stop: image[start:stop])


class Tile(NamedTuple):
    """One tile's place along both axes."""

    rows: Span
    columns: Span


class Grid(NamedTuple):
    """All tiles of a photograph, of one size."""

    rows: Axis
    columns: Axis

    @property
    def whole(self) -> bool:
        """Whether one tile is all."""
        return len(self.rows.spans) == len(self.columns.spans) == 1

    def count(self, at_once: int) -> int:
        """How many batches there are."""
        return len(self.rows.spans) * -(-len(self.columns.spans) // at_once)

    def batches(
        self, photograph: StreamedPhotograph, at_once: int
    ) -> Iterator[tuple[list[Tile], np.ndarray]]:
        """Tiles from left to right and top to bottom, ``at_once`` of them in a batch of float32.

        The last batch of each row is filled up with copies of its last tile.
        """
        for span, strip in zip(self.rows.spans, self._strips(photograph), strict=True):
            for first in range(0, len(self.columns.spans), at_once):
                spans = self.columns.spans[first : first + at_once]
                pixels = [in_float(strip[:, self.columns.pixels_of(columns)]) for columns in spans]
                pixels += pixels[-1:] * (at_once - len(pixels))
                yield [Tile(span, columns) for columns in spans], np.stack(pixels)

    def _strips(self, photograph: StreamedPhotograph) -> Iterator[np.ndarray]:
        """The rows of the photograph that each row of tiles covers."""
        lead, padded = self.rows.lead, self.rows.padded
        # Where rows wrap, the last ones stand above the first, and these below the last.
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
        """1 on the core of each tile of a batch, 0 elsewhere and on what fills the batch up; ``[B, h, w, 1]``."""
        mask = np.zeros((at_once, self.rows.tile, self.columns.tile, 1), np.float32)
        for one, (rows, columns) in zip(mask, tiles, strict=False):
            y = slice(rows.core_start - rows.start, rows.core_stop - rows.start)
            x = slice(columns.core_start - columns.start, columns.core_stop - columns.start)
            one[y, x] = 1
        return mask


def rows_of(photograph: StreamedPhotograph, start: int, stop: int) -> np.ndarray:
    """Some rows, found without keeping those before."""
    rows = photograph.open()
    for passed in range(0, start, _PASSED_AT_ONCE):
        rows(passed, min(passed + _PASSED_AT_ONCE, start))
    return rows(start, stop)


def cut_photograph(photograph: StreamedPhotograph, tile: int, field: ReceptiveField) -> Grid:
    """The photograph in tiles of that side."""
    return Grid(cut(photograph.height, tile, field), cut(photograph.width, tile, field))


def apply_transform(batch: np.ndarray, transform: Transform) -> np.ndarray:
    """Images ``[B, H, W, C]`` turned and mirrored."""
    turns, mirrored = transform
    turned = np.rot90(batch, turns, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)


def undo_transform(batch: np.ndarray, transform: Transform) -> np.ndarray:
    """Back to how they were."""
    turns, mirrored = transform
    return np.rot90(batch[:, :, ::-1] if mirrored else batch, -turns, axes=(1, 2))


def in_float(pixels: np.ndarray) -> np.ndarray:
    """Pixels in float32, [0, 1], whatever they are stored as."""
    return pixels if pixels.dtype == np.float32 else to_float(pixels)


def clipped(pixels: np.ndarray) -> np.ndarray:
    """In place, to [0, 1]; what is infinite becomes NaN as well: clipped, it would pass for black or white."""
    pixels[np.isinf(pixels)] = np.nan
    return np.clip(pixels, 0, 1, out=pixels)
