"""What ``data`` has to say, in sentences: what is wrong with a data set, and what is worth knowing.

Photographs that are the same, or look alike, are told by group: a thousand frames of one scene are
one sentence, where their pairs would be half a million.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from train.data.likenesses import likenesses
from train.data.looks import Look
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
        """What is printed, line by line, at most a page of it unless everything is asked for."""
        for title, sentences in (("worth knowing", self.notes), ("wrong", self.wrong)):
            if not sentences:
                continue
            yield f"{title}: {len(sentences)}"
            listed = sentences if everything or len(sentences) <= LISTED + 1 else sentences[:LISTED]
            yield from (f"  {sentence}" for sentence in listed)
            if len(listed) < len(sentences):
                yield f"  and {len(sentences) - len(listed)} more, which --all lists"


@dataclass(frozen=True)
class _Member:
    """One photograph of one split."""

    split: Split
    name: str
    digest: str
    look: Look


def compare(
    findings: Findings, splits: Sequence[tuple[Split, Source]], looks: Sequence[Sequence[Look]]
) -> None:
    """Notes photographs that are there several times: in one split worth knowing, in two of them wrong."""
    members = [
        _Member(split, entry.name, entry.digest, look)
        for (split, source), seen in zip(splits, looks, strict=True)
        for entry, look in zip(source.entries, seen, strict=True)
    ]
    same = _grouped(members, [member.digest for member in members])
    for group in same:
        _tell(findings, group, "are the same photograph", "are equal pixel for pixel")

    # One of each that are the same stands for all of them, in each split that they are in.
    different = list(
        {(member.split, member.digest): member for member in reversed(members)}.values()
    )[::-1]
    for group in _grouped(
        different, likenesses([member.look.alike for member in different]).tolist()
    ):
        if len({member.digest for member in group}) > 1:
            _tell(findings, group, "look alike", "look alike")


def _grouped(members: Sequence[_Member], keys: Iterable[object]) -> list[list[_Member]]:
    """Those of equal keys, in order, where there is more than one."""
    groups = defaultdict(list)
    for member, key in zip(members, keys, strict=True):
        groups[key].append(member)
    return [group for group in groups.values() if len(group) > 1]


def _tell(findings: Findings, group: Sequence[_Member], two: str, several: str) -> None:
    """A sentence about a group: about each split's part of it, and about the whole if it is in several.

    Args:
      findings: where it goes.
      group: the photographs.
      two: what is said of two.
      several: what is said of more.
    """
    by_split = defaultdict(list)
    for member in group:
        by_split[member.split].append(member)
    for part in by_split.values():
        if len(part) > 1:
            findings.notes.append(_sentence([part], two, several))
    if len(by_split) > 1:
        findings.wrong.append(_sentence(list(by_split.values()), two, several))
        findings.framed |= {(member.split, member.name) for member in group}


def _sentence(parts: Sequence[Sequence[_Member]], two: str, several: str) -> str:
    count = sum(map(len, parts))
    if count == 2:
        one, other = (member for part in parts for member in part)
        return f"{one.split} {one.name} and {other.split} {other.name} {two}"
    listed = "; ".join(f"{part[0].split} {_some(part)}" for part in parts)
    return f"{count:,} photographs {several}: {listed}"


def _some(part: Sequence[_Member]) -> str:
    names = [member.name for member in part[:_NAMED]]
    if len(part) == _NAMED + 1:
        names.append(part[_NAMED].name)
    more = len(part) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
