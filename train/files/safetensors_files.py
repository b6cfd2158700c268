"""Reads safetensors files. The header is checked first, and all kinds of floats are accepted."""

from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
import safetensors

_LONGEST_HEADER = 4 * 2**20  # bytes; an array needs about a hundred

_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def read_safetensors(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an open file by name.

    Raises:
      ValueError: the header is too long, or a kind of numbers is not accepted. safetensors raises
        other errors.
    """
    header = int.from_bytes(file.read(8), "little")
    if header > _LONGEST_HEADER:
        raise ValueError(
            f"its header has {header:,} bytes, and at most {_LONGEST_HEADER:,} are accepted"
        )
    file.seek(0)
    # This compares the header with the size of the file, without reading the numbers.
    with safetensors.safe_open(path, framework="np"):
        pass
    # The file is read, not mapped, because truncating a mapped file would kill the process.
    arrays = {}
    for name, tensor in safetensors.deserialize(file.read()):
        if tensor["dtype"] not in _DTYPES:
            kinds = ", ".join(_DTYPES)
            raise ValueError(
                f"{name} contains numbers of the kind {tensor['dtype']}; accepted kinds are {kinds}"
            )
        flat = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"])
    return arrays
