"""The index of a checkpoint's arrays is not unpacked if it could fill the memory."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from train.checkpoints.index_nodes import _STARTS, index_complaint


def write(folder: Path, keys: list[str]) -> Path:
    """A store of OCDBT with these keys, in nodes as large as they can be."""
    store = tensorstore.KvStore.open(
        {
            "driver": "ocdbt",
            "base": {"driver": "file", "path": f"{folder}/"},
            "config": {"max_decoded_node_bytes": 2**32 - 1},
        }
    ).result()
    transaction = tensorstore.Transaction()
    writes = store.with_transaction(transaction)
    for key in keys:
        writes.write(key, b"x").result()
    transaction.commit_async().result()
    return folder


def test_names_that_fill_the_memory_are_not_unpacked(tmp_path: Path) -> None:
    write(tmp_path, [f"{i:03}{'a' * 60_000}" for i in range(200)])  # 12 MB
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 100_000
    assert "unpacks to more than the 4.1 MB that 6 arrays can need" in str(
        index_complaint(tmp_path, 6)
    )
    assert index_complaint(tmp_path, 2000) is None


def test_an_index_of_many_arrays_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, [f"params.block_{i}.conv.kernel/.zarray" for i in range(3000)])
    assert index_complaint(tmp_path, 3000) is None
    assert index_complaint(tmp_path, 6) is None


@pytest.mark.parametrize(
    ("place", "wrong", "why"),
    [
        (12, b"\x01", "is damaged"),  # version
        (12, b"\x80", "is damaged"),
        (13, b"\x02", "is damaged"),  # way of compression
        (14, b"\x50\x2a\x4d\x18", "is damaged"),  # a frame that is skipped
    ],
)
def test_a_node_in_another_form_is_refused(
    place: int, wrong: bytes, why: str, tmp_path: Path
) -> None:
    write(tmp_path, ["a", "b"])
    (path,) = (tmp_path / "d").iterdir()
    content = bytearray(path.read_bytes())
    content[place : place + len(wrong)] = wrong
    path.write_bytes(content)
    assert why in str(index_complaint(tmp_path, 6))


def test_blocks_of_one_repeated_byte_are_added_up(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"])
    (path,) = (tmp_path / "d").iterdir()
    block = struct.pack("<I", 100_000 << 3 | 1 << 1)[:3] + b"a"
    content = b"\x00\x01\x28\xb5\x2f\xfd\x00\x38" + block * 50
    path.write_bytes(b"\x0c\xdb\x20\xde" + struct.pack("<Q", len(content) + 12) + content)
    assert "unpacks to more than" in str(index_complaint(tmp_path, 6))
    path.write_bytes(path.read_bytes()[:200])  # it is then longer than its file, so it is no node
    assert index_complaint(tmp_path, 6) is None


def test_arrays_are_not_taken_for_an_index(tmp_path: Path) -> None:
    """Not even if they contain its magic number, or if it lies across two reads."""
    content = np.random.default_rng(0).bytes(20_000_000)
    magic = b"\x0c\xdb\x20\xde"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(content[: 2**24 - 2] + magic + content[2**24 + 2 :])
    assert index_complaint(tmp_path, 6) is None
    shutil.rmtree(tmp_path / "d")
    write(tmp_path, [f"{i:03}{'a' * 60_000}" for i in range(200)])
    for path in (tmp_path / "d").iterdir():
        path.write_bytes(content[: 2**24 - 2] + path.read_bytes())
    assert "at byte 16777214" in str(index_complaint(tmp_path, 6))
    assert _STARTS.match(magic)
