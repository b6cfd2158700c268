"""What every format's reader returns: the facts in a file's header, before pixels are decoded."""

import re
from dataclasses import dataclass
from typing import BinaryIO

# Bytes; more metadata is refused. The largest real profiles and previews stay below a tenth of it.
MOST_METADATA = 64_000_000

_BLOCK = 1 << 20


class Refused(ValueError):
    """The file cannot be read. The text continues a sentence that begins with the file's name."""


@dataclass(frozen=True)
class About:
    """What a file says about itself.

    Sizes are those of the stored pixels. Sentences do not name the file and have no full stop.
    """

    width: int = 0  # pixels; 0 if the header ends before it
    height: int = 0  # pixels; 0 if the header ends before it
    orientation: int = 1  # as EXIF and TIFF define it, 1 to 8
    profile: bytes | None = None  # an ICC profile
    # A sentence: how the colour differs from sRGB, if the file says so without a profile
    colour: str | None = None
    # Names of what cannot be written again, or would be wrong for different pixels
    not_kept: tuple[str, ...] = ()
    # Whether the decoder always raises an error, and not a warning, if pixels are damaged
    checked: bool = False
    previews: int = 0  # number of further pages, each a smaller copy of the first
    # (place, bytes) that the decoder must read instead of the bytes in the file
    repairs: tuple[tuple[int, bytes], ...] = ()
    # Bytes for each pixel that the decoder holds until the last row, in addition to the rows that
    # are requested
    buffered: int = 0
    said: tuple[str, ...] = ()  # sentences: what else a person should know


def orientation_in_xmp(xmp: bytes) -> int:
    """The orientation that XMP states. It counts only if EXIF and TIFF do not state one."""
    found = re.search(rb"""tiff:Orientation(?:=["']|>)\s*([1-8])""", xmp[: 1 << 20])
    return int(found[1]) if found else 1


def file_length(file: BinaryIO) -> int:
    """The length of a file in bytes."""
    return file.seek(0, 2)


def check_metadata(length: int) -> None:
    """Refuses more bytes of metadata than any photograph has, before they are read."""
    if length > MOST_METADATA:
        raise Refused(
            f"has more than {MOST_METADATA // 1_000_000} MB of metadata. Remove the metadata, or "
            "leave the file out."
        )


def copy_bytes(source: BinaryIO, target: BinaryIO, start: int, length: int) -> None:
    """Copies a part of one file to the end of another.

    Args:
      source: the file to read.
      target: the file to append to.
      start: the place where the part begins.
      length: number of bytes.

    Raises:
      OSError: if the file ends before the part does.
    """
    source.seek(start)
    while length > 0:
        block = source.read(min(length, _BLOCK))
        if not block:
            raise OSError(f"{length} bytes are missing at the end of an encoded photograph")
        target.write(block)
        length -= len(block)


def name_rest(length: int) -> tuple[str, ...]:
    """What warnings call the bytes that follow a picture in its file, if there are any."""
    if length <= 0:
        return ()
    return (f"{length} byte{'s' * (length != 1)} that follow{'s' * (length == 1)} the picture",)
