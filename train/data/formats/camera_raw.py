"""Recognizes raw photographs of cameras, most of which are TIFF files by their first bytes."""

import contextlib

from train.data.formats.tags import Malformed, TagEntry, TagFile

_PHOTOMETRIC, _SUBDIRECTORIES, _DNG_VERSION = 262, 330, 50706
# Values of the tag for the colour of pixels that a sensor has measured: one colour for each pixel,
# or all colours, not developed yet
_MEASURED = (32803, 34892)
_MOST = 4  # directories within the first that are read


def is_canon_raw(tags: TagFile) -> bool:
    """Whether the header says so. The directories of such a file need not be readable."""
    return tags.read(8, 2) == b"CR"


def is_raw(tags: TagFile, first: dict[int, TagEntry]) -> bool:
    """Whether a file is a raw photograph.

    Many begin with a small copy of the photograph, which decoders would read instead of it.

    Args:
      tags: the file.
      first: the tags of its first directory.
    """
    pages = [first]
    if _SUBDIRECTORIES in first:
        with contextlib.suppress(Malformed):
            for place in tags.integers(first[_SUBDIRECTORIES], most=_MOST):
                pages.append(tags.directory(place).entries)
    colours = [tags.integer(page, _PHOTOMETRIC, 1) for page in pages]
    return _DNG_VERSION in first or any(colour in _MEASURED for colour in colours)
