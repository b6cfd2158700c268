"""Photographs in files, to arrays and back, through libvips, which keeps all 16 bits."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyvips

from train.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def read_image(path: Path) -> np.ndarray:
    """A photograph as RGB, upright: ``[H, W, 3]``, uint8, or uint16 where the file holds 16 bits.

    Grey is repeated over the three channels; alpha is dropped, the colour under it is taken as stored.
    """
    if path.suffix.lower() == ".bmp":
        return _read_bmp(path)
    try:
        image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error").autorot()
        if image.hasalpha():
            image = image[: image.bands - 1]
        if image.interpretation == "cmyk":
            raise InputError(f"{path} is in CMYK, which has no one meaning as RGB: convert it with its colour profile.")
        wide = image.format == "ushort"
        return np.asarray(image.colourspace("rgb16" if wide else "srgb").cast("ushort" if wide else "uchar").numpy())
    except pyvips.Error as error:
        raise InputError(f"{path} cannot be read as a photograph: {_last_line(error)}.") from None


def to_float(image: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255
    if image.dtype == np.uint16:
        return image.astype(np.float32) / 65535
    raise TypeError(f"expected uint8 or uint16 pixels, got {image.dtype}")


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float pixels as uint8, clipped to [0, 1] and rounded to the nearest."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 or uint16 pixels; the file appears whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        encoded: Any = pyvips.Image.new_from_array(np.ascontiguousarray(image))
        encoded.write_to_file(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _read_bmp(path: Path) -> np.ndarray:
    """Through Pillow, since libvips as packaged reads no BMP; the format has 8 bits at most, which Pillow keeps."""
    try:
        with PIL.Image.open(path, formats=("BMP",)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a photograph: {_last_line(error)}.") from None


def _last_line(error: Exception) -> str:
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1].rstrip(".")
