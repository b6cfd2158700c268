"""Reads the header of a BMP, and writes a BMP with alpha, resolution and colour.

Pillow does not write these.
"""

import struct
from typing import BinaryIO, NamedTuple

import numpy as np

from train.data.formats.about import (
    MOST_METADATA,
    About,
    Refused,
    check_metadata,
    file_length,
    name_rest,
)

_FILE_HEADER = 14
_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)
_UNCOMPRESSED, _MASKS, _ALPHA_MASKS = 0, 3, 6
_CALIBRATED, _SRGB, _WINDOWS, _EMBEDDED, _LINKED = 0, b"BGRs", b" niW", b"DEBM", b"KNIL"
# Masks of red, green, blue and alpha, for bytes in the order blue, green, red, alpha
_MASKED = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)


# What Pillow reads: bits of a pixel, and the masks of its colours if the file states them
_BITS = (1, 4, 8, 16, 24, 32)
_COLOUR_MASKS = {
    16: ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)),
    24: ((0xFF0000, 0xFF00, 0xFF),),
}
_ALL_MASKS = (
    (0xFF0000, 0xFF00, 0xFF, 0),
    (0xFF000000, 0xFF0000, 0xFF00, 0),
    (0xFF000000, 0xFF00, 0xFF, 0),
    (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
    (0, 0, 0, 0),
)
_CONVERT = "Save it as PNG, or as a BMP of 24 or 32 bits."


class _Header(NamedTuple):
    fixed: bytes  # the header, which begins with the field for its own length
    width: int  # pixels
    height: int  # pixels
    upward: bool  # whether the lowest row comes first
    bits: int  # for each pixel
    compression: int  # the number that the header states
    alpha_mask: int
    start: int  # place of the pixels in the file


def read(file: BinaryIO) -> About:
    """The facts in a BMP's header."""
    header = _parse(file)
    if header is None:
        return About()
    _check(file, header)
    profile = _profile(file, header)
    rows = header.start + -(-header.width * header.bits // 32) * 4 * header.height
    behind = (
        file_length(file) - rows
        if header.compression in (_UNCOMPRESSED, _MASKS, _ALPHA_MASKS)
        else 0
    )
    if len(header.fixed) == 124 and profile:
        behind = 0
    space = header.fixed[56:60]
    lost = [] if space != _LINKED else ["the name of a file with its colour profile"]
    if header.bits == 16 and _states_alpha(header):  # Pillow reads only the colour of such pixels
        lost.append("the alpha of its 16-bit pixels")
    if _undefined(file, header):
        lost.append("the fourth byte of each pixel, whose meaning the file does not state")
    return About(
        width=header.width,
        height=header.height,
        profile=profile,
        # The file, and Pillow's pixels: one byte with a palette, and otherwise four
        buffered=-(-header.bits // 8) + (1 if header.bits <= 8 else 4),
        colour=_colour(header) if len(header.fixed) >= 108 else None,
        not_kept=(*lost, *name_rest(behind if behind > 3 else 0)),
    )


def write(target: BinaryIO, pixels: np.ndarray, source: BinaryIO) -> None:
    """Writes pixels with the resolution, colour and rendering intent of ``source``.

    The pixels are written row by row, so they may be mapped from a file.

    Args:
      target: the file to write.
      pixels: uint8 ``[H, W, C]``, from top to bottom. One channel is grey, three are colour, and
        four are colour and alpha.
      source: the file whose metadata is copied.

    Raises:
      Refused: if the result is larger than the format allows.
    """
    given = _parse(source)
    assert given is not None
    height, width, channels = pixels.shape
    profile = _profile(source, given)
    old = given.fixed
    wide = len(old) in (108, 124) or channels == 4
    header = bytearray(
        (old if len(old) in (108, 124) else old[:40]).ljust(124 if len(old) == 124 else 108, b"\0")
    )
    if len(old) < 40:  # the first version of OS/2, which holds only a size
        header = bytearray(108)
    if len(old) not in (108, 124):  # no colour is stated
        header[40:] = bytes(len(header) - 40)
        header[56:60] = _SRGB
    if not wide:
        header = header[:40]
    palette = (
        b"".join(bytes((level, level, level, 0)) for level in range(256)) if channels == 1 else b""
    )
    row = -(-width * channels // 4) * 4
    start = _FILE_HEADER + len(header) + len(palette)
    length = row * height
    if start + length + len(profile or b"") >= 2**32:
        raise Refused("is too large for BMP once it is restored.")
    struct.pack_into("<IiiHH", header, 0, len(header), width, height, 1, 8 * channels)
    struct.pack_into("<II", header, 16, _MASKS if channels == 4 else _UNCOMPRESSED, length)
    struct.pack_into("<II", header, 32, 256 if channels == 1 else 0, 0)
    if wide:
        header[40:56] = _MASKED if channels == 4 else bytes(16)
    if len(header) == 124:
        offset = len(header) + len(palette) + length if profile else 0
        struct.pack_into("<II", header, 112, offset, len(profile or b""))
        if header[56:60] == _LINKED:
            header[56:60] = _SRGB
    target.write(struct.pack("<2sIHHI", b"BM", start + length + len(profile or b""), 0, 0, start))
    target.write(bytes(header) + palette)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    for y in range(height - 1, -1, -1):
        target.write(
            np.ascontiguousarray(pixels[y][:, order], np.uint8).tobytes().ljust(row, b"\0")
        )
    target.write(profile or b"")


def _parse(file: BinaryIO) -> _Header | None:
    """Parses the header; None if it is incomplete, and then the decoder says what is wrong."""
    file.seek(0)
    begin = file.read(_FILE_HEADER + 4)
    if len(begin) < _FILE_HEADER + 4:
        return None
    start, size = struct.unpack("<II", begin[10:18])
    file.seek(_FILE_HEADER)
    fixed = file.read(size if size in _SIZES else 0)
    if size not in _SIZES or len(fixed) < size:
        return None
    if size == 12:
        width, height, _, bits = struct.unpack("<HHHH", fixed[4:12])
        return _Header(fixed, width, height, True, bits, _UNCOMPRESSED, 0, start)
    width, height, _, bits = struct.unpack("<iiHH", fixed[4:16])
    compression = struct.unpack("<I", fixed[16:20])[0] if size >= 40 else _UNCOMPRESSED
    if size == 64 and compression not in (_UNCOMPRESSED, 1, 2):
        raise Refused("is an OS/2 BMP with a special compression. Save it as PNG.")
    mask = struct.unpack("<I", fixed[52:56])[0] if size in (56, 108, 124) else 0
    return _Header(fixed, abs(width), abs(height), height >= 0, bits, compression, mask, start)


def _check(file: BinaryIO, header: _Header) -> None:
    """Refuses pixels that Pillow does not read, in words that say what they are."""
    if header.bits not in _BITS:
        raise Refused(f"has {header.bits} bits per pixel, which few programs read. {_CONVERT}")
    if header.compression > _MASKS:
        raise Refused(f"has the rare compression {header.compression} of BMP. {_CONVERT}")
    if header.compression != _MASKS:
        return
    file.seek(_FILE_HEADER + 40)
    stated = file.read(16)
    if len(stated) < 16:  # the decoder says what is wrong
        return
    masks = struct.unpack("<4I", stated)
    if len(header.fixed) < 56:  # the header has no mask for alpha
        masks = (*masks[:3], 0)
    known = (
        masks in _ALL_MASKS
        if header.bits == 32
        else masks[:3] in _COLOUR_MASKS.get(header.bits, ())
    )
    if not known:
        raise Refused(
            f"has colours of {', '.join(str(mask.bit_count()) for mask in masks[:3])} bits within "
            f"pixels of {header.bits}, in an order that few programs use. {_CONVERT}"
        )


def _states_alpha(header: _Header) -> bool:
    return header.compression in (_MASKS, _ALPHA_MASKS) and header.alpha_mask != 0


def _fourth_bytes(file: BinaryIO, header: _Header, top: int, rows: int) -> np.ndarray:
    """The highest byte of each 32-bit pixel in some rows; fewer bytes if the file is truncated.

    Args:
      file: the BMP.
      header: its header.
      top: the first row.
      rows: number of rows.

    Returns:
      One byte for each pixel.
    """
    file.seek(header.start + 4 * header.width * top)
    content = file.read(4 * header.width * rows)
    return np.frombuffer(content, np.uint8)[3::4]


def _undefined(file: BinaryIO, header: _Header) -> bool:
    """Whether 32-bit pixels have different values in the byte that has no stated meaning."""
    if header.bits != 32 or _states_alpha(header) or not header.width:
        return False
    at_once = max((1 << 22) // (4 * header.width), 1)
    seen = set[int]()
    for top in range(0, header.height, at_once):
        found = _fourth_bytes(file, header, top, min(at_once, header.height - top))
        if not found.size:
            break
        seen |= {int(found.min()), int(found.max())}
        if len(seen) > 1:
            return True
    return False


def _profile(file: BinaryIO, header: _Header) -> bytes | None:
    if len(header.fixed) != 124 or header.fixed[56:60] != _EMBEDDED:
        return None
    offset, length = struct.unpack("<II", header.fixed[112:120])
    check_metadata(length)
    file.seek(_FILE_HEADER + offset)
    return file.read(min(length, MOST_METADATA)) or None


def _colour(header: _Header) -> str | None:
    if header.fixed[56:60] in (_SRGB, _WINDOWS, _EMBEDDED, _LINKED):
        return None
    gammas = [value / 65536 for value in struct.unpack("<3I", header.fixed[96:108])]
    if not any(gammas) or all(
        abs(gamma - 2.2) < 0.05 or abs(1 / gamma - 2.2) < 0.05 for gamma in gammas if gamma
    ):
        return None
    return f"its gamma is {gammas[0]:g} in red, {gammas[1]:g} in green and {gammas[2]:g} in blue"
