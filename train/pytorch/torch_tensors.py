"""Tensors as a file of PyTorch describes them: places in storages, checked before they are read."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

_MOST_DIMENSIONS = 32
_LARGEST = 2**62  # of a size, a stride or an offset

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
    """A file of PyTorch is damaged, too large, or not one of torch.save; says in what."""


@dataclass(frozen=True, eq=False)
class Storage:
    """The flat array that tensors are views of, as the pickle declares it."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage that stays inside it.

    Offset, size and stride count numbers, not bytes.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, flat: np.ndarray) -> np.ndarray:
        """The view of the storage's numbers; it cannot be written to."""
        if flat.ndim != 1 or flat.dtype != self.storage.dtype or flat.size != self.storage.count:
            raise BadFile(
                f"storage {self.storage.key} holds {flat.size} numbers, not {self.storage.count}"
            )
        if 0 in self.size:
            return np.empty(self.size, flat.dtype)
        # Where there is one place only, any step is allowed, and the largest would overflow.
        steps = [
            step * flat.itemsize if n > 1 else flat.itemsize
            for n, step in zip(self.size, self.stride, strict=True)
        ]
        start = flat[self.offset :]
        return np.lib.stride_tricks.as_strided(start, self.size, steps, writeable=False)


def is_size(value: Any) -> bool:
    """Whether a value is a number that a size may be."""
    return type(value) is int and 0 <= value < _LARGEST


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *ignored: Any) -> Tensor:
    """Describes a tensor after checking that it lies within its storage.

    Args:
      storage: the storage that the pickle names.
      offset: of the first number.
      size: of each axis.
      stride: of each axis.
      *ignored: flags that only matter to PyTorch.

    Returns:
      The tensor.

    Raises:
      BadFile: if it does not lie within its storage.
    """
    if type(storage) is not Storage:
        raise BadFile("a tensor is made of something that is not a storage")
    if type(size) is not tuple or type(stride) is not tuple or len(size) > _MOST_DIMENSIONS:
        raise BadFile("a tensor has a size or a stride that is not a short tuple")
    if len(size) != len(stride) or not all(map(is_size, (offset, *size, *stride))):
        raise BadFile(
            "a tensor of size and stride that do not match, or are not whole numbers from 0"
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
    # A stride of 0 repeats numbers: in a file of weights that is a way to fill the memory.
    if count > storage.count:
        raise BadFile(f"a tensor of size {size} is a view of {storage.count} numbers only")
    return Tensor(storage, offset, size, stride)


def rebuild_parameter(data: Any, *ignored: Any) -> Tensor:
    """A parameter is its tensor."""
    if type(data) is not Tensor:
        raise BadFile("a parameter is made of something that is not a tensor")
    return data
