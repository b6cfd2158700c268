"""The colour of a file as a network takes it, and what the network makes of it as the file's format stores it.

A photograph whose channels are equal at every pixel is grey, in however many the file has them, and
is grey again when it is restored. WebP rounds its channels apart: there they may be one level
apart.
"""

from collections.abc import Iterator

import numpy as np

from train.data.noise_level import noise_level
from train.errors import InputError
from train.inference.files.image_files import Stored
from train.inference.predict import NOT_FINITE, OnProgress, Predictor
from train.inference.tiles.tiles import Rows, StreamedPhotograph, in_float, rows_of

_ESTIMATED_ON = 1024  # side of the square in the middle that the noise level is estimated on
_READ_AT_ONCE = 64  # rows that are looked at for colour


def colours_of(stored: Stored) -> int:
    """1 where the photograph is grey, else 3; reads it up to the first pixel that is not."""
    if stored.bands == 1:
        return 1
    apart = 1 if stored.photograph.kind == "WebP" else 0
    rows = stored.rows(slice(stored.bands))
    strips = (
        rows(y, min(y + _READ_AT_ONCE, stored.height))
        for y in range(0, stored.height, _READ_AT_ONCE)
    )
    return 3 if any(np.ptp(strip, axis=-1).max() > apart for strip in strips) else 1


def colours_in(pixels: np.ndarray) -> int:
    """As :func:`colours_of`, of pixels ``[H, W, C]`` that are all there."""
    return 3 if np.ptp(pixels, axis=-1).any() else 1


def grey_again(restored: np.ndarray, colours: int) -> np.ndarray:
    """What the network makes of a photograph of so many colours: the mean where it was given more channels."""
    return restored.mean(axis=-1, keepdims=True) if restored.shape[-1] > colours else restored


def photograph_in(stored: Stored, colours: int, channels: int) -> StreamedPhotograph:
    """A file's colour, 1 or 3 of them, with as many channels as the network takes."""
    if colours > channels:
        raise InputError(
            f"{stored.path} is in colour, and this network restores grey photographs: convert it, "
            "or take a network with channels=3."
        )

    def open_rows() -> Rows:
        rows = stored.rows(slice(colours))
        return lambda start, stop: np.repeat(rows(start, stop), channels // colours, axis=-1)

    return StreamedPhotograph(stored.height, stored.width, open_rows)


def restored_strips(
    predictor: Predictor,
    photograph: StreamedPhotograph,
    stored: Stored,
    colours: int,
    sigma: float | None,
    on_progress: OnProgress,
) -> Iterator[np.ndarray]:
    """The restored pixels as they are stored, grey where they were, alpha as it was; ``sigma`` is in image units."""
    alpha = stored.rows(slice(stored.bands, None)) if stored.alpha else None
    top = 0
    white = np.iinfo(stored.dtype).max
    for strip in predictor.strips(photograph, sigma=sigma, on_progress=on_progress):
        if np.isnan(strip).any():  # as integers they would be black
            raise InputError(f"{stored.path}: {NOT_FINITE}")
        strip = grey_again(strip, colours)
        # In place: of a wide photograph a strip is large
        np.multiply(strip, np.float32(white), out=strip)
        pixels = np.rint(strip, out=strip).astype(stored.dtype)
        pixels = np.repeat(pixels, stored.bands // colours, axis=-1)
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha(top, top + len(pixels))], axis=-1)
        top += len(pixels)
        yield pixels


def estimate_sigma(photograph: StreamedPhotograph) -> float:
    """The standard deviation of a photograph's noise in image units, as it is in the middle."""
    side = _ESTIMATED_ON
    top, left = max(photograph.height - side, 0) // 2, max(photograph.width - side, 0) // 2
    rows = rows_of(photograph, top, min(top + side, photograph.height))
    return noise_level(in_float(rows[:, left : left + side]))
