"""Reads the chunks of a PNG, and copies them to another.

Everything that describes the picture, and not its coding, is copied byte for byte.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from train.data.formats.about import (
    MOST_METADATA,
    About,
    Refused,
    check_metadata,
    copy_bytes,
    file_length,
    name_rest,
    orientation_in_xmp,
)
from train.data.formats.tags import check_exif, read_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_MOST_CHUNKS = 300_000
# Chunks that say how the pixels are coded. The written file has its own. iDOT is Apple's index into
# the coded pixels.
_CODING = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iDOT")
# Registered chunks that are also true for the new pixels. PNG's own rule decides about chunks that
# are not listed: the fourth letter of a name is lower case if an editor that does not know the
# chunk may copy it.
_KEPT = (
    *(
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"cICP",
        b"mDCV",
        b"cLLI",
        b"mDCv",
        b"cLLi",
        b"sBIT",
        b"pHYs",
        b"bKGD",
    ),
    *(
        b"sPLT",
        b"eXIf",
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"tIME",
        b"oFFs",
        b"pCAL",
        b"sCAL",
        b"gIFg",
        b"gIFx",
        b"sTER",
    ),
)
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette is written as RGB
_SRGB_GAMMA = range(45000, 46001)
_SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_SRGB_CODE_POINTS = (1, 13)  # primaries and transfer function of H.273


class _PngChunk(NamedTuple):
    name: bytes
    start: int  # place of its length field in the file
    length: int  # bytes of its data


class _Png(NamedTuple):
    chunks: list[_PngChunk]
    end: int  # place behind the last complete chunk
    coded: int  # index of the first IDAT in chunks


def read(file: BinaryIO) -> About:
    """The facts in a PNG's chunks, including those after the pixels."""
    length = file_length(file)
    png = _parse(file)
    beside = [chunk for chunk in png.chunks if chunk.name != b"IDAT"]
    check_metadata(sum(chunk.length for chunk in beside))
    held = {chunk.name: chunk for chunk in reversed(beside)}
    header = _data(file, held.get(b"IHDR"))
    if len(header) != 13:
        return About()
    width, height, bits, colour_type, *_, interlaced = struct.unpack(">IIBBBBB", header)
    channels = _CHANNELS.get(colour_type, 4) + (b"tRNS" in held)
    frames = _data(file, held.get(b"acTL"))
    if len(frames) == 8 and (count := struct.unpack(">I", frames[:4])[0]) > 1:
        raise Refused(f"is an animation of {count} pictures. Save one photograph per file.")
    profile, exif, xmp = _text(file, beside, held)
    check_exif(exif)
    described = [chunk for chunk in beside if chunk.name not in _CODING]
    lost = [
        chunk.name.decode("latin-1") for chunk in described if not _is_kept(file, chunk, header)
    ]
    return About(
        width=width,
        height=height,
        orientation=read_orientation(exif) or orientation_in_xmp(xmp),
        profile=profile,
        colour=None if profile is not None else _colour(file, held),
        not_kept=(*dict.fromkeys(lost), *(name_rest(length - png.end) if b"IEND" in held else ())),
        # The first row has pixels of the sixth pass of seven, near the end of the file.
        buffered=channels * max(bits // 8, 1) if interlaced else 0,
    )


def copy(source: BinaryIO, encoded: BinaryIO, target: BinaryIO) -> None:
    """Writes the pixels of ``encoded`` with the metadata of ``source``.

    Args:
      source: the file whose metadata is copied.
      encoded: a PNG with the new pixels.
      target: the file to write.
    """
    given, written = _parse(source), _parse(encoded)
    old, new = (_data(file, png.chunks[0]) for file, png in ((source, given), (encoded, written)))
    copy_bytes(encoded, target, 0, len(SIGNATURE) + 25)  # the header, always the first chunk
    for chunk in given.chunks[: given.coded]:
        if chunk.name not in _CODING and _is_kept(source, chunk, old):
            _write(target, chunk.name, _for_new_header(chunk.name, _data(source, chunk), new))
    for chunk in written.chunks:
        if chunk.name == b"IDAT":
            copy_bytes(encoded, target, chunk.start, chunk.length + 12)
    for chunk in given.chunks[given.coded :]:
        if chunk.name not in _CODING and _is_kept(source, chunk, old):
            _write(target, chunk.name, _data(source, chunk))
    _write(target, b"IEND", b"")


def _parse(file: BinaryIO) -> _Png:
    """All complete chunks. The decoder says what is wrong with incomplete ones."""
    length = file_length(file)
    chunks: list[_PngChunk] = []
    place, coded = len(SIGNATURE), -1
    while True:
        file.seek(place)
        start = file.read(8)
        if len(start) < 8:
            break
        size, name = struct.unpack(">I4s", start)
        if place + 12 + size > length:
            break
        if name == b"IDAT" and coded < 0:
            coded = len(chunks)
        chunks.append(_PngChunk(name, place, size))
        place += 12 + size
        if name == b"IEND":
            break
        if len(chunks) > _MOST_CHUNKS:
            raise Refused(f"has more than {_MOST_CHUNKS} chunks. Save it with another program.")
    return _Png(chunks, place, coded if coded >= 0 else len(chunks))


def _data(file: BinaryIO, chunk: _PngChunk | None) -> bytes:
    if chunk is None:
        return b""
    file.seek(chunk.start + 8)
    return file.read(chunk.length)


def _write(target: BinaryIO, name: bytes, data: bytes) -> None:
    target.write(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    )


def _is_kept(file: BinaryIO, chunk: _PngChunk, header: bytes) -> bool:
    """Whether a chunk that describes the picture is copied."""
    name = chunk.name
    file.seek(chunk.start + 4)
    content = file.read(chunk.length + 8)
    if struct.unpack(">I", content[-4:])[0] != zlib.crc32(content[:-4]):
        return False
    if name == b"bKGD":  # an index into the palette, or a value with the stored bits
        return header[9] != 3 and header[8] >= 8
    return name in _KEPT or bool(name[3] & 0x20)


def _for_new_header(name: bytes, data: bytes, header: bytes) -> bytes:
    """A chunk's data as the new header needs it.

    If one colour meant transparency, the new pixels have a channel for it instead, and sBIT needs
    one more byte.
    """
    channels = _CHANNELS[header[9]]
    if name == b"sBIT" and len(data) == channels - 1:
        return data + header[8:9]
    return data


def _text(
    file: BinaryIO, beside: Sequence[_PngChunk], held: dict[bytes, _PngChunk]
) -> tuple[bytes | None, bytes, bytes]:
    """The profile, EXIF and XMP, which may be in compressed chunks.

    The sizes of decompressed chunks are added up, because a few bytes may expand to gigabytes.

    Args:
      file: the PNG.
      beside: all chunks except the pixels.
      held: the first of these chunks with each name.

    Returns:
      The profile, or None; EXIF and XMP, or empty bytes.
    """
    exif, xmp, left = _data(file, held.get(b"eXIf")), b"", MOST_METADATA
    profile: bytes | None = None
    for chunk in beside:
        if chunk.name not in (b"iCCP", b"zTXt", b"iTXt", b"tEXt"):
            continue
        keyword, _, rest = _data(file, chunk).partition(b"\0")
        if chunk.name == b"iTXt":
            compressed, content = (
                rest[:1] == b"\1",
                rest[2:].partition(b"\0")[2].partition(b"\0")[2],
            )
        else:
            compressed = chunk.name != b"tEXt"
            content = rest[1:] if compressed else rest
        if compressed:
            content = _inflated(content, left)
            left -= len(content)
            if left <= 0:
                check_metadata(MOST_METADATA + 1)
        if chunk.name == b"iCCP":
            profile = content
        elif keyword == b"XML:com.adobe.xmp":
            xmp = content
        # ImageMagick stored EXIF in this way before eXIf existed.
        elif keyword == b"Raw profile type exif" and not exif:
            exif = _from_hexadecimal(content)
    return profile, exif, xmp


def _inflated(content: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, most)
    except zlib.error:
        return b""


def _from_hexadecimal(content: bytes) -> bytes:
    """Decodes hexadecimal text that follows a name and a length, each on its own line."""
    try:
        return bytes.fromhex(b"".join(content.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _colour(file: BinaryIO, held: dict[bytes, _PngChunk]) -> str | None:
    """How the colour differs from sRGB, in words, or None.

    The first of cICP, sRGB, and gAMA with cHRM counts, as for decoders.
    """
    points = _data(file, held.get(b"cICP"))
    if len(points) == 4:
        primaries, transfer = points[0], points[1]
        if (primaries, transfer) == _SRGB_CODE_POINTS:
            return None
        return (
            f"its colour has the code points {primaries} (primaries) and {transfer} (transfer "
            "function) of H.273"
        )
    if b"sRGB" in held:
        return None
    words = []
    gamma = _data(file, held.get(b"gAMA"))
    if len(gamma) == 4 and (value := struct.unpack(">I", gamma)[0]) not in _SRGB_GAMMA:
        words.append(f"its gamma is {value / 100000:g} instead of sRGB's 0.45455")
    points = _data(file, held.get(b"cHRM"))
    if len(points) == 32:
        found = struct.unpack(">8I", points)
        if max(abs(a - b) for a, b in zip(found, _SRGB_CHROMATICITIES, strict=True)) > 100:
            words.append("its primaries are not those of sRGB")
    return " and ".join(words) or None
