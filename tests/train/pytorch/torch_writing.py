"""Makes files like torch.save without PyTorch: zip archives, and the older format."""

import collections
import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
}


@contextlib.contextmanager
def _torch_names() -> Iterator[None]:
    """Makes empty stand-ins for names in a .pth, because pickle only writes names that exist."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *args: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    hidden = {
        name: sys.modules.pop(name) for name in ("torch", "torch._utils") if name in sys.modules
    }
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        del sys.modules["torch"], sys.modules["torch._utils"]
        sys.modules.update(hidden)


class Tensor:
    """Is pickled like a tensor of torch.save: a function, a storage, offset, size and stride."""

    def __init__(self, array: np.ndarray, *, transposed: bool = False, **wrong: Any) -> None:
        self.storage = Storage(np.array(array.T if transposed else array, order="C"))
        strides = [s // array.itemsize for s in self.storage.array.strides]
        stride = tuple(reversed(strides)) if transposed else tuple(strides)
        self.fields = {"offset": 0, "size": array.shape, "stride": stride, **wrong}

    def __reduce__(self) -> Any:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, *self.fields.values(), False, collections.OrderedDict())


class Storage:
    """Is pickled as a reference to numbers outside of the pickle."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def _described(storage: Storage, storages: list[Storage]) -> tuple[type, str]:
    """Returns the type and the key of a storage, which is added to ``storages`` if it is new."""
    if not any(storage is known for known in storages):
        storages.append(storage)
    key = next(i for i, known in enumerate(storages) if known is storage)
    return getattr(sys.modules["torch"], STORAGES[storage.array.dtype]), str(key)


def save(
    path: Path, content: Any, *, compress: bool = False, extra: Mapping[str, bytes] | None = None
) -> Path:
    storages: list[Storage] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, Storage):
                return None
            kind, key = _described(value, storages)
            return "storage", kind, key, "cpu", value.array.size

    buffer = io.BytesIO()
    with _torch_names():
        Pickler(buffer, protocol=2).dump(content)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for i, storage in enumerate(storages):
            archive.writestr(f"archive/data/{i}", storage.array.tobytes())
        for name, body in (extra or {}).items():
            archive.writestr(name, body)
    return path


def save_legacy(path: Path, content: Any, *, cut: int = 0) -> Path:
    """Writes the format before 1.6: five pickles, then the storages, each with its count."""
    storages: list[Storage] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, Storage):
                return None
            kind, key = _described(value, storages)
            return "storage", kind, key, "cpu", value.array.size, None

    buffer = io.BytesIO()
    about = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    for value in (0x1950A86A20F9469CFC6C, 1001, about):
        pickle.dump(value, buffer, protocol=2)
    with _torch_names():
        Pickler(buffer, protocol=2).dump(content)
    pickle.dump([str(i) for i in range(len(storages))], buffer, protocol=2)
    for storage in storages:
        buffer.write(storage.array.size.to_bytes(8, "little") + storage.array.tobytes())
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) - cut])
    return path
