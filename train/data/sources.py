"""Where photographs come from: one spec string, one list of named arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import skimage.data

from train.data.images import SUFFIXES, read_image
from train.errors import InputError


@dataclass(frozen=True)
class Source:
    """Photographs in memory, with their names: ``[H, W, 3]``, uint8 or uint16."""

    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]


def open_source(spec: str, split: Literal["train", "test"]) -> Source:
    """Photographs of ``spec``: "photos", whose two splits share no scene, or "folder:PATH", all that it holds."""
    kind, _, path = spec.partition(":")
    if kind == "photos" and not path:
        return _packaged(split)
    if kind == "folder" and path:
        return _folder(Path(path))
    flag = "--data" if split == "train" else "--test-data"
    raise InputError(f'{flag} takes "photos" or "folder:PATH"; got {spec!r}.')


def _packaged(split: str) -> Source:
    """The natural colour photographs that scikit-image ships. Its "cat" is chelsea under another name."""
    if split == "test":
        photographs = {"chelsea": skimage.data.chelsea(), "coffee": skimage.data.coffee()}
    else:
        left, right, _ = skimage.data.stereo_motorcycle()
        photographs = {
            "astronaut": skimage.data.astronaut(),
            "rocket": skimage.data.rocket(),
            "motorcycle_left": left,
            "motorcycle_right": right,
        }
    return Source(tuple(photographs), tuple(photographs.values()))


def _folder(folder: Path) -> Source:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}: give the path of one that holds photographs.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"{folder} holds no photographs: looked, in it and below, for {', '.join(SUFFIXES)}.")
    images, unreadable = [], []
    for path in paths:
        try:
            images.append(read_image(path))
        except InputError as error:
            unreadable.append(str(error))
    if unreadable:
        listed = "\n  ".join(unreadable[:10])
        more = f"\n  and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
        raise InputError(
            f"{len(unreadable)} of {len(paths)} files are unreadable; mend or remove them:\n  {listed}{more}"
        )
    return Source(tuple(path.relative_to(folder).as_posix() for path in paths), tuple(images))
