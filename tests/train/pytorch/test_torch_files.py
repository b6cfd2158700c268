import collections
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests.train.pytorch.torch_writing import Tensor, save, save_legacy
from train.errors import InputError
from train.pytorch.torch_files import read_state_dict


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


def test_a_pytorch_file_is_read_without_pytorch(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    state = collections.OrderedDict((name, Tensor(array)) for name, array in arrays.items())
    state._metadata = collections.OrderedDict(version=1)  # as Module.state_dict() leaves it
    found = read_state_dict(save(tmp_path / "model.pth", state))
    assert found.where == ()
    _assert_same(found.arrays, arrays)


def test_a_file_from_before_pytorch_1_6_is_read_too(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    content = {
        "state_dict": collections.OrderedDict(
            (name, Tensor(array)) for name, array in arrays.items()
        )
    }
    path = save_legacy(tmp_path / "old.pth", content)
    # As such files begin
    assert path.read_bytes().startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    found = read_state_dict(path)
    assert found.where == ("state_dict",)
    _assert_same(found.arrays, arrays)
    with pytest.raises(InputError, match=r"storage 3 ends|cannot be read"):
        read_state_dict(save_legacy(tmp_path / "cut.pth", content, cut=3))
    trace = tmp_path / "ran"
    with pytest.raises(InputError, match=rf"hostile\.pth asks for {os.system.__module__}\.system"):
        read_state_dict(save_legacy(tmp_path / "hostile.pth", {"weight": _Hostile(trace)}))
    assert not trace.exists()
    wrong = path.read_bytes().replace(b"Kl", b"J\xff\xff\xff\x7f", 1)  # 108 numbers: 2^31 - 1
    assert wrong != path.read_bytes()
    (tmp_path / "huge.pth").write_bytes(wrong)
    with pytest.raises(InputError, match="of 2147483647 numbers is larger than the file"):
        read_state_dict(tmp_path / "huge.pth")


def test_a_transposed_tensor_is_read_through_its_strides(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = read_state_dict(save(tmp_path / "model.pt", {"weight": Tensor(array, transposed=True)}))
    np.testing.assert_array_equal(found.arrays["weight"], array)


def test_the_network_is_found_beside_an_optimizer(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    content = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": Tensor(np.zeros(9, np.float32))}}, "lr": 1e-3},
        "state_dict": {name: Tensor(array) for name, array in arrays.items()},
    }
    found = read_state_dict(save(tmp_path / "checkpoint.ckpt", content))
    assert found.where == ("state_dict",)
    _assert_same(found.arrays, arrays)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_npz_and_safetensors_are_read(
    kind: str, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
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
    path = save(tmp_path / "hostile.pth", {"weight": _Hostile(trace)})
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
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    content = {"weight": Tensor(np.zeros(4, np.float32), **wrong)}
    with pytest.raises(
        InputError, match="cannot be read as a PyTorch checkpoint: a tensor of size"
    ):
        read_state_dict(save(tmp_path / "model.pth", content))


def test_a_compressed_storage_is_refused(tmp_path: Path) -> None:
    path = save(
        tmp_path / "model.pth", {"weight": Tensor(np.zeros(1000, np.float32))}, compress=True
    )
    with pytest.raises(InputError, match="compressed"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.pth", b"\x80\x02}q\x00.", "is not a file of torch.save: it is not a zip archive"),
        ("empty.pth", b"", "is not a file of torch.save"),
        ("text.pth", b"nothing", "is not a file of torch.save"),
        ("model.safetensors", b"nothing", "cannot be read as safetensors"),
        ("model.npz", b"nothing", "cannot be read as npz"),
        ("model.bin", b"nothing", r"has the suffix \.bin\. Files with weights end in \.pth, "),
    ],
)
def test_what_is_no_checkpoint_is_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_state_dict(tmp_path / name)


def test_other_archives_byte_orders_and_empty_files_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", b"")
    with pytest.raises(
        InputError, match=r"is not a file of torch\.save: .* with 0 files data\.pkl"
    ):
        read_state_dict(tmp_path / "other.pth")
    path = save(tmp_path / "big.pth", {}, extra={"archive/byteorder": b"big"})
    with pytest.raises(InputError, match="big-endian"):
        read_state_dict(path)
    with pytest.raises(InputError, match="does not contain named tensors"):
        read_state_dict(save(tmp_path / "empty.pth", {"epoch": 3}))
    with pytest.raises(InputError, match="There is no file"):
        read_state_dict(tmp_path / "none.pth")


def test_a_damaged_pickle_is_an_error_of_one_sentence(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    whole = save(tmp_path / "whole.pth", {name: Tensor(array) for name, array in arrays.items()})
    with zipfile.ZipFile(whole) as archive:
        program = archive.read("archive/data.pkl")
    rng = np.random.default_rng(1)
    legacy = save_legacy(
        tmp_path / "whole.pth", {name: Tensor(array) for name, array in arrays.items()}
    ).read_bytes()
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
