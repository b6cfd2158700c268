"""Bounds the memory that the index of stored arrays needs, before tensorstore unpacks it.

OCDBT keeps its index and small values in nodes, which are compressed with Zstandard. Tensorstore
unpacks a node as a whole, and fifty kilobytes can become gigabytes. So the blocks of each node are
counted here, without unpacking them.

The layout of a node is that of https://google.github.io/tensorstore/kvstore/ocdbt/, and the layout
of a frame is that of RFC 8878.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# The first bytes of a manifest, of a node of the index, and of a node of its versions.
_NODES = (b"\x0c\xdb\x3a\x2a", b"\x0c\xdb\x20\xde", b"\x0c\xdb\x12\x34")
_NODE = _NODES[0][:2]  # what these have in common
_HEAD = 4 + 8 + 2  # bytes before the content: one of these, a length, a version, a compression
_UNCOMPRESSED, _COMPRESSED = 0, 1
_FRAME = b"\x28\xb5\x2f\xfd"  # the first bytes of a frame
_LONGEST_FRAME_HEAD = 18  # bytes, with these four
_LARGEST_BLOCK = 128 * 1024  # bytes, unpacked
_RAW, _REPEATED, _RESERVED = 0, 1, 3  # types of blocks; those of type 2 are compressed
# What a node or a block counts at least, so that empty ones cannot be walked forever.
_LEAST = 1024
_PIECE = 16 * 2**20  # bytes that are searched at once


def exceeds(folder: Path, most: int) -> bool:
    """Whether the nodes in the files of a folder may need more than ``most`` bytes when unpacked.

    Args:
      folder: the folder of an item. It has no links to folders, pipes or devices.
      most: number of bytes.
    """
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with Path(above, name).open("rb") as file:
                for size in _node_sizes(file):
                    total += size
                    if total > most:
                        return True
    return False


def _node_sizes(file: BinaryIO) -> Iterator[int]:
    """Yields how many bytes the nodes of a file need at most, in several parts for each node."""
    for start in _node_starts(file):
        file.seek(start)
        head = file.read(_HEAD)
        if len(head) < _HEAD or head[:4] not in _NODES or head[12] != 0:
            continue
        if head[13] == _UNCOMPRESSED:
            # Tensorstore reads only as much as there is.
            left = os.fstat(file.fileno()).st_size - start
            yield max(min(int.from_bytes(head[4:12], "little"), left), _LEAST)
        elif head[13] == _COMPRESSED:
            yield from _block_sizes(file)


def _node_starts(file: BinaryIO) -> Iterator[int]:
    """Yields the places where a node may start."""
    start = 0
    while True:
        file.seek(start)
        piece = file.read(_PIECE)
        at = piece.find(_NODE)
        while at >= 0:
            yield start + at
            at = piece.find(_NODE, at + 1)
        if len(piece) < _PIECE:
            return
        start += len(piece) - 1  # The two bytes may lie in two pieces.


def _block_sizes(file: BinaryIO) -> Iterator[int]:
    """Yields how many bytes the blocks of the frame at this place of a file unpack to, at most."""
    start = file.tell()
    head = file.read(_LONGEST_FRAME_HEAD)
    if len(head) < 6 or head[:4] != _FRAME:
        return  # Tensorstore cannot read this either.
    flags = head[4]
    single = bool(flags & 0x20)  # The window is then the whole content.
    after_window = 5 + (not single)
    after_dictionary = after_window + (0, 1, 2, 4)[flags & 3]
    content = (int(single), 2, 4, 8)[flags >> 6]  # bytes that hold the size of the content
    if single:
        window = int.from_bytes(head[after_dictionary : after_dictionary + content], "little")
        window += 256 * (content == 2)
    else:
        window = 1 << (10 + (head[5] >> 3))
        window += (window // 8) * (head[5] & 7)
    largest = min(window, _LARGEST_BLOCK)

    file.seek(start + after_dictionary + content)
    last = False
    while not last and len(block := file.read(3)) == 3:
        number = int.from_bytes(block, "little")
        last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
        if kind == _RESERVED:
            return
        yield max(size if kind in (_RAW, _REPEATED) else largest, _LEAST)
        file.seek(1 if kind == _REPEATED else size, os.SEEK_CUR)
