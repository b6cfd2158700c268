"""What can be told of one photograph, or of one pair, from its pixels.

A photograph is decoded once for everything that is asked of it, in strips of rows from top to
bottom. Beside the strip only a thumbnail and the middle part are held in memory.
"""

import warnings
from dataclasses import dataclass

import imagehash
import numpy as np
import PIL.Image
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from train.data.images import to_float
from train.data.inspection.thumbnails import ThumbnailBuilder
from train.data.noise_level import noise_level
from train.data.pixel_digest import PixelDigest

BINS = 10  # of brightness, over 0 to 1
_WINDOW = 512  # side of the middle part on which alignment is estimated
_NOISE_WINDOW = 256  # side of the part of it on which noise is: more takes most of the time
_EVERY_PIXEL = 2**16  # pixels from which on brightness is taken from every second row and column
_SMALLEST = 16  # below this side neither can be told
_FURTHEST = 64  # pixels: a larger shift is another scene rather than a camera that moved
_GAIN = 0.02  # by which a shift must raise the correlation of a pair, to be believed
_SAME_SCENE = 0.3  # correlation below which the halves of a pair show different scenes


@dataclass(frozen=True)
class Appearance:
    """What one photograph looks like."""

    histogram: np.ndarray  # (BINS,), share of the pixels by luma
    # Estimated standard deviation of the input's noise (0 to 255); NaN if it cannot be told
    noise: float
    perceptual_hash: int  # of 64 bits
    complaint: str  # about the two halves of a pair, or ""


class PixelScan:
    """Takes the rows of one photograph from top to bottom, in strips of any height."""

    def __init__(self, height: int, width: int, bits: int) -> None:
        """Begins the scan of a photograph.

        Args:
          height: in pixels.
          width: in pixels.
          bits: 8 or 16.
        """
        self.height, self.width, self.bits = height, width, bits
        self._digest = PixelDigest(height, width, bits)
        self._counts = np.zeros(BINS, np.int64)
        # For ten bars a quarter of a larger photograph's pixels shows as much as all of them.
        self._step = 1 if height * width < _EVERY_PIXEL else 2
        self._small = ThumbnailBuilder(height, width)
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


def inspect_pixels(target: PixelScan, degraded: PixelScan | None) -> Appearance:
    """What a photograph looks like, or a pair.

    Args:
      target: the clean photograph.
      degraded: its degraded version, of the same size, if there is one.
    """
    noisy = target if degraded is None else degraded
    complaint = ""
    if degraded is not None:
        complaint = _misalignment(_luma(degraded.middle), _luma(target.middle))
    return Appearance(
        histogram=target.histogram,
        noise=_noise(noisy),
        perceptual_hash=int(str(imagehash.phash(target.picture())), 16),
        complaint=complaint,
    )


def _luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114], np.float32)


def _noise(scan: PixelScan) -> float:
    if min(scan.height, scan.width) < _SMALLEST:
        return np.nan
    middle = scan.middle
    top, left = (max(side - _NOISE_WINDOW, 0) // 2 for side in middle.shape[:2])
    middle = middle[top : top + _NOISE_WINDOW, left : left + _NOISE_WINDOW]
    # Flat photographs have no noise to estimate: that would be the median of nothing.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return 255 * noise_level(middle)


def _misalignment(given: np.ndarray, target: np.ndarray) -> str:
    """What is wrong with the alignment of a pair, in words, or ""."""
    if min(target.shape) < _SMALLEST:
        return ""
    # Smoothing keeps noise from hiding the scene. Subtracting a wider blur leaves the edges, which
    # show a shift.
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
            return (
                f"the input fits the target better moved by {down} pixels down and {right} to the "
                "right"
            )
    if (same := _correlation(given, target, 0, 0)) < _SAME_SCENE:
        return f"the input and the target seem to show different scenes (correlation {same:.2f})"
    return ""


def _correlation(given: np.ndarray, target: np.ndarray, down: int, right: int) -> float:
    """Pearson's correlation, over what overlaps once ``given`` is moved."""
    height, width = target.shape
    if height - abs(down) < 2 or width - abs(right) < 2:
        return -1.0
    here = target[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    there = given[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    if not here.std() or not there.std():
        return -1.0
    return float(np.corrcoef(here.ravel(), there.ravel())[0, 1])
