"""Reads directories of tags, which are in TIFF files and EXIF blocks, within bounds.

Both classic TIFF and BigTIFF are read.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from train.data.formats.about import MOST_METADATA, Refused, file_length

ORIENTATION = 274
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
_RULE = 1  # the tag of the rule in the directory of interoperability

# Bytes of one value, by the number of its type
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
# libtiff reads a number in any of these types, whatever the tag should have.
_INTEGERS = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_BLOCK = 1 << 20
_MOST_DIRECTORIES = 16  # directories of one EXIF block that are read


class Malformed(ValueError):
    """The block ends too early, or points outside itself."""


class TagEntry(NamedTuple):
    """One tag: the type of its value, and where the value is."""

    kind: int  # a key of SIZES, unless the type is unknown
    number: int  # how many values there are
    start: int  # place of the values in the file
    length: int  # bytes


class Directory(NamedTuple):
    """Tags by number, and the place of the next directory, or 0."""

    entries: dict[int, TagEntry]
    following: int


class TagFile:
    """A file of directories. Nothing is read until it is needed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.length = file_length(file)
        start = self.read(0, min(16, self.length))
        if start[:2] not in (b"II", b"MM") or len(start) < 8:
            raise Malformed("no byte order")
        self.order = "<" if start[:2] == b"II" else ">"
        (version,) = struct.unpack(self.order + "H", start[2:4])
        if version not in (42, 43) or (version == 43 and len(start) < 16):
            raise Malformed("unknown version")
        self.big = version == 43
        width = "Q" if self.big else "I"
        (self.first,) = struct.unpack_from(self.order + width, start, 8 if self.big else 4)

    def read(self, start: int, length: int) -> bytes:
        """Reads a part of the file, which must be complete."""
        if start + length > self.length or length > MOST_METADATA:
            raise Malformed("ends too early")
        self._file.seek(start)
        content = self._file.read(length)
        if len(content) != length:
            raise Malformed("ends too early")
        return content

    def blocks(self, start: int, length: int) -> Iterator[bytes]:
        """Yields a part of the file in blocks, as far as the file goes."""
        self._file.seek(start)
        while length > 0 and (block := self._file.read(min(length, _BLOCK))):
            length -= len(block)
            yield block

    def directory(self, place: int) -> Directory:
        """Reads the directory at a place in the file. There is none at its beginning."""
        if place <= 0:
            raise Malformed("no directory")
        head, word, each = ("Q", "Q", 20) if self.big else ("H", "I", 12)
        (count,) = struct.unpack(self.order + head, self.read(place, struct.calcsize(head)))
        if count > 65535:
            raise Malformed("too many tags")
        first = place + struct.calcsize(head)
        content = self.read(first, count * each)
        inside = struct.calcsize(word)  # bytes that fit into the entry itself
        entries: dict[int, TagEntry] = {}
        for i in range(count):
            tag, kind, number, value = struct.unpack_from(
                f"{self.order}HH{word}{word}", content, i * each
            )
            length = SIZES.get(kind, 0) * number
            start = value if length > inside else first + i * each + 4 + inside
            entries.setdefault(tag, TagEntry(kind, number, start, length))
        end = first + count * each
        try:
            (following,) = struct.unpack(self.order + word, self.read(end, inside))
        except Malformed:  # EXIF blocks often end here
            following = 0
        return Directory(entries, following)

    def following(self, place: int) -> int:
        """The place of the directory after the one at ``place``, or 0. No tags are read."""
        head, word, each = ("Q", "Q", 20) if self.big else ("H", "I", 12)
        (count,) = struct.unpack(self.order + head, self.read(place, struct.calcsize(head)))
        end = place + struct.calcsize(head) + count * each
        (following,) = struct.unpack(self.order + word, self.read(end, struct.calcsize(word)))
        return following

    def value(self, entry: TagEntry) -> bytes:
        """The bytes of a tag's value, in the file's byte order."""
        return self.read(entry.start, entry.length)

    def integers(self, entry: TagEntry, *, most: int = 16) -> tuple[int, ...]:
        """The first numbers of a tag, or none if the tag does not hold whole numbers.

        As in libtiff, a tag that points outside the file counts as missing.
        """
        if entry.kind not in _INTEGERS:
            return ()
        count = min(entry.number, most)
        try:
            content = self.read(entry.start, count * SIZES[entry.kind])
        except Malformed:
            return ()
        return struct.unpack(f"{self.order}{count}{_INTEGERS[entry.kind]}", content)

    def coded(self, entry: TagEntry, number: int) -> bytes:
        """A whole number in the type and byte order of a tag."""
        return struct.pack(self.order + _INTEGERS[entry.kind], number)

    def integer(self, entries: dict[int, TagEntry], tag: int, otherwise: int) -> int:
        """The first whole number of a tag.

        Args:
          entries: the tags of a directory.
          tag: the tag's number.
          otherwise: what to return if the tag is missing or does not hold whole numbers.

        Returns:
          The number, or ``otherwise``.
        """
        numbers = self.integers(entries[tag], most=1) if tag in entries else ()
        return numbers[0] if numbers else otherwise


def without_prefix(exif: bytes) -> bytes:
    """An EXIF block without JPEG's name for it, which some writers put first."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return exif


def read_orientation(exif: bytes) -> int:
    """The orientation that an EXIF block states, 1 to 8; 0 if it does not state one."""
    try:
        tags = TagFile(io.BytesIO(without_prefix(exif)))
        number = tags.integer(tags.directory(tags.first).entries, ORIENTATION, 0)
    except Malformed:
        return 0
    return number if 1 <= number <= 8 else 0


def read_colour(exif: bytes) -> str | None:
    """How the colour differs from sRGB, if EXIF says so.

    Cameras that write Adobe RGB without a profile say so there.
    """
    try:
        tags = TagFile(io.BytesIO(without_prefix(exif)))
        entries = tags.directory(tags.first).entries
        for pointer in (EXIF, INTEROPERABILITY):
            entries = tags.directory(tags.integer(entries, pointer, 0)).entries
        stated = tags.value(entries[_RULE]) if _RULE in entries else b""
    except Malformed:
        return None
    return "its EXIF says that its colour is Adobe RGB" if stated.startswith(b"R03") else None


def check_exif(exif: bytes) -> None:
    """Refuses a block whose tags claim far more bytes than it has.

    Decoders copy the value of each tag, so overlapping tags would take a lot of memory.
    """
    claimed = 0
    try:
        tags = TagFile(io.BytesIO(without_prefix(exif)))
        places, seen = [tags.first], set[int]()
        while places and len(seen) < _MOST_DIRECTORIES:
            place = places.pop()
            if not place or place in seen:
                continue
            seen.add(place)
            entries, following = tags.directory(place)
            claimed += sum(
                entry.length
                for entry in entries.values()
                if entry.start + entry.length <= tags.length
            )
            places.append(following)
            places += [tags.integer(entries, tag, 0) for tag in (EXIF, GPS, INTEROPERABILITY)]
    except Malformed:
        pass  # the directories before the malformed one have been counted
    if claimed > 4 * len(exif) + 1_000_000:
        raise Refused("has EXIF whose tags overlap. Remove the metadata, or leave the file out.")
