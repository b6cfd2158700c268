"""Finds out what a photograph file is and what can be kept of it, for every command.

The first bytes of a file decide what it is, and its name decides nothing: a PNG that is named
``.jpg`` is read as PNG, and restored as PNG under its name. Each format's module reads what
accompanies the pixels, and checks sizes, animations and metadata before anything is decoded.
docs/photographs.md has the whole table.
"""

import io
from dataclasses import dataclass
from pathlib import PurePath
from types import ModuleType
from typing import BinaryIO

import PIL.ImageCms

from train.data.formats import bmp, jpeg, png, tiff, webp
from train.data.formats.about import About, Refused, file_length
from train.errors import InputError

# A file of a few kilobytes can claim to have billions of pixels. The largest cameras of today have
# 150 megapixels.
MAX_MEGAPIXELS = 200
# Bytes that a file may have in addition to its pixels: profiles, previews, a video that follows it
_SPARE = 256_000_000
_MOST_PER_PIXEL = 9  # bytes: four channels of 16 bits, and a little for the coding

KINDS = ("PNG", "JPEG", "TIFF", "BMP", "WebP")
_FORMATS: dict[str, ModuleType] = dict(zip(KINDS, (png, jpeg, tiff, bmp, webp), strict=True))
_NAMED = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
}
SUFFIXES = tuple(_NAMED)  # the endings by which photographs are found in folders

# Each row: the place of some bytes near the start, the bytes, and what they mean.
_STARTS = (
    (0, png.SIGNATURE, "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"BM", "BMP"),
    (8, b"WEBP", "WebP"),
)
_POINTER = "a pointer of Git LFS"
_OTHERS = (
    (0, b"GIF8", "a GIF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftypavis", "an AVIF"),
    (4, b"ftypcrx", "a camera's raw photograph"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftyphev", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (4, b"ftypmsf1", "a HEIC"),
    (4, b"ftyp", "a video"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"II\xbc", "a JPEG XR image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"FUJIFILM", "a camera's raw photograph"),
    (0, b"IIRO", "a camera's raw photograph"),
    (0, b"IIU\0", "a camera's raw photograph"),
    (0, b"\0\0\x01\0", "a Windows icon"),
    (0, b"<svg", "an SVG"),
    (0, b"<!DOC", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"version https://", _POINTER),
    (0, b"P5", "a PGM"),
    (0, b"P6", "a PPM"),
)
LONGEST_START = 16  # bytes at the start of a file that are read to find its kind


@dataclass(frozen=True)
class PhotographFile:
    """A file that may be decoded: its kind, and the facts in its header."""

    kind: str  # one of KINDS
    about: About

    @property
    def orientation(self) -> int:
        """The orientation of the stored pixels, 1 to 8, as EXIF defines it."""
        return self.about.orientation


def detect_kind(start: bytes) -> str | None:
    """Which of ``KINDS`` a file is, by its first bytes; None if it is something else."""
    return _found(start, _STARTS)


def examine(file: BinaryIO, name: str) -> PhotographFile:
    """Finds out what a file is; an :class:`InputError` if it cannot be read as one photograph.

    Only headers are read. Broken headers are left to the decoder, which knows what it can do
    without. A file that is much longer than its pixels can need is refused, because some decoders
    read all of it.
    """
    most = _SPARE + _MOST_PER_PIXEL * MAX_MEGAPIXELS * 1_000_000
    if (length := file_length(file)) > most:
        raise InputError(
            f"{name} is {length / 1e6:.0f} MB long, and the largest photograph that can be read "
            f"needs at most {most / 1e6:.0f} MB. Split it into smaller files, or leave it out."
        )
    file.seek(0)
    start = file.read(LONGEST_START)
    if not start:
        raise InputError(f"{name} is empty.")
    kind = detect_kind(start)
    if kind is None:
        other = _found(start, _OTHERS)
        if other == _POINTER:
            raise InputError(
                f"{name} is {_POINTER}, and the photograph itself is not here. Get it with "
                "'git lfs pull'."
            )
        if other is None:
            raise InputError(
                f"{name} cannot be read as a photograph: it is not PNG, JPEG, TIFF, BMP or WebP. "
                "Convert it, or leave it out."
            )
        raise InputError(
            f"{name} is {other}, not PNG, JPEG, TIFF, BMP or WebP. Convert it, or leave it out."
        )
    try:
        about = _FORMATS[kind].read(file)
    except Refused as error:
        raise InputError(f"{name} {error}") from None
    check_size(about.width, about.height, name)
    most = _SPARE + _MOST_PER_PIXEL * about.width * about.height
    if length > most:
        raise InputError(
            f"{name} is {length / 1e6:.0f} MB long, and its {about.width}x{about.height} pixels "
            f"need at most {most / 1e6:.0f} MB. Save it again with another program."
        )
    return PhotographFile(kind, about)


def check_size(width: int, height: int, name: str) -> None:
    """Refuses more pixels than any camera has.

    Args:
      width: in pixels.
      height: in pixels.
      name: the file's name, for errors.

    Raises:
      InputError: if there are more than ``MAX_MEGAPIXELS``.
    """
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise InputError(
            f"{name} has {width}x{height} pixels, {width * height / 1e6:.0f} megapixels, and at "
            f"most {MAX_MEGAPIXELS} can be read. Split it into smaller files, or leave it out."
        )


def write_metadata(
    photograph: PhotographFile, source: BinaryIO, encoded: BinaryIO, target: BinaryIO
) -> None:
    """Writes the pixels of ``encoded`` with the metadata of ``source``.

    Args:
      photograph: what ``source`` is.
      source: the file whose metadata is copied.
      encoded: a file of the same kind with the new pixels.
      target: the file to write.
    """
    _FORMATS[photograph.kind].copy(source, encoded, target)


def notes_on(photograph: PhotographFile, file: BinaryIO, name: str) -> list[str]:
    """What a person should know about a restored file: its colour, and what it loses.

    Args:
      photograph: what the file is.
      file: its content.
      name: its name, which may have the ending of another kind.

    Returns:
      Sentences without a full stop.
    """
    about = photograph.about
    notes = []
    named = _NAMED.get(PurePath(name).suffix.lower())
    if named != photograph.kind:
        notes.append(
            f"whatever its name says, this file is a {photograph.kind}, and so is the restored file"
        )
    if (profile := _profile_that_differs(about.profile)) is not None:
        notes.append(f"warning: its colour profile {profile}; networks are trained on sRGB")
    elif about.colour is not None:
        notes.append(f"warning: {about.colour}; networks are trained on sRGB")
    notes += [f"warning: {words}" for words in about.said]
    lost = about.not_kept
    if photograph.kind == "JPEG" and not about.said:
        lost = (*lost, *jpeg.what_follows(file))
    if lost:
        notes.append(f"warning: the restored file lacks {', '.join(lost)}")
    return notes


def _profile_that_differs(profile: bytes | None) -> str | None:
    """What to say about a colour profile, if there is one and it is not sRGB."""
    if profile is None:
        return None
    try:
        opened = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = PIL.ImageCms.getProfileDescription(opened).strip()
    except (PIL.ImageCms.PyCMSError, OSError):
        return "cannot be read"
    if not name:
        return "has no name that can be read"
    return None if "srgb" in name.lower().replace("-", "") else f'is "{name}"'


def _found(start: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str | None:
    """The meaning in the first row of a table that the start of a file agrees with."""
    for place, content, name in table:
        if start.startswith(content, place):
            return name
    return None
