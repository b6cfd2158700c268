"""Which photographs are to be restored, and where each goes: files, folders, patterns."""

import glob
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from train.data.photograph_file import SUFFIXES
from train.errors import InputError

_MAGIC = "*?["


class Job(NamedTuple):
    """A file and the one to be made of it."""

    source: Path
    target: Path


def list_jobs(inputs: Sequence[str], output: Path) -> list[Job]:
    """One job for each photograph; every mistake is found before any work is done.

    A file keeps its name; what is found in a folder, or by a pattern, keeps its path below that folder, or below the
    part of the pattern before the first wildcard. Hidden files are passed over, and so is what is in ``output`` where
    that is a folder inside the one that is searched.
    """
    jobs: dict[Path, Job] = {}
    for text in inputs:
        for source, below in _found(text, output):
            jobs.setdefault(source.resolve(), Job(source, output / below))
    sources = defaultdict(list)
    for job in jobs.values():
        sources[job.target].append(str(job.source))
    several = [f"{target}: {', '.join(names)}" for target, names in sources.items() if len(names) > 1]
    if several:
        raise InputError(
            "several photographs would be written under one name; restore them to different folders, or give the "
            "folder that they are in:\n  " + "\n  ".join(several)
        )
    own = [job.source for job in jobs.values() if job.target.resolve() in jobs]
    if own:
        raise InputError(
            f"The results would replace the inputs: --output {output} would overwrite {own[0]}, which is to be "
            "restored; take another folder."
        )
    return list(jobs.values())


def _found(text: str, output: Path) -> Iterator[tuple[Path, PurePath]]:
    path = Path(text)
    if path.is_dir():
        yield from _photographs(sorted(path.rglob("*")), path, output, text)
    elif path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path} is no photograph by its name: takes {', '.join(SUFFIXES)}.")
        yield path, PurePath(path.name)
    elif any(character in text for character in _MAGIC):
        fixed = [part for i, part in enumerate(path.parts) if not _magic(path.parts[: i + 1])]
        yield from _photographs(
            [Path(found) for found in sorted(glob.glob(text, recursive=True))], Path(*fixed), output, text
        )
    else:
        raise InputError(f"There is no file or folder {text}.")


def _photographs(paths: Sequence[Path], root: Path, output: Path, text: str) -> Iterator[tuple[Path, PurePath]]:
    made, searched = output.resolve(), root.resolve()
    inside = made != searched and made.is_relative_to(searched)
    found = [
        path
        for path in paths
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and not (inside and path.resolve().is_relative_to(made))
    ]
    if not found:
        raise InputError(f"{text} holds no photographs: looked for {', '.join(SUFFIXES)}.")
    for path in found:
        yield path, path.relative_to(root)


def _magic(parts: Sequence[str]) -> bool:
    return any(character in part for part in parts for character in _MAGIC)
