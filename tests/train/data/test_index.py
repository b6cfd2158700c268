"""The index saves decoding, and its entries are never out of date."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from train.data import entries, index
from train.data.images import write_image
from train.data.photographs import Memory
from train.data.sources import Source, open_source
from train.errors import InputError

_decoded: list[str] = []


@pytest.fixture(autouse=True)
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index for the test that also records new files, and a list of the decoded photographs."""
    monkeypatch.setattr(index, "PATH", tmp_path / "cache" / "index.sqlite")
    monkeypatch.setattr(index, "_YOUNGEST", -(10**9))
    monkeypatch.setattr(index, "_warned", set())
    decode = entries._decode_facts
    _decoded.clear()
    monkeypatch.setattr(
        entries, "_decode_facts", lambda images, i: _decoded.append("") or decode(images, i)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for side in ("low", "high"):
        (tmp_path / side).mkdir()
        for i in range(3):
            pixels = np.random.default_rng([i, side == "low"]).integers(
                0, 65536, (8 + i, 9, 3), dtype=np.uint16
            )
            write_image(tmp_path / side / f"{i}.png", pixels)
    return tmp_path


def _open(spec: str, megabytes: float = 1) -> tuple[Source, int]:
    """The source, and the number of photographs that were decoded to open it."""
    _decoded.clear()
    return open_source(spec, "train", memory=Memory(megabytes)), len(_decoded)


def test_what_was_opened_once_is_not_decoded_to_be_opened_again(folder: Path) -> None:
    for spec, count in ((f"folder:{folder}/low", 3), (f"pairs:{folder}/low,{folder}/high", 6)):
        index.PATH.unlink(missing_ok=True)
        first, decoded = _open(spec)
        assert decoded == count
        again, decoded = _open(spec)
        assert decoded == 0
        assert again.entries == first.entries
        for a, b in zip(first.images, again.images, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_pair_may_be_known_by_halves(folder: Path) -> None:
    alone, _ = _open(f"folder:{folder}/high")
    pairs, decoded = _open(f"pairs:{folder}/low,{folder}/high")
    assert decoded == 6
    assert [entry.digest for entry in pairs.entries] == [entry.digest for entry in alone.entries]


def test_a_change_is_noticed_despite_equal_size_and_time(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(3):
        write_image(folder / f"{i}.tif", np.full((8, 9, 3), i, np.uint8))
    before, _ = _open(f"folder:{folder}")
    path = folder / "1.tif"
    about = path.stat()
    path.write_bytes((folder / "2.tif").read_bytes())
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    now = path.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (
        about.st_size,
        about.st_mtime_ns,
        about.st_ino,
    )
    after, decoded = _open(f"folder:{folder}")
    assert decoded == 1
    assert after.entries[1].digest == before.entries[2].digest != before.entries[1].digest
    assert (after.entries[0], after.entries[2]) == (before.entries[0], before.entries[2])


def test_a_file_that_became_unreadable_is_named(folder: Path) -> None:
    _open(f"folder:{folder}/low")
    (folder / "low" / "1.png").write_bytes(b"no photograph")
    with pytest.raises(
        InputError, match=r"1 of 3 photographs .* cannot be used.*\n.*1\.png cannot be read"
    ):
        _open(f"folder:{folder}/low")


def test_fresh_files_are_not_taken_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_YOUNGEST", 60 * 10**9)
    assert _open(f"folder:{folder}/low")[1] == 3
    assert _open(f"folder:{folder}/low")[1] == 3


def test_another_decoder_decodes_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(f"folder:{folder}/low")
    monkeypatch.setattr(index, "_DECODERS", "1 9.9.9 99")
    assert _open(f"folder:{folder}/low")[1] == 3
    assert _open(f"folder:{folder}/low")[1] == 0


@pytest.mark.parametrize("damage", ["no database", "cut", "row"])
def test_a_damaged_index_is_replaced(folder: Path, damage: str) -> None:
    expected, _ = _open(f"folder:{folder}/low")
    if damage == "row":
        with sqlite3.connect(index.PATH) as connection:
            connection.execute("UPDATE photographs SET width = 7 WHERE place LIKE '%1.png'")
    elif damage == "cut":
        os.truncate(index.PATH, index.PATH.stat().st_size // 2)
    else:
        index.PATH.write_bytes(b"no database" * 500)
    found, decoded = _open(f"folder:{folder}/low")
    assert found.entries == expected.entries
    assert decoded == (1 if damage == "row" else 3)
    _open(f"folder:{folder}/low")
    found, decoded = _open(f"folder:{folder}/low")
    assert decoded == 0 and found.entries == expected.entries


def test_an_index_that_is_not_a_database_is_kept_and_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.PATH.parent.mkdir()
    index.PATH.write_bytes(b"somebody's notes" * 100)
    for decoded in (3, 0):
        assert _open(f"folder:{folder}/low")[1] == decoded
    assert capsys.readouterr().err.count("warning: ") == 1
    assert index.PATH.with_name("index.sqlite.unreadable").read_bytes() == b"somebody's notes" * 100


@pytest.mark.parametrize(
    "table",
    [
        "photographs (place TEXT, a, b)",
        "photographs (place, state, checksum, height, width, bits, digest, x)",
    ],
)
def test_a_table_of_another_program_is_left_alone(
    table: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.PATH.parent.mkdir()
    with contextlib.closing(sqlite3.connect(index.PATH)) as connection, connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute("INSERT INTO photographs (place) VALUES ('mine')")
    before = index.PATH.read_bytes()
    for _ in range(2):
        assert _open(f"folder:{folder}/low")[1] == 3
    assert index.PATH.read_bytes() == before
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1 and "another program or another version made it" in said


def test_a_locked_index_is_waited_for_and_then_done_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(index, "_PATIENCE", 0)
    _open(f"folder:{folder}/low")
    with contextlib.closing(sqlite3.connect(index.PATH)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert _open(f"folder:{folder}/low")[1] == 3
        connection.rollback()
    assert capsys.readouterr().err.count("database is locked") == 1
    assert _open(f"folder:{folder}/low")[1] == 0


def test_without_room_for_an_index_everything_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "PATH", folder / "low" / "0.png" / "index.sqlite")
    assert _open(f"folder:{folder}/low")[1] == 3


def test_known_photographs_count_against_the_memory(folder: Path) -> None:
    size = 8 * 9 * 3 * 2
    _open(f"folder:{folder}/low")
    source, decoded = _open(f"folder:{folder}/low", megabytes=size / 1e6)
    assert decoded == 0
    assert source.images.kept == 1
    assert source.images[0] is source.images[0]
    assert source.images[1] is not source.images[1]


def test_a_data_set_of_shards_is_known_by_them(lol: Path) -> None:
    spec = f"tfds:{lol}/tfds/lol/1.0.0:train"
    first, decoded = _open(spec)
    assert decoded == 6
    again, decoded = _open(spec)
    assert decoded == 0 and again.entries == first.entries
    assert _open(f"{spec}?target=low")[1] == 3
    for shard in (lol / "tfds/lol/1.0.0").glob("*.array_record*"):
        os.utime(shard, ns=(time.time_ns(), time.time_ns()))
    assert _open(spec)[1] == 6


def test_an_index_that_others_could_write_is_not_believed(folder: Path, capsys) -> None:
    index.PATH.parent.mkdir()
    index.PATH.parent.chmod(0o777)
    for _ in range(2):
        _decoded.clear()
        open_source(f"folder:{folder / 'high'}", "train")
        assert len(_decoded) == 3
    assert "its folder can be written to by other users" in capsys.readouterr().err
    assert not index.PATH.exists()
