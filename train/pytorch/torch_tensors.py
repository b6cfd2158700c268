"""Tensors as files of PyTorch describe them, as parts of storages, which are checked first."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

_MOST_DIMENSIONS = 32
_LARGEST = 2**62  # limit of a size, a stride or an offset

STORAGE_DTYPES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


class BadFile(ValueError):
    """A file of PyTorch is damaged, too large, or not from torch.save. The message says how."""


@dataclass(frozen=True, eq=False)
class Storage:
    """The flat array that tensors are views of, as the pickle declares it."""

    key: str
    dtype: np.dtype
    count: int  # number of elements


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view that lies within its storage. Offset, size and stride count elements, not bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, flat: np.ndarray) -> np.ndarray:
        """Makes the read-only view of the storage's numbers."""
        if flat.ndim != 1 or flat.dtype != self.storage.dtype or flat.size != self.storage.count:
            raise BadFile(
                f"storage {self.storage.key} has {flat.size} numbers, not {self.storage.count}"
            )
        if 0 in self.size:
            return np.empty(self.size, flat.dtype)
        # An axis of length 1 may have any stride, and a very large one would overflow.
        steps = [
            step * flat.itemsize if n > 1 else flat.itemsize
            for n, step in zip(self.size, self.stride, strict=True)
        ]
        start = flat[self.offset :]
        return np.lib.stride_tricks.as_strided(start, self.size, steps, writeable=False)


def is_size(value: Any) -> bool:
    """Whether a value is a whole number in the range of sizes."""
    return type(value) is int and 0 <= value < _LARGEST


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *ignored: Any) -> Tensor:
    """Describes a tensor after checking that it lies within its storage.

    Args:
      storage: the storage that the pickle names.
      offset: index of the first element.
      size: size of each axis.
      stride: stride of each axis.
      *ignored: flags that only matter to PyTorch.

    Returns:
      The tensor.

    Raises:
      BadFile: the tensor does not lie within its storage.
    """
    if type(storage) is not Storage:
        raise BadFile("a tensor is made of something that is not a storage")
    if type(size) is not tuple or type(stride) is not tuple or len(size) > _MOST_DIMENSIONS:
        raise BadFile("a tensor has a size or a stride that is not a short tuple")
    if len(size) != len(stride) or not all(map(is_size, (offset, *size, *stride))):
        raise BadFile(
            "a tensor of size and stride that do not match, or are not whole numbers of 0 or more"
        )

    last, count = offset, 1
    for n, step in zip(size, stride, strict=True):
        last += (n - 1) * step
        count *= n
    if count and last >= storage.count:
        raise BadFile(
            f"a tensor of size {size} and stride {stride} reaches beyond its {storage.count} "
            "numbers"
        )
    # A stride of 0 repeats numbers. A small file could fill the memory with it.
    if count > storage.count:
        raise BadFile(f"a tensor of size {size} is a view of {storage.count} numbers only")
    return Tensor(storage, offset, size, stride)


def rebuild_parameter(data: Any, *ignored: Any) -> Tensor:
    """Returns the tensor of a parameter."""
    if type(data) is not Tensor:
        raise BadFile("a parameter is made of something that is not a tensor")
    return data
