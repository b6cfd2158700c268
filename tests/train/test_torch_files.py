import collections
import io
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from train.errors import InputError
from train.torch_files import read_state_dict

STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
}


class _Tensor:
    """Pickles as torch.save pickles a tensor: a rebuild function, a storage by number, offset, size, stride."""

    def __init__(self, array: np.ndarray, *, transposed: bool = False, **wrong: Any) -> None:
        self.storage = _Storage(np.array(array.T if transposed else array, order="C"))
        strides = [s // array.itemsize for s in self.storage.array.strides]
        stride = tuple(reversed(strides)) if transposed else tuple(strides)
        self.fields = {"offset": 0, "size": array.shape, "stride": stride, **wrong}

    def __reduce__(self) -> Any:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, *self.fields.values(), False, collections.OrderedDict())


class _Storage:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array


@pytest.fixture(autouse=True)
def torch_names() -> Iterator[None]:
    """Empty stand-ins for the names that a .pth asks for: pickle writes a name only where it can find it."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *args: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    hidden = {name: sys.modules.pop(name) for name in ("torch", "torch._utils") if name in sys.modules}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    yield
    del sys.modules["torch"], sys.modules["torch._utils"]
    sys.modules.update(hidden)


def _save(path: Path, content: Any, *, compress: bool = False, extra: Mapping[str, bytes] | None = None) -> Path:
    storages: list[np.ndarray] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, _Storage):
                return None
            storages.append(value.array)
            kind = getattr(sys.modules["torch"], STORAGES[value.array.dtype])
            return "storage", kind, str(len(storages) - 1), "cpu", value.array.size

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for i, array in enumerate(storages):
            archive.writestr(f"archive/data/{i}", array.tobytes())
        for name, body in (extra or {}).items():
            archive.writestr(name, body)
    return path


def _save_legacy(path: Path, content: Any, *, cut: int = 0) -> Path:
    """As torch.save wrote before 1.6: five pickles, then a count and the numbers of each storage."""
    storages: list[np.ndarray] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, _Storage):
                return None
            storages.append(value.array)
            kind = getattr(sys.modules["torch"], STORAGES[value.array.dtype])
            return "storage", kind, str(len(storages) - 1), "cpu", value.array.size, None

    buffer = io.BytesIO()
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for value in (0x1950A86A20F9469CFC6C, 1001, about):
        pickle.dump(value, buffer, protocol=2)
    Pickler(buffer, protocol=2).dump(content)
    pickle.dump([str(i) for i in range(len(storages))], buffer, protocol=2)
    for array in storages:
        buffer.write(array.size.to_bytes(8, "little") + array.tobytes())
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) - cut])
    return path


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "conv.half": rng.normal(size=(5,)).astype(np.float16),
        "conv.brain": rng.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
        "norm.num_batches_tracked": np.array(7, np.int64),
    }


def _assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_pytorch_file_is_read_without_pytorch(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    state = collections.OrderedDict((name, _Tensor(array)) for name, array in arrays.items())
    state._metadata = collections.OrderedDict(version=1)  # as Module.state_dict() leaves it
    found = read_state_dict(_save(tmp_path / "model.pth", state))
    assert found.where == ()
    _assert_same(found.arrays, arrays)


def test_a_file_from_before_pytorch_1_6_is_read_too(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = {"state_dict": collections.OrderedDict((name, _Tensor(array)) for name, array in arrays.items())}
    path = _save_legacy(tmp_path / "old.pth", content)
    assert path.read_bytes().startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # as such files begin
    found = read_state_dict(path)
    assert found.where == ("state_dict",)
    _assert_same(found.arrays, arrays)
    with pytest.raises(InputError, match=r"storage 3 ends|cannot be read"):
        read_state_dict(_save_legacy(tmp_path / "cut.pth", content, cut=3))
    trace = tmp_path / "ran"
    with pytest.raises(InputError, match=rf"hostile\.pth asks for {os.system.__module__}\.system"):
        read_state_dict(_save_legacy(tmp_path / "hostile.pth", {"weight": _Hostile(trace)}))
    assert not trace.exists()
    wrong = path.read_bytes().replace(b"Kl", b"J\xff\xff\xff\x7f", 1)  # 108 numbers: 2^31 - 1
    assert wrong != path.read_bytes()
    (tmp_path / "huge.pth").write_bytes(wrong)
    with pytest.raises(InputError, match="of 2147483647 numbers is more than the file holds"):
        read_state_dict(tmp_path / "huge.pth")


def test_a_transposed_tensor_is_read_through_its_strides(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = read_state_dict(_save(tmp_path / "model.pt", {"weight": _Tensor(array, transposed=True)}))
    np.testing.assert_array_equal(found.arrays["weight"], array)


def test_the_network_is_found_beside_an_optimizer(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": _Tensor(np.zeros(9, np.float32))}}, "lr": 1e-3},
        "state_dict": {name: _Tensor(array) for name, array in arrays.items()},
    }
    found = read_state_dict(_save(tmp_path / "checkpoint.ckpt", content))
    assert found.where == ("state_dict",)
    _assert_same(found.arrays, arrays)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_npz_and_safetensors_are_read(kind: str, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    kept = {name: array for name, array in arrays.items() if array.dtype != ml_dtypes.bfloat16}
    path = tmp_path / f"model.{kind}"
    np.savez(path, **kept) if kind == "npz" else safetensors.numpy.save_file(kept, path)
    _assert_same(read_state_dict(path).arrays, kept)


class _Hostile:
    """Unpickled by pickle itself, this makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = _save(tmp_path / "hostile.pth", {"weight": _Hostile(trace)})
    with pytest.raises(InputError, match=rf"hostile\.pth asks for {os.system.__module__}\.system"):
        read_state_dict(path)
    assert not trace.exists()
    with zipfile.ZipFile(path) as archive:
        pickle.loads(archive.read("archive/data.pkl"))
    assert trace.exists()  # or the file was harmless and the test proves nothing


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_not_even_a_builtin_is_known(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "builtin.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cbuiltins\n" + name.encode() + b"\n.")
    with pytest.raises(InputError, match=rf"asks for builtins\.{name}"):
        read_state_dict(tmp_path / "builtin.pth")


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (100,), "stride": (1,)},
        {"size": (4,), "stride": (1,), "offset": 1},
        {"size": (4,), "stride": (-1,)},
        {"size": (10**9,), "stride": (0,)},
        {"size": (2, 2), "stride": (1,)},
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    content = {"weight": _Tensor(np.zeros(4, np.float32), **wrong)}
    with pytest.raises(InputError, match="cannot be read as a PyTorch checkpoint: a tensor of size"):
        read_state_dict(_save(tmp_path / "model.pth", content))


def test_a_compressed_storage_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "model.pth", {"weight": _Tensor(np.zeros(1000, np.float32))}, compress=True)
    with pytest.raises(InputError, match="compressed"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.pth", b"\x80\x02}q\x00.", "no file of torch.save: no zip archive, nor"),
        ("empty.pth", b"", "no file of torch.save"),
        ("text.pth", b"nothing", "no file of torch.save"),
        ("model.safetensors", b"nothing", "cannot be read as safetensors"),
        ("model.npz", b"nothing", "cannot be read as npz"),
        ("model.bin", b"nothing", r"takes \.pth, .*; got \.bin"),
    ],
)
def test_what_is_no_checkpoint_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_state_dict(tmp_path / name)


def test_other_zip_archives_and_endians_and_empty_files_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", b"")
    with pytest.raises(InputError, match=r"none of PyTorch's: it holds 0 data\.pkl"):
        read_state_dict(tmp_path / "other.pth")
    path = _save(tmp_path / "big.pth", {}, extra={"archive/byteorder": b"big"})
    with pytest.raises(InputError, match="big-endian"):
        read_state_dict(path)
    with pytest.raises(InputError, match="holds no named tensors"):
        read_state_dict(_save(tmp_path / "empty.pth", {"epoch": 3}))
    with pytest.raises(InputError, match="There is no file"):
        read_state_dict(tmp_path / "none.pth")


def test_a_damaged_pickle_is_an_error_of_one_sentence(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    whole = _save(tmp_path / "whole.pth", {name: _Tensor(array) for name, array in arrays.items()})
    with zipfile.ZipFile(whole) as archive:
        program = archive.read("archive/data.pkl")
    rng = np.random.default_rng(1)
    legacy = _save_legacy(tmp_path / "whole.pth", {name: _Tensor(array) for name, array in arrays.items()}).read_bytes()
    for i in range(200):
        damaged = bytearray(legacy)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged.pth").write_bytes(damaged)
        try:
            read_state_dict(tmp_path / "damaged.pth")
        except InputError as error:
            assert "damaged.pth" in str(error)
        damaged = bytearray(program[: rng.integers(1, len(program))] if i % 2 else program)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        with zipfile.ZipFile(tmp_path / "damaged.pth", "w") as archive:
            archive.writestr("archive/data.pkl", bytes(damaged))
            for j, array in enumerate(arrays.values()):
                archive.writestr(f"archive/data/{j}", array.tobytes())
        try:
            read_state_dict(tmp_path / "damaged.pth")  # a flip may leave a file that is whole
        except InputError as error:
            assert "damaged.pth" in str(error)
