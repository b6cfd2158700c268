"""Finds the photographs to restore from files, folders and patterns, and where each is written."""

import fnmatch
import functools
import glob
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple

from train.data.photograph_file import LONGEST_START, SUFFIXES, detect_kind
from train.data.walk import (
    Identity,
    count_endings,
    describe_skipped,
    file_identity,
    in_one_line,
    walk,
)
from train.errors import InputError
from train.files.outputs import ignores_case

_MAGIC = "*?["


class Job(NamedTuple):
    """A photograph, and the file to write its restored version to."""

    source: Path
    target: Path


@dataclass
class Inputs:
    """The photographs to restore, and everything else that was found."""

    jobs: list[Job] = field(default_factory=list)
    # Number of files that are not photographs, by their ending
    others: Counter[str] = field(default_factory=Counter)
    # What a user should know, in sentences without a full stop
    notes: list[str] = field(default_factory=list)
    # Why photographs or folders cannot be read, in sentences
    failures: list[str] = field(default_factory=list)


def find_inputs(inputs: Sequence[str], output: Path) -> Inputs:
    """Finds one job for each photograph; every mistake is found before any work is done.

    A file keeps its name. Files that are found in a folder, or by a pattern, keep their paths below
    that folder, or below the part of the pattern before the first wildcard. Hidden files are
    skipped. So are files in ``output``, if that is a folder inside the one that is searched. A
    photograph with several names is restored under one of them.
    """
    if not inputs:
        raise InputError(
            "There is nothing to restore. Add photographs, folders or patterns to the command, "
            "after the run's folder, if you give one."
        )
    found = Inputs()
    jobs: dict[Identity, Job] = {}
    for text in inputs:
        for source, below in _found(text, output, found):
            identity = file_identity(source)
            if identity is None:
                found.failures.append(_unreachable(source))
                continue
            job = Job(source, output / below)
            known = jobs.setdefault(identity, job)
            if known is not job and os.path.abspath(known.source) != os.path.abspath(source):
                found.notes.append(
                    f"{source} is the same file as {known.source}, so it is restored only once, "
                    "under that name"
                )
    found.jobs = list(jobs.values())
    if not found.jobs:
        raise InputError("\n  ".join(["Nothing can be restored:", *found.failures]))
    _check_targets(found.jobs, set(jobs), output)
    return found


def check_case(jobs: Sequence[Job], output: Path) -> None:
    """Raises an error if results would replace each other because case makes no difference.

    Args:
      jobs: the photographs to restore.
      output: the folder of the results, which exists and can be written to.

    Raises:
      InputError: if the file system ignores case, and two names differ only in case.
    """
    names: dict[str, Job] = {}
    for job in jobs:
        first = names.setdefault(unicodedata.normalize("NFC", str(job.target)).casefold(), job)
        if first is not job and ignores_case(output):
            raise InputError(
                f"{first.source} and {job.source} would be written to the same file, because the "
                f"file system of --output {output} does not distinguish upper and lower case. "
                "Rename one of them, or choose a different folder."
            )


def check_links(jobs: Sequence[Job], output: Path) -> None:
    """Raises an error if a link inside ``output`` leads out of it; ``output`` may be a link."""
    inside = output.resolve()
    for folder in sorted({job.target.parent for job in jobs}):
        if not folder.resolve().is_relative_to(inside):
            raise InputError(
                f"{folder} leads out of --output {output} through a link, to {folder.resolve()}. "
                "Nothing is written there. Remove the link, or restore to that folder separately."
            )


def _check_targets(jobs: Sequence[Job], sources: set[Identity], output: Path) -> None:
    targets = defaultdict(list)
    for job in jobs:
        targets[job.target].append(str(job.source))
    several = [
        f"{target}: {', '.join(names)}" for target, names in targets.items() if len(names) > 1
    ]
    if several:
        raise InputError(
            "Several photographs would be written to the same file. Restore them to different "
            "folders, or give the folder that contains them instead of the files:\n  "
            + "\n  ".join(several)
        )
    own = [job.source for job in jobs if file_identity(job.target) in sources]
    if own:
        raise InputError(
            f"--output {output} would overwrite {own[0]}, which is one of the inputs. Choose a "
            "different folder."
        )


def _found(text: str, output: Path, found: Inputs) -> Iterator[tuple[Path, PurePath]]:
    """Finds the photographs that an argument names, and their paths below the output."""
    path = Path(text)
    if not text or "\0" in text:
        raise InputError(f"{text!r} is not the name of a file or folder.")
    if path.is_dir():
        yield from _in_folder(path, output, found, text)
    elif path.is_file():
        # A shell may have expanded a pattern: other files next to photographs must not prevent
        # them from being restored.
        if _may_be_photograph(path):
            yield path, PurePath(path.name)
        else:
            found.failures.append(
                f"{path} is not a PNG, JPEG, TIFF, BMP or WebP file. Convert it, or leave it out."
            )
    elif path.is_symlink():
        raise InputError(_unreachable(path))
    elif _magic(text):
        yield from _by_pattern(path, output, found, text)
    else:
        raise InputError(f"There is no file or folder {text}.")


def _may_be_photograph(path: Path) -> bool:
    """Whether a file looks like a photograph by its name or content, or cannot be read yet."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return detect_kind(file.read(LONGEST_START)) is not None
    except OSError:
        return True


def _in_folder(
    folder: Path, output: Path, found: Inputs, text: str
) -> Iterator[tuple[Path, PurePath]]:
    here = walk(folder, without=output)
    found.failures += [f"{sentence}." for sentence in here.unreadable]
    found.notes += here.not_followed
    found.others += here.others
    if not here.photographs:
        raise _nothing(text, [describe_skipped(here.others), *here.notes])
    # If a file has several names, the one that is kept comes first.
    second = {path for path, _ in here.second_names()}
    for path in sorted(here.photographs, key=second.__contains__):
        yield path, path.relative_to(folder)


def _by_pattern(
    pattern: Path, output: Path, found: Inputs, text: str
) -> Iterator[tuple[Path, PurePath]]:
    # A folder may have brackets in its name. As long as a part exists literally, it is not treated
    # as a pattern.
    parts, fixed = pattern.parts, 0
    while fixed < len(parts) and (
        not _magic(parts[fixed]) or os.path.lexists(Path(*parts[: fixed + 1]))
    ):
        fixed += 1
    root, rest = Path(*parts[:fixed]), parts[fixed:]
    matching = _glob(root, rest, output, found) or _glob(
        root, [p.replace("[", "[[]") for p in rest], output, found
    )
    photographs = [path for path in matching if path.suffix.lower() in SUFFIXES]
    others = count_endings([path for path in matching if path.suffix.lower() not in SUFFIXES])
    found.others += others
    if not photographs:
        raise _nothing(text, [describe_skipped(others)])
    for path in photographs:
        yield path, path.relative_to(root)


def _glob(root: Path, pattern: Sequence[str], output: Path, found: Inputs) -> list[Path]:
    """Files below ``root`` that match a pattern, except hidden files and those in ``output``."""
    if "**" not in pattern:
        paths = sorted(
            Path(path) for path in glob.glob(os.path.join(glob.escape(str(root)), *pattern))
        )
        is_result = _below(output, root)
        return [
            path
            for path in paths
            # Folders are left out, and pipes too: reading one would block.
            if (path.is_file() or path.is_symlink())
            and not path.is_dir()
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
            and not is_result(path.parent)
        ]
    # Python's "**" would follow links endlessly.
    first = pattern.index("**")
    starts = [str(root)]
    if first > 0:
        starts = sorted(glob.glob(os.path.join(glob.escape(str(root)), *pattern[:first])))
    fitting = []
    for start in filter(Path.is_dir, map(Path, starts)):
        here = walk(start, without=output)
        files = sorted([*here.photographs, *here.other_files])
        fitting += [path for path in files if _fits(path.relative_to(start).parts, pattern[first:])]
        found.failures += [f"{sentence}." for sentence in here.unreadable]
        found.notes += here.not_followed
    return fitting


def _below(output: Path, root: Path) -> Callable[[Path], bool]:
    """Makes a function that says whether a folder is ``output`` or inside it.

    It is always False if ``output`` is not a folder below ``root``.
    """
    made, searched = os.path.realpath(output), os.path.realpath(root)
    inside = made != searched and Path(made).is_relative_to(searched)

    @functools.cache
    def is_result(folder: Path) -> bool:
        return inside and Path(os.path.realpath(folder)).is_relative_to(made)

    return is_result


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern part by part; "**" stands for any number of folders."""
    if not pattern:
        return not parts
    first, *rest = pattern
    if first == "**":
        return any(_fits(parts[skipped:], rest) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], first) and _fits(parts[1:], rest)


def _nothing(text: str, notes: Sequence[str]) -> InputError:
    said = in_one_line([note for note in notes if note])
    return InputError(
        f"{text} holds no photographs: looked for {', '.join(SUFFIXES)}{said and f'; {said}'}."
    )


def _unreachable(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to {os.readlink(path)}, which cannot be reached."
    return f"{path} cannot be read: it no longer exists, or access is not permitted."


def _magic(text: str) -> bool:
    return any(character in text for character in _MAGIC)
