"""PyTorch checkpoints without PyTorch: state dictionaries out of .pth, .safetensors and .npz files, as NumPy arrays.

A .pth file is a zip archive around a pickle (before PyTorch 1.6, as most published denoisers are: pickles one after the
other, then the numbers), and a pickle is a program. It is read here by an unpickler that knows tensors and plain
containers and refuses every other name, so that a hostile file can run nothing.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
import safetensors.numpy

from train.errors import InputError

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".npz")

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file that PyTorch wrote before 1.6
_LEGACY_PROTOCOL = 1001  # the second

_DTYPES: dict[str, np.dtype] = {
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


class StateDict(NamedTuple):
    """A file's named arrays, and the keys of the dictionaries around them, outermost first."""

    where: tuple[str, ...]
    arrays: dict[str, np.ndarray]


def read_state_dict(path: Path) -> StateDict:
    """The arrays of a file by name, taken out of the dictionaries around them ("params", "state_dict", ...)."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz}
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: takes {', '.join(SUFFIXES)}; got {suffix or 'no suffix'}.")
    content = readers.get(suffix, _read_torch)(path)
    found = _find_arrays(content)
    if not found.arrays:
        raise InputError(f"{path} holds no named tensors: it takes a state dict, or a dictionary that holds one.")
    return found


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:  # safetensors raises a bare Rust exception, and TypeError for dtypes without NumPy's
        raise InputError(f"{path} cannot be read as safetensors: {error}.") from None


def _read_npz(path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as npz: {error}.") from None


def _read_torch(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _TorchArchive(archive, path).load()
        with path.open("rb") as file:
            return _read_legacy(file, path)
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise anything at all
        raise InputError(f"{path} cannot be read as a PyTorch checkpoint: {error}.") from None


def _read_legacy(file: BinaryIO, path: Path) -> Any:
    """Pickles of a magic number, a version, facts on the machine, content and storages' keys; then the storages.

    The content comes before its numbers: it is read once for what the storages are, and again when they are known.
    """
    try:
        known = _AllowList(file, path).load() == _LEGACY_MAGIC and _AllowList(file, path).load() == _LEGACY_PROTOCOL
    except (pickle.UnpicklingError, EOFError):
        known = False
    if not known:
        raise InputError(f"{path} is no file of torch.save: no zip archive, nor what it wrote before PyTorch 1.6.")
    if not _AllowList(file, path).load().get("little_endian", True):
        raise InputError(f"{path} was saved on a big-endian machine: load it with PyTorch and save it again.")
    start, size = file.tell(), path.stat().st_size
    storages: dict[str, np.ndarray] = {}

    def declared(identifier: Any) -> np.ndarray:
        kind, dtype, key, _, count, view = identifier
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str) or view is not None:
            raise ValueError(f"unknown storage {identifier!r}")
        if key not in storages:
            nonlocal size  # what is left of the file for the storages to come
            size -= count * dtype.itemsize
            if count < 0 or size < 0:
                raise ValueError(f"storage {key} of {count} numbers is more than the file holds")
            storages[key] = np.zeros(count, dtype)
        return storages[key]

    first, second = _AllowList(file, path), _AllowList(file, path)
    first.persistent_load = declared
    first.load()
    for key in _AllowList(file, path).load():
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.size:
            raise ValueError(f"storage {key} holds {count} numbers, not {storage.size}")
        storages[key] = np.frombuffer(file.read(storage.nbytes), storage.dtype)
        if storages[key].size != count:
            raise ValueError(f"storage {key} ends after {storages[key].size} of {count} numbers")
    file.seek(start)
    second.persistent_load = lambda identifier: storages[identifier[2]]
    return second.load()


class _TorchArchive:
    """One opened .pth file."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive = archive
        self._path = path
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InputError(f"{path} is a zip archive, but none of PyTorch's: it holds {len(pickles)} data.pkl.")
        self._pickle = pickles[0]
        self._root = pickles[0].removesuffix("data.pkl")
        names = archive.namelist()
        order = archive.read(f"{self._root}byteorder").decode() if f"{self._root}byteorder" in names else "little"
        if order != "little":
            raise InputError(f"{path} was saved on a {order}-endian machine: load it with PyTorch and save it again.")

    def load(self) -> Any:
        unpickler = _AllowList(io.BytesIO(self._archive.read(self._pickle)), self._path)
        unpickler.persistent_load = self._storage  # how pickle wants it
        return unpickler.load()

    def _storage(self, identifier: Any) -> np.ndarray:
        """The flat array that a ("storage", type, key, device, count) stands for."""
        kind, dtype, key, _, count = identifier
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise ValueError(f"unknown storage {identifier!r}")
        entry = self._archive.getinfo(f"{self._root}data/{key}")
        if entry.compress_type != zipfile.ZIP_STORED:
            # torch.save never compresses; a compressed entry could be a thousand times its size in the file.
            raise ValueError(f"storage {key} is compressed, which PyTorch never does")
        flat = np.frombuffer(self._archive.read(entry), dtype)
        if flat.size != count:
            raise ValueError(f"storage {key} holds {flat.size} numbers, not {count}")
        return flat


def _rebuild_tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *ignored: Any
) -> np.ndarray:
    """A tensor is a strided view of its storage; it is copied, once it is known to stay inside."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError(f"a tensor of size {size}, stride {stride}, offset {offset}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count and last >= storage.size:
        raise ValueError(f"a tensor of size {size} and stride {stride} reaches beyond its {storage.size} numbers")
    if count > storage.size:  # a stride of 0 repeats numbers: in a file of weights that is a way to fill the memory
        raise ValueError(f"a tensor of size {size} on {storage.size} numbers")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy() if count else np.empty(size)


def _rebuild_parameter(data: np.ndarray, *ignored: Any) -> np.ndarray:
    return data


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _AllowList(pickle.Unpickler):
    """Knows the names above and no other: not a builtin, not an import."""

    persistent_load: Callable[[Any], Any]

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise InputError(
            f"{self._path} asks for {module}.{name}, which is no tensor and no plain container, so it is not loaded. "
            "A file of weights alone (model.state_dict()) needs nothing of the kind: save that."
        )


def _find_arrays(content: Any, where: tuple[str, ...] = ()) -> StateDict:
    """The largest flat dictionary of arrays in nested ones: an optimizer's may lie beside the network's."""
    if not isinstance(content, dict):
        return StateDict(where, {})
    own = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, np.ndarray)}
    below = (_find_arrays(value, (*where, str(key))) for key, value in content.items() if isinstance(value, dict))
    return max([StateDict(where, own), *below], key=lambda found: sum(array.size for array in found.arrays.values()))
