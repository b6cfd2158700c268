"""Reads what the table in docs/photographs.md lists with Pillow and libvips, not our readers."""

import io
import struct
from collections.abc import Callable

import numpy as np
import PIL.Image
import pyvips

from tests.train.data.hostile_images import XMP, png_chunks

Read = Callable[[bytes, str], object]


def _opened(content: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(content))


def _array(content: bytes, name: str) -> object:
    if name in ("PNG", "TIFF"):
        return pyvips.Image.new_from_buffer(content, "").numpy()
    return np.asarray(_opened(content))


def _mode(content: bytes, name: str) -> object:
    return _opened(content).mode


def _info(*keys: str) -> Read:
    return lambda content, name: {
        key: value for key, value in _opened(content).info.items() if key in keys
    }


def _profile(content: bytes, name: str) -> object:
    if name == "BMP":  # from which Pillow does not read it
        offset, length = struct.unpack("<II", content[14 + 112 : 14 + 120])
        return content[14 + offset :][:length]
    return _opened(content).info["icc_profile"]


def _orientation(content: bytes, name: str) -> object:
    return _opened(content).getexif()[274]


def _exif(content: bytes, name: str) -> object:
    found = _opened(content).getexif()
    tags = {tag: value for tag, value in found.items() if tag in (271, 274)}
    exposure, place = found.get_ifd(34665).get(33434), found.get_ifd(34853).get(1)
    assert exposure is not None and place is not None
    return tags, exposure, place


def _beside(content: bytes, name: str) -> object:
    """Everything except pixels, without using our own readers."""
    if name == "PNG":
        return [
            chunk for chunk in png_chunks(content) if chunk[0] not in (b"IHDR", b"IDAT", b"IEND")
        ]
    if name == "JPEG":
        return _opened(content).applist + [_opened(content).info.get("comment")]
    if name == "TIFF":
        tags = _opened(content).tag_v2
        coding = (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 338, 339)
        return {tag: value for tag, value in tags.items() if tag not in coding}
    if name == "BMP":
        header = content[14:54] + content[14 + 56 : 14 + 112]
        return header[24:32], header[40:]
    found, place = [], 12
    while place < len(content):
        kind, length = struct.unpack("<4sI", content[place : place + 8])
        found.append((kind, content[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    return [chunk for chunk in found if not chunk[0].startswith(b"VP8")]


def _resolution(content: bytes, name: str) -> object:
    if name == "BMP":
        return content[14 + 24 : 14 + 32]
    return _info("dpi", "resolution", "jfif_density", "jfif_unit", "aspect")(content, name)


def _no_resolution(content: bytes, name: str) -> object:
    """Pillow invents a resolution only for TIFF, for which the tags themselves are checked."""
    if name == "TIFF":
        return [tag in _opened(content).tag_v2 for tag in (282, 283, 296)]
    return [_resolution(content, name)]


READERS: dict[str, Read] = {
    "16 bits for each channel": _array,
    "grey in one channel": _mode,
    "alpha": _array,
    "colour under full transparency": _array,
    "a fourth channel of unstated meaning": lambda content, name: (
        _opened(content).tag_v2[338],
        np.asarray(_array(content, name)).tolist(),
    ),
    "orientation": _orientation,
    "orientation stated only in XMP": lambda content, name: content.count(XMP),
    "ICC profile": _profile,
    "EXIF, including the GPS position": _exif,
    "an ending that belongs to another format": _mode,
    "resolution": _resolution,
    "absence of a stated resolution": _no_resolution,
}
for _what in (
    "colour without a profile",
    "XMP",
    "IPTC",
    "comments and text",
    "metadata after the pixels",
    "data that only one program understands",
):
    READERS[_what] = _beside
