"""Archives of NumPy arrays, .npz, from a stranger: checked before memory is taken for them."""

import math
import zipfile
from typing import BinaryIO

import numpy as np

from train.pytorch.zip_files import open_archive

# A .npz may be compressed, and zeros shrink to a thousandth; weights that were trained hardly
# shrink.
_MOST_TIMES_LARGER = 32
_ALWAYS_ALLOWED = 64 * 2**20
_MOST_ARRAYS = 20_000


def read_npz(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """The arrays of an archive of ``size`` bytes, by name.

    Raises:
      ValueError: if it is damaged, or holds objects, or far more than its size; zipfile and zlib
        raise others.
    """
    left = max(_ALWAYS_ALLOWED, _MOST_TIMES_LARGER * size)
    arrays: dict[str, np.ndarray] = {}
    with open_archive(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ARRAYS:
            raise ValueError(
                f"it holds {len(entries):,} arrays, and at most {_MOST_ARRAYS:,} are read"
            )
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"it holds {name!r} twice")
            left -= entry.file_size
            if left < 0:
                raise ValueError(
                    f"its arrays take more than {_MOST_TIMES_LARGER} times the size of the file"
                )
            arrays[name] = _read_array(archive, entry)
    return arrays


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One array, if the shape in its header is that of the bytes behind it."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"{entry.filename!r} is not an array of plain numbers")
        if dtype.kind not in "biufc":
            raise ValueError(f"{entry.filename!r} holds {dtype}, not numbers")
        declared, there = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
        if min(shape, default=0) < 0 or declared != there:
            raise ValueError(
                f"{entry.filename!r} declares {declared} bytes of numbers and holds {there}"
            )
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
