"""Photographs in files, to arrays and back, through libvips, which keeps all 16 bits.

What can be read: PNG, JPEG, TIFF, BMP and WebP; 8 or 16 bits; grey, colour or palette.
:mod:`train.data.photograph_file` decides what a file is, and :func:`decode_image` says what its
pixels become. Everything else is an :class:`InputError` that names the file. Nothing is cut, scaled
or guessed.

Damage is found as far as a format shows it. PNG and deflated TIFF carry checksums. JPEG has none,
but most damage leaves codes that cannot exist, and such a file is refused; now and then what
remains is valid. Uncompressed TIFF, BMP and lossy WebP have neither: changed bytes there are other
pixels, and nobody can tell.
"""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from train.data.bmp_strips import rgb_strips, stored_strips
from train.data.libvips import last_line, pyvips
from train.data.photograph_file import PhotographFile, check_size, examine
from train.errors import InputError
from train.files.outputs import write_bytes

# The least trouble that makes libvips give up on a file. Of damage to a JPEG's pixels its decoder
# only warns. Of what does not harm a pixel only TIFF's warns: of tags that stand there twice, for
# example, or not in their order.
FAIL_ON = "warning"

_BITS = {"uchar": "8", "ushort": "16"}
# Bytes that a file may have beside its pixels: profiles, previews, a film that follows it
_SPARE = 256_000_000
_MOST_PER_PIXEL = 9  # bytes: four channels of 16 bits, and a little for the coding
_MADE_BY = "exif-ifd0-Software"


def read_image(path: Path) -> np.ndarray:
    """The photograph in a file, as :func:`decode_image` gives it."""
    return decode_image(read_file(path), str(path))


def read_file(path: Path) -> bytes:
    """The bytes of a file that may be decoded.

    A file that is far longer than its pixels can need is refused.
    """
    try:
        with path.open("rb") as file:
            _examine_file(file, str(path))
            file.seek(0)
            return file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _examine_file(file: BinaryIO, name: str) -> PhotographFile:
    photograph = examine(file, name)
    about = photograph.about
    most = _SPARE + _MOST_PER_PIXEL * about.width * about.height
    if (length := file.seek(0, io.SEEK_END)) > most:
        raise InputError(
            f"{name} is {length / 1e6:.0f} MB long, and its {about.width}x{about.height} pixels "
            f"can need {most / 1e6:.0f} at most: save it again."
        )
    return photograph


def decode_image(content: bytes, name: str) -> np.ndarray:
    """A photograph as RGB, upright: ``[H, W, 3]``, uint8, or uint16 if the file holds 16 bits.

    Grey is repeated over the three channels; a palette is looked up; alpha is dropped, and the
    colour under it is taken as stored; a colour profile is not applied. Refused: CMYK,
    floating-point or 32-bit pixels, several pages, and what
    :func:`train.data.photograph_file.examine` refuses.

    Args:
      content: the file's bytes.
      name: what errors call it.
    """
    photograph = examine(io.BytesIO(content), name)
    if photograph.kind == "BMP":
        return _joined(rgb_strips(content, name), photograph.about.height, photograph.about.width)
    try:
        image = _lazy(content, photograph, name)
        if photograph.orientation in range(2, 9):
            return _joined(
                _strips(image, name), image.height, image.width, orientation=photograph.orientation
            )
        return np.asarray(image.numpy())
    # Libvips quotes broken metadata byte for byte
    except (
        pyvips.Error,
        UnicodeDecodeError,
    ) as error:
        raise _unreadable(name, error) from None


def _joined(
    strips: Iterator[np.ndarray], height: int, width: int, *, orientation: int = 1
) -> np.ndarray:
    """Joins strips of stored pixels to one upright photograph.

    Each is put in its place, so the whole is in memory once.
    """
    first = next(strips)
    size = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    joined = np.empty((*size, first.shape[2]), first.dtype)
    stored = _stored_view(joined, orientation)
    top = 0
    for strip in itertools.chain([first], strips):
        stored[top : top + len(strip)] = strip
        top += len(strip)
    return joined


class Rows(NamedTuple):
    """A photograph whose pixels are decoded as they are asked for."""

    height: int
    width: int
    bits: int  # 8 or 16
    strips: Iterator[np.ndarray]  # ``[n, W, 3]``, from top to bottom; each may raise an InputError


def decode_rows(source: bytes | Path, name: str, *, pixels: int = 2**20) -> Rows:
    """Decodes a photograph as :func:`decode_image` does, in strips.

    The whole is never in memory.

    Except if it has to be: photographs that are turned or mirrored to stand upright, and BMP.

    Args:
      source: a file's bytes, or where it is.
      name: what errors call it.
      pixels: how many a strip has, or one row.

    Returns:
      Size and strips.

    Raises:
      InputError: if the file cannot be read as a photograph.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            photograph = _examine_file(file, name)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from None
    if isinstance(source, Path) and not str(source).isprintable():
        source = read_file(source)  # pyvips hands on names in UTF-8 alone
    if photograph.kind == "BMP":
        content = source if isinstance(source, bytes) else read_file(source)
        strips = rgb_strips(content, name, pixels=pixels)
        height, width = photograph.about.height, photograph.about.width
        if not height or not width:  # what is wrong with the header its decoder says
            next(strips)
        return Rows(height, width, 8, strips)
    try:
        image = _lazy(source, photograph, name)
    except (pyvips.Error, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from None
    height, width, bits = image.height, image.width, int(_BITS[image.format])
    if photograph.orientation in (5, 6, 7, 8):
        height, width = width, height
    turned = photograph.orientation in range(2, 9)
    return Rows(
        height,
        width,
        bits,
        _whole(source, name, pixels) if turned else _strips(image, name, pixels=pixels),
    )


def cut_strips(image: np.ndarray, *, pixels: int = 2**20) -> list[np.ndarray]:
    """Views of a decoded photograph's rows, from top to bottom, of about so many pixels each."""
    height = max(pixels // max(image.shape[1], 1), 1)
    return [image[top : top + height] for top in range(0, len(image), height)]


def _whole(source: bytes | Path, name: str, pixels: int) -> Iterator[np.ndarray]:
    content = source if isinstance(source, bytes) else read_file(source)
    yield from cut_strips(decode_image(content, name), pixels=pixels)


def _strips(image: Any, name: str, *, pixels: int = 2**20) -> Iterator[np.ndarray]:
    height = max(pixels // image.width, 1)
    dtype = np.uint8 if image.format == "uchar" else np.uint16
    try:
        region = pyvips.Region.new(image)
        for top in range(0, image.height, height):
            count = min(height, image.height - top)
            fetched = region.fetch(0, top, image.width, count)
            yield np.frombuffer(fetched, dtype).reshape(count, image.width, 3)
    except (pyvips.Error, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from None


def _lazy(source: bytes | Path, photograph: PhotographFile, name: str) -> Any:
    """RGB pixels as they are stored, none of which is decoded yet."""
    image = open_image(source, photograph)
    check_header(image, photograph, name)
    # Operations that would change nothing are left out: each costs a tenth of decoding a small
    # photograph.
    if image.hasalpha():
        image = image[: image.bands - 1]
    kind, colour = image.format, "rgb16" if image.format == "ushort" else "srgb"
    if image.interpretation != colour:
        image = image.colourspace(colour).cast(kind)
    return image


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(f"{name} cannot be read as a photograph: {last_line(error)}.")


def open_image(source: bytes | Path, photograph: PhotographFile) -> Any:
    """Opens a file that is not a BMP with libvips; rows come from top to bottom.

    libvips does not choose the decoder itself: for a JPEG with a gain map it would take one that
    gives other pixels.
    """
    kind = photograph.kind
    if photograph.about.repairs:
        source = _repaired(source if isinstance(source, bytes) else source.read_bytes(), photograph)
    options = {"access": "sequential", "fail_on": "error" if photograph.about.checked else FAIL_ON}
    if isinstance(source, bytes):
        return pyvips.Operation.call(f"{kind.lower()}load_buffer", source, **options)
    # A file may have changed since libvips read it last.
    return pyvips.Operation.call(f"{kind.lower()}load", str(source), revalidate=True, **options)


def _repaired(content: bytes, photograph: PhotographFile) -> bytes:
    """A file as its decoder accepts it."""
    changed = bytearray(content)
    for place, value in photograph.about.repairs:
        changed[place : place + len(value)] = value
    return bytes(changed)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels as they are meant to be seen, by the orientation of EXIF or TIFF.

    Values that an orientation cannot have change nothing.

    All pixels must be there: libvips' ``autorot`` asks a decoder that runs from top to bottom for
    earlier rows again, and with more than 512 rows gets none.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _stored_view(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright photograph in which rows and columns are those that are stored."""
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels


def to_float(image: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    if image.dtype == np.uint8:
        return np.divide(image, np.float32(255))
    if image.dtype == np.uint16:
        return np.divide(image, np.float32(65535))
    raise TypeError(f"expected uint8 or uint16 pixels, got {image.dtype}")


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float pixels as uint8, clipped to [0, 1] and rounded to the nearest."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def write_image(path: Path, image: np.ndarray, *, made_by: str = "") -> None:
    """Writes uint8 or uint16 pixels; the file appears whole or not at all.

    Args:
      path: the file; its ending names the format.
      image: ``[H, W, 3]``, ``[H, W, 1]`` or ``[H, W]``.
      made_by: a program's name to be kept in the file, of every format except TIFF.
    """
    encoded: Any = pyvips.Image.new_from_array(np.ascontiguousarray(image))
    if made_by:
        encoded = encoded.copy()
        encoded.set_type(pyvips.GValue.gstr_type, _MADE_BY, made_by)
    write_bytes(encoded.write_to_buffer(path.suffix), path)


def is_made_by(path: Path, program: str) -> bool:
    """Whether :func:`write_image` wrote a picture for that program.

    Raises pyvips.Error if it is not a picture.
    """
    if path.stat().st_size > _SPARE:
        return False
    # Libvips remembers files by their names
    image: Any = pyvips.Image.new_from_buffer(path.read_bytes(), "")
    return bool(image.get_typeof(_MADE_BY)) and str(image.get(_MADE_BY)).startswith(program)


def check_header(image: Any, photograph: PhotographFile, name: str) -> None:
    """Refuses by the header that libvips has read, before any pixel is decoded.

    Args:
      image: what libvips has opened.
      photograph: what the file says of itself.
      name: what errors call it.

    Raises:
      InputError: if its pixels have no one meaning as RGB of 8 or 16 bits.
    """
    check_size(image.width, image.height, name)
    if image.get_n_pages() > 1 and not photograph.about.previews:
        raise InputError(
            f"{name} holds {image.get_n_pages()} pages: keep one photograph in a file."
        )
    if image.interpretation == "cmyk":
        raise InputError(
            f"{name} is in CMYK, which has no one meaning as RGB: convert it with its colour "
            "profile."
        )
    bands = image.bands - image.hasalpha()
    if (
        image.format not in _BITS
        or bands not in (1, 3)
        or image.interpretation in ("lab", "labs", "multiband")
    ):
        raise InputError(
            f"{name} holds {image.bands} {image.interpretation} channels of {image.format} pixels: "
            "convert it to grey or RGB of 8 or 16 bits, with or without alpha."
        )


def decode_bmp(content: bytes, name: str) -> np.ndarray:
    """``[H, W, C]``, where C is 1, 3 or 4 with alpha.

    Pillow decodes it, since libvips as it is packaged does not read BMP.

    The format has 8 bits at most, which Pillow keeps.
    """
    about = examine(io.BytesIO(content), name).about
    return _joined(stored_strips(content, name), about.height, about.width)
