"""Splits photographs into training, validation and test, and keeps a record of the splits.

A split that is given by a flag is used whole. The others come from --data. ``photos`` and
``samples`` have their own splits. From any other source, about a tenth is set aside for validation
and about a tenth for the test, chosen by a hash of the decoded pixels. So adding a photograph does
not move another one to a different split, and copies of one photograph stay together.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from train.data.entries import Entry, describe_equal_halves
from train.data.photographs import Memory, Photographs
from train.data.sources import FLAGS, PACKAGED, Source, Split, open_source, smaller_than
from train.errors import InputError, list_some
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json

FILE_NAME = "split.json"
_LONGEST_FILE = 1_000_000_000  # bytes; a photograph takes about a hundred
SMALLEST_SCORED = 11  # pixels on each side, the size of SSIM's window
NONE = "none"  # with --validation-data none, only test photographs are set aside

# The tenth that is set aside for each split, from 0 to 9. The other eight are trained on.
_TENTHS: dict[Split, int] = {"test": 0, "validation": 1}


class Splits(NamedTuple):
    """Three sources without a common photograph, unless flags say otherwise."""

    train: Source
    validation: Source | None
    test: Source


class OpenSource(Protocol):
    """Opens a spec, as :func:`~train.data.sources.open_source` does."""

    def __call__(self, spec: str, split: Split, *, memory: Memory) -> Source:
        """Opens the source of a split."""


def open_splits(
    data: str,
    *,
    validation: str | None = None,
    test: str | None = None,
    group_by: Literal["pixels", "folder"] = "pixels",
    memory: Memory | None = None,
    opening: OpenSource = open_source,
) -> Splits:
    """Opens all three splits. Those that are not given are set aside from ``data``.

    Args:
      data: the photographs to train on, as a spec.
      validation: the photographs to validate on, as a spec; "none": no validation.
      test: the photographs to test on, as a spec.
      group_by: which photographs are never divided: those with equal pixels, or all photographs
        of a folder (bursts, scenes).
      memory: how much decoded photographs may take; 1000 megabytes if it is not given.
      opening: opens a spec. The verb ``data`` continues if photographs are broken, and a run stops.

    Returns:
      The splits.

    Raises:
      InputError: if a source cannot be used, or nothing is left to train or to test on.
    """
    memory = memory or Memory(1000)
    given: dict[Split, str | None] = {"validation": validation, "test": test}
    if data in PACKAGED:
        given = {split: data if spec is None else spec for split, spec in given.items()}
    # The source that is opened first gets the memory first. Training needs its photographs all the
    # time, and the others are needed only now and then.
    source = opening(data, "train", memory=memory)
    opened: dict[Split, Source] = {}
    for split, spec in given.items():
        if spec is not None and (split, spec) != ("validation", NONE):
            opened[split] = opening(spec, split, memory=memory)
    for found in (source, *opened.values()):
        if not found.names:
            raise InputError(f"{found.spec} holds no photograph that can be used.")
    missing = [split for split, spec in given.items() if spec is None]
    groups = [_tenth(entry, group_by) for entry in source.entries]
    for split in missing:
        opened[split] = source.take(i for i, tenth in enumerate(groups) if tenth == _TENTHS[split])
    aside = {_TENTHS[split] for split in missing}
    train = source.take(i for i, tenth in enumerate(groups) if tenth not in aside)
    for split, part in (("train", train), ("test", opened["test"])):
        if not part.names:
            raise InputError(_too_few(data, len(source.names), split, group_by))
    held = opened.get("validation")
    return Splits(train, held if held is not None and held.names else None, opened["test"])


def _too_few(data: str, count: int, split: Split, group_by: str) -> str:
    """Says why a split is empty, and what to do."""
    what = "photographs" if group_by == "pixels" else "folders"
    if split == "train":
        why = "none is left to train on, because all were set aside"
    else:
        why = "none was set aside for testing, although about a tenth is expected"
    return (
        f"{data} has too few {what}. It has {count} photograph{'s' * (count != 1)}, and {why}. "
        f"Add {what}, or name others with {FLAGS['test']}."
    )


def check_scorable(splits: Splits) -> None:
    """Refuses, before anything is trained, photographs that are smaller than SSIM's window."""
    for split, source in named(splits):
        if split != "train" and (small := smaller_than(source, SMALLEST_SCORED)):
            raise InputError(
                f"{len(small)} of {len(source.names)} photographs of {split} are too small to be "
                f"scored, which needs {SMALLEST_SCORED} pixels on each side: {list_some(small)}. "
                "Leave them out."
            )


def leaked(splits: Splits) -> list[str]:
    """Names the photographs of validation and test that have the same pixels as trained ones."""
    trained = {entry.digest: entry.name for entry in splits.train.entries}
    leaks = []
    for split, source in named(splits):
        if split != "train":
            found = [entry for entry in source.entries if entry.digest in trained]
            leaks += [f"{entry.name} ({split})" for entry in found]
    return leaks


def leak_warnings(splits: Splits) -> list[str]:
    """One sentence if photographs that are scored are also trained on, and otherwise none."""
    return list(filter(None, [describe_seen(leaked(splits))]))


def trained_on(folder: Path) -> frozenset[str] | None:
    """Returns the photographs that a run recorded as trained on: their sizes, bits and digests.

    Args:
      folder: the folder of a run, or of one of its checkpoints.

    Returns:
      The descriptions; None if there is no readable record. An imported network does not have one.
    """
    for place in (folder, folder.parent.parent):
        try:
            record = _parse_record(read_json(place / FILE_NAME, longest=_LONGEST_FILE))
        except (FileNotFoundError, NotADirectoryError, UnreadableError):
            continue
        return frozenset(record.get("train", {}).values())
    return None


def seen_in(trained: Collection[str], source: Source) -> list[str]:
    """Names the photographs of a source that are among those of :func:`trained_on`."""
    return [entry.name for entry in source.entries if describe_entry(entry) in trained]


def describe_seen(seen: Sequence[str]) -> str:
    """Says that these photographs, which are scored, are also trained on; "" if there are none."""
    if not seen:
        return ""
    return (
        "these photographs were also used for training, so their scores mean little: "
        f"{list_some(seen)}"
    )


def pair_warnings(splits: Splits) -> Iterator[str]:
    """One sentence for each source with pairs whose input is the target."""
    entries: dict[str, list[Entry]] = {}
    for _, source in named(splits):
        entries.setdefault(source.spec, []).extend(source.entries)
    for spec, of_spec in entries.items():
        if equal := describe_equal_halves(of_spec):
            yield f"{spec}: {equal}"


def data_warnings(splits: Splits, *, workers: int = 0) -> Iterator[str]:
    """Sentences to print before a run starts with this number of worker processes."""
    yield from leak_warnings(splits)
    yield from pair_warnings(splits)
    yield from dict.fromkeys(
        f"{each.spec}: {each.skipped}" for _, each in named(splits) if each.skipped
    )
    images = splits.train.images
    decoded = len(images) - images.kept if isinstance(images, Photographs) else 0
    if decoded:
        yield (
            f"{decoded} of {len(images)} photographs do not fit into --memory-mb and are decoded "
            "again each time, which is slower"
        )
    elif workers:
        yield (
            f"--workers {workers} does nothing: all photographs fit into --memory-mb, and threads "
            "cut patches faster when the photographs are in memory"
        )


def describe(splits: Splits) -> dict[str, Any]:
    """The record of the splits for JSON: specs, names, sizes and hashes of pixels."""
    record: dict[str, Any] = {}
    for split, source in named(splits):
        photographs = {entry.name: describe_entry(entry) for entry in source.entries}
        record[split] = {"spec": source.spec, "photographs": photographs}
    return record


def fingerprint(splits: Splits) -> dict[str, str]:
    """One hash for each split. Checkpoints keep these hashes."""
    return {
        split: hashlib.sha256(json.dumps(record["photographs"]).encode()).hexdigest()
        for split, record in describe(splits).items()
    }


def save_splits(splits: Splits, folder: Path) -> None:
    """Writes the record into a run's folder, whole or not at all."""
    write_json(describe(splits), folder / FILE_NAME)


def check_unchanged(
    splits: Splits, folder: Path, *, instead: str = "start a new run with --init-from"
) -> None:
    """Refuses to resume a run with different photographs, and says what has changed.

    Args:
      splits: the photographs as they are now.
      folder: the run's folder.
      instead: what the user can do if the old photographs are lost.

    Raises:
      InputError: if photographs differ, or the run's record of them cannot be read.
    """
    path = folder / FILE_NAME
    try:
        before = _parse_record(read_json(path, longest=_LONGEST_FILE))
    except FileNotFoundError:
        raise InputError(
            f"{folder} cannot be resumed: {FILE_NAME}, the record of its photographs, is missing."
        ) from None
    except UnreadableError as error:
        raise InputError(
            f"{path} cannot be read as the record of a run's photographs: {error}."
        ) from None
    now = {split: record["photographs"] for split, record in describe(splits).items()}
    changes: list[str] = []
    for split in FLAGS:
        changes += _changes(split, before.get(split, {}), now.get(split, {}))
    if changes:
        raise InputError(
            f"the photographs have changed since {folder} was started: {'; '.join(changes)}. "
            f"Restore the old photographs, or {instead}."
        )


def _parse_record(record: Any) -> dict[str, dict[str, str]]:
    """Names and descriptions by split, from what a record's file holds."""
    if not isinstance(record, dict) or not record:
        raise UnreadableError("it lists no photographs")
    found = {}
    for split, part in record.items():
        photographs = part.get("photographs") if isinstance(part, dict) else None
        if not isinstance(photographs, dict):
            raise UnreadableError(f"it lists no photographs for {split}")
        found[split] = photographs
    return found


def check_fingerprint(splits: Splits, about: Mapping[str, Any], folder: Path) -> None:
    """Refuses photographs that a run's checkpoint was not trained with.

    The record next to the checkpoint may have been changed.

    Args:
      splits: the photographs as they are now.
      about: what the checkpoint states about itself, including its fingerprint.
      folder: the run's folder.

    Raises:
      InputError: if the fingerprints differ.
    """
    before, now = about.get("data"), fingerprint(splits)
    if not isinstance(before, dict):
        before = {}
    other = [split for split in FLAGS if before.get(split) != now.get(split)]
    if other:
        raise InputError(
            f"the checkpoint in {folder} was trained with different photographs, or in a different "
            f"order ({', '.join(other)}), although {FILE_NAME} lists the present ones. Restore the "
            "old photographs, or start a new run with --init-from."
        )


def _changes(split: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Says which photographs of a split were added, removed and changed."""
    differences = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if name in before and before[name] != now[name]],
    }
    for what, names in differences.items():
        if names:
            yield f"{split}: {len(names)} {what} ({list_some(names)})"


def named(splits: Splits) -> Iterator[tuple[Split, Source]]:
    """The splits that exist, with their names."""
    yield "train", splits.train
    if splits.validation is not None:
        yield "validation", splits.validation
    yield "test", splits.test


def describe_entry(entry: Entry) -> str:
    """Size, bits and digests of a photograph, as the record keeps them."""
    degraded = f" from {entry.input_digest}" if entry.input_digest else ""
    return f"{entry.width}x{entry.height} {entry.bits} bit {entry.digest}{degraded}"


def _tenth(entry: Entry, group_by: str) -> int:
    """The tenth that a photograph belongs to, 0 to 9, each with the same probability."""
    digest = entry.digest
    if group_by == "folder":
        folder = entry.name.rpartition("/")[0]
        digest = hashlib.sha256(folder.encode()).hexdigest()
    return int(digest[:8], 16) % 10
