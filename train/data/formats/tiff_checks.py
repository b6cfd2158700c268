"""Refuses TIFFs that decoders misread, cannot read, or need far too long for.

Everything is decided from the tags, before any pixel is decoded.
"""

import itertools
from collections import Counter

from train.data.formats.about import Refused
from train.data.formats.camera_raw import is_raw
from train.data.formats.jpeg import MOST_SCANNED, MOST_SCANS, count_scans
from train.data.formats.tags import Directory, Malformed, TagEntry, TagFile

COMPRESSION, PHOTOMETRIC, SAMPLES = 259, 262, 277
IS_RAW = "is a camera's raw photograph. Develop it, and save it as TIFF or PNG."

_BITS, _ROWS, _PLANES, _KIND_OF_NUMBER = 258, 278, 284, 339
_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS = 273, 279, 324, 325
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PURPOSE, _WHOLE_JPEG = 254, 513

_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "Y'CbCr"}
_GREY, _PALETTE, _Y_CB_CR, _LAB = (0, 1), 3, 6, (8, 9, 10)
_JPEG = 7
# Without: none, CCITT, LZW, JPEG, Deflate, NeXT, PackBits, PixarLog and WebP, which are read
_READ = (1, 2, 3, 4, 5, 7, 8, 32766, 32771, 32773, 32909, 32946, 50001)
_RARE = {
    6: "old-style JPEG",
    22610: "JPEG XR",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI's LogLuv",
    34677: "SGI's LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    34934: "JPEG XR",
    50000: "Zstandard",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_COMPLEX = (5, 6)
_LARGEST_PHOTOGRAPH = 1e9  # pixels
_LARGEST_TILE = 4096 * 4096  # pixels, if the photograph itself is smaller
_MOST_PAGES = 1000
_MOST_PREVIEWS = 16  # each has half the size of the one before it, or is for a viewer
_IS_PREVIEW = 1  # value of the tag for a page's purpose if the page is only a preview
_MOST_SAMPLES = 64
_MOST_SEGMENTS = 4_000_000  # tiles of 16x16 pixels, in the largest photograph, are fewer
_CONVERT = "Convert it to grey or RGB of 8 or 16 bits, with or without alpha."


def check(tags: TagFile, first: Directory, width: int, height: int) -> int:
    """Refuses files that are known to be misread.

    Args:
      tags: the file.
      first: its first directory.
      width: of the photograph, in pixels.
      height: of the photograph, in pixels.

    Returns:
      The number of pages that are previews of the first.

    Raises:
      Refused: with the reason.
    """
    entries = first.entries
    if is_raw(tags, entries):
        raise Refused(IS_RAW)
    previews = _count_previews(tags, first)
    compression = tags.integer(entries, COMPRESSION, 1)
    if compression not in _READ:
        name = _RARE.get(compression, f"method {compression}")
        raise Refused(
            f"is compressed with {name}, which few programs read in TIFF. Save it with LZW or "
            "Deflate."
        )
    photometric = tags.integer(entries, PHOTOMETRIC, 1)
    if photometric == _Y_CB_CR and compression != _JPEG:
        raise Refused(
            "has Y'CbCr pixels without JPEG compression, which decoders mistake for RGB. Convert "
            "it to RGB."
        )
    if photometric in _LAB:
        raise Refused("is in CIELAB. Convert it to grey or RGB.")
    if photometric not in _COLOURS:
        raise Refused(
            f"has pixels of photometric interpretation {photometric}. Convert it to grey or RGB."
        )
    _check_channels(tags, entries, photometric)
    _check_segments(tags, entries, width, height)
    return previews


def channel_bits(tags: TagFile, entries: dict[int, TagEntry]) -> int:
    """Bits of the first channel. Without the tag, it is 1."""
    return tags.integer(entries, _BITS, 1)


def held_share(tags: TagFile, entries: dict[int, TagEntry], height: int) -> float:
    """The share of a photograph that the decoder holds at once.

    Args:
      tags: the file.
      entries: its tags.
      height: of the photograph, in pixels.

    Returns:
      The share of one row of tiles, or of one strip if the channels are stored separately; 0 if the
      decoder needs only single rows.
    """
    if _TILES in entries:
        rows = tags.integer(entries, _TILE_HEIGHT, 0)
    elif tags.integer(entries, _PLANES, 1) == 2:
        rows = tags.integer(entries, _ROWS, height)
    else:
        return 0
    return min(rows / max(height, 1), 1)


def _count_previews(tags: TagFile, first: Directory) -> int:
    """The number of pages behind the first, all of which must be previews of it."""
    # The pages are counted without reading their tags, because overlapping directories would make
    # that take very long.
    following, seen = first.following, {tags.first}
    while following and following not in seen and len(seen) <= _MOST_PAGES:
        seen.add(following)
        try:
            following = tags.following(following)
        except Malformed:
            break
    if len(seen) > 1 and not _are_previews(tags, first.entries, seen - {tags.first}):
        many = len(seen) if len(seen) <= _MOST_PAGES else f"more than {_MOST_PAGES}"
        raise Refused(f"has {many} pages. Save one photograph per file.")
    return len(seen) - 1


def _are_previews(tags: TagFile, first: dict[int, TagEntry], further: set[int]) -> bool:
    """Whether the first page is the photograph, and all further pages are smaller copies of it."""
    if len(further) > _MOST_PREVIEWS or tags.integer(first, _PURPOSE, 0) & _IS_PREVIEW:
        return False
    for place in further:
        try:
            entries = tags.directory(place).entries
            purpose = tags.integer(entries, _PURPOSE, 0)
        except Malformed:
            return False
        # A preview that is stored as EXIF prescribes has no tag for the purpose.
        by_exif = _WHOLE_JPEG in entries and _STRIPS not in entries and _TILES not in entries
        if purpose != _IS_PREVIEW and not (by_exif and purpose == 0):
            return False
    return True


def _check_channels(tags: TagFile, entries: dict[int, TagEntry], photometric: int) -> None:
    """Refuses channels whose numbers are not read, or are read wrongly."""
    samples = tags.integer(entries, SAMPLES, 1)
    if samples > _MOST_SAMPLES:
        raise Refused(f"has {samples} channels. Convert it to grey or RGB, with or without alpha.")
    bits = _values_of(tags, entries, _BITS) or {1}
    kinds = _values_of(tags, entries, _KIND_OF_NUMBER) or {_UNSIGNED}
    if len(bits) > 1 or len(kinds) > 1:
        what = "different numbers of bits" if len(bits) > 1 else "different kinds of numbers"
    else:
        what = _unread_numbers(kinds.pop(), bits.pop(), samples, photometric)
    if what:
        raise Refused(f"has {samples} channel{'s' * (samples != 1)} of {what}. {_CONVERT}")


def _unread_numbers(kind: int, bits: int, samples: int, photometric: int) -> str:
    """What the numbers of all channels are, in words, if they are not read; otherwise ""."""
    if kind in _COMPLEX:
        return "complex numbers"
    if kind == _FLOAT:
        return "floating-point numbers" if bits == 32 else f"floating-point numbers of {bits} bits"
    said = f"{bits} bit{'s' * (bits != 1)}"
    if kind == _SIGNED:
        return f"{said} with a sign"
    # The decoder extends few bits only if they are the whole pixel. If a palette's index has alpha
    # next to it, the decoder shifts the alpha instead of multiplying it.
    few = bits in (1, 2, 4) and samples == 1 and photometric in (*_GREY, _PALETTE)
    read = few or bits in (8, 16)
    return "" if read and kind in (_UNSIGNED, _UNDEFINED) else said


def _values_of(tags: TagFile, entries: dict[int, TagEntry], tag: int) -> set[int]:
    """The different values that a tag states for the channels."""
    return set(tags.integers(entries[tag], most=_MOST_SAMPLES)) if tag in entries else set()


def _check_segments(tags: TagFile, entries: dict[int, TagEntry], width: int, height: int) -> None:
    """Refuses tiles and strips that take much more time than the pixels of the photograph."""
    if width * height > _LARGEST_PHOTOGRAPH:
        return  # it is refused for its size
    separate = tags.integer(entries, _PLANES, 1) == 2
    planes = tags.integer(entries, SAMPLES, 1) if separate else 1
    if _TILES in entries or _TILE_WIDTH in entries:
        if planes > 1:
            raise Refused(
                "has tiles in which the channels are stored separately. Save it in strips, or with "
                "the channels of each pixel together."
            )
        across, down = (tags.integer(entries, tag, 0) for tag in (_TILE_WIDTH, _TILE_HEIGHT))
        if across <= 0 or down <= 0:
            return  # the decoder says what is wrong
        count = -(-width // across) * -(-height // down)
        if count * across * down > max(_LARGEST_TILE, 4 * width * height):
            raise Refused(
                f"has {width}x{height} pixels in tiles of {count * across * down / 1e6:.0f} "
                "megapixels. Save it again with another program."
            )
        places, lengths = _TILES, _TILE_LENGTHS
    else:
        across, down = width, min(tags.integer(entries, _ROWS, height) or height, height)
        count = -(-height // max(down, 1)) * planes
        places, lengths = _STRIPS, _STRIP_LENGTHS
    if tags.integer(entries, COMPRESSION, 1) == _JPEG:
        _check_scans(tags, entries, (places, lengths), count, across * down)


def _check_scans(
    tags: TagFile, entries: dict[int, TagEntry], named: tuple[int, int], count: int, pixels: int
) -> None:
    """Refuses JPEGs within a TIFF that take much more time than their pixels.

    Args:
      tags: the file.
      entries: its tags.
      named: the tags for the places and the lengths of the strips or tiles.
      count: number of strips or tiles.
      pixels: number of pixels of each.

    Raises:
      Refused: if there are too many scans.
    """
    if count > _MOST_SEGMENTS:
        raise Refused(f"has {count} strips or tiles. Save it again with another program.")
    places, lengths = (
        tags.integers(entries[tag], most=count) if tag in entries else () for tag in named
    )
    # All tiles may be at the same place, so each place is read only once. libtiff estimates lengths
    # that are missing.
    different = Counter(itertools.zip_longest(places, lengths[: len(places)], fillvalue=0))
    left, scanned = 2 * tags.length, 0
    for (place, stated), times in different.items():
        length = min(stated or tags.length, tags.length - place)
        if place <= 0 or length <= 0:  # nothing is stored there
            continue
        left -= length
        if left < 0:
            raise Refused("has strips or tiles that overlap. Save it again with another program.")
        scans = count_scans(tags.blocks(place, length))
        scanned += scans * times * pixels
        if scans > MOST_SCANS or scanned > MOST_SCANNED:
            raise Refused(
                f"holds JPEGs of up to {scans} scans, and decoding one scan takes as long as a "
                "whole picture. Save it again with another program, or leave it out."
            )
