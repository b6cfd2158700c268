"""Reads the lines of metrics.jsonl, and removes lines beyond a step.

Some lines may be damaged, because a run was killed while it wrote one, or because the disk failed.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from train.errors import InputError
from train.files.json_files import UnreadableError, is_finite, parse_json
from train.files.locks import why_not_ours
from train.files.outputs import open_hidden, whole_or_none

FILE_NAME = "metrics.jsonl"
_ASIDE = ".unreadable"  # ending of the name of the file that keeps unreadable lines
_LONGEST = 1_000_000  # bytes in a line
_LARGEST = 1_000_000_000  # bytes in a file, which is four million lines
_ADVICE = "Rename or delete it, then repeat the command."


class Line(NamedTuple):
    """One line, as bytes and as the object that it contains."""

    content: bytes
    row: dict[str, Any] | None  # None if the line is not an object with a step


def read_lines(path: Path) -> Iterator[Line]:
    """Yields the lines of a file, except for an incomplete last line.

    Without a file there are none.
    """
    if not os.path.lexists(path):
        return
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):  # Reading a pipe or a device could take forever.
        raise InputError(f"{path} is not a regular file. {_ADVICE}")
    if found.st_size > _LARGEST:
        raise InputError(
            f"{path} has {found.st_size / 1e6:,.0f} MB. A run writes only a few hundred bytes per "
            f"logged step, so this file is something else. {_ADVICE}"
        )
    with path.open("rb") as file:
        while content := file.readline(_LONGEST):
            if content.endswith(b"\n"):
                yield Line(content, _row(content))
            elif len(content) == _LONGEST:
                yield Line(content, None)


def cut_back(path: Path, start: int) -> str:
    """Removes the lines beyond step ``start``.

    Unreadable lines are moved to another file in the same folder, because the user may know what
    they are.

    Returns:
      A sentence about unreadable lines, or "" if there are none.
    """
    if not os.path.lexists(path):
        return ""
    aside = path.with_name(path.name + _ASIDE)
    unreadable = sum(line.row is None for line in read_lines(path))
    if unreadable:
        _keep_aside(path, aside)
    with whole_or_none(path) as temporary, open_hidden(temporary) as file:
        for content, row in read_lines(path):
            if row is not None and row["step"] <= start:
                file.write(content)
    if not unreadable:
        return ""
    return (
        f"{path.name} had {unreadable} unreadable lines. They were moved to {aside}, and the run "
        "continues"
    )


def _keep_aside(path: Path, aside: Path) -> None:
    """Appends unreadable lines to another file, one by one, because there may be gigabytes."""
    if os.path.lexists(aside) and (why := why_not_ours(os.lstat(aside))):
        raise InputError(f"{aside} {why}. {_ADVICE}")
    with aside.open("ab") as file:
        for line in read_lines(path):
            if line.row is None:
                file.write(line.content)
        file.flush()
        os.fsync(file.fileno())


def _row(content: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(content)
    except UnreadableError:
        return None
    return row if isinstance(row, dict) and is_finite(row.get("step")) else None
