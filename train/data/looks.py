"""What can be said of one photograph, or of one pair, by looking at its pixels.

A photograph is looked at in strips of rows, from top to bottom, and decoded once for all that is
asked of it: besides the strip no more is held than a thumbnail and the middle part.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import imagehash
import numpy as np
import PIL.Image
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from train.data.images import Rows, to_float, to_uint8
from train.data.noise_level import noise_level
from train.data.pixel_digest import PixelDigest

BINS = 10  # of brightness, over 0 to 1

THUMBNAIL = 128  # longest side, in pixels
_GAP = 2.0  # a thumbnail is made of means over squares of pixels, at least this much larger than it
_WINDOW = 512  # side of the middle part on which alignment is estimated
_NOISE_WINDOW = 256  # side of the part of it on which noise is: more takes most of the time
_EVERY_PIXEL = 2**16  # pixels from which on brightness is taken from every second row and column
_SMALLEST = 16  # below this side neither can be told
_FURTHEST = 64  # pixels: a larger shift is another scene rather than a camera that moved
_GAIN = 0.02  # by which a shift must raise the correlation of a pair, to be believed
_SAME_SCENE = 0.3  # correlation below which the halves of a pair show different scenes


@dataclass(frozen=True)
class Look:
    """What one photograph looks like."""

    histogram: np.ndarray  # (BINS,), share of the pixels by luma
    noise: float  # estimated standard deviation of the input's noise, 0 to 255; nan where it cannot be told
    alike: int  # 64-bit perceptual hash
    complaint: str  # about the two halves of a pair; "" where there is none


class Glance:
    """Takes the rows of one photograph from top to bottom, in strips of any height."""

    def __init__(self, height: int, width: int, bits: int) -> None:
        self.height, self.width, self.bits = height, width, bits
        self._digest = PixelDigest(height, width, bits)
        self._counts = np.zeros(BINS, np.int64)
        # For ten bars a quarter of a larger photograph's pixels shows as much as all of them.
        self._step = 1 if height * width < _EVERY_PIXEL else 2
        self._small = Thumbnail(height, width)
        self._top, self._left = (max(side - _WINDOW, 0) // 2 for side in (height, width))
        self._middle: list[np.ndarray] = []
        self._seen = 0  # rows

    def add(self, rows: np.ndarray) -> None:
        """Looks at the next rows, ``[n, W, 3]``, uint8 or uint16."""
        self._digest.add(rows)
        self._small.add(rows)
        shown = rows[:: self._step, :: self._step]
        bins = (_luma(to_float(shown)) * BINS).astype(np.intp).ravel()
        # White itself belongs to the last bin.
        self._counts += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)
        first, last = (max(end - self._seen, 0) for end in (self._top, self._top + _WINDOW))
        self._middle.append(np.array(rows[first:last, self._left : self._left + _WINDOW]))
        self._seen += len(rows)

    @property
    def digest(self) -> str:
        """The hash of the pixels."""
        return self._digest.hexdigest()

    @property
    def histogram(self) -> np.ndarray:
        """The share of the pixels in each bin of luma."""
        return self._counts / self._counts.sum()

    @property
    def middle(self) -> np.ndarray:
        """The middle part, as float32 in [0, 1]."""
        return to_float(np.concatenate(self._middle))

    def picture(self) -> PIL.Image.Image:
        """The whole photograph, small."""
        return self._small.picture()


class Thumbnail:
    """A small picture of a photograph whose rows come in strips: pixel for pixel what Pillow's ``thumbnail`` makes."""

    def __init__(self, height: int, width: int) -> None:
        self._given = (width, height)
        self._size = _small_size(width, height)
        self._factor = tuple(
            int(side / small / _GAP) or 1
            for side, small in zip(self._given, self._size, strict=True)
        )
        self._waiting: list[np.ndarray] = []  # rows that do not fill a square yet
        self._parts: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Takes the next rows, ``[n, W, 3]``, uint8 or uint16."""
        self._waiting.append(np.array(rows) if rows.dtype == np.uint8 else to_uint8(to_float(rows)))
        if sum(map(len, self._waiting)) >= self._factor[1]:
            whole = np.concatenate(self._waiting)
            full = len(whole) - len(whole) % self._factor[1]
            self._reduce(whole[:full])
            self._waiting = [whole[full:]]

    def picture(self) -> PIL.Image.Image:
        """The thumbnail, once all rows are there."""
        if sum(map(len, self._waiting)):
            self._reduce(np.concatenate(self._waiting))
            self._waiting = []
        reduced = PIL.Image.fromarray(np.concatenate(self._parts))
        if self._size == self._given:
            return reduced
        box = (0, 0, self._given[0] / self._factor[0], self._given[1] / self._factor[1])
        return reduced.resize(self._size, PIL.Image.Resampling.BICUBIC, box)

    def _reduce(self, rows: np.ndarray) -> None:
        self._parts.append(np.asarray(PIL.Image.fromarray(rows).reduce(self._factor)))


def look(target: Glance, given: Glance | None) -> Look:
    """What a photograph looks like, or a pair.

    Args:
      target: the clean photograph.
      given: its degraded version, of the same size, if there is one.
    """
    noisy = target if given is None else given
    return Look(
        histogram=target.histogram,
        noise=_noise(noisy),
        alike=int(str(imagehash.phash(target.picture())), 16),
        complaint="" if given is None else _misalignment(_luma(given.middle), _luma(target.middle)),
    )


def thumbnail(rows: Rows) -> np.ndarray:
    """A small uint8 picture of a photograph."""
    small = Thumbnail(rows.height, rows.width)
    for strip in rows.strips:
        small.add(strip)
    return np.asarray(small.picture())


def _small_size(width: int, height: int) -> tuple[int, int]:
    """Sides of the thumbnail; the shorter one is rounded so that the photograph keeps its shape best."""
    if max(width, height) <= THUMBNAIL:
        return width, height
    aspect = width / height
    if aspect <= 1:
        side = _rounded(THUMBNAIL * aspect, lambda side: abs(aspect - side / THUMBNAIL))
        return side, THUMBNAIL
    side = _rounded(THUMBNAIL / aspect, lambda side: abs(aspect - THUMBNAIL / side) if side else 0)
    return THUMBNAIL, side


def _rounded(exact: float, misfit: Callable[[int], float]) -> int:
    return max(min(math.floor(exact), math.ceil(exact), key=misfit), 1)


def _luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114], np.float32)


def _noise(glance: Glance) -> float:
    if min(glance.height, glance.width) < _SMALLEST:
        return np.nan
    middle = glance.middle
    top, left = (max(side - _NOISE_WINDOW, 0) // 2 for side in middle.shape[:2])
    middle = middle[top : top + _NOISE_WINDOW, left : left + _NOISE_WINDOW]
    # Flat photographs have no noise to estimate: that would be the median of nothing.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return 255 * noise_level(middle)


def _misalignment(given: np.ndarray, target: np.ndarray) -> str:
    """What is wrong with how a pair lies on itself, in words."""
    if min(target.shape) < _SMALLEST:
        return ""
    # Smoothed, so that noise does not hide the scene; less a wider blur, edges are left, which tell
    # a shift.
    given, target = (ndimage.gaussian_filter(luma, 1.5) for luma in (given, target))
    given_edges, target_edges = (
        luma - ndimage.gaussian_filter(luma, 4.5) for luma in (given, target)
    )
    if not all(luma.std() for luma in (given, target, given_edges, target_edges)):
        return ""
    shift, _, _ = phase_cross_correlation(target_edges, given_edges, normalization=None)
    down, right = np.rint(shift).astype(int)
    if (down or right) and max(abs(down), abs(right)) <= _FURTHEST:
        moved = _correlation(given_edges, target_edges, down, right)
        if moved > max(_correlation(given_edges, target_edges, 0, 0) + _GAIN, _SAME_SCENE):
            return f"the input fits the target better moved by {down} pixels down and {right} to the right"
    if (same := _correlation(given, target, 0, 0)) < _SAME_SCENE:
        return f"the input and the target seem to show different scenes (correlation {same:.2f})"
    return ""


def _correlation(given: np.ndarray, target: np.ndarray, down: int, right: int) -> float:
    """Pearson's, over what overlaps once ``given`` is moved."""
    height, width = target.shape
    if height - abs(down) < 2 or width - abs(right) < 2:
        return -1.0
    here = target[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    there = given[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    if not here.std() or not there.std():
        return -1.0
    return float(np.corrcoef(here.ravel(), there.ravel())[0, 1])
