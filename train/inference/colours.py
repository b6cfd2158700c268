"""The colour of a file as a network takes it, and what the network makes of it as the file's format stores it."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import skimage.restoration

from train.errors import InputError
from train.inference.image_files import Stored
from train.inference.predict import NOT_FINITE, Predictor
from train.inference.tiles import Photograph, Rows, in_float

_ESTIMATED_ON = 1024  # side of the square in the middle that the noise level is estimated on


def photograph_in(stored: Stored, channels: int) -> Photograph:
    """The colour of a file with as many channels as the network takes."""
    if stored.bands > channels:
        raise InputError(
            f"{stored.path} is in colour, and this network restores grey photographs: convert it, or take a network "
            "with channels=3."
        )

    def open_rows() -> Rows:
        rows = stored.rows(slice(stored.bands))
        return lambda start, stop: np.repeat(rows(start, stop), channels // stored.bands, axis=-1)

    return Photograph(stored.height, stored.width, open_rows)


def restored_strips(
    predictor: Predictor, photograph: Photograph, stored: Stored, sigma: float | None, seen: Callable[[float], None]
) -> Iterator[np.ndarray]:
    """The restored pixels as they are stored, alpha as it was; ``sigma`` is in image units."""
    alpha = stored.rows(slice(stored.bands, None)) if stored.alpha else None
    top = 0
    white = np.iinfo(stored.dtype).max
    for strip in predictor.strips(photograph, sigma=sigma, seen=seen):
        if np.isnan(strip).any():  # as integers they would be black
            raise InputError(f"{stored.path}: {NOT_FINITE}")
        if strip.shape[-1] > stored.bands:
            strip = strip.mean(axis=-1, keepdims=True)
        np.multiply(strip, np.float32(white), out=strip)  # in place: of a wide photograph a strip is large
        pixels = np.rint(strip, out=strip).astype(stored.dtype)
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha(top, top + len(pixels))], axis=-1)
        top += len(pixels)
        yield pixels


def estimate_sigma(photograph: Photograph) -> float:
    """The standard deviation of a photograph's noise in image units, from the finest wavelets in its middle.

    The mean over channels, but for those that are flat there, such as the blue of a night: they say nothing of noise.
    """
    side = _ESTIMATED_ON
    top, left = max(photograph.height - side, 0) // 2, max(photograph.width - side, 0) // 2
    rows = photograph.open()(top, min(top + side, photograph.height))
    channels = np.moveaxis(in_float(rows[:, left : left + side]), -1, 0)
    with warnings.catch_warnings():  # where no wavelet is left it takes the median of nothing, and gives NaN
        warnings.simplefilter("ignore")
        levels = [skimage.restoration.estimate_sigma(channel) for channel in channels if np.ptp(channel) > 0]
    known = [level for level in levels if not np.isnan(level)]
    return float(np.mean(known)) if known else 0.0
