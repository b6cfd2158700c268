"""Reads photographs from files into arrays and writes them, with libvips, which keeps all 16 bits.

PNG, JPEG, TIFF, BMP and WebP are read, with 8 or 16 bits, in grey, colour or with a palette.
:mod:`train.data.photograph_file` decides what a file is, and :func:`decode_image` says what its
pixels become. Any other file gives an :class:`InputError` with its name. Nothing is cropped, scaled
or guessed.

Damage is found if the format shows it. PNG and deflated TIFF have checksums. JPEG has none, but
most damage leaves codes that cannot exist, and then the file is refused. Uncompressed TIFF, BMP and
lossy WebP have neither, so changed bytes become different pixels, and nobody can tell.
"""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from train.data.bmp_strips import rgb_strips, stored_strips
from train.data.libvips import pyvips, unreadable
from train.data.photograph_file import PhotographFile, examine
from train.data.pixel_kinds import BITS, check_header
from train.data.walk import why_unread
from train.errors import InputError
from train.files.outputs import write_bytes

# The least severe problem at which libvips stops reading a file. The JPEG decoder only warns about
# damaged pixels. Only the TIFF decoder also warns about harmless things, such as tags that occur
# twice or in the wrong order.
FAIL_ON = "warning"

_MADE_BY = "exif-ifd0-Software"


def read_image(path: Path) -> np.ndarray:
    """Reads the photograph in a file, as :func:`decode_image` decodes it."""
    return decode_image(read_file(path), str(path))


def read_file(path: Path) -> bytes:
    """Reads the bytes of a file, unless the file is much longer than its pixels can need."""
    try:
        with path.open("rb") as file:
            examine(file, str(path))
            file.seek(0)
            return file.read()
    except OSError as error:
        raise InputError(why_unread(path, error)) from None


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decodes a photograph as upright RGB.

    Grey is repeated over the three channels, and a palette is looked up. Alpha is dropped, and the
    colour under it is used as it is stored. A colour profile is not applied.

    Args:
      content: the file's bytes.
      name: the file's name, for errors.

    Returns:
      ``[H, W, 3]``, uint8, or uint16 if the file has 16 bits per channel.

    Raises:
      InputError: if the pixels are CMYK, floating-point or of 32 bits, if there are several pages,
        or if :func:`train.data.photograph_file.examine` refuses the file.
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
    # libvips quotes broken metadata byte by byte, which need not be UTF-8
    except (pyvips.Error, UnicodeDecodeError) as error:
        raise unreadable(name, error) from None


def _joined(
    strips: Iterator[np.ndarray], height: int, width: int, *, orientation: int = 1
) -> np.ndarray:
    """Joins strips of stored pixels to one upright photograph.

    Each strip is put in its place, so the whole photograph is in memory only once.

    Args:
      strips: the stored rows, from top to bottom.
      height: of the stored photograph, in pixels.
      width: of the stored photograph, in pixels.
      orientation: of EXIF or TIFF, 1 to 8.

    Returns:
      The upright photograph.
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
    """A photograph whose pixels are decoded on demand."""

    height: int  # pixels, once upright
    width: int  # pixels, once upright
    bits: int  # 8 or 16
    strips: Iterator[np.ndarray]  # ``[n, W, 3]``, from top to bottom; each may raise an InputError
    buffered: int = 0  # bytes for each pixel that the decoder holds in addition

    @property
    def memory(self) -> int:
        """Bytes of all decoded pixels, and of what the decoder holds for them."""
        return self.height * self.width * (3 * self.bits // 8 + self.buffered)


def decode_rows(source: bytes | Path, name: str, *, pixels: int = 2**20) -> Rows:
    """Decodes a photograph as :func:`decode_image` does, in strips.

    The whole photograph is never in memory, unless it has to be turned or mirrored to be upright,
    or its decoder holds all of it. That is so for BMP, WebP, interlaced PNG and progressive JPEG.

    Args:
      source: a file's bytes, or its path.
      name: the file's name, for errors.
      pixels: about how many pixels a strip has; it has at least one row.

    Returns:
      The size and the strips.

    Raises:
      InputError: if the file cannot be read as a photograph.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            photograph = examine(file, name)
    except OSError as error:
        raise InputError(why_unread(name, error)) from None
    if isinstance(source, Path) and not str(source).isprintable():
        source = read_file(source)  # pyvips accepts only names in UTF-8
    if photograph.kind == "BMP":
        content = source if isinstance(source, bytes) else read_file(source)
        strips = rgb_strips(content, name, pixels=pixels)
        height, width = photograph.about.height, photograph.about.width
        if not height or not width:  # the decoder raises the error about the header
            next(strips)
        return Rows(height, width, 8, strips, photograph.about.buffered)
    try:
        image = _lazy(source, photograph, name)
    except (pyvips.Error, UnicodeDecodeError) as error:
        raise unreadable(name, error) from None
    height, width, bits = image.height, image.width, BITS[image.format]
    if photograph.orientation in (5, 6, 7, 8):
        height, width = width, height
    turned = photograph.orientation in range(2, 9)
    return Rows(
        height,
        width,
        bits,
        _whole(source, name, pixels) if turned else _strips(image, name, pixels=pixels),
        photograph.about.buffered,
    )


def cut_strips(image: np.ndarray, *, pixels: int = 2**20) -> list[np.ndarray]:
    """Views of a decoded photograph's rows, top to bottom, with about ``pixels`` pixels each."""
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
        raise unreadable(name, error) from None


def _lazy(source: bytes | Path, photograph: PhotographFile, name: str) -> Any:
    """The stored pixels as RGB. None of them is decoded yet."""
    image = open_image(source, photograph)
    check_header(image, photograph, name)
    # Operations that would change nothing are left out, because each takes a tenth of the time of
    # decoding a small photograph.
    if image.hasalpha():
        image = image[: image.bands - 1]
    kind, colour = image.format, "rgb16" if image.format == "ushort" else "srgb"
    if image.interpretation != colour:
        image = image.colourspace(colour).cast(kind)
    return image


def open_image(source: bytes | Path, photograph: PhotographFile) -> Any:
    """Opens a file that is not a BMP with libvips; rows are decoded from top to bottom.

    The decoder is chosen here. For a JPEG with a gain map, libvips would choose one that gives
    different pixels.
    """
    kind = photograph.kind
    if photograph.about.repairs:
        source = _repaired(source if isinstance(source, bytes) else source.read_bytes(), photograph)
    options = {"access": "sequential", "fail_on": "error" if photograph.about.checked else FAIL_ON}
    if isinstance(source, bytes):
        return pyvips.Operation.call(f"{kind.lower()}load_buffer", source, **options)
    # The file may have changed since libvips read it last.
    return pyvips.Operation.call(f"{kind.lower()}load", str(source), revalidate=True, **options)


def _repaired(content: bytes, photograph: PhotographFile) -> bytes:
    """The file with the bytes replaced that its decoder would not accept."""
    changed = bytearray(content)
    for place, value in photograph.about.repairs:
        changed[place : place + len(value)] = value
    return bytes(changed)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright, by the orientation of EXIF or TIFF.

    Values outside 1 to 8 change nothing.

    This needs all pixels in memory. libvips' ``autorot`` does not work with a decoder that reads
    from top to bottom: it requests earlier rows again, and gets none if there are more than 512.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _stored_view(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright photograph with rows and columns as they are stored."""
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels


def to_float(image: np.ndarray) -> np.ndarray:
    """Converts pixels to float32 in [0, 1]."""
    if image.dtype == np.uint8:
        return np.divide(image, np.float32(255))
    if image.dtype == np.uint16:
        return np.divide(image, np.float32(65535))
    raise TypeError(f"expected uint8 or uint16 pixels, got {image.dtype}")


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Converts float pixels to uint8, clipped to [0, 1] and rounded to the nearest value."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def write_image(path: Path, image: np.ndarray, *, made_by: str = "") -> None:
    """Writes uint8 or uint16 pixels; the file appears whole or not at all.

    Args:
      path: the file; its ending names the format.
      image: ``[H, W, 3]``, ``[H, W, 1]`` or ``[H, W]``.
      made_by: a program's name that is written into the file. TIFF does not keep it.
    """
    encoded: Any = pyvips.Image.new_from_array(np.ascontiguousarray(image))
    if made_by:
        encoded = encoded.copy()
        encoded.set_type(pyvips.GValue.gstr_type, _MADE_BY, made_by)
    write_bytes(encoded.write_to_buffer(path.suffix), path)


def is_made_by(path: Path, program: str) -> bool:
    """Whether :func:`write_image` wrote a file for that program.

    Args:
      path: the file, which may contain anything. Only the decoders of photographs are used.
      program: the program's name, or its beginning.

    Returns:
      False if the file is a photograph that does not state the program.

    Raises:
      Exception: of any kind, if the file cannot be read as a photograph.
    """
    with path.open("rb") as file:
        photograph = examine(file, str(path))
    image = open_image(path, photograph)
    return bool(image.get_typeof(_MADE_BY)) and str(image.get(_MADE_BY)).startswith(program)


def decode_bmp(content: bytes, name: str) -> np.ndarray:
    """Decodes a BMP to uint8 ``[H, W, C]``, where C is 1, 3, or 4 with alpha.

    Pillow decodes it, because the packaged libvips does not. BMP has at most 8 bits per channel.
    """
    about = examine(io.BytesIO(content), name).about
    return _joined(stored_strips(content, name), about.height, about.width)
