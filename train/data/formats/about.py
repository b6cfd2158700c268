"""What every format's reader gives: the facts that a file states before a pixel is decoded."""

import re
from dataclasses import dataclass
from typing import BinaryIO

# Metadata beyond this is refused. The largest honest profiles and previews stay below a tenth of
# it.
MOST_METADATA = 64_000_000

_BLOCK = 1 << 20


class Refused(ValueError):
    """The file cannot be read. The reason continues a sentence that begins with its name."""


@dataclass(frozen=True)
class About:
    """What a file says of itself.

    Sizes are those of the stored pixels. Sentences leave out the file's name.
    """

    width: int = 0  # 0: the header does not get that far
    height: int = 0
    orientation: int = 1  # of EXIF and TIFF, 1 to 8
    profile: bytes | None = None  # of ICC
    colour: str | None = None  # how it differs from sRGB, if the file says so without a profile
    # What cannot be written again, or would be wrong beside other pixels
    not_kept: tuple[str, ...] = ()
    checked: bool = (
        False  # whether what harms the pixels is an error to the decoder, and never a mere warning
    )
    previews: int = 0  # further pages, each with a smaller copy of the photograph on the first
    # What the decoder must read in place of some bytes, and where
    repairs: tuple[tuple[int, bytes], ...] = ()
    said: tuple[str, ...] = ()  # what else a person should know


def orientation_in_xmp(xmp: bytes) -> int:
    """The orientation that XMP states; it counts if EXIF and TIFF state none."""
    found = re.search(rb"""tiff:Orientation(?:=["']|>)\s*([1-8])""", xmp[: 1 << 20])
    return int(found[1]) if found else 1


def file_length(file: BinaryIO) -> int:
    """The length of a file."""
    return file.seek(0, 2)


def check_metadata(length: int) -> None:
    """Refuses more metadata than any photograph has, before it is read."""
    if length > MOST_METADATA:
        raise Refused(
            f"has more than {MOST_METADATA // 1_000_000} MB of metadata: remove the metadata, or "
            "leave the file out."
        )


def copy_bytes(source: BinaryIO, target: BinaryIO, start: int, length: int) -> None:
    """Copies a part of one file to the end of another.

    Args:
      source: the file to read.
      target: the file to append to.
      start: where the part begins.
      length: of the part, in bytes.

    Raises:
      OSError: if the part is not all there.
    """
    source.seek(start)
    while length > 0:
        block = source.read(min(length, _BLOCK))
        if not block:
            raise OSError(f"{length} bytes are missing at the end of an encoded photograph")
        target.write(block)
        length -= len(block)


def name_rest(length: int) -> tuple[str, ...]:
    """How to name what follows a picture in its file."""
    return (f"{length} bytes that follow the picture",) if length > 0 else ()
