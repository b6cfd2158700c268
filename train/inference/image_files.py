"""Photographs of any size from file to file: rows in, rows out, and all that is stored beside the pixels kept.

Pixels are taken as they are stored: not turned by the orientation tag, not converted by the colour profile; both tag
and profile are written again. What is refused is what :mod:`train.data.images` refuses.
"""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import pyvips
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import lookup

from train.data.images import FAIL_ON, check_header, decode_image, last_line
from train.errors import InputError
from train.inference.tiles import Rows, photograph_of
from train.outputs import LASTING, sync, temporary_beside, whole_or_none

_KEPT = ("exif", "xmp", "iptc", "icc", "photoshop", "png-comment", "orientation", "resolution-unit", "image-desc")
_DTYPES: dict[str, np.dtype] = {"uchar": np.dtype(np.uint8), "ushort": np.dtype(np.uint16)}
_FORMATS = {dtype: name for name, dtype in _DTYPES.items()}

# How each format is written: nothing lost but by JPEG, which keeps colour at full resolution.
_SAVED: dict[str, dict[str, Any]] = {
    ".jpg": {"Q": 95, "subsample_mode": "off"},
    ".png": {"compression": 6},
    ".tif": {"compression": "deflate", "predictor": "horizontal"},
    ".webp": {"lossless": True},
}
_SAVED |= {".jpeg": _SAVED[".jpg"], ".tiff": _SAVED[".tif"]}
_EXIF = 34665  # TIFF's tag of it
# Of TIFF's tags those that photographs come with and libvips neither reads nor writes.
_LOST = (269, 271, 272, 305, 306, 315, 316, 33432, _EXIF, 34853)
_BIG_TIFF = 2**31  # bytes of pixels from where on offsets may not fit 32 bits


@dataclass(frozen=True)
class Stored:
    """What a file's header says."""

    path: Path
    height: int
    width: int
    bands: int  # of colour: 1 or 3
    alpha: bool
    dtype: np.dtype  # uint8 or uint16
    profile: str | None  # the colour profile's name, where it is another than sRGB
    lost: tuple[str, ...] = ()  # metadata that cannot be written again

    def rows(self, bands: slice = slice(None)) -> Rows:
        """The pixels of some bands from top to bottom: ``rows(start, stop)``, ``[stop - start, W, bands]``."""
        if self.path.suffix.lower() == ".bmp":
            return photograph_of(read_bmp(self.path)[..., bands]).open()
        return _FileRows(self, bands)


def open_stored(path: Path) -> Stored:
    """Reads the header; an :class:`InputError` for what cannot be restored."""
    if path.suffix.lower() == ".bmp":
        pixels = read_bmp(path)
        height, width, bands = pixels.shape
        return Stored(path, height, width, bands, False, pixels.dtype, None)
    with _reading(path):
        image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on=FAIL_ON)
        check_header(image, str(path))
        bands = image.bands - image.hasalpha()
        dtype, alpha = _DTYPES[image.format], image.hasalpha()
        return Stored(path, image.height, image.width, bands, alpha, dtype, _profile(image), _lost(image, path))


def read_bmp(path: Path) -> np.ndarray:
    """The format that libvips does not read, whole."""
    try:
        return decode_image(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


@contextmanager
def written(path: Path, like: Stored, strips: Iterable[np.ndarray]) -> Iterator[Path]:
    """A hidden file like ``like`` of strips ``[h, W, bands]`` from top to bottom; it is ``path`` when the block ends.

    They wait on disk, beside ``path``, until the last one is there: encoders want to pull, and memory is short. When
    the block begins all of the file is on disk, and lacks nothing but its name.
    """
    with whole_or_none(path) as encoded:
        with temporary_beside(path, ".pixels") as pixels:
            with pixels.open("wb") as file:
                for strip in strips:
                    file.write(np.ascontiguousarray(strip, like.dtype).data)
            _encode(pixels, encoded, like)
        sync(encoded)  # before anything is said of it
        _check_whole(encoded, like)
        yield encoded


def _check_whole(path: Path, like: Stored) -> None:
    """Decodes what was written, whole: an error here is better than a damaged photograph that nobody looks at."""
    try:
        if path.suffix.lower() == ".bmp":
            height, width = read_bmp(path).shape[:2]
        else:
            image: Any = pyvips.Image.new_from_file(str(path), access="sequential", fail_on=FAIL_ON)
            height, width = image.height, image.width
            image.avg()
    except (InputError, pyvips.Error, UnicodeError) as error:
        raise OSError(f"read back, it is damaged ({last_line(error)})") from None
    if (height, width) != (like.height, like.width):
        raise OSError(f"read back, it has {width}x{height} pixels, not {like.width}x{like.height}")


def _encode(pixels: Path, path: Path, like: Stored) -> None:
    bands = like.bands + like.alpha
    if path.suffix.lower() == ".bmp":
        array = np.fromfile(pixels, like.dtype).reshape(like.height, like.width, bands)
        # Not to a file, of which Pillow fills as much as there is room for, and says nothing.
        encoded = io.BytesIO()
        PIL.Image.fromarray(array).save(encoded, "BMP")
        path.write_bytes(encoded.getbuffer())
        return
    try:
        _encode_by_libvips(pixels, path, like, bands)
    except (pyvips.Error, UnicodeError) as error:
        # What the system said is among libvips' words.
        code = next((code for code in LASTING if os.strerror(code) in str(error)), None)
        raise OSError(code, f"libvips: {last_line(error)}") from None


def _encode_by_libvips(pixels: Path, path: Path, like: Stored, bands: int) -> None:
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
    source: Any = pyvips.Image.new_from_file(str(like.path), access="sequential")
    image = image.copy(xres=source.xres, yres=source.yres)
    for name in source.get_fields():
        if name.startswith(_KEPT):
            image.set_type(source.get_typeof(name), name, source.get(name))
    options = dict(_SAVED[path.suffix.lower()])
    if path.suffix.lower().startswith(".tif"):
        options["bigtiff"] = like.height * like.width * bands * like.dtype.itemsize > _BIG_TIFF
    elif not (source.get_typeof("exif-data") or source.get_typeof("resolution-unit")):
        options["keep"] = "xmp:iptc:icc:other"  # else libvips makes up what a camera would have said
    image.write_to_file(str(path), **options)


class _FileRows:
    """Decodes on; keeps what may be asked for again."""

    def __init__(self, stored: Stored, bands: slice) -> None:
        self._stored, self._bands = stored, bands
        with _reading(stored.path):
            image = pyvips.Image.new_from_file(str(stored.path), access="sequential", fail_on=FAIL_ON)
            self._count = image.bands
            self._region = pyvips.Region.new(image)
        self._top = 0
        self._kept = np.empty((0, stored.width, len(range(self._count)[bands])), stored.dtype)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        if start < self._top:
            raise ValueError(f"rows from {self._top} on are kept, and {start} was asked for")
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
        pixels = np.frombuffer(content, stored.dtype).reshape(stop - start, stored.width, self._count)
        return pixels[..., self._bands]


def _lost(image: Any, path: Path) -> tuple[str, ...]:
    """Names of a file's tags that are not written again; what the file is, its header says, and not its name."""
    if not image.get("vips-loader").startswith("tiff"):
        written_as_tiff = path.suffix.lower().startswith(".tif")
        return (lookup(_EXIF).name,) if written_as_tiff and image.get_typeof("exif-data") else ()
    try:
        with path.open("rb") as file:
            start = file.read(8)
            directory = ImageFileDirectory_v2(start + file.read(8) if 43 in start[2:4] else start)
            file.seek(directory.next)
            directory.load(file)
        return tuple(lookup(tag).name for tag in _LOST if tag in directory)
    except Exception:  # libvips has read the header, and Pillow raises whatever its arithmetic meets there
        return ("those that cannot be read",)


def _profile(image: Any) -> str | None:
    """The name of the colour profile, if there is one and it is not sRGB."""
    if not image.get_typeof("icc-profile-data"):
        return None
    try:
        profile = PIL.ImageCms.ImageCmsProfile(io.BytesIO(bytes(image.get("icc-profile-data"))))
        name = PIL.ImageCms.getProfileDescription(profile).strip()
    except (PIL.ImageCms.PyCMSError, OSError):
        return "one that cannot be read"
    return None if "srgb" in name.lower().replace("-", "") else name


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pyvips.Error, UnicodeDecodeError) as error:  # libvips quotes broken metadata byte for byte
        raise InputError(f"{path} cannot be read as a photograph: {last_line(error)}.") from None
