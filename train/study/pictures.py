"""The photographs of a study: read, checked against each other, and cropped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import scipy.ndimage

from train.data.folders import list_folder
from train.data.images import to_float, to_uint8
from train.errors import InputError, list_below

_BLUR = 3.0  # pixels, standard deviation, of the worse picture of the obvious pair

Decode = Callable[[], np.ndarray]


@dataclass(frozen=True)
class PictureSet:
    """Results for photographs by name, not decoded yet."""

    flag: str  # the option that named it, for errors
    name: str  # what it is called
    pictures: Mapping[str, Decode]
    digest: str = ""  # digest of the network, if it is known
    scores: Mapping[str, Mapping[str, float]] | None = None  # by photograph and metric, if known
    note: str = ""  # why scores that are there are not used


def open_folder(flag: str, folder: Path) -> PictureSet:
    """Lists the photographs of a folder by their paths without endings.

    Raises:
      InputError: if there are none, or if two differ only in their endings.
    """
    listing = list_folder(folder)
    pictures: dict[str, Decode] = {}
    for name, decode in zip(listing.names, listing.images, strict=True):
        stem = PurePosixPath(name).with_suffix("").as_posix()
        if stem in pictures:
            raise InputError(
                f"{flag} {folder} holds several photographs named {stem}, with different endings. "
                "Keep one of them."
            )
        pictures[stem] = decode
    return PictureSet(flag, folder.name or str(folder.resolve()), pictures)


def common_names(sets: Sequence[PictureSet]) -> list[str]:
    """The names of the photographs, which all sets must contain.

    Raises:
      InputError: with a list of what is missing from which set.
    """
    everything = sorted(set().union(*(each.pictures for each in sets)))
    missing = [
        f"{name} is missing from {each.flag}"
        for name in everything
        for each in sets
        if name not in each.pictures
    ]
    if missing:
        raise InputError(
            "The sets must contain photographs of the same names:" + list_below(missing)
        )
    return everything


def read_all(sets: Sequence[PictureSet], name: str) -> list[np.ndarray]:
    """Decodes a photograph of every set as uint8 RGB.

    Raises:
      InputError: if one cannot be read, or if the sizes differ.
    """
    images = [_as_uint8(each.pictures[name]()) for each in sets]
    sizes = {image.shape for image in images}
    if len(sizes) > 1:
        each_size = ", ".join(
            f"{each.flag} {image.shape[1]}x{image.shape[0]}"
            for each, image in zip(sets, images, strict=True)
        )
        raise InputError(f"{name} has different sizes: {each_size}")
    return images


def find_place(images: Sequence[np.ndarray], side: int | None) -> tuple[slice, slice]:
    """Rows and columns of the square in which the results differ most, on average over it.

    Args:
      images: the results for one photograph, ``[H, W, 3]``.
      side: side of the square in pixels. A shorter photograph is shown over its whole length. None:
        the whole photograph.

    Returns:
      Rows and columns.
    """
    height, width = images[0].shape[:2]
    rows, columns = (min(side or length, length) for length in (height, width))
    spread = np.ptp(np.stack(images).astype(np.float32), axis=0).mean(axis=-1)
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = spread.cumsum(axis=0).cumsum(axis=1)
    inside = (sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns]) + sums[
        :-rows, :-columns
    ]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(int(top), int(top) + rows), slice(int(left), int(left) + columns)


def blurred(image: np.ndarray) -> np.ndarray:
    """The worse picture of an obvious pair without an input: blurred by 3 pixels."""
    soft = scipy.ndimage.gaussian_filter(to_float(image), (_BLUR, _BLUR, 0), mode="nearest")
    return to_uint8(soft)


def _as_uint8(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else to_uint8(to_float(image))
