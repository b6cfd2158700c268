"""Reads the lines of metrics.jsonl back.

A run may have been killed while it wrote one, or the disk may have failed.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from train.errors import InputError
from train.files.json_files import UnreadableError, is_number, parse_json
from train.files.outputs import whole_or_none

FILE_NAME = "metrics.jsonl"
_ASIDE = ".unreadable"  # follows the name of the file that keeps what cannot be read
_LONGEST = 1_000_000  # bytes of a line
_LARGEST = 1_000_000_000  # bytes of a file: four million lines


class Line(NamedTuple):
    """One line, as it stands and as it is read."""

    content: bytes
    row: dict[str, Any] | None  # None if it is no object with a step


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, except the last one if a kill cut it short; none if there is no file."""
    if not os.path.lexists(path):
        return
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):  # a pipe or a device is not waited for
        raise InputError(f"{path} is not a regular file: move it away.")
    if found.st_size > _LARGEST:
        raise InputError(
            f"{path} has {found.st_size / 1e6:,.0f} MB, where a run writes some hundred bytes for "
            "each logged step: move it away."
        )
    with path.open("rb") as file:
        while content := file.readline(_LONGEST):
            if content.endswith(b"\n"):
                yield Line(content, _row(content))
            elif len(content) == _LONGEST:
                yield Line(content, None)


def cut_back(path: Path, start: int) -> str:
    """Removes the lines beyond step ``start``.

    Lines that cannot be read are moved to a file beside this one. They are the user's, who may know
    what they are.

    Returns:
      A sentence about these, or "".
    """
    if not os.path.lexists(path):
        return ""
    aside = path.with_name(path.name + _ASIDE)
    unreadable = sum(line.row is None for line in read_lines(path))
    if unreadable:
        _keep_aside(path, aside)
    with whole_or_none(path) as temporary, temporary.open("wb") as file:
        for content, row in read_lines(path):
            if row is not None and row["step"] <= start:
                file.write(content)
    if not unreadable:
        return ""
    return (
        f"{path.name} had {unreadable} lines that cannot be read; they are in {aside}, and the "
        "run goes on"
    )


def _keep_aside(path: Path, aside: Path) -> None:
    """Appends lines that cannot be read to a file of their own, one by one.

    There may be gigabytes of them.
    """
    if os.path.lexists(aside) and not stat.S_ISREG(os.lstat(aside).st_mode):
        raise InputError(f"{aside} is not a regular file: move it away.")
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
    return row if isinstance(row, dict) and is_number(row.get("step")) else None
