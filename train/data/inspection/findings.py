"""What ``data`` prints, in sentences: what is wrong with a data set, and what is worth knowing.

Photographs that are the same, or look alike, are reported by group: a thousand frames of one scene
make one sentence, while their pairs would make half a million.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from train.data.inspection.pixel_inspection import Appearance
from train.data.inspection.similarity import group_similar
from train.data.sources import Source, Split

LISTED = 20  # sentences of each kind
_NAMED = 3  # photographs of a group, for each split


@dataclass
class Findings:
    """Sentences: what is wrong, and what is worth knowing."""

    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    framed: set[tuple[str, str]] = field(default_factory=set)  # (split, name)

    def shown(self, *, everything: bool) -> Iterator[str]:
        """The lines to print; without ``everything`` at most a page of them."""
        for title, sentences in (("worth knowing", self.notes), ("wrong", self.wrong)):
            if not sentences:
                continue
            yield f"{title}: {len(sentences)}"
            listed = sentences if everything or len(sentences) <= LISTED + 1 else sentences[:LISTED]
            yield from (f"  {sentence}" for sentence in listed)
            if len(listed) < len(sentences):
                yield f"  and {len(sentences) - len(listed)} more, which --all lists"


@dataclass(frozen=True)
class _PlacedPhotograph:
    """One photograph of one split."""

    split: Split
    name: str
    digest: str
    appearance: Appearance


def note_duplicates(
    findings: Findings,
    splits: Sequence[tuple[Split, Source]],
    appearances: Sequence[Sequence[Appearance]],
) -> None:
    """Notes photographs that occur several times.

    Within one split that is worth knowing; in two splits it is wrong.

    Args:
      findings: where the sentences go.
      splits: the photographs.
      appearances: what they look like, in the same order.
    """
    photographs = []
    for (split, source), of_split in zip(splits, appearances, strict=True):
        for entry, appearance in zip(source.entries, of_split, strict=True):
            photographs.append(_PlacedPhotograph(split, entry.name, entry.digest, appearance))

    # --- equal pixels
    for group in _group_by(photographs, [photograph.digest for photograph in photographs]):
        _note_group(
            findings, group, of_two="are the same photograph", of_more="are equal pixel for pixel"
        )

    # --- similar pictures; in each split the first of equal photographs stands for all of them
    first: dict[tuple[Split, str], _PlacedPhotograph] = {}
    for photograph in photographs:
        first.setdefault((photograph.split, photograph.digest), photograph)
    different = list(first.values())
    hashes = [photograph.appearance.perceptual_hash for photograph in different]
    for group in _group_by(different, group_similar(hashes).tolist()):
        if len({photograph.digest for photograph in group}) > 1:
            _note_group(findings, group, of_two="look alike", of_more="look alike")


def _group_by(
    photographs: Sequence[_PlacedPhotograph], keys: Iterable[object]
) -> list[list[_PlacedPhotograph]]:
    """Photographs of equal keys, in order, if there is more than one of the key."""
    groups = defaultdict(list)
    for photograph, key in zip(photographs, keys, strict=True):
        groups[key].append(photograph)
    return [group for group in groups.values() if len(group) > 1]


def _note_group(
    findings: Findings, group: Sequence[_PlacedPhotograph], *, of_two: str, of_more: str
) -> None:
    """Notes the part of a group in each split, and the whole group if it is in several.

    Args:
      findings: where the sentences go.
      group: the photographs.
      of_two: the predicate for two photographs.
      of_more: the predicate for more.
    """
    by_split = defaultdict(list)
    for photograph in group:
        by_split[photograph.split].append(photograph)
    for part in by_split.values():
        if len(part) > 1:
            findings.notes.append(_sentence([part], of_two, of_more))
    if len(by_split) > 1:
        findings.wrong.append(_sentence(list(by_split.values()), of_two, of_more))
        findings.framed |= {(photograph.split, photograph.name) for photograph in group}


def _sentence(parts: Sequence[Sequence[_PlacedPhotograph]], of_two: str, of_more: str) -> str:
    group = list(itertools.chain(*parts))
    if len(group) == 2:
        one, other = group
        return f"{one.split} {one.name} and {other.split} {other.name} {of_two}"
    listed = "; ".join(f"{part[0].split} {_list_names(part)}" for part in parts)
    return f"{len(group):,} photographs {of_more}: {listed}"


def _list_names(part: Sequence[_PlacedPhotograph]) -> str:
    names = [photograph.name for photograph in part[:_NAMED]]
    if len(part) == _NAMED + 1:
        names.append(part[_NAMED].name)
    more = len(part) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
