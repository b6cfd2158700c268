"""Opens the photographs that a spec names.

Each photograph is decoded once when its source is opened, unless the index knows it already.

| spec | photographs |
|---|---|
| ``photos`` | photographs that scikit-image ships |
| ``samples`` | the same to train on; eight pictures of three packages to test on |
| ``folder:PATH`` | all photographs in a folder and below it, clean |
| ``pairs:LOW_DIR,HIGH_DIR`` | degraded photographs, and clean ones with the same names |
| ``pairs:DIR?input=GLOB&target=GLOB`` | both in one folder, paired by the wildcards |
| ``tfds:NAME[/CONFIG]:SPLIT`` | a TFDS data set, prepared as array_record: clean, or pairs |
"""

import functools
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import skimage.data

from train.data import index
from train.data.entries import Entry, check_usable, decode_entries
from train.data.folders import Listing, expand_folder, list_folder, list_pairs
from train.data.images import read_image
from train.data.photographs import Memory, Photographs
from train.errors import InputError, list_below

Split = Literal["train", "validation", "test"]

FLAGS: dict[Split, str] = {
    "train": "--data",
    "validation": "--validation-data",
    "test": "--test-data",
}
SPECS = (
    '"photos", "samples", "folder:PATH", "pairs:LOW_DIR,HIGH_DIR", '
    '"pairs:DIR?input=GLOB&target=GLOB", "tfds:NAME:SPLIT"'
)

# Sources that packages ship, which have their own photographs for each split. "photos" is all
# natural colour photographs of scikit-image; its "cat" is chelsea under another name. Validation
# has two grey ones, which show scenes that are neither trained on nor tested on. "samples" tests on
# every colour picture that is not trained on, so that a verdict is possible.
_TRAINED = ("astronaut", "rocket", "motorcycle_left", "motorcycle_right")
_VALIDATED = ("camera", "coins")
PACKAGED: dict[str, dict[Split, tuple[str, ...]]] = {
    "photos": {"train": _TRAINED, "validation": _VALIDATED, "test": ("chelsea", "coffee")},
    "samples": {
        "train": _TRAINED,
        "validation": _VALIDATED,
        "test": (
            "chelsea",
            "coffee",
            "hubble_deep_field",
            "immunohistochemistry",
            "retina",
            "china",
            "flower",
            "grace_hopper",
        ),
    },
}
# Pictures that scikit-image does not ship: the package that does, and their place in it.
_FILES = {
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
_LONGEST = 10_000  # characters of a spec: enough for two paths on any system


@dataclass(frozen=True)
class Source:
    """Named photographs ``[H, W, 3]``, uint8 or uint16, that are decoded on demand."""

    names: tuple[str, ...]
    images: Sequence[np.ndarray]  # clean
    entries: tuple[Entry, ...]
    # Really degraded versions; None if there are none, and then the training step adds noise
    inputs: Sequence[np.ndarray] | None = None
    spec: str = ""
    skipped: str = ""  # what else lies next to the photographs, in words

    def take(self, indices: Iterable[int]) -> "Source":
        """Some of the photographs."""
        chosen = list(indices)
        return Source(
            tuple(self.names[i] for i in chosen),
            _take(self.images, chosen),
            tuple(self.entries[i] for i in chosen),
            None if self.inputs is None else _take(self.inputs, chosen),
            self.spec,
            self.skipped,
        )


def make_source(
    names: Sequence[str],
    images: Sequence[np.ndarray],
    *,
    inputs: Sequence[np.ndarray] | None = None,
) -> Source:
    """Makes a source of arrays, each of which is read once for its entry.

    Args:
      names: the photographs' names, also for errors.
      images: clean photographs, ``[H, W, 3]``, uint8 or uint16.
      inputs: their degraded versions, if there are any.

    Returns:
      The source.

    Raises:
      InputError: if a photograph cannot be used.
    """
    entries = check_usable(decode_entries(names, images, inputs))
    return Source(tuple(names), images, entries, inputs)


def open_source(spec: str, split: Split, *, memory: Memory | None = None) -> Source:
    """Opens the photographs of a spec.

    Args:
      spec: one of the specs in the module's table.
      split: which photographs of ``photos`` or ``samples`` to open.
      memory: how much decoded photographs may take; 1000 megabytes if it is not given.

    Returns:
      The source. Every photograph can be read, and both halves of every pair have the same size.

    Raises:
      InputError: if a photograph cannot be used. The message names each of them.
    """
    listing = list_source(spec, split)
    if listing.mismatches:
        raise InputError(
            f"{spec} holds photographs that cannot be paired:{list_below(listing.mismatches)}\n"
            "Add the partners, or remove these photographs. To list all of them, run: "
            f"python -m train data {spec!r} --all"
        )
    images, inputs = make_photographs(listing, memory or Memory(1000))
    known = index.look_up(listing)
    decoded = decode_entries(listing.names, images, inputs, known=known.entries)
    entries = check_usable(decoded, spec=spec)
    index.remember(known, entries)
    for i, entry in enumerate(entries):
        images.admit(i, entry.height * entry.width * 3 * entry.bits // 8)
        if inputs is not None and entry.input_bits is not None:
            inputs.admit(i, entry.height * entry.width * 3 * entry.input_bits // 8)
    return Source(listing.names, images, entries, inputs, spec, listing.skipped)


def list_source(spec: str, split: Split) -> Listing:
    """Lists the names and decoders of ``spec`` without decoding anything."""
    if len(spec) > _LONGEST:
        raise InputError(
            f"{spec[:80]!r} and so on, {len(spec)} characters, is not a data set. Data sets are "
            f"{SPECS}."
        )
    kind, _, rest = spec.partition(":")
    if kind in PACKAGED and not rest:
        names = PACKAGED[kind][split]
        return Listing(names, [functools.partial(_packaged, name) for name in names])
    if kind == "folder" and rest:
        return list_folder(expand_folder(rest))
    if kind == "pairs" and rest:
        return list_pairs(rest)
    if kind == "tfds" and rest:
        from train.data.datasets import list_dataset  # its imports take a second

        return list_dataset(rest)
    hint = f" For a folder, write {f'folder:{spec}'!r}." if spec and ":" not in spec else ""
    raise InputError(f"{spec!r} is not a data set.{hint} Data sets are {SPECS}.")


def make_photographs(listing: Listing, memory: Memory) -> tuple[Photographs, Photographs | None]:
    """The clean photographs of a listing, and the degraded ones if it has them."""
    inputs = None if listing.inputs is None else Photographs(listing.inputs, memory)
    return Photographs(listing.images, memory), inputs


def _packaged(name: str) -> np.ndarray:
    if name.startswith("motorcycle"):
        left, right, _ = skimage.data.stereo_motorcycle()
        return left if name == "motorcycle_left" else right
    if name in _FILES:
        return _file_of_package(*_FILES[name])
    image = getattr(skimage.data, name)()
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _file_of_package(package: str, path: str) -> np.ndarray:
    """Reads a picture of a package without importing the package, which may take seconds."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InputError(
            f'"samples" needs a picture of {package}, which is not installed. Install it with: '
            'pip install -e ".[compare]"'
        )
    return read_image(Path(found.origin).parent / path)


def _take(images: Sequence[np.ndarray], indices: list[int]) -> Sequence[np.ndarray]:
    return (
        images.take(indices)
        if isinstance(images, Photographs)
        else tuple(images[i] for i in indices)
    )


def smaller_than(source: Source, side: int) -> list[str]:
    """Names and sizes of the photographs with a side of fewer than ``side`` pixels."""
    return [
        f"{e.name} ({e.width}x{e.height})" for e in source.entries if min(e.height, e.width) < side
    ]
