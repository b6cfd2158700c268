"""Refuses photographs whose pixels have a kind that cannot be read as RGB of 8 or 16 bits."""

from typing import Any

from train.data.photograph_file import PhotographFile, check_size
from train.errors import InputError

BITS = {"uchar": 8, "ushort": 16}  # bits of a channel, by libvips' name for its numbers

# What the numbers of a channel are, by libvips' name for them
_NUMBERS = {
    "uchar": "8 bits",
    "ushort": "16 bits",
    "char": "8 bits with a sign",
    "short": "16 bits with a sign",
    "uint": "32 bits",
    "int": "32 bits with a sign",
    "float": "floating-point numbers",
    "double": "floating-point numbers of 64 bits",
    "complex": "complex numbers",
    "dpcomplex": "complex numbers",
}


def check_header(image: Any, photograph: PhotographFile, name: str) -> None:
    """Refuses an image by the header that libvips has read, before any pixel is decoded.

    Args:
      image: the image that libvips has opened.
      photograph: the facts in the file's header.
      name: the file's name, for errors.

    Raises:
      InputError: if its pixels do not have one clear meaning as RGB of 8 or 16 bits.
    """
    check_size(image.width, image.height, name)
    if image.get_n_pages() > 1 and not photograph.about.previews:
        raise InputError(f"{name} has {image.get_n_pages()} pages. Save one photograph per file.")
    if image.interpretation == "cmyk":
        raise InputError(
            f"{name} is in CMYK, which can mean different RGB colours. Convert it to RGB with its "
            "colour profile."
        )
    bands = image.bands - image.hasalpha()
    if image.format not in BITS or bands not in (1, 3):
        pixels = f"{image.bands} channel{'s' * (image.bands > 1)} of {_NUMBERS[image.format]}"
    elif image.interpretation in ("lab", "labs", "multiband"):
        pixels = "colours that are neither grey nor RGB"
    else:
        return
    raise InputError(
        f"{name} has {pixels}. Convert it to grey or RGB of 8 or 16 bits, with or without alpha."
    )
