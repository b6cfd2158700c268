"""What is known of photographs without their pixels, found out by decoding each photograph once."""

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
from train.errors import LISTED, InputError, list_below


@dataclass(frozen=True)
class Entry:
    """What is known of a photograph, or of a pair, without its pixels."""

    name: str
    height: int
    width: int
    bits: int  # 8 or 16
    digest: str  # sha256 of the decoded pixels, the same for 8 bits and for the same in 16
    input_digest: str | None = None  # the same of its degraded version, in pairs
    input_bits: int | None = None


class PixelFacts(NamedTuple):
    """Size and digest of one decoded photograph."""

    height: int
    width: int
    bits: int  # 8 or 16
    digest: str


class DecodedPhotograph(Protocol):
    """Whatever has the fields of :class:`PixelFacts`."""

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


def make_entry(name: str, target: DecodedPhotograph, degraded: DecodedPhotograph | None) -> Entry:
    """The entry of a photograph or of a pair.

    Args:
      name: what errors call it.
      target: the clean photograph.
      degraded: its degraded version, if there is one.

    Returns:
      The entry.

    Raises:
      InputError: if the two differ in size.
    """
    if degraded is None:
        return Entry(name, target.height, target.width, target.bits, target.digest)
    if (degraded.height, degraded.width) != (target.height, target.width):
        raise InputError(
            f"{name}: the input has {degraded.width}x{degraded.height} pixels, the target "
            f"{target.width}x{target.height}."
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
      names: what errors call the photographs.
      images: the clean photographs.
      inputs: their degraded versions, if there are any.
      known: entries of photographs that need not be decoded; None for the others.

    Returns:
      For each photograph its entry, or what is wrong with it.
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
    """The entries, if every photograph can be used.

    Args:
      found: entries, and what is wrong with other photographs.
      spec: where the photographs are from, for the error.

    Raises:
      InputError: if anything is wrong with any photograph. It lists what.
    """
    entries, wrong = [], []
    for each in found:
        if isinstance(each, Entry):
            entries.append(each)
        else:
            wrong.append(str(each))
    if wrong:
        of_spec = f" of {spec}" if spec else ""
        advice = f"\nThe others are listed by: python -m train data {shlex.quote(spec)} --all"
        raise InputError(
            f"{len(wrong)} of {len(wrong) + len(entries)} photographs{of_spec} cannot be used. "
            f"Repair or remove them:{list_below(wrong)}"
            f"{advice if spec and len(wrong) > LISTED else ''}"
        )
    return tuple(entries)


def open_photograph(images: Sequence[np.ndarray], i: int) -> AbstractContextManager[Rows]:
    """A photograph's size and strips, whether it is stored or an array already."""
    return images.opened(i) if isinstance(images, Photographs) else opened(lambda: images[i])


def _decode_facts(images: Sequence[np.ndarray], i: int) -> PixelFacts:
    with open_photograph(images, i) as rows:
        digest = PixelDigest(rows.height, rows.width, rows.bits)
        for strip in rows.strips:
            digest.add(strip)
        return PixelFacts(rows.height, rows.width, rows.bits, digest.hexdigest())
