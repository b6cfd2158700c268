"""Cuts a photograph into tiles so that the result is the same as without cutting.

Tiles have the same size and overlap by twice the radius of the network's receptive field. Only the
core of each tile is kept, whose pixels are not influenced by the inner edges of the tile. The last
tile of a row or column is shifted inwards, so that the edges of the photograph are edges of tiles:
networks that pad with zeros see the same zeros there. Tiles begin at multiples of the network's
stride, so that pooling covers the same pixels.
"""

from typing import NamedTuple

import numpy as np

from lumloss_jax.models import ReceptiveField
from train.errors import InputError

# Side of a tile in pixels with which a 100-megapixel photograph needs about 1.5 GB on a CPU.
DEFAULT_SIDE = 512
# With 4 margins per side, four pixels are computed for each pixel that is kept. DRUNet's margins
# are 192 pixels wide: with a tile of 704 pixels it needs 1,546 MB for 100 megapixels; with 672
# pixels it computes 1.12 times as much.
_MARGINS_PER_SIDE = 3.5


class Span(NamedTuple):
    """One tile along one axis, in pixels of the padded axis."""

    start: int
    core_start: int
    core_stop: int


class Axis(NamedTuple):
    """One axis that is cut into tiles.

    Positions count along the padded axis; ``pixels`` maps each position to the photograph. The
    cores together cover [lead, lead + padded); the photograph is [lead, lead + size).
    """

    size: int  # pixels of the photograph
    padded: int  # pixels with padding, a multiple of the stride
    lead: int  # pixels that are repeated before the first, if the axis wraps
    tile: int  # side of a tile, in pixels
    spans: tuple[Span, ...]
    pixels: np.ndarray  # pixel of the photograph at each position

    def pixels_of(self, span: Span) -> np.ndarray:
        """The positions of a tile's pixels in the photograph."""
        return self.pixels[span.start : span.start + self.tile]

    def kept(self, span: Span) -> tuple[slice, slice]:
        """The core without padding, as slices of the tile and of the photograph."""
        stop = min(span.core_stop, self.lead + self.size)
        return slice(span.core_start - span.start, stop - span.start), slice(
            span.core_start - self.lead, stop - self.lead
        )


def default_tile(
    field: ReceptiveField, *, side: int = DEFAULT_SIDE, most: int | None = None
) -> int:
    """The side of a tile in pixels: at least ``side``, or more if margins need it.

    It is a multiple of the stride.

    Args:
      field: the receptive field of the network.
      side: the usual side.
      most: a side above which memory may not suffice. A wide network gets smaller tiles.

    Returns:
      The side.

    Raises:
      InputError: if no tile is as small as ``most``.
    """
    usual = round_up(max(side, round(_MARGINS_PER_SIDE * field.margin)), field.stride)
    if most is None or usual <= most:
        return usual
    least = round_up(2 * field.margin + field.stride, field.stride)
    if most < least:
        raise InputError(
            f"This network is so wide that more than 1.5 GB of memory would be needed for a tile "
            f"of {least} pixels, the smallest one. Use a network with fewer features. On a machine "
            f"with much memory, restore and evaluate accept --tile {least}."
        )
    return most // field.stride * field.stride


def check_tile(side: int, field: ReceptiveField) -> int:
    """Rounds ``side`` up to a multiple of the stride; raises an error if it is too small."""
    least = 2 * field.margin + field.stride
    if side < least:
        raise InputError(
            f"--tile {side} is too small for this network, whose receptive field extends "
            f"{field.radius} pixels to either side. Use {least} or more."
        )
    return round_up(side, field.stride)


def cut(size: int, tile: int, field: ReceptiveField) -> Axis:
    """Cuts an axis into tiles; if it fits one tile, that gets the size of the axis.

    Args:
      size: number of pixels of the axis.
      tile: side of a tile in pixels, a multiple of the stride.
      field: the receptive field of the network.

    Returns:
      The axis.
    """
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
    # If an axis wraps, the core before the last one may already reach the end.
    spans = [
        Span(start, core_start, min(stop, lead + padded))
        for start, core_start, stop in zip(starts, [lead, *stops[:-1]], stops, strict=True)
        if core_start < lead + padded
    ]
    return Axis(size, padded, lead, tile, tuple(spans), _into(positions, size, field))


def _into(positions: np.ndarray, size: int, field: ReceptiveField) -> np.ndarray:
    """Maps padded positions to pixels of the photograph, in the way that the network pads."""
    if not field.reflects:
        return np.minimum(positions, size - 1)
    period = max(2 * (size - 1), 1)
    positions = positions % period
    return np.minimum(positions, period - positions)


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is not less than ``size``."""
    return -(-size // multiple) * multiple
