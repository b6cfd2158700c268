"""BMP pixels in strips, decoded by Pillow, because the packaged libvips does not read BMP."""

import io
from collections.abc import Iterator

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile

from train.data.libvips import unreadable
from train.data.photograph_file import check_size
from train.errors import InputError


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def rgb_strips(content: bytes, name: str, *, pixels: int = 2**20) -> Iterator[np.ndarray]:
    """Decodes a BMP to RGB, in strips.

    Its pixels are in memory as they are in the file, with a palette one byte each.

    Args:
      content: the file's bytes.
      name: the file's name, for errors.
      pixels: about how many pixels a strip has; it has at least one row.

    Returns:
      The strips, from top to bottom.
    """
    for strip in stored_strips(content, name, pixels=pixels):
        yield _as_rgb(strip)


def stored_strips(content: bytes, name: str, *, pixels: int = 2**20) -> Iterator[np.ndarray]:
    """Decodes a BMP to the pixels that it stores, in strips ``[n, W, C]``, where C is 1, 3 or 4.

    Args:
      content: the file's bytes.
      name: the file's name, for errors.
      pixels: about how many pixels a strip has; it has at least one row.

    Returns:
      The strips, from top to bottom.

    Raises:
      InputError: if the file cannot be read.
    """
    try:
        # PIL.Image.open would warn about photographs below MAX_MEGAPIXELS, or refuse them.
        with BmpImageFile(io.BytesIO(content)) as image:
            check_size(image.width, image.height, name)
            if not image.width or not image.height:
                raise unreadable(name, "its header is broken")
            mode = {"RGBA": "RGBA", "L": "L", "1": "L"}.get(image.mode, "RGB")
            height = max(pixels // max(image.width, 1), 1)
            for top in range(0, image.height, height):
                rows = image.crop((0, top, image.width, min(top + height, image.height)))
                strip = np.asarray(rows.convert(mode))
                yield strip if strip.ndim == 3 else strip[..., None]
    except OSError as error:
        raise unreadable(name, error) from None
    except (InputError, GeneratorExit):
        raise
    except Exception:  # with a broken header, Pillow may raise any exception of arithmetic
        raise unreadable(name, "its header is broken") from None
