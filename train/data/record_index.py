"""Reads the index of an array_record file: the places of the chunks that a reader will unpack.

The reader does not look for chunks. It goes where the index leads, which may be into a record that
looks like a chunk of its own.
"""

import json
from collections.abc import Iterator

from train.data.example_records import MalformedError, read_integer

_PLAIN, _ZSTANDARD = 0, ord("z")
MOST_UNPACKED = 64_000_000  # bytes of an index
_LONGEST_INTEGER = 10  # bytes


def index_places(content: bytes, *, records: int) -> list[int]:
    """Reads the first number of each record in a chunk that belongs to the index.

    For the list of chunks that is the place of a chunk, and at the end of a file it is the place of
    that list.

    Args:
      content: the chunk without its header.
      records: number of its records, from the header. It limits the work: a few bytes may unpack to
        the sizes of millions of records.

    Raises:
      MalformedError: if it cannot be read.
    """
    if not content or content[0] not in (_PLAIN, _ZSTANDARD):
        raise MalformedError("its index must be compressed with Zstandard, or not at all")
    is_packed = content[0] == _ZSTANDARD
    length, place = read_integer(memoryview(content), 1)
    most = _LONGEST_INTEGER * records
    sizes = _unpacked(content[place : place + length], is_packed, most=most)
    held = memoryview(_unpacked(content[place + length :], is_packed, most=MOST_UNPACKED))
    places, start = [], 0
    for size in _integers(memoryview(sizes)):
        record = held[start : start + size]
        start += size
        # Field 1 as an integer; the first record of the list describes the file instead
        if len(record) > 1 and record[0] == 1 << 3:
            places.append(read_integer(record, 1)[0])
    return places


def _integers(content: memoryview) -> Iterator[int]:
    place = 0
    while place < len(content):
        value, place = read_integer(content, place)
        yield value


def _unpacked(content: bytes, is_packed: bool, *, most: int) -> bytes:
    """A buffer of a chunk. If it is compressed, its length comes first."""
    size, place = len(content), 0
    if is_packed:
        size, place = read_integer(memoryview(content), 0)
    if size > most:
        raise MalformedError(f"a part of its index has {size:,} bytes, and at most {most:,} fit")
    if not is_packed:
        return content
    if size == 0:
        return b""
    import tensorstore

    # An array in memory whose only chunk is the buffer: it is not unpacked beyond its size
    described = {
        "zarr_format": 2,
        "shape": [size],
        "chunks": [size],
        "dtype": "|u1",
        "compressor": {"id": "zstd", "level": 1},
        "order": "C",
        "filters": None,
        "fill_value": None,
    }
    try:
        store = tensorstore.KvStore.open("memory://").result()
        store.write(".zarray", json.dumps(described).encode()).result()
        store.write("0", content[place:]).result()
        array = tensorstore.open({"driver": "zarr"}, kvstore=store, open=True).result()
        return bytes(array.read().result())
    except ValueError as error:
        raise MalformedError(f"its index is damaged: {str(error)[:100]}") from None
