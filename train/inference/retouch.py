"""How much of a restoration is used: ``--strength`` and ``--keep-detail``, strip by strip.

The result does not depend on how a photograph is cut into strips or tiles, because every row is
computed from the same rows above and below it.

``--strength s`` blends the restored photograph with the input, in the encoding of the file::

    result = (1 - s) * input + s * restored

``--keep-detail k`` first puts brightness detail back that the network removed. The difference
between the luma of the input and that of the restored photograph contains this detail, and the
noise. It is split into three scales by the undecimated "a trous" wavelet transform with the B3
spline (Starck, Fadili and Murtagh, IEEE Transactions on Image Processing 16(2), 2007). In each
scale, only what stands out from the noise is used: values are moved towards 0 by 1.5 standard
deviations of the noise in that scale. k times their sum is added to every channel. So colour noise
never returns.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from train.inference.tiles.tiles import StreamedPhotograph, in_float

# How far a row is felt: the spline reaches two rows, and the rows are 1, 2 and 4 apart.
REACH = 2 + 4 + 8
_SPACINGS = (1, 2, 4)
# Standard deviation of white noise of standard deviation 1, in each scale. These are the norms of
# the three two-dimensional filters, which a test computes.
SCALE_NOISE = (0.8908, 0.2007, 0.0855)
# With 3 deviations almost no detail would return, and with 1 as much noise as detail.
_DEVIATIONS = 1.5
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Retouch:
    """What is done to a restored photograph before it is written."""

    strength: float = 1.0
    """0: the input. 1: the restored photograph."""
    keep_detail: float = 0.0
    """0: no detail is put back. 1: all that stands out from the noise."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the restored photograph is used as it is."""
        return self.strength == 1 and self.keep_detail == 0

    def strips(
        self,
        restored: Iterable[np.ndarray],
        photograph: StreamedPhotograph,
        *,
        colours: int,
        sigma: float,
    ) -> Iterator[np.ndarray]:
        """Retouches a restored photograph from top to bottom.

        Args:
          restored: pieces ``[h, W, C]`` in [0, 1], float32, from top to bottom.
          photograph: the input.
          colours: number of its colours, 1 if its channels are copies of one another.
          sigma: standard deviation of its noise in image units. Only ``keep_detail`` uses it.

        Returns:
          An iterator over pieces of the result, which may have different heights.
        """
        if self.changes_nothing:
            return iter(restored)
        pairs = self.pairs(restored, photograph, colours=colours, sigma=sigma)
        return (self.blended(given, result) for given, result in pairs)

    def pairs(
        self,
        restored: Iterable[np.ndarray],
        photograph: StreamedPhotograph,
        *,
        colours: int,
        sigma: float,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Like :meth:`strips`, but before the blending.

        Args:
          restored: as for :meth:`strips`.
          photograph: the input.
          colours: number of its colours.
          sigma: standard deviation of its noise in image units.

        Returns:
          An iterator over pieces of the input, each with the restored piece and its detail.
        """
        pairs = _with_input(restored, photograph)
        if not self.keep_detail:
            return pairs
        return self._detailed(pairs, photograph.height, sigma * noise_of_luma(colours))

    def blended(self, given: np.ndarray, result: np.ndarray) -> np.ndarray:
        """Blends the input with the restored photograph by ``strength``; the result is clipped."""
        if self.strength != 1:
            share = np.float32(self.strength)
            result = (1 - share) * given + share * result
        return np.clip(result, 0, 1)

    def _detailed(
        self, pairs: Iterator[tuple[np.ndarray, np.ndarray]], height: int, noise: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Adds detail to rows as soon as enough rows below them are known."""
        share = np.float32(self.keep_detail)
        removed: np.ndarray | None = None  # luma that the network removed, from row `first` on
        waiting: list[tuple[np.ndarray, np.ndarray]] = []  # rows from `done` on
        first = done = known = 0
        for given, result in pairs:
            luma = luma_of(given) - luma_of(result)
            removed = luma if removed is None else np.concatenate([removed, luma])
            waiting.append((given, result))
            known += len(given)
            stop = height if known == height else known - REACH
            if stop <= done:
                continue
            above = _mirrored(np.arange(done - REACH, stop + REACH), height) - first
            detail = share * outstanding(removed[above], noise)
            given, result = (np.concatenate(rows) for rows in zip(*waiting, strict=True))
            ready = stop - done
            yield given[:ready], result[:ready] + detail[..., None]
            waiting = [(given[ready:], result[ready:])]
            done = stop
            kept = max(done - REACH, first)
            removed, first = removed[kept - first :], kept


UNCHANGED = Retouch()


def luma_of(pixels: np.ndarray) -> np.ndarray:
    """Computes the luma ``[H, W]`` of pixels ``[H, W, C]`` with one or three channels."""
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    # The products are added one by one, because a matrix product may round differently for a
    # different number of rows.
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return np.asarray(_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)


def noise_of_luma(colours: int) -> float:
    """Returns the noise of the luma, if the noise of each colour is 1 and independent."""
    return 1.0 if colours == 1 else float(np.sqrt(np.sum(np.square(_LUMA, dtype=np.float64))))


def outstanding(removed: np.ndarray, noise: float) -> np.ndarray:
    """Selects the detail that stands out from the noise.

    Args:
      removed: luma that the network removed, ``[REACH + h + REACH, W]``. The rows beyond the
        photograph are mirrored.
      noise: standard deviation of the noise in it.

    Returns:
      The detail ``[h, W]``.
    """
    rows = len(removed) - 2 * REACH
    width = removed.shape[1]
    # Beyond its left and right edge, too, the photograph is mirrored.
    smooth = removed[:, _mirrored(np.arange(-REACH, width + REACH), width)]
    detail = np.zeros((rows, width), np.float32)
    for spacing, share in zip(_SPACINGS, SCALE_NOISE, strict=True):
        smoother = _smoothed(_smoothed(smooth, spacing, axis=0), spacing, axis=1)
        inner = smooth[2 * spacing : -2 * spacing, 2 * spacing : -2 * spacing]
        scale = inner - smoother
        least = np.float32(_DEVIATIONS * share * noise)
        scale = np.sign(scale) * np.maximum(np.abs(scale) - least, 0)
        edge_y, edge_x = (scale.shape[0] - rows) // 2, (scale.shape[1] - width) // 2
        detail += scale[edge_y : edge_y + rows, edge_x : edge_x + width]
        smooth = smoother
    return detail


def _smoothed(pixels: np.ndarray, spacing: int, *, axis: int) -> np.ndarray:
    """Smooths along one axis with (1, 4, 6, 4, 1) / 16, whose taps are ``spacing`` pixels apart."""
    size = pixels.shape[axis] - 4 * spacing

    def shifted(taps: int) -> np.ndarray:
        index = [slice(None), slice(None)]
        index[axis] = slice(taps * spacing, taps * spacing + size)
        return pixels[tuple(index)]

    # Taps at the same distance are added first, so that a mirrored photograph gives mirrored bits.
    far, near = shifted(0) + shifted(4), shifted(1) + shifted(3)
    return np.float32(1 / 16) * far + np.float32(1 / 4) * near + np.float32(3 / 8) * shifted(2)


def _mirrored(rows: np.ndarray, height: int) -> np.ndarray:
    """Mirrors row numbers at the first and the last row, without repeating these."""
    if height == 1:
        return np.zeros_like(rows)
    period = 2 * (height - 1)
    rows = np.abs(rows) % period
    return np.minimum(rows, period - rows)


def _with_input(
    restored: Iterable[np.ndarray], photograph: StreamedPhotograph
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs each strip with the same rows of the input, as float32."""
    rows = photograph.open()
    top = 0
    for strip in restored:
        yield in_float(rows(top, top + len(strip))), strip
        top += len(strip)
