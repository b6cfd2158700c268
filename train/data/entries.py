"""Facts about photographs, such as sizes and digests, found by decoding each photograph once."""

import os
import shlex
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from train.data.images import Rows
from train.data.photographs import Photographs
from train.data.pixel_digest import PixelDigest
from train.data.stored import opened
from train.errors import LISTED, InputError, list_below, list_some


@dataclass(frozen=True)
class Entry:
    """Facts about a photograph or a pair."""

    name: str
    height: int  # pixels
    width: int  # pixels
    bits: int  # 8 or 16
    # SHA-256 of the decoded pixels; the same for pixels of 8 bits that are stored in 16
    digest: str
    input_digest: str | None = None  # the same for the degraded version; None without a pair
    input_bits: int | None = None  # 8 or 16; None without a pair


class PixelFacts(NamedTuple):
    """Size and digest of one decoded photograph."""

    height: int  # pixels
    width: int  # pixels
    bits: int  # 8 or 16
    digest: str  # SHA-256 of the decoded pixels


class DecodedPhotograph(Protocol):
    """Anything with the fields of :class:`PixelFacts`."""

    @property
    def height(self) -> int:
        """Height in pixels."""

    @property
    def width(self) -> int:
        """Width in pixels."""

    @property
    def bits(self) -> int:
        """Bits of each channel, 8 or 16."""

    @property
    def digest(self) -> str:
        """The hash of its pixels."""


def make_entry(name: str, target: DecodedPhotograph, degraded: DecodedPhotograph | None) -> Entry:
    """Makes the entry of a photograph or a pair.

    Args:
      name: its name, also for errors.
      target: the clean photograph.
      degraded: its degraded version, if there is one.

    Returns:
      The entry.

    Raises:
      InputError: if the two have different sizes.
    """
    if degraded is None:
        return Entry(name, target.height, target.width, target.bits, target.digest)
    if (degraded.height, degraded.width) != (target.height, target.width):
        raise InputError(
            f"{name}: the input has {degraded.width}x{degraded.height} pixels, and the target has "
            f"{target.width}x{target.height}. Both must have the same size."
        )
    return Entry(
        name,
        target.height,
        target.width,
        target.bits,
        target.digest,
        degraded.digest,
        degraded.bits,
    )


def decode_entries(
    names: Sequence[str],
    images: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray] | None,
    *,
    known: Sequence[Entry | None] = (),
) -> list[Entry | InputError]:
    """Decodes photographs once, on all cores, in strips.

    Args:
      names: the photographs' names, also for errors.
      images: the clean photographs.
      inputs: their degraded versions, if there are any.
      known: entries of photographs that need not be decoded; None for the others.

    Returns:
      For each photograph its entry, or an error that says what is wrong with it.
    """

    def find_entry(i: int) -> Entry | InputError:
        if known and (entry := known[i]) is not None:
            return entry
        try:
            degraded = None if inputs is None else _decode_facts(inputs, i)
            return make_entry(names[i], _decode_facts(images, i), degraded)
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(find_entry, range(len(names))))


def check_usable(found: Iterable[Entry | InputError], *, spec: str = "") -> tuple[Entry, ...]:
    """Returns the entries if every photograph can be used.

    Args:
      found: entries, and errors for the photographs that cannot be used.
      spec: where the photographs come from, for the error.

    Returns:
      The entries, in order.

    Raises:
      InputError: if any photograph cannot be used. The message lists what is wrong.
    """
    entries, wrong = [], []
    for each in found:
        if isinstance(each, Entry):
            entries.append(each)
        else:
            wrong.append(str(each))
    if wrong:
        of_spec = f" of {spec}" if spec else ""
        advice = f"\nTo list all of them, run: python -m train data {shlex.quote(spec)} --all"
        raise InputError(
            f"{len(wrong)} of {len(wrong) + len(entries)} photographs{of_spec} cannot be used. "
            f"Repair or remove them:{list_below(wrong)}"
            f"{advice if spec and len(wrong) > LISTED else ''}"
        )
    return tuple(entries)


def describe_equal_halves(entries: Iterable[Entry]) -> str:
    """Says in how many pairs the input has the pixels of the target; "" if in none."""
    pairs = [entry for entry in entries if entry.input_digest is not None]
    equal = [entry.name for entry in pairs if entry.input_digest == entry.digest]
    same = "input and target are the same photograph in"
    if not equal:
        return ""
    if len(equal) < len(pairs):
        return f"{same} {len(equal)} of {len(pairs)} pairs: {list_some(equal)}."
    every = "the only pair" if len(pairs) == 1 else f"all {len(pairs)} pairs"
    return f"{same} {every}. Is one folder named twice?"


def open_photograph(images: Sequence[np.ndarray], i: int) -> AbstractContextManager[Rows]:
    """A photograph's size and strips, from where it is stored or from an array."""
    return images.opened(i) if isinstance(images, Photographs) else opened(lambda: images[i])


def _decode_facts(images: Sequence[np.ndarray], i: int) -> PixelFacts:
    with open_photograph(images, i) as rows:
        digest = PixelDigest(rows.height, rows.width, rows.bits)
        for strip in rows.strips:
            digest.add(strip)
        return PixelFacts(rows.height, rows.width, rows.bits, digest.hexdigest())
