"""Reads the segments of a JPEG, and copies them to another.

Everything that describes the picture, and not its coding, is copied byte for byte.
"""

import io
import itertools
import re
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from train.data.formats.about import (
    About,
    Refused,
    check_metadata,
    copy_bytes,
    file_length,
    name_rest,
    orientation_in_xmp,
)
from train.data.formats.tags import Malformed, TagFile, check_exif, read_colour, read_orientation

_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_PICTURES, _GAIN_MAP = b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Kinds of JPEG that share only their name with the ordinary one
_UNREAD = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xCB: "a lossless JPEG with arithmetic coding",
    0xF7: "a JPEG-LS image",
}
_CONVERT = "Convert it to PNG or TIFF."
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_COMMENT, _SCAN, _END = 0xFE, 0xDA, 0xD9
_ALONE = 0x01  # a marker that no length follows
_APP = range(0xE0, 0xF0)
_COUNT_OF_PICTURES = 0xB001
_MOST_MARKERS = 10_000  # among the coded pixels: each scan of a progressive JPEG has a few
# A scan of a few hundred bytes can stand for all pixels, and each takes time. Encoders write about
# ten.
MOST_SCANS = 100
MOST_SCANNED = 3_000_000_000  # pixels, each counted once for every scan
_EACH_SCAN = (
    ", and decoding one scan takes as long as a whole picture. Save it again with another program, "
    "or leave it out."
)
_MOST_SEGMENTS = 100_000  # before the coded pixels; a file with more is broken
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_BLOCK = 1 << 16


class _Segment(NamedTuple):
    marker: int
    start: int  # place of the marker in the file
    length: int  # bytes, including the marker
    data: bytes  # content; empty for segments that are not needed


class _Jpeg(NamedTuple):
    segments: list[_Segment]
    scan: int  # place where the first scan begins
    components: int  # number in the first scan; fewer than in the picture if it has more scans


def read(file: BinaryIO) -> About:
    """The facts in a JPEG's segments before its first scan."""
    jpeg = _parse(file)
    width = height = 0
    several_scans, channels = True, 3  # unless the frame says otherwise
    exif = xmp = b""
    parts: dict[int, bytes] = {}  # parts of the profile by number: they may be out of order
    pictures, gain_map, lost = 1, False, []
    for marker, _, _, data in jpeg.segments:
        if marker in _UNREAD:
            raise Refused(f"is {_UNREAD[marker]}, which few programs read. {_CONVERT}")
        if marker in _FRAMES and len(data) >= 5:
            height, width = struct.unpack(">HH", data[1:5])
            channels = data[5] if len(data) > 5 else 0
            _check_frame(data[0], height, channels)
            several_scans = marker in _PROGRESSIVE or channels != jpeg.components
        elif marker == 0xE1 and data.startswith(_EXIF) and not exif:
            exif = data[6:]
        elif marker == 0xE1 and data.startswith(_XMP) and not xmp:
            xmp = data[len(_XMP) :]
        elif marker == 0xE2 and data.startswith(_ICC):
            parts.setdefault(data[len(_ICC)] if len(data) > len(_ICC) else 0, data[len(_ICC) + 2 :])
        elif marker == 0xE2 and data.startswith(_PICTURES):
            pictures = _pictures(data[4:])
        gain_map = gain_map or (marker == 0xE2 and data.startswith(_GAIN_MAP))
        if not _is_kept(marker, data) and _name(marker, data):
            lost.append(_name(marker, data))
    check_exif(exif)
    if several_scans:
        _check_scans(file, jpeg.scan, width, height)
    profile = b"".join(parts[number] for number in sorted(parts)) if parts else None
    gain_map = gain_map or b"hdr-gain-map/1.0/" in xmp
    said: tuple[str, ...] = ()
    if gain_map:
        said = (
            "it has a gain map for bright screens, which is left out. The picture for ordinary "
            "screens is kept",
        )
    elif pictures > 1:
        said = (f"only one of its {pictures} pictures is kept",)
    return About(
        width=width,
        height=height,
        orientation=read_orientation(exif) or orientation_in_xmp(xmp),
        profile=profile,
        colour=None if profile else read_colour(exif),
        not_kept=tuple(dict.fromkeys(lost)),
        buffered=2 * channels if several_scans else 0,  # a coefficient has two bytes
        said=said,
    )


def what_follows(file: BinaryIO) -> tuple[str, ...]:
    """Names what follows the picture. All of the file is read to find its end."""
    markers = _markers(file, _parse(file).scan)
    for found, place in itertools.islice(markers, _MOST_MARKERS):
        if found == _END:
            return name_rest(file_length(file) - place)
    return ()


def copy(source: BinaryIO, encoded: BinaryIO, target: BinaryIO) -> None:
    """Writes the pixels of ``encoded`` with the metadata of ``source``.

    Args:
      source: the file whose metadata is copied.
      encoded: a JPEG with the new pixels.
      target: the file to write.
    """
    target.write(b"\xff\xd8")
    for marker, start, length, data in _parse(source).segments:
        if (marker in _APP or marker == _COMMENT) and _is_kept(marker, data):
            copy_bytes(source, target, start, length)
    written = _parse(encoded)
    for marker, start, length, _ in written.segments:
        if marker not in _APP and marker != _COMMENT:
            copy_bytes(encoded, target, start, length)
    copy_bytes(encoded, target, written.scan, file_length(encoded) - written.scan)


def _parse(file: BinaryIO) -> _Jpeg:
    """The segments before the first scan, up to one that is incomplete.

    The decoder says what is wrong with that one.
    """
    segments: list[_Segment] = []
    total, place = 0, 2
    for _ in range(_MOST_SEGMENTS):
        file.seek(place)
        start = file.read(4)
        if len(start) < 4 or start[0] != 0xFF or start[1] == _SCAN or start[1] == _END:
            break
        if start[1] == 0xFF:  # any number of these bytes may precede a marker
            place = _behind_fill(file, place)
            continue
        if start[1] in (0x00, 0x01, *range(0xD0, 0xD9)):
            place += 2
            continue
        length = int.from_bytes(start[2:4], "big") + 2
        if length < 4:
            break
        data = file.read(length - 4) if start[1] in (*_APP, _COMMENT, *_FRAMES) else b""
        total += len(data)
        check_metadata(total)
        segments.append(_Segment(start[1], place, length, data))
        place += length
    file.seek(place + 4)
    return _Jpeg(segments, place, int.from_bytes(file.read(1), "big"))


def _behind_fill(file: BinaryIO, place: int) -> int:
    """The place of the last byte 0xFF in a row of them, at which the marker begins."""
    file.seek(place)
    while block := file.read(_BLOCK):
        left = len(block.lstrip(b"\xff"))
        place += len(block) - left
        if left:
            break
    return place - 1


def _next_marker(file: BinaryIO, place: int) -> tuple[int, int]:
    """The next marker outside a scan, and the place after it; the marker is 0 if there is none."""
    while True:
        file.seek(place)
        block = file.read(_BLOCK)
        if len(block) < 2:
            return 0, place
        if found := _NEXT.search(block):
            return block[found.start() + 1], place + found.end()
        place += len(block) - 1


def _markers(file: BinaryIO, place: int) -> Iterator[tuple[int, int]]:
    """Yields each marker outside a scan from ``place`` to the picture's end, and its place."""
    while True:
        found, place = _next_marker(file, place)
        if not found:
            return
        yield found, place
        if found == _END:
            return
        if found != _ALONE:
            file.seek(place)
            place += max(int.from_bytes(file.read(2), "big"), 2)


def _check_frame(bits: int, height: int, channels: int) -> None:
    """Refuses what decoders do not support, in words that say what it is."""
    if bits != 8:
        raise Refused(
            f"has {bits} bits per channel, and only JPEGs with 8 are read. Convert it to PNG or "
            "TIFF of 16 bits."
        )
    if channels not in (1, 3, 4):
        raise Refused(f"has {channels} channels. Convert it to grey or RGB.")
    if not height:
        raise Refused(
            "states the number of its rows only after its pixels (DNL), which few programs read. "
            + _CONVERT
        )


def _check_scans(file: BinaryIO, place: int, width: int, height: int) -> None:
    """Refuses a picture of more scans than any encoder writes. All of the file is read."""
    scans = 0
    for count, (found, _) in enumerate(_markers(file, place)):
        scans += found == _SCAN
        if scans > MOST_SCANS or count > _MOST_MARKERS:
            raise Refused(f"has more than {MOST_SCANS} scans{_EACH_SCAN}")
    if scans * width * height > MOST_SCANNED:
        raise Refused(f"has {scans} scans of {width}x{height} pixels{_EACH_SCAN}")


def count_scans(blocks: Iterable[bytes]) -> int:
    """Counts the scans of a JPEG within another file.

    Coded pixels cannot contain the two bytes of the marker. Tables could, so the real number may be
    smaller.

    Args:
      blocks: the JPEG in pieces.
    """
    scans, last = 0, b""
    for block in blocks:
        scans += (last + block).count(b"\xff\xda")
        last = block[-1:]
    return scans


def _is_kept(marker: int, data: bytes) -> bool:
    """Whether an APPn segment or a comment is copied.

    Segments about the coding, or about other pictures in the file, are not copied.
    """
    if marker == 0xE2:
        return not data.startswith((_PICTURES, _GAIN_MAP))
    return marker not in (0xEB, 0xEE) or (marker == 0xEE and not data.startswith(b"Adobe"))


def _name(marker: int, data: bytes) -> str:
    """What warnings call a segment that is not copied; "" if nobody would miss it."""
    return "APP11 (JUMBF, such as content credentials)" if marker == 0xEB else ""


def _pictures(index: bytes) -> int:
    """The number of pictures that the index of a multi-picture file states."""
    try:
        tags = TagFile(io.BytesIO(index))
        return tags.integer(tags.directory(tags.first).entries, _COUNT_OF_PICTURES, 1)
    except Malformed:
        return 1
