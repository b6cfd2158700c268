"""Reads and writes photographs of any size row by row, and keeps their metadata.

Pixels are used as they are stored: they are not rotated by the orientation tag and not converted by
the colour profile; both are written again. :mod:`train.data.photograph_file` decides which files
are accepted, what is kept, and what the user is told.
"""

import functools
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from train.data.formats import bmp
from train.data.images import decode_bmp, open_image
from train.data.libvips import last_line, pyvips, unreadable
from train.data.photograph_file import PhotographFile, examine, notes_on, write_metadata
from train.data.pixel_kinds import check_header
from train.errors import InputError
from train.files.outputs import LASTING, open_hidden, sync, temporary_beside, whole_or_none
from train.inference.tiles.tiles import Rows, photograph_of

_DTYPES: dict[str, np.dtype] = {"uchar": np.dtype(np.uint8), "ushort": np.dtype(np.uint16)}
_FORMATS = {dtype: name for name, dtype in _DTYPES.items()}

# How each format is written. Only JPEG loses something; it keeps colour at full resolution.
_SAVED: dict[str, dict[str, Any]] = {
    "JPEG": {"Q": 95, "subsample_mode": "off"},
    "PNG": {"compression": 6},
    "TIFF": {"compression": "deflate", "predictor": "horizontal"},
    "WebP": {"lossless": True, "exact": True},  # also the colour of pixels that alpha hides
}
_BIG_TIFF = 2**31  # bytes of pixels above which offsets may not fit 32 bits


@dataclass(frozen=True)
class Stored:
    """Facts from the header of a file."""

    path: Path
    photograph: PhotographFile
    height: int  # pixels
    width: int  # pixels
    bands: int  # channels of colour: 1 or 3
    alpha: bool  # whether there is an alpha or any other additional channel
    dtype: np.dtype  # uint8 or uint16
    notes: tuple[str, ...] = ()  # about its colour, and about what cannot be written again
    pixels: np.ndarray | None = None  # all pixels, for formats that can only be read whole

    def rows(self, *, bands: slice = slice(None)) -> Rows:
        """Reads some channels from top to bottom.

        The result is a function ``rows(start, stop)`` that returns ``[stop - start, W, C]``.
        """
        if self.pixels is not None:
            return photograph_of(self.pixels[..., bands]).open()
        return _FileRows(self, bands)

    def opened(self) -> Any:
        """The file as libvips opens it. The decoder of an interlaced PNG is opened only once.

        It decodes all pixels into memory before it gives the first row, and then gives any row.
        Several of them would hold all pixels several times.
        """
        if self.photograph.kind == "PNG" and self.photograph.about.buffered:
            return self._whole
        return open_image(self.path, self.photograph)

    @functools.cached_property
    def _whole(self) -> Any:
        return open_image(self.path, self.photograph)


def open_stored(path: Path) -> Stored:
    """Reads the header of a file; raises an :class:`InputError` if it cannot be restored."""
    try:
        with path.open("rb") as file:
            photograph = examine(file, str(path))
            notes = tuple(notes_on(photograph, file, path.name))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if photograph.kind == "BMP":
        pixels = _read_bmp(path)
        height, width, channels = pixels.shape
        bands = min(channels, 3)
        return Stored(
            path, photograph, height, width, bands, channels > bands, pixels.dtype, notes, pixels
        )
    with _reading(path):
        image = open_image(path, photograph)
        check_header(image, photograph, str(path))
        alpha = bool(image.hasalpha())
        dtype = _DTYPES[image.format]
        return Stored(
            path, photograph, image.height, image.width, image.bands - alpha, alpha, dtype, notes
        )


def _read_bmp(path: Path) -> np.ndarray:
    """Reads all pixels of a BMP, which libvips does not support."""
    try:
        return decode_bmp(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


@contextmanager
def written(path: Path, like: Stored, strips: Iterable[np.ndarray]) -> Iterator[Path]:
    """Writes a file, which gets its name when the block ends.

    Strips are collected in a temporary file next to ``path`` until the last one has arrived:
    encoders ask for pixels themselves, and memory is short. When the block begins, the whole file
    is on disk under a hidden name.

    Args:
      path: the file to write.
      like: the file whose format and metadata it gets.
      strips: its pixels from top to bottom, ``[h, W, C]``.

    Returns:
      The path of the hidden file.
    """
    with whole_or_none(path) as encoded:
        with temporary_beside(path, ".pixels") as pixels:
            with open_hidden(pixels) as file:
                for strip in strips:
                    file.write(np.ascontiguousarray(strip, like.dtype).data)
            _encode(pixels, encoded, like)
        sync(encoded)  # before the record claims that it exists
        _check_whole(encoded, like)
        yield encoded


def _check_whole(path: Path, like: Stored) -> None:
    """Decodes the whole file that was written.

    An error now is better than a damaged photograph that is found later.
    """
    try:
        if like.photograph.kind == "BMP":
            height, width = _read_bmp(path).shape[:2]
        else:
            with path.open("rb") as file:
                photograph = examine(file, str(path))
            image = open_image(path, photograph)
            height, width = image.height, image.width
            image.avg()
    except (InputError, pyvips.Error, UnicodeError) as error:
        raise OSError(f"it is damaged when it is read again ({last_line(error)})") from None
    if (height, width) != (like.height, like.width):
        raise OSError(
            f"it has {width}x{height} pixels when it is read again, not {like.width}x{like.height}"
        )


def _encode(pixels: Path, path: Path, like: Stored) -> None:
    shape = (like.height, like.width, like.bands + like.alpha)
    if like.photograph.kind == "BMP":
        with open_hidden(path) as target, like.path.open("rb") as source:
            bmp.write(target, np.memmap(pixels, like.dtype, "r", shape=shape), source)
        return
    if like.photograph.kind == "WebP":
        content = _encode_by_pillow(np.memmap(pixels, like.dtype, "r", shape=shape), like)
        with like.path.open("rb") as source, open_hidden(path) as target:
            write_metadata(like.photograph, source, content, target)
        return
    with temporary_beside(path, f".coded.{like.photograph.kind.lower()}") as coded:
        try:
            _encode_by_libvips(pixels, coded, like)
        except (pyvips.Error, UnicodeError) as error:
            # The message of libvips contains that of the operating system, which is often followed
            # by a line that says less.
            code = next((code for code in LASTING if os.strerror(code) in str(error)), None)
            reason = os.strerror(code) if code else f"libvips: {last_line(error)}"
            raise OSError(code, reason) from None
        with (
            like.path.open("rb") as source,
            coded.open("rb") as encoded,
            open_hidden(path) as target,
        ):
            write_metadata(like.photograph, source, encoded, target)


def _encode_by_pillow(pixels: np.ndarray, like: Stored) -> io.BytesIO:
    """Encodes WebP by Pillow, since libvips before 8.18 drops the colour of what alpha hides.

    No encoder accepts WebP in parts.
    """
    coded = io.BytesIO()
    PIL.Image.fromarray(pixels).save(coded, like.photograph.kind, **_SAVED[like.photograph.kind])
    return coded


def _encode_by_libvips(pixels: Path, path: Path, like: Stored) -> None:
    """Encodes the pixels without metadata.

    libvips would write metadata of its own, or convert the encoding of texts.
    """
    kind, bands = like.photograph.kind, like.bands + like.alpha
    deep = like.dtype == np.uint16
    grey = ("grey16" if deep else "b-w") if like.bands == 1 else ("rgb16" if deep else "srgb")
    image: Any = pyvips.Image.rawload(
        str(pixels),
        like.width,
        like.height,
        bands,
        format=_FORMATS[like.dtype],
        interpretation=grey,
        access="sequential",
    )
    options = {**_SAVED[kind], "keep": "none"}
    if kind == "TIFF":
        options["bigtiff"] = like.height * like.width * bands * like.dtype.itemsize > _BIG_TIFF
    image.write_to_file(str(path), **options)


class _FileRows:
    """Decodes from top to bottom, and keeps rows that may be requested again."""

    def __init__(self, stored: Stored, bands: slice) -> None:
        self._stored, self._bands = stored, bands
        with _reading(stored.path):
            image = stored.opened()
            self._count = image.bands
            self._region = pyvips.Region.new(image)
        self._top = 0
        self._kept = np.empty((0, stored.width, len(range(self._count)[bands])), stored.dtype)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        if start < self._top:
            raise ValueError(
                f"row {start} was requested, but only rows from {self._top} are kept: rows must be "
                "requested from top to bottom."
            )
        done = self._top + len(self._kept)
        kept = self._kept[start - self._top :]
        if stop > done:
            kept = np.concatenate([kept, self._decoded(done, stop)])
            kept = kept[max(start - done, 0) :]
        self._top, self._kept = start, kept
        return kept[: stop - start]

    def _decoded(self, start: int, stop: int) -> np.ndarray:
        stored = self._stored
        with _reading(stored.path):
            content = self._region.fetch(0, start, stored.width, stop - start)
        pixels = np.frombuffer(content, stored.dtype).reshape(
            stop - start, stored.width, self._count
        )
        return pixels[..., self._bands]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    # libvips quotes broken metadata byte for byte, which may not be UTF-8.
    except (pyvips.Error, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
