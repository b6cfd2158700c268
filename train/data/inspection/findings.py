"""The sentences that ``data`` prints: problems of a data set, and what is worth knowing about it.

Photographs that are equal or look alike are reported as a group. A thousand frames of one scene
make one sentence, while their pairs would make half a million.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from train.data.inspection.pixel_inspection import Appearance
from train.data.inspection.similarity import group_similar
from train.data.sources import Source, Split

LISTED = 20  # sentences of each kind that are printed without --all
_NAMED = 3  # photographs of a group that are named, for each split


@dataclass
class Findings:
    """Problems, and what is worth knowing, each a sentence with a full stop."""

    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # (split, name) of each photograph that gets a frame on the contact sheet
    framed: set[tuple[str, str]] = field(default_factory=set)

    def shown(self, *, everything: bool) -> Iterator[str]:
        """The lines to print: all of them with ``everything``, and otherwise at most a page."""
        for title, sentences in (("Worth knowing", self.notes), ("Problems", self.wrong)):
            if not sentences:
                continue
            yield f"{title} ({len(sentences)}):"
            listed = sentences if everything or len(sentences) <= LISTED + 1 else sentences[:LISTED]
            yield from (f"  {sentence}" for sentence in listed)
            if len(listed) < len(sentences):
                yield f"  ... and {len(sentences) - len(listed)} more. Use --all to list them."


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
    """Reports photographs that occur several times.

    Within one split, that is worth knowing. In two splits, it is a problem.

    Args:
      findings: the report, to which sentences are added.
      splits: the photographs.
      appearances: what the photographs look like, in the same order.
    """
    photographs = []
    for (split, source), of_split in zip(splits, appearances, strict=True):
        for entry, appearance in zip(source.entries, of_split, strict=True):
            photographs.append(_PlacedPhotograph(split, entry.name, entry.digest, appearance))

    # --- equal pixels
    for group in _group_by(photographs, [photograph.digest for photograph in photographs]):
        _note_group(findings, group, "have the same pixels")

    # --- similar pictures; in each split the first of equal photographs represents all of them
    first: dict[tuple[Split, str], _PlacedPhotograph] = {}
    for photograph in photographs:
        first.setdefault((photograph.split, photograph.digest), photograph)
    different = list(first.values())
    hashes = [photograph.appearance.perceptual_hash for photograph in different]
    for group in _group_by(different, group_similar(hashes).tolist()):
        if len({photograph.digest for photograph in group}) > 1:
            _note_group(findings, group, "look alike")


def _group_by(
    photographs: Sequence[_PlacedPhotograph], keys: Iterable[object]
) -> list[list[_PlacedPhotograph]]:
    """Groups photographs by their keys, in order, and drops groups of one."""
    groups = defaultdict(list)
    for photograph, key in zip(photographs, keys, strict=True):
        groups[key].append(photograph)
    return [group for group in groups.values() if len(group) > 1]


def _note_group(findings: Findings, group: Sequence[_PlacedPhotograph], predicate: str) -> None:
    """Reports the part of a group in each split, and the whole group if it is in several splits.

    Args:
      findings: the report, to which sentences are added.
      group: the photographs.
      predicate: of the sentences, what the photographs have in common.
    """
    by_split = defaultdict(list)
    for photograph in group:
        by_split[photograph.split].append(photograph)
    for part in by_split.values():
        if len(part) > 1:
            findings.notes.append(_sentence([part], predicate))
    if len(by_split) > 1:
        predicate += " but are in different splits"
        findings.wrong.append(_sentence(list(by_split.values()), predicate))
        findings.framed |= {(photograph.split, photograph.name) for photograph in group}


def _sentence(parts: Sequence[Sequence[_PlacedPhotograph]], predicate: str) -> str:
    """A sentence about a group, which is given as one part for each split."""
    group = list(itertools.chain(*parts))
    if len(group) == 2:
        one, other = group
        return f"{one.name} ({one.split}) and {other.name} ({other.split}) {predicate}."
    listed = "; ".join(f"{_list_names(part)} ({part[0].split})" for part in parts)
    return f"{len(group):,} photographs {predicate}: {listed}."


def _list_names(part: Sequence[_PlacedPhotograph]) -> str:
    """The first names of a part, and how many more there are; one more is named as well."""
    names = [photograph.name for photograph in part[:_NAMED]]
    if len(part) == _NAMED + 1:
        names.append(part[_NAMED].name)
    more = len(part) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
