"""What the pixels of one photograph, or of one pair, show.

A photograph is decoded once for all estimates, in strips of rows from top to bottom. Only the
strip, a thumbnail and the middle part are held in memory.
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

BINS = 10  # bins of brightness, which divide 0 to 1
_WINDOW = 512  # side of the middle part on which alignment is estimated
# Side of the part of it on which noise is estimated. A larger part would take most of the time.
_NOISE_WINDOW = 256
# Number of pixels from which brightness is taken from every second row and column only
_EVERY_PIXEL = 2**16
_SMALLEST = 16  # smallest side on which noise and alignment can be estimated
_FURTHEST = 64  # pixels: a larger shift means different scenes, not a camera that moved
_GAIN = 0.02  # a shift is believed if it raises the correlation of a pair by more than this
_SAME_SCENE = 0.3  # correlation below which the halves of a pair show different scenes


@dataclass(frozen=True)
class Appearance:
    """What one photograph, or one pair, looks like."""

    histogram: np.ndarray  # (BINS,), share of the pixels by luma, 0 to 1
    # Estimated standard deviation of the input's noise (0 to 255); NaN if it cannot be estimated
    noise: float
    perceptual_hash: int  # 64 bits
    complaint: str  # what is wrong with the two halves of a pair, or ""


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
        # A quarter of the pixels is enough for the ten bars of a large photograph's histogram.
        self._step = 1 if height * width < _EVERY_PIXEL else 2
        self._small = ThumbnailBuilder(height, width)
        self._top, self._left = (max(side - _WINDOW, 0) // 2 for side in (height, width))
        self._middle: list[np.ndarray] = []
        self._seen = 0  # rows so far

    def add(self, rows: np.ndarray) -> None:
        """Adds the next rows, ``[n, W, 3]``, uint8 or uint16."""
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
        """A thumbnail of the whole photograph."""
        return self._small.picture()


def inspect_pixels(target: PixelScan, degraded: PixelScan | None) -> Appearance:
    """Describes a photograph or a pair.

    Args:
      target: the clean photograph.
      degraded: its degraded version, of the same size, if there is one.

    Returns:
      What the photograph or the pair looks like.
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
    """Estimates the standard deviation of the noise, 0 to 255, in the middle of a photograph."""
    if min(scan.height, scan.width) < _SMALLEST:
        return np.nan
    middle = scan.middle
    top, left = (max(side - _NOISE_WINDOW, 0) // 2 for side in middle.shape[:2])
    middle = middle[top : top + _NOISE_WINDOW, left : left + _NOISE_WINDOW]
    # In a flat photograph there is no noise to estimate, and NumPy warns about an empty median.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return 255 * noise_level(middle)


def _misalignment(given: np.ndarray, target: np.ndarray) -> str:
    """Says in a sentence what is wrong with the alignment of a pair; "" if nothing is."""
    if min(target.shape) < _SMALLEST:
        return ""
    # Smoothing keeps noise from hiding the scene. Subtracting a wider blur leaves the edges, in
    # which a shift shows.
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
                "the input fits the target better if it is moved "
                f"{_describe_shift(int(down), int(right))}."
            )
    if (same := _correlation(given, target, 0, 0)) < _SAME_SCENE:
        # Adding 0 turns -0.0 into 0.0
        same = round(same, 2) + 0
        return f"the input and the target seem to show different scenes (correlation {same:.2f})."
    return ""


def _describe_shift(down: int, right: int) -> str:
    """A shift in words, for example "3 pixels down and 5 pixels to the left"."""
    words = []
    for distance, forward, backward in (
        (down, "down", "up"),
        (right, "to the right", "to the left"),
    ):
        if distance:
            pixels = "pixel" if abs(distance) == 1 else "pixels"
            words.append(f"{abs(distance)} {pixels} {forward if distance > 0 else backward}")
    return " and ".join(words)


def _correlation(given: np.ndarray, target: np.ndarray, down: int, right: int) -> float:
    """Pearson's correlation over the pixels that overlap after ``given`` has been moved.

    Args:
      given: luma of the input.
      target: luma of the target, of the same size.
      down: how far the input is moved down, in pixels; negative for up.
      right: how far it is moved to the right, in pixels; negative for left.

    Returns:
      The correlation, -1 to 1; -1 as well if nothing overlaps, or one part is flat.
    """
    height, width = target.shape
    if height - abs(down) < 2 or width - abs(right) < 2:
        return -1.0
    here = target[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    there = given[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    if not here.std() or not there.std():
        return -1.0
    return float(np.corrcoef(here.ravel(), there.ravel())[0, 1])
