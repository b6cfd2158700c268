"""What can be said of one photograph, or of one pair, by looking at its pixels."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import imagehash
import numpy as np
import PIL.Image
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from train.data.images import to_float, to_uint8
from train.data.noise_level import noise_level
from train.data.sources import Source

BINS = 10  # of brightness, over 0 to 1

_THUMBNAIL = 128  # longest side, in pixels
_WINDOW = 512  # side of the middle part that noise and alignment are estimated on: enough for both
_SMALLEST = 16  # below this side neither can be told
_FURTHEST = 64  # pixels: a larger shift is another scene rather than a camera that moved
_GAIN = 0.02  # by which a shift must raise the correlation of a pair, to be believed
_SAME_SCENE = 0.3  # correlation below which the halves of a pair show different scenes
_ALIKE = 4  # of 64 bits of a perceptual hash: one photograph resized, recompressed, slightly cropped or retouched


@dataclass(frozen=True)
class Look:
    """What one photograph looks like."""

    histogram: np.ndarray  # (BINS,), share of the pixels by luma
    noise: float  # estimated standard deviation of the input's noise, 0 to 255; nan where it cannot be told
    alike: int  # 64-bit perceptual hash
    thumbnail: np.ndarray  # uint8; of a pair the input beside the target
    complaint: str  # about the two halves of a pair; "" where there is none


def look(source: Source) -> list[Look]:
    """Looks at every photograph, on all cores."""

    def one(i: int) -> Look:
        return _look(source.images[i], None if source.inputs is None else source.inputs[i])

    # Flat photographs have no noise to estimate, and NumPy warns of the empty median.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore", RuntimeWarning)
        return list(pool.map(one, range(len(source.names))))


def alike(first: Sequence[Look], second: Sequence[Look]) -> np.ndarray:
    """Index pairs ``[n, 2]`` of photographs, one from each, that look the same but for details."""
    hashes = [np.array([look.alike for look in looks], np.uint64) for looks in (first, second)]
    found = [np.empty((0, 2), int)]
    for start in range(0, len(hashes[0]), 1024):  # all against all, in blocks that fit into memory
        distances = np.bitwise_count(hashes[0][start : start + 1024, None] ^ hashes[1][None])
        found.append(np.argwhere(distances <= _ALIKE) + [start, 0])
    return np.concatenate(found)


def _look(image: np.ndarray, degraded: np.ndarray | None) -> Look:
    target = to_float(image)
    given = target if degraded is None else to_float(degraded)
    luma = _luma(target)
    histogram = np.histogram(luma, bins=BINS, range=(0, 1))[0] / luma.size
    picture = PIL.Image.fromarray(to_uint8(target))
    pictures = [picture] if degraded is None else [PIL.Image.fromarray(to_uint8(given)), picture]
    for each in pictures:
        each.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return Look(
        histogram=histogram,
        noise=_noise(given),
        alike=int(str(imagehash.phash(picture)), 16),
        thumbnail=np.concatenate([np.asarray(each) for each in pictures], axis=1),
        complaint="" if degraded is None else _misalignment(_luma(given), luma),
    )


def _luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114], np.float32)


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(side - _WINDOW, 0) // 2 for side in image.shape[:2])
    return image[top : top + _WINDOW, left : left + _WINDOW]


def _noise(image: np.ndarray) -> float:
    if min(image.shape[:2]) < _SMALLEST:
        return np.nan
    return 255 * noise_level(_middle(image))


def _misalignment(given: np.ndarray, target: np.ndarray) -> str:
    """What is wrong with how a pair lies on itself, in words."""
    if min(target.shape) < _SMALLEST:
        return ""
    # Smoothed, so that noise does not hide the scene; less a wider blur, edges are left, which tell a shift.
    given, target = (ndimage.gaussian_filter(_middle(luma), 1.5) for luma in (given, target))
    given_edges, target_edges = (luma - ndimage.gaussian_filter(luma, 4.5) for luma in (given, target))
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
