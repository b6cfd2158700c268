"""Reads .npz archives from others. Their sizes are checked before memory is allocated."""

import math
import zipfile
from typing import BinaryIO

import numpy as np

from train.pytorch.zip_files import open_archive

# A .npz may be compressed. Zeros shrink to a thousandth of their size, but trained weights hardly
# shrink.
_MOST_TIMES_LARGER = 32
_ALWAYS_ALLOWED = 64 * 2**20
_MOST_ARRAYS = 20_000


def read_npz(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """Reads the arrays of an archive of ``size`` bytes by name.

    Raises:
      ValueError: the archive is damaged, contains objects, or unpacks to far more than its size.
        zipfile and zlib raise other errors.
    """
    left = max(_ALWAYS_ALLOWED, _MOST_TIMES_LARGER * size)
    arrays: dict[str, np.ndarray] = {}
    with open_archive(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ARRAYS:
            raise ValueError(
                f"it contains {len(entries):,} arrays, and at most {_MOST_ARRAYS:,} are accepted"
            )
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"it contains {name!r} twice")
            left -= entry.file_size
            if left < 0:
                raise ValueError(
                    f"its arrays need more than {_MOST_TIMES_LARGER} times the size of the file"
                )
            arrays[name] = _read_array(archive, entry)
    return arrays


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Reads one array, if its shape matches the number of its bytes."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"{entry.filename!r} is not an array of plain numbers")
        if dtype.kind not in "biufc":
            raise ValueError(f"{entry.filename!r} contains {dtype}, not numbers")
        declared, there = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
        if min(shape, default=0) < 0 or declared != there:
            raise ValueError(
                f"{entry.filename!r} declares {declared} bytes of numbers, but contains {there}"
            )
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
