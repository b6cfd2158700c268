import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from train.data.array_records import _chunks, check_files
from train.data.example_records import MalformedError
from train.data.record_index import index_places
from train.errors import InputError

pytest.importorskip("array_record")


def write(path: Path, records: list[bytes], *, options: str = "group_size:1") -> Path:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()
    return path


def test_every_record_is_measured_by_its_header(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    # Sizes around a block of 64 kilobytes, whose headers interrupt the content.
    sizes = [10, 70_000, 65_535, 65_536, 65_472, 65_448, 300_000, 3, 65_409, 1] * 2
    path = write(tmp_path / "a", [random.bytes(size) for size in sizes])
    measured = [chunk.unpacked for chunk in _chunks(path)]
    assert measured[1 : 1 + len(sizes)] == sizes  # the first is the file's signature
    check_files([(path, len(sizes))])


def test_a_huge_record_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"small", bytes(70_000_000), b"small"])
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(
        InputError, match=r"a cannot be read: a record at byte \d+ unpacks from \d+ bytes to 70 MB"
    ):
        check_files([(path, 3)])
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_records_that_are_huge_together_are_refused_before_one_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [bytes(60_000_000)] * 9)
    assert path.stat().st_size < 300_000
    with pytest.raises(
        InputError, match="a cannot be read: its records unpack to 540 MB, [0-9]+ times"
    ):
        check_files([(path, 9)])
    path = write(tmp_path / "a", [bytes(60_000_000)] * 8)
    check_files([(path, 8)])


def test_files_that_do_not_hold_what_is_said_of_them_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"one", b"two"])
    for count, message in (
        (3, "holds 2 records, but"),
        (1, "holds 2 records, but"),
        (10**18, "cannot hold"),
    ):
        with pytest.raises(InputError, match=message):
            check_files([(path, count)])
    os.mkfifo(tmp_path / "pipe")
    for name in ("nowhere", "pipe", ""):
        with pytest.raises(InputError, match="is missing or is not a file"):
            check_files([(tmp_path / name, 0)])
    for content in (
        b"",
        b"x" * 10,
        b"x" * 65_536,
        path.read_bytes()[:-1],
        path.read_bytes()[:65_536],
    ):
        (tmp_path / "b").write_bytes(content)
        with pytest.raises(InputError, match="b cannot"):
            check_files([(tmp_path / "b", 2)])


def test_a_file_of_holes_is_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"one", b"two"])
    os.truncate(path, 20_000_000_000)  # 500 million headers of zeros
    with pytest.raises(InputError, match="a cannot be read"):
        check_files([(path, 2)])


def test_transposed_records_are_refused_because_their_header_limits_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"\x0a\x03abc"], options="group_size:1,transpose")
    with pytest.raises(InputError, match=r"the chunk at byte 64 is of the type 't'\. Only chunks"):
        check_files([(path, 1)])


def test_millions_of_empty_records_in_one_chunk_are_not_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b""] * 5000, options="group_size:5000")
    check_files([(path, 5000)])
    with pytest.raises(InputError, match="has 5,000 records, but dataset_info.json states 1 for"):
        check_files([(path, 1)])


def test_nothing_between_the_chunks_goes_unchecked(tmp_path: Path) -> None:
    """The index at the end still leads to every record."""
    path = write(tmp_path / "a", [b"one", b"two"])
    content = bytearray(path.read_bytes())
    for place, wrong in ((64 + 8, 10**15), (64, 0)):  # a chunk's length, and its checksum
        content[place : place + 8] = wrong.to_bytes(8, "little")
        (tmp_path / "b").write_bytes(content)
        with pytest.raises(InputError, match=r"b cannot be read: it has 131,072 bytes, and its"):
            check_files([(tmp_path / "b", 2)])


def test_the_index_of_many_records_is_read(tmp_path: Path) -> None:
    """It is then longer than a block of the file."""
    for options in ("group_size:1", "group_size:1,uncompressed", "group_size:7"):
        path = write(tmp_path / "a", [b"record %d" % i for i in range(20_000)], options=options)
        check_files([(path, 20_000)])


def test_an_index_that_leads_into_a_record_is_refused(tmp_path: Path) -> None:
    """There a chunk could lie that is not checked, and that unpacks to gigabytes."""
    path = write(tmp_path / "a", [bytes(200)], options="group_size:1,uncompressed")
    content = path.read_bytes()
    listed = bytes([1 << 3, 64])  # the place of the first record
    assert content.count(listed) == 1
    path.write_bytes(content.replace(listed, bytes([1 << 3, 108])))
    with pytest.raises(InputError, match="its index leads to a place where no record begins"):
        check_files([(path, 1)])


@pytest.mark.parametrize("packed", [False, True])
def test_an_index_of_more_records_than_it_states_is_refused_at_once(packed: bool) -> None:
    sizes, places = bytes(60_000_000 if packed else 60), bytes([1 << 3, 64])
    if packed:
        sizes, places = _zstandard(sizes), _zstandard(places)
    content = (b"z" if packed else b"\0") + _integer(len(sizes)) + sizes + places
    assert len(content) < 3000
    with pytest.raises(MalformedError, match="a part of its index has 60(,000,000)? bytes, and at"):
        index_places(content, records=3)


def _zstandard(content: bytes) -> bytes:
    """A compressed buffer of a Riegeli chunk: its length comes first."""
    import tensorstore

    described = {"driver": "zarr", "kvstore": "memory://", "metadata": {"chunks": [len(content)]}}
    described["metadata"] |= {"compressor": {"id": "zstd", "level": 1}, "order": "C"}
    array = tensorstore.open(
        described, create=True, dtype="uint8", shape=[len(content)], fill_value=1
    ).result()
    array.write(np.frombuffer(content, np.uint8)).result()
    return _integer(len(content)) + array.kvstore.read("0").result().value


def _integer(value: int) -> bytes:
    """An integer of variable length."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _integer(value >> 7)


def test_an_index_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"one"], options="group_size:1,brotli")
    with pytest.raises(InputError, match="its index must be compressed with Zstandard, or not"):
        check_files([(path, 1)])
    path = write(tmp_path / "a", [b"one"])
    content, refused = path.read_bytes(), 0
    for place in range(65_536 + 64, 65_536 + 64 + 47):
        changed = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        (tmp_path / "b").write_bytes(changed)
        try:
            check_files([(tmp_path / "b", 1)])
        except InputError as error:
            refused += "b cannot be read" in str(error)
    assert refused > 10
