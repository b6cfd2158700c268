"""Checks the number and the sizes of the records in an array_record file before any is read.

Such a file is a sequence of Riegeli chunks, one for each record. A chunk's header says how large
its content is when it is unpacked, and the reader allocates that memory at once. A file of 128 kB
may contain a record of several gigabytes of zeros.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from train.data.example_records import MalformedError
from train.data.record_index import index_places
from train.errors import InputError, first_line

# Encoded photographs hardly shrink, and raw ones shrink little. A record that is larger than this
# and shrinks more cannot be a photograph.
MAX_UNPACKED = 64_000_000  # bytes of one record
_MAX_RATIO = 20  # unpacked bytes for each packed byte
# All records of a file are unpacked to list their names. Together they may shrink more than that,
# because other features may be raw, but not so much that a small file takes minutes.
_MAX_TOGETHER = 500_000_000  # bytes
_MAX_RATIO_TOGETHER = 100

_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 65536, 24, 40  # bytes, of Riegeli's format
_USABLE = _BLOCK - _BLOCK_HEADER

# Signature, records and padding. The writer can also transpose records, if it is asked to. What a
# transposed chunk unpacks to is not limited by its header, so such a chunk is refused.
_ACCEPTED = b"srp"
_MOST_MORE = 1000  # records of a chunk beyond those of the file: an index has a few


class _RiegeliChunk(NamedTuple):
    start: int  # place in the file
    packed: int  # bytes
    unpacked: int  # bytes
    kind: int  # a letter's code
    records: int


def check_files(files: Iterable[tuple[Path, int]]) -> None:
    """Refuses files that lack the records that their data set states, or have huge records.

    Args:
      files: each with its number of records in the data set's description.

    Raises:
      InputError: if a file cannot be used.
    """
    from array_record.python import array_record_module

    for path, count in files:
        if not path.is_file():
            raise InputError(f"{path}, a file of the data set, is missing or is not a file.")
        if count > path.stat().st_size:  # checked first, because the reader would look for the last
            raise InputError(
                f"{path} cannot hold the {count} records that dataset_info.json states. Prepare "
                "the data set again."
            )
        chunks, together = {}, 0
        for chunk in _chunks(path):
            chunks[chunk.start] = chunk
            together += chunk.unpacked
            if chunk.kind not in _ACCEPTED:
                raise InputError(
                    f"{path} cannot be read: the chunk at byte {chunk.start} is of the type "
                    f"{chr(chunk.kind)!r}. Only chunks with plain records are accepted. Prepare "
                    "the data set again."
                )
            if chunk.records > count + _MOST_MORE:
                raise InputError(
                    f"{path} cannot be read: the chunk at byte {chunk.start} has {chunk.records:,} "
                    f"records, but dataset_info.json states {count} for the whole file. Copy the "
                    "file again, or prepare the data set again."
                )
            if chunk.unpacked > max(MAX_UNPACKED, _MAX_RATIO * chunk.packed):
                raise InputError(
                    f"{path} cannot be read: a record at byte {chunk.start} unpacks from "
                    f"{chunk.packed} bytes to {chunk.unpacked / 1e6:.0f} MB, so it cannot be a "
                    "photograph."
                )
        if together > max(_MAX_TOGETHER, _MAX_RATIO_TOGETHER * path.stat().st_size):
            raise InputError(
                f"{path} cannot be read: its records unpack to {together / 1e6:,.0f} MB, "
                f"{together // path.stat().st_size} times the size of the file, so they cannot be "
                "photographs."
            )
        _check_index(path, chunks)
        try:
            reader: Any = array_record_module.ArrayRecordReader(str(path))
            held = reader.num_records()
            reader.close()
        except Exception as error:  # the bindings raise different exceptions for broken files
            raise InputError(f"{path} cannot be read: {first_line(error)}.") from None
        if held != count:
            raise InputError(
                f"{path} holds {held} records, but dataset_info.json states {count}. Copy the file "
                "again, or prepare the data set again."
            )


def _check_index(path: Path, chunks: Mapping[int, _RiegeliChunk]) -> None:
    """Refuses a file whose index leads to something that is not one of its chunks.

    The last block of a file says where the list of chunks is.
    """
    last = path.stat().st_size - _BLOCK
    try:
        (listed,) = set(_places(path, chunks.get(last)))
        places = _places(path, chunks.get(listed))
    except (MalformedError, ValueError) as error:
        why = str(error) if isinstance(error, MalformedError) else "its index is damaged"
        raise InputError(
            f"{path} cannot be read: {why}. Copy the file again, or prepare the data set again."
        ) from None
    if any(place not in chunks for place in places):
        raise InputError(
            f"{path} cannot be read: its index leads to a place where no record begins. Copy the "
            "file again, or prepare the data set again."
        )


def _places(path: Path, chunk: _RiegeliChunk | None) -> list[int]:
    if chunk is None:
        raise MalformedError("it lacks a part of its index")
    if chunk.packed > MAX_UNPACKED:
        raise MalformedError(f"its index has {chunk.packed:,} bytes")
    with path.open("rb") as file:
        content = _read(file, chunk.start, length=_CHUNK_HEADER + chunk.packed)[_CHUNK_HEADER:]
        return index_places(content, records=chunk.records)


def _chunks(path: Path) -> Iterator[_RiegeliChunk]:
    """The chunks of a file, by their headers.

    The reader finds a chunk by its place in an index. So the whole file must consist of chunks:
    one that follows something else would not be checked.

    Raises:
      InputError: if something in the file is not a chunk.
    """
    size = path.stat().st_size
    start = 0
    with path.open("rb") as file:
        while start < size:
            header = _read(file, start)
            # The first eight bytes are a checksum. Zeros mean that the file has a hole here.
            if len(header) < _CHUNK_HEADER or not any(header[:8]):
                break
            packed, records, unpacked = (
                int.from_bytes(header[begin:end], "little")
                for begin, end in ((8, 16), (25, 32), (32, 40))
            )
            yield _RiegeliChunk(start, packed, unpacked, header[24], records)
            after = _skip(start, _CHUNK_HEADER + packed)
            start = max(after, _boundary(start + records))
    if start != size:
        raise InputError(
            f"{path} cannot be read: it has {size:,} bytes, and its chunks of records do not end "
            "there. Copy the file again, or prepare the data set again."
        )


def _read(file: BinaryIO, start: int, *, length: int = _CHUNK_HEADER) -> bytes:
    """The first bytes of the chunk at ``start``, without the block headers that interrupt it."""
    header = bytearray()
    while len(header) < length:
        if start % _BLOCK == 0:
            start += _BLOCK_HEADER
        file.seek(start)
        part = file.read(min(length - len(header), _BLOCK - start % _BLOCK))
        if not part:
            break
        header += part
        start += len(part)
    return bytes(header)


def _skip(start: int, length: int) -> int:
    """The place where ``length`` bytes of content from ``start`` on end in a file.

    A block header interrupts the content every 64 kilobytes.
    """
    block = start - start % _BLOCK
    inside = max(start % _BLOCK - _BLOCK_HEADER, 0) + length
    blocks = (inside - 1) // _USABLE
    return block + blocks * _BLOCK + _BLOCK_HEADER + inside - blocks * _USABLE


def _boundary(place: int) -> int:
    """The first place from ``place`` on at which a chunk can begin, outside block headers."""
    return place + max(_BLOCK_HEADER - place % _BLOCK, 0) if place % _BLOCK else place
