"""Reads the RIFF chunks of a WebP, and copies them to another.

Everything that describes the picture, and not its coding, is copied byte for byte.
"""

import struct
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
from train.data.formats.tags import check_exif, read_orientation

_CODING = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
_CREDENTIALS = b"C2PA"  # content credentials, which vouch for the old pixels
_FLAGS = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
_ALPHA = 0x10
_TURNING = (b"EXIF", b"XMP ")  # chunks that may state an orientation
# Bytes for each pixel that the decoder holds: it decodes the whole picture at once, and if it is
# without loss, from numbers of four bytes.
_HELD, _HELD_WITHOUT_LOSS = 4, 8
_MOST_CHUNKS = 10_000
_MOST_BYTES = 2**32 - 2


class _WebpChunk(NamedTuple):
    name: bytes
    start: int  # place in the file
    length: int  # bytes of data


def read(file: BinaryIO) -> About:
    """The facts in a WebP's chunks."""
    chunks, end = _parse(file)
    beside = [chunk for chunk in chunks if chunk.name not in _CODING]
    check_metadata(sum(chunk.length for chunk in beside))
    frames = sum(chunk.name == b"ANMF" for chunk in chunks)
    if frames > 1:
        raise Refused(f"is an animation of {frames} pictures. Save one photograph per file.")
    held = {chunk.name: chunk for chunk in reversed(chunks)}
    flags = _stated_flags(file, held)
    exif, xmp = (_data(file, held.get(name)) if flags & _FLAGS[name] else b"" for name in _TURNING)
    check_exif(exif)
    width, height = _size(file, held)
    return About(
        width=width,
        height=height,
        orientation=read_orientation(exif) or orientation_in_xmp(xmp),
        profile=_data(file, held[b"ICCP"]) if b"ICCP" in held and flags & _FLAGS[b"ICCP"] else None,
        buffered=_HELD_WITHOUT_LOSS if b"VP8L" in held else _HELD,
        not_kept=(*(["C2PA"] if _CREDENTIALS in held else []), *name_rest(file_length(file) - end)),
    )


def copy(source: BinaryIO, encoded: BinaryIO, target: BinaryIO) -> None:
    """Writes the pixels of ``encoded`` with the metadata of ``source``.

    Args:
      source: the file whose metadata is copied.
      encoded: a WebP with the new pixels.
      target: the file to write.

    Raises:
      Refused: if the result is longer than the format allows.
    """
    given = [chunk for chunk in _parse(source)[0] if chunk.name not in (*_CODING, _CREDENTIALS)]
    pixels = [chunk for chunk in _parse(encoded)[0] if chunk.name in (b"VP8 ", b"VP8L", b"ALPH")]
    held = {chunk.name: chunk for chunk in pixels}
    width, height = _size(encoded, held)
    names = [chunk.name for chunk in given]
    before = {chunk.name: chunk for chunk in reversed(_parse(source)[0])}
    flags = sum(_FLAGS.get(name, 0) for name in set(names)) & _stated_flags(source, before)
    if b"ALPH" in held or (b"VP8L" in held and _data(encoded, held[b"VP8L"], most=5)[4] & 0x10):
        flags |= _ALPHA
    profile = [chunk for chunk in given if chunk.name == b"ICCP"]
    others = [chunk for chunk in given if chunk.name != b"ICCP"]
    parts = [(source, chunk) for chunk in profile] + [(encoded, chunk) for chunk in pixels]
    parts += [(source, chunk) for chunk in others]
    head = (
        struct.pack("<4sIB3x", b"VP8X", 10, flags) + _three(width - 1) + _three(height - 1)
        if given
        else b""
    )
    length = 4 + len(head) + sum(8 + chunk.length + chunk.length % 2 for _, chunk in parts)
    if length > _MOST_BYTES:
        raise Refused("is too long for WebP once it is restored.")
    target.write(b"RIFF" + struct.pack("<I", length) + b"WEBP" + head)
    for file, chunk in parts:
        copy_bytes(file, target, chunk.start, 8 + chunk.length)
        target.write(bytes(chunk.length % 2))


def _parse(file: BinaryIO) -> tuple[list[_WebpChunk], int]:
    """All complete chunks, and the place where they end.

    The decoder says what is wrong with incomplete ones.
    """
    whole = file_length(file)
    file.seek(4)
    end = min(whole, 8 + int.from_bytes(file.read(4), "little"))
    chunks: list[_WebpChunk] = []
    place = 12
    while place + 8 <= end:
        file.seek(place)
        name, length = struct.unpack("<4sI", file.read(8))
        if place + 8 + length > end:
            break
        chunks.append(_WebpChunk(name, place, length))
        place += 8 + length + length % 2
        if len(chunks) > _MOST_CHUNKS:
            raise Refused(f"has more than {_MOST_CHUNKS} chunks. Save it with another program.")
    return chunks, max(end, min(place, whole))


def _data(file: BinaryIO, chunk: _WebpChunk | None, *, most: int = 1 << 32) -> bytes:
    if chunk is None:
        return b""
    file.seek(chunk.start + 8)
    return file.read(min(chunk.length, most))


def _stated_flags(file: BinaryIO, held: dict[bytes, _WebpChunk]) -> int:
    """The flags for chunks of metadata. Decoders ignore a chunk whose flag is not set."""
    return (_data(file, held.get(b"VP8X"), most=1) or b"\0")[0]


def _size(file: BinaryIO, held: dict[bytes, _WebpChunk]) -> tuple[int, int]:
    """Width and height, from the first complete chunk with a size; (0, 0) if there is none."""
    if len(start := _data(file, held.get(b"VP8X"), most=10)) == 10:
        return 1 + int.from_bytes(start[4:7], "little"), 1 + int.from_bytes(start[7:10], "little")
    if len(start := _data(file, held.get(b"VP8 "), most=10)) == 10:
        width, height = struct.unpack("<HH", start[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if len(start := _data(file, held.get(b"VP8L"), most=5)) == 5:
        packed = int.from_bytes(start[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return 0, 0


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")
