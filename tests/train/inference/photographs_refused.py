"""A photograph for each cell of the table in docs/photographs.md that a header alone refuses."""

import struct
from collections.abc import Callable

import numpy as np

from tests.train.data.hostile_images import plain_tiff, tiff_of
from tests.train.inference.photographs_with import FORMATS, RGB, bmp, encoded

Make = Callable[[], bytes]


def tiff_of_channels(
    *bits: int, photometric: int = 2, compression: int = 1, kind: int = 1, **tags: int
) -> bytes:
    """A TIFF of 4x4 pixels whose header states these bits, one number for each channel."""
    entries = plain_tiff(4, 4, t259=compression, t262=photometric, t277=len(bits), **tags)
    entries = [entry for entry in entries if entry[0] != 258]
    for tag, values in ((258, bits), (339, (kind,) * len(bits))):
        place = {258: 400, 339: 440}[tag]
        packed = (
            struct.unpack("<I", struct.pack("<2H", *values, *[0] * (2 - len(values))))[0]
            if (len(values) < 3)
            else place
        )
        entries.append((tag, 3, len(values), packed))
    content = tiff_of(entries).ljust(400, b"\0")
    content += struct.pack(f"<{len(bits)}H", *bits).ljust(40, b"\0")
    return content + struct.pack(f"<{len(bits)}H", *[kind] * len(bits)).ljust(4000, b"\0")


def with_frame(*, marker: int = 0xC0, bits: int = 8, height: int = 9) -> bytes:
    """A JPEG whose frame has another marker, number of bits or height."""
    content = bytearray(encoded("JPEG", RGB))
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = marker, bits
    struct.pack_into(">H", content, at + 5, height)
    return bytes(content)


def bmp_of(bits: int, masks: tuple[int, ...] = ()) -> bytes:
    """A BMP whose header states this number of bits, and masks for its colours."""
    content = bytearray(bmp())
    struct.pack_into("<HI", content, 14 + 14, bits, 3 if masks else 0)
    struct.pack_into("<4I", content, 14 + 40, *(masks or (0, 0, 0, 0)))
    return bytes(content)


def _long(name: str) -> bytes:
    return encoded(name, np.zeros((4, 4, 3), np.uint8)) + bytes(260_000_000)


def _scans() -> bytes:
    content = bytearray(encoded("JPEG", RGB, progressive=True))
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    content[end:end] = content[start:end] * 40
    struct.pack_into(">HH", content, content.index(b"\xff\xc2") + 5, 10_000, 10_000)
    return bytes(content)


def _scans_in_tiff(scans: int, side: int) -> bytes:
    jpeg = b"\xff\xda" * scans
    return tiff_of(plain_tiff(side, side, t259=7, t279=len(jpeg))).ljust(200, b"\0") + jpeg


REFUSED: dict[tuple[str, str], Make] = {
    ("integers of 32 or 64 bits, or signed ones", "TIFF"): lambda: tiff_of_channels(
        64, photometric=1
    ),
    ("complex numbers", "TIFF"): lambda: tiff_of_channels(64, photometric=1, kind=6),
    ("10, 12 or 14 bits for each channel", "JPEG"): lambda: with_frame(marker=0xC1, bits=12),
    ("10, 12 or 14 bits for each channel", "TIFF"): lambda: tiff_of_channels(12, 12, 12),
    ("10, 12 or 14 bits for each channel", "BMP"): lambda: bmp_of(
        32, (0x3FF00000, 0xFFC00, 0x3FF, 0)
    ),
    ("fewer than 8 bits in several channels", "TIFF"): lambda: tiff_of_channels(
        4, 4, photometric=3
    ),
    ("fewer than 8 bits in several channels", "BMP"): lambda: bmp_of(16, (0xF00, 0xF0, 0xF, 0)),
    ("2 bits for each pixel", "BMP"): lambda: bmp_of(2),
    ("channels of different numbers of bits", "TIFF"): lambda: tiff_of_channels(5, 6, 5),
    ("CIELAB", "TIFF"): lambda: tiff_of_channels(8, 8, 8, photometric=8),
    ("tiles with separate channels", "TIFF"): lambda: tiff_of_channels(
        8, 8, 8, t284=2, t322=16, t323=16, t324=200, t325=16
    ),
    ("tiles far larger than the picture", "TIFF"): lambda: tiff_of(
        plain_tiff(1, 90_000, t322=4096, t323=4096, t324=200, t325=16)
    ),
    ("lossless with arithmetic coding, hierarchical, or JPEG-LS", "JPEG"): lambda: with_frame(
        marker=0xF7
    ),
    ("a height that is given only after the pixels (DNL)", "JPEG"): lambda: with_frame(height=0),
    ("scans of more than 3,000 megapixels together", "JPEG"): _scans,
    ("scans of more than 3,000 megapixels together", "TIFF"): lambda: _scans_in_tiff(60, 10_000),
    ("more than 100 scans", "TIFF"): lambda: _scans_in_tiff(101, 16),
}
for _name in FORMATS:
    REFUSED["a file far larger than its pixels require", _name] = lambda name=_name: _long(name)

SAID_OF_REFUSED = {
    "integers of 32 or 64 bits, or signed ones": "has 1 channel of 64 bits. Convert it",
    "complex numbers": "has 1 channel of complex numbers. Convert it",
    "10, 12 or 14 bits for each channel": "has 12 bits per|3 channels of 12 bits|10, 10, 10",
    "fewer than 8 bits in several channels": "has 2 channels of 4 bits. Convert|of 4, 4, 4 bits",
    "2 bits for each pixel": "has 2 bits per pixel, which few programs read. Save it as PNG",
    "channels of different numbers of bits": "has 3 channels of different numbers of bits. Convert",
    "CIELAB": "is in CIELAB. Convert it",
    "tiles with separate channels": "has tiles in which the channels are stored separately. Save",
    "tiles far larger than the picture": "has 1x90000 pixels in tiles of 369 megapixels. Save it",
    "lossless with arithmetic coding, hierarchical, or JPEG-LS": "is a JPEG-LS image, .* Convert",
    "a height that is given only after the pixels (DNL)": "states the number of its rows only",
    "scans of more than 3,000 megapixels together": (
        r"has \d+ scans of 10000x10000 pixels, and|JPEGs of up to 60 scans"
    ),
    "a file far larger than its pixels require": (
        "is 260 MB long, and its 4x4 pixels need at most 256"
    ),
}
