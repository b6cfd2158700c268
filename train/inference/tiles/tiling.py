"""How a photograph is cut into tiles so that what comes out is as if it had not been cut.

Tiles of one size overlap by twice the radius of the network's receptive field; of each only the
core is kept, whose pixels see nothing of the tile's inner edges. The last tile of a row or column
is shifted inwards, so that the edges of the photograph are edges of tiles: networks that pad with
zeros see the same zeros there. Tiles begin at multiples of the network's stride, so that pooling
meets the same pixels.
"""

from typing import NamedTuple

import numpy as np

from lumloss_jax.models import ReceptiveField
from train.errors import InputError

# A 100-megapixel photograph is then restored in about 1.5 GB on a CPU.
DEFAULT_SIDE = 512
# With four, four pixels are computed for one that is kept. DRUNet's margins are 192 pixels wide:
# with a tile of 704 it takes 1,546 MB for 100 megapixels; with one of 672 it computes 1.12 times as
# much.
_MARGINS_PER_SIDE = 3.5


class Span(NamedTuple):
    """One tile along one axis."""

    start: int
    core_start: int
    core_stop: int


class Axis(NamedTuple):
    """One axis cut into tiles. Positions count along the padded axis; ``pixels`` says where each is in the photograph.

    Cores divide [lead, lead + padded) among them; the photograph is [lead, lead + size).
    """

    size: int
    padded: int
    lead: int
    tile: int
    spans: tuple[Span, ...]
    pixels: np.ndarray

    def pixels_of(self, span: Span) -> np.ndarray:
        """Where the pixels of a tile are in the photograph."""
        return self.pixels[span.start : span.start + self.tile]

    def kept(self, span: Span) -> tuple[slice, slice]:
        """The core without padding: where it is in the tile, and where in the photograph."""
        stop = min(span.core_stop, self.lead + self.size)
        return slice(span.core_start - span.start, stop - span.start), slice(
            span.core_start - self.lead, stop - self.lead
        )


def default_tile(field: ReceptiveField, *, side: int = DEFAULT_SIDE) -> int:
    """The side of a tile in pixels, a multiple of the stride; ``side`` or as much more as the margins need."""
    return round_up(max(side, round(_MARGINS_PER_SIDE * field.margin)), field.stride)


def check_tile(side: int, field: ReceptiveField) -> int:
    """``side`` rounded up to a multiple of the stride, or an error that says how large a tile must be."""
    least = 2 * field.margin + field.stride
    if side < least:
        raise InputError(
            f"--tile {side} is less than this network looks at: its receptive field reaches "
            f"{field.radius} pixels to either side, so take {least} or more."
        )
    return round_up(side, field.stride)


def cut(size: int, tile: int, field: ReceptiveField) -> Axis:
    """An axis of ``size`` pixels in tiles of ``tile``, a multiple of the stride; one of its own size where it fits."""
    padded = round_up(size, field.stride)
    if padded <= tile:
        return Axis(
            size, padded, 0, padded, (Span(0, 0, padded),), _into(np.arange(padded), size, field)
        )
    margin = field.margin
    lead = margin if field.wraps else 0
    positions = (np.arange(padded + 2 * lead) - lead) % padded
    last = positions.size - tile
    starts = [*range(0, last, tile - 2 * margin), last]
    stops = [start + tile - margin for start in starts[:-1]] + [lead + padded]
    # Where an axis wraps, the last core but one may reach the end of what is wanted already.
    spans = [
        Span(start, core_start, min(stop, lead + padded))
        for start, core_start, stop in zip(starts, [lead, *stops[:-1]], stops, strict=True)
        if core_start < lead + padded
    ]
    return Axis(size, padded, lead, tile, tuple(spans), _into(positions, size, field))


def _into(positions: np.ndarray, size: int, field: ReceptiveField) -> np.ndarray:
    """Padded positions as pixels of the photograph, in the way that the network itself pads."""
    if not field.reflects:
        return np.minimum(positions, size - 1)
    period = max(2 * (size - 1), 1)
    positions = positions % period
    return np.minimum(positions, period - positions)


def round_up(size: int, multiple: int) -> int:
    """The least multiple that is not less than ``size``."""
    return -(-size // multiple) * multiple
