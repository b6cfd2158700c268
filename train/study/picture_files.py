"""The files of a study's pictures. Nothing about them may tell which set a picture is from.

So every picture is encoded again, without metadata, and all files of a study have the same length.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from train.data.libvips import pyvips
from train.errors import InputError

_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_EMPTY_CHUNK = 12  # bytes of a PNG chunk without content
# The name of a chunk that readers skip: private, and not to be copied by editors.
_PADDING = b"paDd"


def encode_alike(images: Sequence[np.ndarray]) -> list[bytes]:
    """Encodes pictures as PNG files without metadata, all of the same length.

    Args:
      images: uint8 ``[H, W, 3]``.

    Returns:
      The files. A chunk of zeros before the last one, which readers skip, makes up the length.
    """
    files = [_encode(image) for image in images]
    length = max(map(len, files)) + _EMPTY_CHUNK
    return [_padded(file, length) for file in files]


def _encode(image: np.ndarray) -> bytes:
    picture = pyvips.Image.new_from_array(np.ascontiguousarray(image))
    # "keep" leaves out resolution, time and profile; only the chunks of pixels remain.
    encoded: bytes = picture.write_to_buffer(".png", keep="none", compression=9, filter="all")
    return without_padding(encoded)


def without_padding(file: bytes) -> bytes:
    """A PNG file with nothing but its header, its pixels and its end. InputError: it is cut off."""
    place, chunks = 8, [file[:8]]
    while place < len(file):
        length = int.from_bytes(file[place : place + 4], "big")
        end = place + _EMPTY_CHUNK + length
        if end > len(file):
            raise InputError("A picture of the study is cut off. Restore the study from a copy.")
        if file[place + 4 : place + 8] in (b"IHDR", b"IDAT", b"IEND"):
            chunks.append(file[place:end])
        place = end
    return b"".join(chunks)


def _padded(file: bytes, length: int) -> bytes:
    content = _PADDING + bytes(length - len(file) - _EMPTY_CHUNK)
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return file.removesuffix(_END) + chunk + _END
