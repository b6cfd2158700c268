"""How a photograph is cut into tiles so that what comes out is as if it had not been cut.

Tiles of one size overlap by twice the radius of the network's receptive field; of each only the
core is kept, whose pixels see nothing of the tile's inner edges. The last tile of a row or column
is shifted inwards, so that the edges of the photograph are edges of tiles: networks that pad with
zeros see the same zeros there. Tiles begin at multiples of the network's stride, so that pooling
meets the same pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from lumloss_jax.models import BUIFD, DnCNN, DPIRUNet, DRUNet, Retinexformer, ScicoUNet, UNet
from train.errors import InputError

# Sides of a tile with which a 100-megapixel photograph is restored in about 1.5 GB on a CPU.
_SIDE = 512
_ATTENDING_SIDE = 320  # Retinexformer's feed-forwards hold 5 kB for each pixel, DnCNN 0.7 kB
# With four, four pixels are computed for one that is kept. DRUNet's margins are 192 pixels wide:
# with a tile of 704 it takes 1,546 MB for 100 megapixels; with one of 672 it computes 1.12 times as
# much.
_MARGINS_PER_SIDE = 3.5


class Reach(NamedTuple):
    """How far a network looks, its attention aside."""

    stride: int  # sizes are padded to its multiples
    radius: int  # the farthest pixel of the input that a pixel of the output depends on, in either direction
    wraps: bool = False  # whether what lies beyond an edge is the opposite edge
    reflects: bool = False  # whether sizes are padded by reflection; else by the last pixel
    side: int = _SIDE  # of a tile that is not too much for the memory

    @property
    def margin(self) -> int:
        """The radius as a multiple of the stride."""
        return _up_to(self.radius, self.stride)


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


def reach_of(model: nn.Module) -> Reach:
    """Stride and receptive field of a network of the package, from its fields."""
    kind: Any = model
    match model:
        case DnCNN():
            return Reach(1, kind.depth, wraps=kind.padding == "circular")
        case BUIFD():
            return Reach(1, max(kind.depth, 2 * kind.level_depth) + 3)
        case UNet():
            inner = len(kind.features) - 1
            return _levels([5] * inner + [2], wraps=kind.padding == "circular")
        case ScicoUNet():
            n, inner = 2 * kind.block_depth, kind.depth - 1
            radii = [n + (level > 0) + 1 for level in range(inner)]
            return _levels([*radii, n // 2 + (inner > 0)], wraps=kind.padding == "circular")
        case DPIRUNet() | DRUNet():
            convolutions = (2 if isinstance(model, DRUNet) else 1) * kind.blocks
            inner = len(kind.features) - 1
            radii = [2 * convolutions] * inner + [convolutions + (not isinstance(model, DRUNet))]
            radii[0] += 2  # head and tail
            return _levels(radii)
        case Retinexformer():
            *outer, bottleneck = kind.num_blocks
            # Each halving looks one pixel further
            radii = [6 * count + 1 for count in outer] + [3 * bottleneck]
            radii[0] += 4  # estimator, embedding and output
            one = _levels(radii, reflects=True)
            return one._replace(radius=kind.stages * one.radius, side=_ATTENDING_SIDE)
    raise TypeError(f"the receptive field of {type(model).__name__} is not known here")


def default_tile(reach: Reach) -> int:
    """The side of a tile, a multiple of the stride."""
    return _up_to(max(reach.side, round(_MARGINS_PER_SIDE * reach.margin)), reach.stride)


def check_tile(side: int, reach: Reach) -> int:
    """``side`` as a multiple of the stride, or an error that says how large a tile must be."""
    least = 2 * reach.margin + reach.stride
    if side < least:
        raise InputError(
            f"--tile {side} is less than this network looks at: its receptive field reaches "
            f"{reach.radius} pixels to either side, so take {least} or more."
        )
    return _up_to(side, reach.stride)


def cut(size: int, tile: int, reach: Reach) -> Axis:
    """An axis of ``size`` pixels in tiles of ``tile``, a multiple of the stride; one of its own size where it fits."""
    padded = _up_to(size, reach.stride)
    if padded <= tile:
        return Axis(
            size, padded, 0, padded, (Span(0, 0, padded),), _into(np.arange(padded), size, reach)
        )
    margin = reach.margin
    lead = margin if reach.wraps else 0
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
    return Axis(size, padded, lead, tile, tuple(spans), _into(positions, size, reach))


def _levels(radii: Sequence[int], **padding: bool) -> Reach:
    """A UNet whose convolutions at each level, on the way down and up together, look that many of its pixels far.

    A pixel of the deepest level stands for 2^depth of the first, and an output pixel may lie at
    either end of them.
    """
    stride = 2 ** (len(radii) - 1)
    return Reach(
        stride, sum(radius * 2**level for level, radius in enumerate(radii)) + stride - 1, **padding
    )


def _into(positions: np.ndarray, size: int, reach: Reach) -> np.ndarray:
    """Padded positions as pixels of the photograph, in the way that the network itself pads."""
    if not reach.reflects:
        return np.minimum(positions, size - 1)
    period = max(2 * (size - 1), 1)
    positions = positions % period
    return np.minimum(positions, period - positions)


def _up_to(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
