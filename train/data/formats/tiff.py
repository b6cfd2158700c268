"""Reads the tags of a TIFF, and copies them to another.

All tags that describe the picture, and not its coding, are copied, including EXIF and GPS.
"""

import io
import math
import struct
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL.TiffTags import lookup

from train.data.formats.about import (
    About,
    Refused,
    check_metadata,
    copy_bytes,
    file_length,
    orientation_in_xmp,
)
from train.data.formats.camera_raw import is_canon_raw
from train.data.formats.tags import (
    EXIF,
    GPS,
    INTEROPERABILITY,
    ORIENTATION,
    SIZES,
    Directory,
    Malformed,
    TagEntry,
    TagFile,
)
from train.data.formats.tiff_checks import (
    COMPRESSION,
    IS_RAW,
    SAMPLES,
    channel_bits,
    check,
    held_share,
)

_WIDTH, _HEIGHT, _EXTRA, _PROFILE, _XMP = 256, 257, 338, 34675, 700
_SUBDIRECTORIES, _LAYERS, _CREDENTIALS = 330, 37724, 52545
_NAMES = {_CREDENTIALS: "content credentials (C2PA)"}  # names that Pillow does not know

# Tags that say how the pixels are coded. The written file has its own.
_CODING = (*range(254, 260), 262, 266, 273, *range(277, 280), 284, 317, 320, *range(322, 326), 339)
# Tags that are true only for the old coding or the old pixels, and that nobody misses.
_STALE = (
    263,
    264,
    265,
    288,
    289,
    292,
    293,
    347,
    *range(512, 522),
    *range(529, 533),
    34925,
)
# The smallest and largest values of the old pixels: as whole numbers, and as any numbers
_SMALLEST, _LARGEST, _EXTREMES = 280, 281, (280, 281, 340, 341)
_POINTERS = (EXIF, GPS, INTEROPERABILITY)

# Tags that do not change pixels, each with the only values that libtiff accepts.
_LIMITED = {ORIENTATION: range(1, 9), 263: range(1, 4), 296: range(1, 4)}

# Compressions in which damage is always an error to the decoder: none, LZW, Deflate and WebP
_CHECKED = (1, 5, 8, 32946, 50001)
_UNSTATED = 0  # value of the tag for a further channel whose meaning is not stated
_ALPHA = (1, 2)  # its values for alpha: the colour is multiplied by it, or it is not


class _Value(NamedTuple):
    """A tag as it is written: bytes, or a directory of its own."""

    kind: int  # a key of SIZES
    number: int  # how many values there are
    content: "bytes | dict[int, _Value]"


class _TagBudget:
    """A limit for the bytes of all tags of a file together, because tags may overlap."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, length: int) -> None:
        """Counts some bytes, and refuses the file if there are too many by now."""
        self._taken += length
        check_metadata(self._taken)


def read(file: BinaryIO) -> About:
    """The facts in the first directory. Files that decoders are known to misread are refused."""
    try:
        tags = TagFile(file)
        if is_canon_raw(tags):
            raise Refused(IS_RAW)
        first = tags.directory(tags.first)
        width, height = (tags.integer(first.entries, tag, 0) for tag in (_WIDTH, _HEIGHT))
        previews = check(tags, first, width, height)
    except Malformed:  # the decoder says what is wrong
        return About()
    values, lost = _values(tags, first, _TagBudget())
    profile, xmp = (_content(values, tag) for tag in (_PROFILE, _XMP))
    stated = tags.integer(first.entries, ORIENTATION, 0)
    samples = tags.integer(first.entries, SAMPLES, 1)
    bytes_each = samples * -(-channel_bits(tags, first.entries) // 8)
    copies = (
        "a smaller copy of it on another page",
        f"{previews} smaller copies of it on other pages",
    )
    return About(
        width=width,
        height=height,
        checked=tags.integer(first.entries, COMPRESSION, 1) in _CHECKED,
        orientation=stated if 1 <= stated <= 8 else orientation_in_xmp(xmp),
        profile=profile or None,
        not_kept=(
            *dict.fromkeys(map(_name, lost)),
            *([copies[previews > 1]] if previews else []),
        ),
        previews=previews,
        repairs=_repairs(tags, first.entries),
        buffered=math.ceil(bytes_each * held_share(tags, first.entries, height)),
    )


def _name(tag: int) -> str:
    """What a warning calls a tag: its name, or its number if it has no known name."""
    known = lookup(tag).name
    return _NAMES.get(tag, f"tag {tag}" if known == "unknown" else known)


def copy(source: BinaryIO, encoded: BinaryIO, target: BinaryIO) -> None:
    """Writes the pixels of ``encoded`` with the metadata of ``source``, in a new directory.

    Args:
      source: the file whose metadata is copied.
      encoded: a TIFF with the new pixels.
      target: the file to write.
    """
    given, written = TagFile(source), TagFile(encoded)
    old, new = given.directory(given.first), written.directory(written.first)
    values = _values(given, old, _TagBudget())[0]
    for tag, entry in new.entries.items():
        if tag in (*_CODING, _EXTRA):
            values.setdefault(tag, _Value(entry.kind, entry.number, written.value(entry)))
    if _EXTRA in new.entries and given.integer(old.entries, _EXTRA, _UNSTATED) not in _ALPHA:
        # If the colour was multiplied by alpha, the decoder has divided it again. Then the alpha is
        # ordinary. Only a meaning that is missing or unknown stays unstated.
        values[_EXTRA] = _Value(3, 1, struct.pack(written.order + "H", _UNSTATED))
    copy_bytes(encoded, target, 0, file_length(encoded))
    place = _write(target, values, written, given.order != written.order)
    target.seek(8 if written.big else 4)
    target.write(struct.pack(written.order + ("Q" if written.big else "I"), place))


def _repairs(tags: TagFile, entries: dict[int, TagEntry]) -> tuple[tuple[int, bytes], ...]:
    """Replacements for values without a meaning that programs write, such as orientation 0."""
    found = []
    for tag, accepted in _LIMITED.items():
        if tag in entries and tags.integer(entries, tag, 1) not in accepted:
            found.append((entries[tag].start, tags.coded(entries[tag], 1)))
    return tuple(found)


def _values(
    tags: TagFile, directory: Directory, budget: "_TagBudget", *, depth: int = 0
) -> tuple[dict[int, _Value], list[int]]:
    """Reads the tags of a directory that are copied.

    Args:
      tags: the file.
      directory: the directory.
      budget: limits the bytes of all tags together.
      depth: 0 for the first directory, and one more for each directory within another.

    Returns:
      The values by tag, and the tags that cannot be copied.
    """
    values: dict[int, _Value] = {}
    lost = []
    for tag, entry in directory.entries.items():
        if depth == 0 and tag in (*_CODING, *_STALE, _EXTRA):
            continue
        if depth == 0 and tag in _EXTREMES:
            if not _is_default(tags, directory.entries, tag):
                lost.append(tag)
            continue
        try:
            if tag in _POINTERS and depth < 2:
                place = tags.integer(directory.entries, tag, 0)
                inner, missed = _values(tags, tags.directory(place), budget, depth=depth + 1)
                values[tag] = _Value(4, 1, inner)
                lost += missed
            elif (
                tag in (_SUBDIRECTORIES, _LAYERS, _CREDENTIALS, *_POINTERS)
                or entry.kind not in SIZES
                or entry.kind in (13, 18)
            ):
                # Previews and layers show the old pixels, credentials vouch for them, and the
                # other types are unknown.
                lost.append(tag)
            else:
                budget.take(min(entry.length, tags.length))
                values[tag] = _Value(entry.kind, entry.number, tags.value(entry))
        except Malformed:
            lost.append(tag)
    return values, lost


def _is_default(tags: TagFile, entries: dict[int, TagEntry], tag: int) -> bool:
    """Whether the smallest or largest value that a tag states is the one for this many bits."""
    found = set(tags.integers(entries[tag], most=64))
    return found == {
        _SMALLEST: {0},
        _LARGEST: {2 ** channel_bits(tags, entries) - 1},
    }.get(tag)


def _content(values: dict[int, _Value], tag: int) -> bytes:
    content = values[tag].content if tag in values else b""
    return content if isinstance(content, bytes) else b""


def _write(target: BinaryIO, values: dict[int, _Value], like: TagFile, turn: bool) -> int:
    """Appends a directory with all its values to a file.

    Args:
      target: the file.
      values: the tags.
      like: the file whose format and byte order are used.
      turn: whether values must be converted to the other byte order.

    Returns:
      The place of the directory.
    """
    order, word, head = like.order, "Q" if like.big else "I", "Q" if like.big else "H"
    inside = struct.calcsize(word)
    entries = b""
    for tag, (kind, number, content) in sorted(values.items()):
        if isinstance(content, dict):
            kind, number = (16 if like.big else 4), 1
            value = struct.pack(order + word, _write(target, content, like, turn))
        elif tag in (*_CODING, _EXTRA):
            value = content
        else:
            value = _swapped(content, kind) if turn else content
        if len(value) > inside:
            value = struct.pack(order + word, _append(target, value))
        entries += struct.pack(f"{order}HH{word}", tag, kind, number) + value.ljust(inside, b"\0")
    return _append(target, struct.pack(order + head, len(values)) + entries + bytes(inside))


def _append(target: BinaryIO, content: bytes) -> int:
    """Appends bytes at an even place, and returns the place."""
    place = target.seek(0, io.SEEK_END)
    if place % 2:
        place += target.write(b"\0")
    target.write(content)
    return place


def _swapped(content: bytes, kind: int) -> bytes:
    """A value in the other byte order. Both halves of a fraction are swapped separately."""
    size = 4 if kind in (5, 10) else SIZES[kind]
    return np.frombuffer(content, f"u{size}").byteswap().tobytes()
