"""Files of safetensors: the header is checked first, and every kind of float is supported."""

from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
import safetensors

_LONGEST_HEADER = 4 * 2**20  # some hundred bytes for each array

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
    """The arrays of an opened file, by name.

    Raises:
      ValueError: if it holds numbers of a kind that no weights have; safetensors raises errors of
        its own.
    """
    header = int.from_bytes(file.read(8), "little")
    if header > _LONGEST_HEADER:
        raise ValueError(
            f"its header has {header:,} bytes, and at most {_LONGEST_HEADER:,} are read"
        )
    file.seek(0)
    # Compares the header with the size of the file; none of the numbers is read.
    with safetensors.safe_open(path, framework="np"):
        pass
    # From memory: a file that is cut while it is mapped would kill the process.
    arrays = {}
    for name, tensor in safetensors.deserialize(file.read()):
        if tensor["dtype"] not in _DTYPES:
            kinds = ", ".join(_DTYPES)
            raise ValueError(
                f"{name} holds {tensor['dtype']}; the kinds of numbers that can be read are {kinds}"
            )
        flat = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"])
    return arrays
