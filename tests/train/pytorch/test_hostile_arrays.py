"""Malicious .npz and .safetensors files: sizes are checked before memory is allocated."""

import io
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests import fuzzing
from tests.mutations import with_declared_size
from train.errors import InputError
from train.pytorch.torch_files import read_state_dict


def _npy(header: bytes, body: bytes = b"\0" * 16, version: bytes = b"\x01\x00") -> bytes:
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


def _npz(entry: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("weight.npy", entry)
    return buffer.getvalue()


def _hostile_npz() -> dict[str, bytes]:
    good = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"
    whole = _npz(_npy(good))
    deflated = _npz(_npy(good, bytes(16)), zipfile.ZIP_DEFLATED)
    damaged = bytearray(deflated)
    damaged[45] ^= 0xFF
    directory = whole.index(b"PK\x01\x02")
    method = bytearray(whole)
    method[8] = method[directory + 10] = 99
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for i in range(20_001):
            archive.writestr(str(i), b"")
    return {
        "more arrays than any network": many.getvalue(),
        "huge": _npz(_npy(good.replace(b"(4,)", b"(400000000000,)"))),
        "overflow": _npz(_npy(good.replace(b"(4,)", b"(%d, %d)" % (2**40, 2**40)))),
        "negative": _npz(_npy(good.replace(b"(4,)", b"(-4,)"))),
        "two negatives": _npz(_npy(good.replace(b"(4,)", b"(-2, -2)"))),
        "empty and huge": _npz(_npy(good.replace(b"(4,)", b"(0, %d)" % 2**62), b"")),
        "objects": _npz(_npy(good.replace(b"<f4", b"|O"))),
        "text": _npz(_npy(good.replace(b"<f4", b"<U4"))),
        "record": _npz(_npy(good.replace(b"'<f4'", b"[('a', '<f4')]"))),
        "no header": _npz(_npy(b"")),
        "code": _npz(_npy(b"__import__('os').system('true')")),
        "unbalanced": _npz(_npy(b"{" * 110)),
        "version 9": _npz(_npy(good, version=b"\x09\x00")),
        "short": _npz(_npy(good)[:-3]),
        "cut in the header": _npz(_npy(good)[:20]),
        "empty entry": _npz(b""),
        "no array": _npz(b"text"),
        "damaged deflate": bytes(damaged),
        "unknown compression": bytes(method),
        "bzip2": _npz(_npy(good), zipfile.ZIP_BZIP2),
        "LZMA": _npz(_npy(good), zipfile.ZIP_LZMA),
        "declared larger": with_declared_size(whole, "weight.npy", 2**32 - 1),
        "declared smaller": with_declared_size(whole, "weight.npy", 3),
        "cut": whole[: len(whole) // 2],
        "no entries": _npz(b"")[-22:],
    }


def test_a_hostile_npz_is_refused(tmp_path: Path) -> None:
    said = fuzzing.answers(read_state_dict, _hostile_npz(), tmp_path / "case.npz")
    for name, answer in said.items():
        assert answer.startswith("InputError: ") and "case.npz" in answer, name
        assert len(answer) < 500, name
    # zipfile unpacks these without a bound, whatever number of bytes it is asked for.
    for name in ("bzip2", "LZMA"):
        assert "an entry is not compressed with deflate" in said[name]
    assert "declares 1600000000000 bytes of numbers, but contains 16" in said["huge"]


def test_an_npz_of_every_kind_of_numbers_is_read(tmp_path: Path) -> None:
    arrays = {
        "half": np.ones(3, np.float16),
        "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "whole": np.array(5),
        "none": np.zeros((0, 3), np.float32),
    }
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "arrays.npz", **arrays)
        found = read_state_dict(tmp_path / "arrays.npz").arrays
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


def test_a_lying_safetensors_header_is_refused(tmp_path: Path) -> None:
    def file(header: bytes, body: bytes = bytes(16)) -> bytes:
        return struct.pack("<Q", len(header)) + header + body

    def tensor(shape: str, offsets: str, dtype: str = "F32") -> bytes:
        return f'{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}'.encode()

    files = {
        "header longer than the file": struct.pack("<Q", 2**40) + b"{}",
        "header of 2^64": struct.pack("<Q", 2**64 - 1) + b"{}",
        "shape larger than the numbers": file(tensor("[400000000]", "[0,16]")),
        "shape that overflows": file(tensor(f"[{2**33},{2**33}]", "[0,16]")),
        "offsets beyond the file": file(tensor("[4]", "[0,1600000000]")),
        "offsets that go back": file(tensor("[4]", "[16,0]")),
        "unknown dtype": file(tensor("[4]", "[0,16]", "F31")),
        "deep": file(b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}"),
        "bare number": file(b"1"),
        "negative shape": file(tensor("[-4]", "[0,16]")),
        "unknown to NumPy": file(tensor("[16]", "[0,16]", "F8_E4M3")),
        "twice": file(tensor("[2]", "[0,8]")[:-1] + b"," + tensor("[2]", "[8,16]")[1:]),
    }
    many = ",".join(
        f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(300_000)
    )
    files["more arrays than any network"] = file(f"{{{many}}}".encode(), b"")
    said = fuzzing.answers(read_state_dict, files, tmp_path / "case.safetensors")
    assert "its header has 17," in said["more arrays than any network"]
    for name, answer in said.items():
        assert answer.startswith("InputError: ") and "case.safetensors" in answer, name
        assert len(answer) < 1000, name


def test_what_inflates_is_bounded(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(5 * 2**20), b=np.zeros(4 * 2**20))
    with pytest.raises(InputError, match="need more than 32 times the size of the file"):
        read_state_dict(tmp_path / "bomb.npz")


def test_safetensors_of_every_kind_of_numbers_are_read(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}'
    path = tmp_path / "brain.safetensors"
    path.write_bytes(
        struct.pack("<Q", len(header)) + header + np.array([1, -2], ml_dtypes.bfloat16).tobytes()
    )
    found = read_state_dict(path).arrays["a"]
    assert found.dtype == ml_dtypes.bfloat16
    assert found.astype(np.float32).tolist() == [[1], [-2]]


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_a_table_of_contents_without_end_is_not_read(suffix: str, tmp_path: Path) -> None:
    count = 100_000
    entry = (
        struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, *[0] * 4, *[0] * 3, 1, *[0] * 4, 0, 0)
        + b"a"
    )
    table = entry * count
    end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(table), 0)
    end += struct.pack("<4sIQI", b"PK\x06\x07", 0, len(table), 1)
    end += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(table + end)
    with pytest.raises(
        InputError,
        match="its table of contents has 4,700,000 bytes, and at most 4,194,304 are accepted",
    ):
        read_state_dict(path)


def test_a_file_of_holes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[750000000],"data_offsets":[0,3000000000]}}'
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 3_000_000_000)
    with pytest.raises(
        InputError, match=r"has 3,000 MB, of which .* MB are on the disk. The rest are holes"
    ):
        read_state_dict(path)
