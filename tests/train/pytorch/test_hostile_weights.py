"""Malicious files of weights are refused quickly and in one sentence."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests import fuzzing
from tests.mutations import mutated, mutated_zip
from tests.train.pytorch.torch_writing import Tensor, save, save_legacy
from train.errors import InputError
from train.pytorch.torch_files import read_state_dict, read_state_dicts

ARRAYS = {
    "conv.weight": np.arange(36, dtype=np.float32).reshape(4, 1, 3, 3),
    "conv.bias": np.ones(4, np.float16),
    "norm.num_batches_tracked": np.array(7),
}


def _archive(program: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """Writes a .pth with this pickle and without storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", program)
    return buffer.getvalue()


def _saved(content: Any, folder: Path, write: Any = save) -> bytes:
    return write(folder / "made.pth", content).read_bytes()


class _On(Tensor):
    """A tensor that names a different tensor as its storage."""

    def __init__(
        self, inner: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int
    ) -> None:
        # The attack is a tensor where a storage belongs.
        self.storage = inner
        self.fields = {"offset": offset, "size": size, "stride": stride}


@pytest.mark.parametrize("write", [save, save_legacy])
def test_a_tensor_is_not_a_storage(write: Any, tmp_path: Path) -> None:
    inner = Tensor(np.zeros(2048, np.float32), size=(2, 1024), stride=(1024, 1))
    small = _On(inner, (1016,), (1,), 1)
    far = _On(
        Tensor(np.zeros(8000, np.float32), size=(2, 4000), stride=(4000, 1)), (1,), (1,), 7998
    )
    files = {
        name: _saved({"weight": one}, tmp_path, write)
        for name, one in {"small": small, "far": far}.items()
    }
    for answer in fuzzing.answers(read_state_dict, files, tmp_path / "case.pth").values():
        assert "a tensor is made of something that is not a storage" in answer


def test_numbers_of_tensors_are_checked_before_a_view_is_made(tmp_path: Path) -> None:
    numbers = np.zeros(4, np.float32)
    wrong: dict[str, dict[str, Any]] = {
        "offset": {"offset": 2**62, "size": (1,), "stride": (1,)},
        "huge offset": {"offset": 2**200, "size": (1,), "stride": (1,)},
        "negative": {"offset": -1},
        "truth": {"offset": True},
        "overflow": {"size": (2, 2), "stride": (2**61, 2**61)},
        "product": {"size": (2**40, 2**40), "stride": (0, 0)},
        "dimensions": {"size": (1,) * 100, "stride": (1,) * 100},
        "text": {"size": ("4",), "stride": (1,)},
        "list": {"size": [4], "stride": [1]},
    }
    files = {
        name: _saved({"weight": Tensor(numbers, **fields)}, tmp_path)
        for name, fields in wrong.items()
    }
    for name, answer in fuzzing.answers(read_state_dict, files, tmp_path / "case.pth").items():
        assert "cannot be read as a PyTorch checkpoint: a tensor" in answer, name

    # One place only: the step is never taken.
    whole = save(tmp_path / "one.pth", {"weight": Tensor(numbers, size=(1, 4), stride=(2**61, 1))})
    assert read_state_dict(whole).arrays["weight"].shape == (1, 4)
    empty = save(tmp_path / "none.pth", {"weight": Tensor(numbers, size=(0, 2**40), stride=(1, 1))})
    assert read_state_dict(empty).arrays["weight"].size == 0


def _shared_dictionaries() -> bytes:
    shared: Any = {}
    for _ in range(60):
        shared = {"a": shared, "b": shared}
    return pickle.dumps(shared, 2)


def _nested_dictionaries(depth: int) -> bytes:
    return b"\x80\x02" + b"}X\x01\x00\x00\x00a" * depth + b"}" + b"s" * depth + b"."


def _numbered(count: int) -> bytes:
    return b"\x80\x02}(" + b"".join(pickle.dumps(k, 2)[2:-1] + b"N" for k in range(count)) + b"u."


PROGRAMS = {
    "dictionaries that share dictionaries": (
        _shared_dictionaries(),
        "contain each other in a circle",
    ),
    "a dictionary within itself": (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "nested too deeply"),
    "a dictionary 5,000 deep": (_nested_dictionaries(5000), "nested too deeply"),
    "a deep tuple as a key": (
        b"\x80\x02}" + b")" + b"\x85" * 400_000 + b"Ns.",
        "neither a short text nor a number",
    ),
    "a tuple of itself": (
        b"\x80\x02)" + b"\x85" * 2_000_000 + b".",
        "takes more than 500,000 steps",
    ),
    "numbers as keys": (_numbered(10_001), "more than 10,000 keys of dictionaries are not text"),
    "tuples as keys": (
        b"\x80\x02}(" + b"".join(pickle.dumps((k,), 2)[2:-1] + b"N" for k in range(1_001)) + b"u.",
        "more than 10,000 keys of dictionaries are not text",
    ),
    "a name of megabytes": (
        b"\x80\x04\x8c\x02osX" + struct.pack("<I", 5_000_000) + b"x" * 5_000_000 + b"\x93.",
        f"asks for os.{'x' * 197}, which",
    ),
    "a huge number as a key": (
        b"\x80\x02}" + pickle.dumps(2**80, 2)[2:-1] + b"Ns.",
        "neither a short text nor",
    ),
    "a memo of 2^31 places": (b"\x80\x02}r\xff\xff\xff\x7f.", "does not contain named tensors"),
    "a string of 2 GB": (b"\x80\x02X\xff\xff\xff\x7fa.", "larger than 64 MB"),
    "a list of pairs copied again and again": (
        b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01("
        + b"X\x01\x00\x00\x00aN\x86" * 60_000
        + b"e"
        + b"h\x00h\x01\x85R" * 100_000
        + b".",
        "takes more than 500,000 steps",
    ),
    "many arguments": (
        b"\x80\x02ccollections\nOrderedDict\n(" + b"N" * 50_000 + b"tR.",
        "50000 arguments",
    ),
    "an unknown opcode": (b"\x80\x02I1\n.", "uses INT, which torch.save does not write"),
    "values that are not there": (b"\x80\x02\x86.", "uses values that it has not made"),
    "a mark that is not there": (b"\x80\x02Nt.", "uses values that it has not made"),
    "a name that is not there": (b"\x80\x02h\x05.", "uses values that it has not made"),
    "values left": (b"\x80\x02NN.", "leaves 2 values"),
    "attributes of a dictionary": (b"\x80\x02}NNb.", "leaves 2 values"),
    "a call of text": (b"\x80\x02X\x01\x00\x00\x00a)R.", "calls something that is not a function"),
    "a storage called": (
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        "calls something that is not a function",
    ),
    "items of a list": (b"\x80\x02]NNs.", "sets items of something that is not a dictionary"),
    "appended to a dictionary": (b"\x80\x02}Na.", "appends to something that is not a list"),
    "a name of code": (b"\x80\x02cos\nsystem\n.", r"asks for os.system, which is neither a tensor"),
    "a name of protocol 4": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for os.system"),
    "a name that is hostile": (b"\x80\x02cos\n\x1b[2Jsystem\n.", r"asks for os.\x1b[2Jsystem"),
}


@pytest.fixture(scope="module")
def program_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    files = {name: _archive(program) for name, (program, _) in PROGRAMS.items()}
    return fuzzing.answers(read_state_dict, files, tmp_path_factory.mktemp("programs") / "case.pth")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_pickle_is_refused(name: str, program_answers: dict[str, str]) -> None:
    assert PROGRAMS[name][1] in program_answers[name]


def test_what_inflates_is_bounded(tmp_path: Path) -> None:
    length = 65 * 2**20
    bomb = b"\x80\x02X" + struct.pack("<I", length) + bytes(length) + b"."
    answer = fuzzing.answers(
        read_state_dict, {"pickle": _archive(bomb, zipfile.ZIP_DEFLATED)}, tmp_path / "case.pth"
    )
    assert "archive/data.pkl is larger than 67,108,864 bytes" in answer["pickle"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_method_is_read_that_unpacks_without_a_bound(method: int, tmp_path: Path) -> None:
    (tmp_path / "case.pth").write_bytes(_archive(b"\x80\x02}.", method))
    with pytest.raises(InputError, match="not compressed with deflate"):
        read_state_dict(tmp_path / "case.pth")


def test_the_key_of_a_storage_is_short(tmp_path: Path) -> None:
    whole = _saved({"bias": Tensor(np.ones(4, np.float32))}, tmp_path)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        program = archive.read(name)
    key = b"X\x01\x00\x00\x000"
    assert program.count(key) == 1
    long = program.replace(key, b"X" + struct.pack("<I", 300) + b"\x07" * 300)
    (tmp_path / "case.pth").write_bytes(_archive(long))
    with pytest.raises(InputError, match="a storage whose key or size is unknown"):
        read_state_dict(tmp_path / "case.pth")


def test_many_views_of_a_storage_are_refused_tied_ones_are_not(tmp_path: Path) -> None:
    numbers = Tensor(np.zeros(200_000, np.float32))

    def view() -> Tensor:
        one = Tensor(numbers.storage.array)
        one.storage = numbers.storage
        return one

    with pytest.raises(InputError, match="tensors need more than 16 times the size of the file"):
        read_state_dict(save(tmp_path / "many.pth", {f"weight{i}": view() for i in range(300)}))
    tied = read_state_dict(save(tmp_path / "tied.pth", {"embed": view(), "head": view()}))
    assert tied.arrays["embed"].shape == tied.arrays["head"].shape == (200_000,)


def test_a_storage_that_is_described_in_two_ways_is_refused(tmp_path: Path) -> None:
    content = _saved({"a": Tensor(ARRAYS["conv.bias"]), "b": Tensor(ARRAYS["conv.bias"])}, tmp_path)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        program = archive.read("archive/data.pkl")
    at = program.rindex(b"X\x01\x00\x00\x001")  # the key of the second storage
    twice = program[:at] + b"X\x01\x00\x00\x000" + program[at + 6 :]
    assert "missing" not in twice.decode("latin-1")
    longer = twice[:at] + twice[at:].replace(b"K\x04", b"K\x03", 1)
    (tmp_path / "case.pth").write_bytes(_archive(longer))
    with pytest.raises(InputError, match="describes the same storage in two ways"):
        read_state_dict(tmp_path / "case.pth")


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
def test_a_file_with_holes_is_not_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"holes{suffix}"
    with path.open("wb") as file:
        file.truncate(100 * 2**30)
    with pytest.raises(InputError, match=r"has 100 GiB, and at most 32 GiB are accepted"):
        read_state_dict(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    (tmp_path / "broken.pth").symlink_to(tmp_path / "nowhere")
    said = {
        "pipe.pth": "is a pipe or a device",
        "folder.pth": "is a folder",
        "zero.npz": "is a pipe or a device",
        "broken.pth": "There is no file",
        "n" * 5000 + ".pth": "cannot be opened: File name too long",
        "null\0.pth": "There is no file",
    }
    for name, message in said.items():
        with pytest.raises(InputError, match=message):
            read_state_dict(tmp_path / name)


def test_a_file_that_changes_while_it_is_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    deserialize = safetensors.deserialize

    def read_slowly(data: bytes) -> Any:
        with path.open("ab") as file:
            file.write(b"more")
        return deserialize(data)

    monkeypatch.setattr(safetensors, "deserialize", read_slowly)
    with pytest.raises(InputError, match="was changed while it was read"):
        read_state_dict(path)


@pytest.mark.parametrize("cases", fuzzing.CASES)
@pytest.mark.parametrize(
    "kind", ["archive.pth", "legacy.pth", "weights.npz", "weights.safetensors"]
)
def test_damaged_weights_are_refused(kind: str, cases: int, tmp_path: Path) -> None:
    tensors = {name: Tensor(array) for name, array in ARRAYS.items()}
    nested = {
        "params": tensors,
        "params_ema": {"conv.bias": Tensor(ARRAYS["conv.bias"])},
        "epoch": 3,
    }
    path = tmp_path / kind
    if kind.endswith(".npz"):
        np.savez(tmp_path / "plain.npz", **ARRAYS)
        np.savez_compressed(tmp_path / "packed.npz", **ARRAYS)
        seeds = {name: (tmp_path / f"{name}.npz").read_bytes() for name in ("plain", "packed")}
    elif kind.endswith(".safetensors"):
        seeds = {"plain": safetensors.numpy.save(ARRAYS, {"format": "np"})}
    else:
        write = save if kind.startswith("archive") else save_legacy
        seeds = {
            "flat": _saved(tensors, tmp_path, write),
            "nested": _saved(nested, tmp_path, write),
        }
    zipped = kind in ("archive.pth", "weights.npz")
    fuzzing.check(
        read_state_dicts, seeds, path, cases=cases, mutate=mutated_zip() if zipped else mutated
    )
