"""The photographs and noise levels that are scored, in groups that are restored together."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax

from train.data.sources import Source
from train.inference.scoring.protocols import Protocol


@dataclass(frozen=True)
class Case:
    """One photograph at one noise level."""

    index: int  # in the source
    name: str
    sigma: float  # noise level, 0 to 255; NaN if the noise is not added here


def cases_of(protocol: Protocol, source: Source) -> Iterator[Case]:
    """Every photograph at every noise level of a protocol."""
    for sigma in protocol.sigmas or (math.nan,):
        for index, name in enumerate(source.names):
            yield Case(index, name, sigma)


def group_by_size(cases: Sequence[Case], source: Source, *, tile: int) -> list[list[Case]]:
    """Groups cases of the same size and noise level that are restored together.

    Groups are in the order of their first cases.

    Args:
      cases: the cases.
      source: the photographs.
      tile: side of a tile in pixels.

    Returns:
      The groups.
    """
    devices = len(jax.local_devices())
    waiting: dict[tuple[int, int, float], list[Case]] = {}
    groups: list[list[Case]] = []
    for case in cases:
        entry = source.entries[case.index]
        key = (entry.height, entry.width, -1 if math.isnan(case.sigma) else case.sigma)
        # A photograph larger than a tile needs all devices for itself.
        at_once = devices if max(entry.height, entry.width) <= tile else 1
        if len(waiting.get(key, ())) in (0, at_once):
            waiting[key] = []
            groups.append(waiting[key])
        waiting[key].append(case)
    return groups
