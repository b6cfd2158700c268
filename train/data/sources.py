"""Where photographs come from: one spec string, one list of named photographs, each looked at once when it is opened.

| spec | what |
|---|---|
| ``photos`` | photographs that scikit-image ships |
| ``folder:PATH`` | all photographs in a folder and below it, clean |
| ``pairs:LOW_DIR,HIGH_DIR`` | degraded photographs in one folder, clean ones of the same names in another |
| ``pairs:DIR?input=GLOB&target=GLOB`` | both in one folder, paired by what the wildcards stand for |
| ``tfds:NAME[/CONFIG]:SPLIT`` | a TFDS data set, prepared as array_record; clean or pairs, as it has it |
"""

import functools
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import skimage.data

from train.data import index
from train.data.folders import Listing, expand_folder, list_folder, list_pairs
from train.data.images import Rows
from train.data.photographs import Memory, Photographs
from train.data.pixel_digest import PixelDigest
from train.data.stored import opened
from train.errors import InputError

Split = Literal["train", "validation", "test"]

FLAGS: dict[Split, str] = {
    "train": "--data",
    "validation": "--validation-data",
    "test": "--test-data",
}
SPECS = '"photos", "folder:PATH", "pairs:LOW_DIR,HIGH_DIR", "pairs:DIR?input=GLOB&target=GLOB", "tfds:NAME:SPLIT"'

# The natural colour photographs that scikit-image ships; its "cat" is chelsea under another name.
# Two grey ones are left for validation: of other scenes than those that are trained or tested on.
_PACKAGED: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut", "rocket", "motorcycle_left", "motorcycle_right"),
    "validation": ("camera", "coins"),
    "test": ("chelsea", "coffee"),
}
_LONGEST = 10_000  # letters of a spec: two paths of any system
_LISTED = 10  # in one message; of more, how many


@dataclass(frozen=True)
class Entry:
    """What is known of a photograph without its pixels."""

    name: str
    height: int
    width: int
    bits: int  # 8 or 16
    digest: str  # sha256 of the decoded pixels, the same for 8 bits and for the same in 16
    input_digest: str | None = None  # the same of its degraded version, in pairs
    input_bits: int | None = None


@dataclass(frozen=True)
class Source:
    """Named photographs: ``[H, W, 3]``, uint8 or uint16, decoded when they are asked for."""

    names: tuple[str, ...]
    images: Sequence[np.ndarray]  # clean
    inputs: Sequence[np.ndarray] | None = (
        None  # each as it was degraded in reality; None: the step adds noise
    )
    spec: str = ""
    entries: tuple[Entry, ...] = ()  # looked up by decoding each photograph once, where not given
    passed_over: str = ""  # what else there is where they are, in words

    def __post_init__(self) -> None:
        if not self.entries:
            object.__setattr__(
                self,
                "entries",
                _usable(decode_entries(self.names, self.images, self.inputs), self.spec),
            )

    def take(self, indices: Iterable[int]) -> "Source":
        """Some of the photographs."""
        chosen = list(indices)
        return Source(
            tuple(self.names[i] for i in chosen),
            _take(self.images, chosen),
            None if self.inputs is None else _take(self.inputs, chosen),
            self.spec,
            tuple(self.entries[i] for i in chosen),
            self.passed_over,
        )


def open_source(spec: str, split: Split, memory: Memory | None = None) -> Source:
    """Photographs of ``spec``, all readable and every pair of one size, or an error that names each that is not.

    Args:
      spec: one of those in the module's table.
      split: which of ``photos``, and which flag errors name.
      memory: what decoded photographs may take; 1000 megabytes where not given.
    """
    listing = list_source(spec, split)
    if listing.mismatches:
        raise InputError(
            f"{spec} holds what has no partner:{below(listing.mismatches)}\nPair it or remove it; "
            f"python -m train data {spec!r} --all lists everything."
        )
    images, inputs = make_photographs(listing, memory or Memory(1000))
    stamps, input_stamps = index.stamp_files(listing)
    known = _known(listing, index.look_up(stamps), index.look_up(input_stamps))
    entries = _usable(decode_entries(listing.names, images, inputs, known), spec)
    index.remember(
        pair
        for i, entry in enumerate(entries)
        if known[i] is None
        for pair in zip((stamps[i], input_stamps[i]), _findings(entry), strict=False)
    )
    for i, entry in enumerate(entries):
        images.admit(i, entry.height * entry.width * 3 * entry.bits // 8)
        if inputs is not None and entry.input_bits is not None:
            inputs.admit(i, entry.height * entry.width * 3 * entry.input_bits // 8)
    return Source(listing.names, images, inputs, spec, entries, listing.passed_over)


def list_source(spec: str, split: Split) -> Listing:
    """Names and decoders of ``spec``; nothing is decoded."""
    if len(spec) > _LONGEST:
        raise InputError(
            f"{FLAGS[split]} takes {SPECS}; got {len(spec)} letters, which begin {spec[:80]!r}."
        )
    kind, _, rest = spec.partition(":")
    if kind == "photos" and not rest:
        names = _PACKAGED[split]
        return Listing(names, [functools.partial(_packaged, name) for name in names])
    if kind == "folder" and rest:
        return list_folder(expand_folder(rest))
    if kind == "pairs" and rest:
        return list_pairs(rest)
    if kind == "tfds" and rest:
        from train.data.datasets import list_dataset  # its imports take a second

        return list_dataset(rest)
    raise InputError(f"{FLAGS[split]} takes {SPECS}; got {spec!r}.")


def make_photographs(listing: Listing, memory: Memory) -> tuple[Photographs, Photographs | None]:
    """The clean photographs of a listing, and the degraded ones where it has them."""
    inputs = None if listing.inputs is None else Photographs(listing.inputs, memory)
    return Photographs(listing.images, memory), inputs


def decode_entries(
    names: Sequence[str],
    images: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray] | None,
    known: Sequence[Entry | None] = (),
) -> list[Entry | InputError]:
    """What is known of each photograph from then on, or what is wrong with it.

    All except those in ``known`` are decoded once, on all cores, in strips.
    """

    def entry(i: int) -> Entry | InputError:
        if known and (found := known[i]) is not None:
            return found
        try:
            return make_entry(
                names[i], _seen(images, i), None if inputs is None else _seen(inputs, i)
            )
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(entry, range(len(names))))


class DecodedPhotograph(Protocol):
    """What decoding a photograph tells."""

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""

    @property
    def width(self) -> int:
        """Pixels from left to right."""

    @property
    def bits(self) -> int:
        """8 or 16."""

    @property
    def digest(self) -> str:
        """The hash of its pixels."""


def make_entry(name: str, target: DecodedPhotograph, given: DecodedPhotograph | None) -> Entry:
    """What is known of a photograph or of a pair; an InputError if its halves differ in size."""
    if given is None:
        return Entry(name, target.height, target.width, target.bits, target.digest)
    if (given.height, given.width) != (target.height, target.width):
        raise InputError(
            f"{name}: the input has {given.width}x{given.height} pixels, the target "
            f"{target.width}x{target.height}."
        )
    return Entry(
        name, target.height, target.width, target.bits, target.digest, given.digest, given.bits
    )


def _seen(images: Sequence[np.ndarray], i: int) -> index.PixelFacts:
    """Size and digest of a photograph, which is decoded in strips."""
    with open_photograph(images, i) as rows:
        digest = PixelDigest(rows.height, rows.width, rows.bits)
        for strip in rows.strips:
            digest.add(strip)
        return index.PixelFacts(rows.height, rows.width, rows.bits, digest.hexdigest())


def open_photograph(images: Sequence[np.ndarray], i: int) -> AbstractContextManager[Rows]:
    """A photograph's size and strips, whether it is stored or an array already."""
    return images.opened(i) if isinstance(images, Photographs) else opened(lambda: images[i])


def _known(
    listing: Listing,
    clean: Sequence[index.PixelFacts | None],
    degraded: Sequence[index.PixelFacts | None],
) -> list[Entry | None]:
    """Entries of photographs that need not be decoded again; of a pair both have to be known, and fit."""
    entries: list[Entry | None] = []
    for name, one, other in zip(listing.names, clean, degraded, strict=True):
        if one is None or (listing.inputs is not None and (other is None or other[:2] != one[:2])):
            entries.append(None)
        elif listing.inputs is None or other is None:
            entries.append(Entry(name, *one))
        else:
            entries.append(Entry(name, *one, other.digest, other.bits))
    return entries


def _findings(entry: Entry) -> Iterator[index.PixelFacts]:
    """What an entry says of the clean photograph, and of the degraded one."""
    yield index.PixelFacts(entry.height, entry.width, entry.bits, entry.digest)
    if entry.input_digest is not None and entry.input_bits is not None:
        yield index.PixelFacts(entry.height, entry.width, entry.input_bits, entry.input_digest)


def _usable(examined: Iterable[Entry | InputError], spec: str) -> tuple[Entry, ...]:
    """The entries, or an error that names all that is wrong."""
    entries, wrong = [], []
    for found in examined:
        if isinstance(found, Entry):
            entries.append(found)
        else:
            wrong.append(str(found))
    if wrong:
        of = f" of {spec}" if spec else ""
        rest = f"\nThe others are listed by: python -m train data {shlex.quote(spec)} --all"
        raise InputError(
            f"{len(wrong)} of {len(wrong) + len(entries)} photographs{of} cannot be used. Repair "
            f"or remove them:{below(wrong)}{rest if spec and len(wrong) > _LISTED else ''}"
        )
    return tuple(entries)


def _packaged(name: str) -> np.ndarray:
    if name.startswith("motorcycle"):
        left, right, _ = skimage.data.stereo_motorcycle()
        return left if name == "motorcycle_left" else right
    image = getattr(skimage.data, name)()
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _take(images: Sequence[np.ndarray], indices: list[int]) -> Sequence[np.ndarray]:
    return (
        images.take(indices)
        if isinstance(images, Photographs)
        else tuple(images[i] for i in indices)
    )


def some(names: Sequence[str], between: str = ", ") -> str:
    """The first of them, and how many there are beside."""
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return between.join([*names[:_LISTED], *more])


def below(sentences: Sequence[str]) -> str:
    """The first of them, each on a line of its own, and how many there are beside."""
    return "\n  " + some(sentences, "\n  ")


def smaller_than(source: Source, side: int) -> list[str]:
    """Photographs with fewer pixels a side, with their sizes."""
    return [
        f"{e.name} ({e.width}x{e.height})" for e in source.entries if min(e.height, e.width) < side
    ]
