"""Checks files of array_record before a record is read: how many there are, and how large they are.

Such a file is a row of Riegeli chunks, one for each record. A chunk's header says how large its
content is when it is unpacked, and the reader takes that memory at once. A file of 128 kB may hold
a record of several gigabytes of zeros.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from train.errors import InputError, first_line

# Encoded photographs hardly shrink, and raw ones shrink little. What is larger and shrinks more is
# no photograph.
MAX_UNPACKED = 64_000_000  # bytes of one record
_MAX_RATIO = 20

_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 65536, 24, 40  # bytes, of Riegeli's format
_USABLE = _BLOCK - _BLOCK_HEADER


class _RiegeliChunk(NamedTuple):
    start: int  # offset in the file
    packed: int  # bytes
    unpacked: int


def check_files(files: Iterable[tuple[Path, int]]) -> None:
    """Refuses files without the records that their data set states, or with huge records.

    Args:
      files: each with the number of records that the data set's description gives it.
    """
    from array_record.python import array_record_module

    for path, count in files:
        if not path.is_file():
            raise InputError(f"{path}, a file of the data set, is missing or is not a file.")
        if count > path.stat().st_size:  # told before the reader is asked for the last of them
            raise InputError(
                f"{path} cannot hold the {count} records that dataset_info.json gives it."
            )
        for chunk in _chunks(path):
            if chunk.unpacked > max(MAX_UNPACKED, _MAX_RATIO * chunk.packed):
                raise InputError(
                    f"{path} cannot be read: a record at byte {chunk.start} unpacks from "
                    f"{chunk.packed} bytes to {chunk.unpacked / 1e6:.0f} MB, which is no "
                    "photograph."
                )
        try:
            reader: Any = array_record_module.ArrayRecordReader(str(path))
            held = reader.num_records()
            reader.close()
        except Exception as error:  # the bindings raise whatever C++ made of a broken file
            raise InputError(f"{path} cannot be read: {first_line(error)}.") from None
        if held != count:
            raise InputError(
                f"{path} holds {held} records, where dataset_info.json says {count}: copy it, or "
                "prepare it, again."
            )


def _chunks(path: Path) -> Iterator[_RiegeliChunk]:
    """The chunks of a file by their headers, as far as the headers make sense.

    The reader tells whether they do.
    """
    size = path.stat().st_size
    start = 0
    with path.open("rb") as file:
        while start < size:
            header = _read(file, start)
            # Its checksum: zeros are the holes of a file
            if len(header) < _CHUNK_HEADER or not any(header[:8]):
                return
            packed, records, unpacked = (
                int.from_bytes(header[begin:end], "little")
                for begin, end in ((8, 16), (25, 32), (32, 40))
            )
            yield _RiegeliChunk(start, packed, unpacked)
            after = _skip(start, _CHUNK_HEADER + packed)
            start = max(after, _boundary(start + records))


def _read(file: BinaryIO, start: int) -> bytes:
    """The header of the chunk at ``start``, around the headers of blocks."""
    header = b""
    while len(header) < _CHUNK_HEADER:
        if start % _BLOCK == 0:
            start += _BLOCK_HEADER
        file.seek(start)
        part = file.read(min(_CHUNK_HEADER - len(header), _BLOCK - start % _BLOCK))
        if not part:
            break
        header += part
        start += len(part)
    return header


def _skip(start: int, length: int) -> int:
    """Where ``length`` bytes of content end in a file.

    The header of a block interrupts them every 64 kilobytes.
    """
    block = start - start % _BLOCK
    inside = max(start % _BLOCK - _BLOCK_HEADER, 0) + length
    blocks = (inside - 1) // _USABLE
    return block + blocks * _BLOCK + _BLOCK_HEADER + inside - blocks * _USABLE


def _boundary(place: int) -> int:
    """The first offset from ``place`` at which a chunk can begin: never within a block's header."""
    return place + max(_BLOCK_HEADER - place % _BLOCK, 0) if place % _BLOCK else place
