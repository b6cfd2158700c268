"""Converts pixels from a file's channels to those of a network, and back.

A photograph whose channels are equal at every pixel is grey, however many channels the file has,
and it stays grey when it is restored. WebP rounds each channel differently, so in WebP the channels
may differ by one level.
"""

from collections.abc import Iterator

import numpy as np

from train.data.noise_level import noise_level
from train.errors import InputError
from train.inference.files.image_files import Stored
from train.inference.predict import NOT_FINITE, OnProgress, Predictor
from train.inference.retouch import Retouch
from train.inference.tiles.tiles import Rows, StreamedPhotograph, in_float, rows_of

_ESTIMATED_ON = 1024  # side of the central square on which the noise level is estimated, in pixels
_READ_AT_ONCE = 64  # rows that are checked for colour at a time


def colours_of(stored: Stored) -> int:
    """1 if the photograph is grey, otherwise 3; reads as far as the first coloured pixel."""
    if stored.bands == 1:
        return 1
    apart = 1 if stored.photograph.kind == "WebP" else 0
    rows = stored.rows(bands=slice(stored.bands))
    strips = (
        rows(y, min(y + _READ_AT_ONCE, stored.height))
        for y in range(0, stored.height, _READ_AT_ONCE)
    )
    return 3 if any(np.ptp(strip, axis=-1).max() > apart for strip in strips) else 1


def colours_in(pixels: np.ndarray) -> int:
    """1 if pixels ``[H, W, C]`` are grey, otherwise 3."""
    return 3 if np.ptp(pixels, axis=-1).any() else 1


def grey_again(restored: np.ndarray, colours: int) -> np.ndarray:
    """The mean over channels if the network got more channels than there are colours."""
    return restored.mean(axis=-1, keepdims=True) if restored.shape[-1] > colours else restored


def photograph_in(stored: Stored, *, colours: int, channels: int) -> StreamedPhotograph:
    """Reads a file with as many channels as the network needs.

    Args:
      stored: the file.
      colours: number of its colours, 1 or 3, as :func:`colours_of` finds it.
      channels: number of channels that the network needs.

    Returns:
      The pixels, without alpha; a grey photograph is repeated over the channels.

    Raises:
      InputError: if the file is in colour and the network restores grey photographs.
    """
    if colours > channels:
        raise InputError(
            f"{stored.path} is in colour, but this network restores grey photographs. Convert it, "
            "or use a network with channels=3."
        )

    def open_rows() -> Rows:
        rows = stored.rows(bands=slice(colours))
        return lambda start, stop: np.repeat(rows(start, stop), channels // colours, axis=-1)

    return StreamedPhotograph(stored.height, stored.width, open_rows)


def restored_strips(
    predictor: Predictor,
    photograph: StreamedPhotograph,
    stored: Stored,
    *,
    colours: int,
    sigma: float,
    retouch: Retouch,
    on_progress: OnProgress,
) -> Iterator[np.ndarray]:
    """Restores a photograph, and returns its pixels in the form in which the file stores them.

    Args:
      predictor: the network.
      photograph: what :func:`photograph_in` returned.
      stored: the file.
      colours: number of its colours, 1 or 3.
      sigma: standard deviation of the noise in image units. Some networks need it, and so does
        ``keep_detail``.
      retouch: how much of the restoration is used.
      on_progress: called repeatedly with the share of the work done since the last call.

    Returns:
      Pixels from top to bottom in pieces ``[h, W, C]``, with the bit depth and the channels of the
      file; alpha is unchanged.

    Raises:
      InputError: if the output of the network contains NaN or infinity.
    """
    alpha = stored.rows(bands=slice(stored.bands, None)) if stored.alpha else None
    top = 0
    white = np.iinfo(stored.dtype).max
    told = sigma if predictor.model.takes_sigma else None
    strips = predictor.strips(photograph, sigma=told, on_progress=on_progress)
    for strip in retouch.strips(strips, photograph, colours=colours, sigma=sigma):
        if np.isnan(strip).any():  # as integers they would be black
            raise InputError(f"{stored.path}: {NOT_FINITE}")
        strip = grey_again(strip, colours)
        # This is done in place, because the strips of a wide photograph are large.
        np.multiply(strip, np.float32(white), out=strip)
        pixels = np.rint(strip, out=strip).astype(stored.dtype)
        pixels = np.repeat(pixels, stored.bands // colours, axis=-1)
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha(top, top + len(pixels))], axis=-1)
        top += len(pixels)
        yield pixels


def noise_in(photograph: StreamedPhotograph, sigma: float | None) -> float:
    """Returns ``sigma`` (0 to 255) in image units, or estimates it if it is None."""
    return estimate_sigma(photograph) if sigma is None else sigma / 255


def estimate_sigma(photograph: StreamedPhotograph) -> float:
    """Estimates the standard deviation of the noise, in image units, in the central square."""
    side = _ESTIMATED_ON
    top, left = max(photograph.height - side, 0) // 2, max(photograph.width - side, 0) // 2
    rows = rows_of(photograph, top, min(top + side, photograph.height))
    return noise_level(in_float(rows[:, left : left + side]))
