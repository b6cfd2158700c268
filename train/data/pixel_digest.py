"""Hashes a photograph's decoded pixels, so that equal photographs of any format can be found."""

import hashlib
from typing import Any

import numpy as np

from train.data.images import cut_strips


class PixelDigest:
    """Hashes the rows of a photograph from top to bottom, in strips of any height.

    All files with the same pixels have the same digest. Values of 8 bits that are stored in 16
    bits, multiplied by 257, are hashed as 8 bits.
    """

    def __init__(self, height: int, width: int, bits: int) -> None:
        """Begins the digest of a photograph.

        Args:
          height: in pixels.
          width: in pixels.
          bits: 8 or 16.
        """
        self._deep: Any = (
            hashlib.sha256(f"uint16 {(height, width, 3)}".encode()) if bits == 16 else None
        )
        self._plain: Any = hashlib.sha256(f"uint8 {(height, width, 3)}".encode())

    def add(self, rows: np.ndarray) -> None:
        """Hashes the next rows, ``[n, W, 3]``, uint8 or uint16, with the same type every time."""
        rows = np.ascontiguousarray(rows)
        if self._deep is None:
            self._plain.update(rows.data)
            return
        self._deep.update(rows.data)
        if self._plain is not None:
            narrow = rows.astype(np.uint8)  # keeps the lower byte

            # A value that comes from 8 bits is 257 times its lower byte.
            if np.array_equal(narrow * np.uint16(257), rows):
                self._plain.update(narrow.data)
            else:
                self._plain = None

    def hexdigest(self) -> str:
        """The hash of all rows."""
        return (self._plain or self._deep).hexdigest()


def digest_pixels(image: np.ndarray) -> str:
    """The digest of a decoded photograph, computed without copying it."""
    height, width = image.shape[:2]
    digest = PixelDigest(height, width, image.dtype.itemsize * 8)
    for rows in cut_strips(image):
        digest.add(rows)
    return digest.hexdigest()
