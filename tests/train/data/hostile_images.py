"""Photographs with metadata, hostile files, and the readers that they are tested with."""

import functools
import io
import random
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.PngImagePlugin

from tests.mutations import mutated
from train.data.images import read_image
from train.data.photograph_file import examine, write_metadata
from train.inference.files.image_files import open_stored

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
KINDS = ("PNG", "JPEG", "TIFF", "WEBP")


@functools.cache
def profile() -> bytes:
    """A small ICC profile."""
    return PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


def exif_block(orientation: int = 6) -> PIL.Image.Exif:
    """EXIF with tags of a camera, in its two directories, and a place."""
    block = PIL.Image.Exif()
    block[274] = orientation
    block[271] = "Camera's maker"
    block[34665] = {33434: (1, 250)}
    block[34853] = {1: "N"}
    return block


def full(kind: str, array: np.ndarray) -> bytes:
    """A file with EXIF, XMP, a profile and a resolution, if the format supports them."""
    file = io.BytesIO()
    options: dict[str, object] = {
        "exif": exif_block().tobytes(),
        "icc_profile": profile(),
        "dpi": (300, 300),
    }
    if kind == "PNG":
        text = PIL.PngImagePlugin.PngInfo()
        text.add_text("Creation Time", "today")
        text.add_itxt("Description", "\u732b", zip=True)
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = text
    elif kind == "TIFF":
        options |= {"tiffinfo": {270: "harbour", 315: "N. N.", 700: XMP}, "compression": "tiff_lzw"}
        del options["dpi"]
    elif kind == "BMP":
        options = {"dpi": (300, 300)}
    else:
        options |= {"xmp": XMP, "comment": b"a comment"} if kind == "JPEG" else {"xmp": XMP}
    PIL.Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def restore_header(path: Path) -> None:
    """What ``restore`` reads from a file in addition to its pixels.

    That is the header, and all that it writes again.
    """
    stored = open_stored(path)
    if stored.photograph.kind == "BMP":
        return
    blank = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(blank, stored.photograph.kind)
    with path.open("rb") as source:
        written = io.BytesIO()
        write_metadata(stored.photograph, source, blank, written)
    examine(io.BytesIO(written.getvalue()), "what was written")


def restore_pixels(path: Path) -> None:
    """What ``restore`` and ``fit`` read from a file's pixels."""
    read_image(path)


@functools.lru_cache(maxsize=2)  # the same chunk may be repeated 300,000 times
def png_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a complete PNG."""
    place, found = 8, []
    while place < len(content):
        length, name = struct.unpack(">I4s", content[place : place + 8])
        found.append((name, content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png_of(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG with these chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def mutated_photograph(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Damage inside a PNG's chunks, with right checksums, and any damage elsewhere."""
    if not data.startswith(b"\x89PNG") or rng.random() < 0.25:
        return mutated(rng, data, others)
    chunks = png_chunks(data)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(chunks))
        name, content = chunks[at]
        way = rng.randrange(6)
        if way == 0:
            chunks.insert(rng.randrange(len(chunks)), chunks[at])
        elif way == 1:
            chunks.insert(rng.randrange(len(chunks)), chunks.pop(at))
        elif way == 2:
            chunks[at] = (
                rng.choice((b"acTL", b"eXIf", b"iTXt", b"zTXt", b"iCCP", b"sBIT", b"bKGD")),
                content,
            )
        else:
            chunks[at] = (name, mutated(rng, content, [content]) if content else rng.randbytes(9))
    return png_of(chunks)


def tiff_of(
    entries: Sequence[tuple[int, int, int, int]], following: int = 0, behind: bytes = b""
) -> bytes:
    """A classic TIFF of one directory.

    Each entry has a tag, a type, a number of values and four bytes.
    """
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in sorted(entries)
    )
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + behind


def plain_tiff(width: int = 4, height: int = 4, **changed: int) -> list[tuple[int, int, int, int]]:
    """The entries of an uncompressed grey TIFF; ``t277=5`` changes or adds a tag."""
    tags = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 200,
        277: 1,
        278: height,
        279: width * height % 2**32,
    }
    tags |= {int(name[1:]): value for name, value in changed.items()}
    return [(tag, 4, 1, value) for tag, value in tags.items()]


@functools.cache
def hostile_files() -> dict[str, tuple[bytes, str]]:
    """Files that claim far more than they are, by name.

    Each with a part of what must be said of it, or "" if it is read.
    """
    array = np.zeros((4, 4, 3), np.uint8)
    first, *rest = png_chunks(full("PNG", array))
    start, end = [chunk for chunk in rest if chunk[0] == b"IDAT"], (b"IEND", b"")

    def png(*chunks: tuple[bytes, bytes], header: tuple[bytes, bytes] = first) -> bytes:
        return png_of([header, *chunks, *start, end])

    bomb = zlib.compress(bytes(70_000_000), 9)
    small = zlib.compress(bytes(1_000_000), 9)
    overlapping = struct.pack("<4sIH", b"II*\0", 8, 3000)
    for tag in range(3000):
        overlapping += struct.pack("<HHII", 1000 + tag, 7, 30_000, 8)
    jpeg = full("JPEG", array)
    webp, large = full("WEBP", array), struct.pack("<4sI", b"EXIF", 70_000_000)
    bmp = bytearray(full("BMP", array))
    struct.pack_into("<ii", bmp, 18, 2**31 - 1, 2**31 - 1)
    return {
        "PNG of 3,600 megapixels": (
            png(header=(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))),
            "3600 megapixels",
        ),
        "BMP of 4e18 pixels": (bytes(bmp), "megapixels"),
        "TIFF of 1.8e19 pixels": (tiff_of(plain_tiff(2**32 - 1, 2**32 - 1)), "megapixels"),
        "profile that inflates": (png((b"iCCP", b"a\0\0" + bomb)), "more than 64 MB of metadata"),
        "texts that inflate": (
            png(*[(b"zTXt", b"a\0\0" + small)] * 100),
            "more than 64 MB of metadata",
        ),
        "international texts that inflate": (
            png(*[(b"iTXt", b"a\0\1\0\0\0" + small)] * 100),
            "more than 64 MB of metadata",
        ),
        "chunks without end": (png(*[(b"teSt", b"")] * 300_001), "more than 300000 chunks"),
        "EXIF whose tags overlap": (
            png((b"eXIf", overlapping + bytes(30_000))),
            "EXIF whose tags overlap",
        ),
        "EXIF of 70 MB": (
            b"RIFF"
            + struct.pack("<I", len(webp) + 70_000_000)
            + webp[8:]
            + large
            + bytes(70_000_000),
            "more than 64 MB of metadata",
        ),
        "JPEG that fills up its markers": (b"\xff\xd8" + b"\xff" * 5_000_000 + jpeg[2:], ""),
        "JPEG with 66 MB of comments": (
            b"\xff\xd8" + (b"\xff\xfe\xff\xff" + bytes(65533)) * 1020 + jpeg[2:],
            "more than 64 MB of metadata",
        ),
        "TIFF in tiles of 1e9 pixels": (
            tiff_of(plain_tiff(t322=32000, t323=32000, t324=200, t325=16)),
            "in tiles of 1024 megapixels",
        ),
        "TIFF of 65,535 channels": (tiff_of(plain_tiff(t277=65535)), "has 65535 channels"),
        "TIFF whose pages go round": (tiff_of(plain_tiff(), following=8, behind=bytes(100)), ""),
        "TIFF of 2,000 pages": (_pages(2000), "has more than 1000 pages"),
        "TIFF whose pages overlap": (_overlapping_pages(), "has more than 1000 pages"),
        "TIFF whose tags overlap": (
            tiff_of([*plain_tiff(), *_overlapping], behind=bytes(70_000)),
            "more than 64 MB of",
        ),
        "TIFF whose EXIF overlaps": (_with_exif(_overlapping), "more than 64 MB of metadata"),
        "TIFF with a tag of 4 GB": (
            tiff_of([*plain_tiff(), (34675, 7, 2**32 - 1, 8)], behind=bytes(100)),
            "",
        ),
    }


_overlapping = [(40000 + i, 7, 60_000, 300) for i in range(1500) if 40000 + i != 40965]


def _with_exif(entries: Sequence[tuple[int, int, int, int]]) -> bytes:
    """A TIFF whose directory of EXIF holds these entries."""
    inner = (
        struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        + bytes(4)
    )
    place = 8 + 2 + 12 * (len(plain_tiff()) + 1) + 4
    return tiff_of([*plain_tiff(), (34665, 4, 1, place)], behind=inner + bytes(70_000))


def _overlapping_pages() -> bytes:
    """A TIFF of 1,001 directories of 60,000 tags each, which share most of their bytes."""
    first = tiff_of(plain_tiff(), following=1024).ljust(1024, b"\0")
    content = bytearray(16 * 1001 + 2 + 12 * 60_000 + 16)
    for i in range(1001):
        place, end = 16 * i, 16 * i + 2 + 12 * 60_000
        struct.pack_into("<H", content, place, 60_000)
        struct.pack_into("<I", content, end, 1024 + place + 16)
    return first + bytes(content)


def _pages(count: int) -> bytes:
    """A TIFF of many directories, all of the same pixels."""
    entries = sorted(plain_tiff())
    length = 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    content = b"II*\0" + struct.pack("<I", 8)
    for i in range(count):
        content += directory + struct.pack("<I", 8 + length * (i + 1) if i + 1 < count else 0)
    return content
