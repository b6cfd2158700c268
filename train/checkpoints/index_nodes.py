"""Checks the index of a checkpoint's arrays before tensorstore unpacks it.

OCDBT keeps the names of arrays, and where they are, in nodes of a tree. A node may be compressed
with Zstandard, and is unpacked as a whole to look up one name. A node of 60 kB can unpack to 300 MB
of names.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_SPARE = 4_000_000  # bytes of a node
_FOR_EACH_ARRAY = 10_000  # bytes in addition: names, descriptions, and small arrays
_STARTS = re.compile(rb"\x0c\xdb(?:\x20\xde|\x3a\x2a|\x12\x34)")  # node, manifest, list of versions
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_LARGEST_BLOCK = 1 << 17  # bytes that a compressed block of Zstandard can unpack to
_LONGEST_START = 64  # bytes that are read at the start of a node
_READ = 1 << 24


def index_complaint(item: Path, arrays: int) -> str | None:
    """Says which part of an index must not be unpacked; None if nothing is wrong.

    Args:
      item: the folder of an item, such as ``weights``.
      arrays: number of arrays that are wanted from it.
    """
    most = _SPARE + _FOR_EACH_ARRAY * arrays
    for above, _, names in os.walk(item):
        for name in names:
            path = Path(above, name)
            for place in _starts(path):
                size = _unpacked_size(path, place, most)
                if size is None:
                    return f"{path.name} has a part of an index at byte {place} that is damaged"
                if size > most:
                    return (
                        f"{path.name} has a part of an index at byte {place} that unpacks to more "
                        f"than the {most / 1e6:,.1f} MB that {arrays:,} arrays can need"
                    )
    return None


def _starts(path: Path) -> Iterator[int]:
    """The places in a file at which a part of an index may begin."""
    place, rest = 0, b""
    with path.open("rb") as file:
        while block := file.read(_READ):
            content = rest + block
            for found in _STARTS.finditer(content):
                yield place - len(rest) + found.start()
            place += len(block)
            rest = content[-3:]


def _unpacked_size(path: Path, place: int, most: int) -> int | None:
    """The most bytes that a part of an index can unpack to; None if it is damaged.

    It consists of a magic number, its length in eight bytes, its version, how it is compressed,
    its content, and a checksum. Other bytes that look like the magic number count as 0.
    """
    left = path.stat().st_size - place
    with path.open("rb") as file:
        file.seek(place)
        start = file.read(_LONGEST_START)
        length = int.from_bytes(start[4:12], "little")
        if len(start) < 14 or not 14 <= length <= left:
            return 0
        if start[12] != 0 or start[13] > 1:  # versions and ways that are not known here
            return None
        if start[13] == 0:
            return length
        if start[14:18] != _ZSTANDARD:
            return None

        # --- the frame's header: its flags say how long it is
        flags = start[18]
        single = flags >> 5 & 1
        after = 19 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]

        # --- its blocks, which say how much they unpack to, or stay below a limit
        size, is_last = 0, False
        file.seek(place + after)
        while not is_last and size <= most:
            header = int.from_bytes(start_of_block := file.read(3), "little")
            if len(start_of_block) < 3:
                return None
            is_last, kind, count = bool(header & 1), header >> 1 & 3, header >> 3
            if kind == 3:
                return None
            size += _LARGEST_BLOCK if kind == 2 else count
            file.seek(1 if kind == 1 else count, os.SEEK_CUR)
        return size
