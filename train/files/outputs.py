"""Files that appear whole or not at all, and folders to write them to.

Every file that this program makes is written under a hidden name beside its final one, waited for
until it is on disk, and then renamed. A process that is killed leaves the hidden file; the next one
that writes to the folder removes it.
"""

import contextlib
import csv
import errno
import io
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from train.errors import InputError
from train.files import locks

# Errors of the system that writing the next file would meet as well.
LASTING = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES)

# Hidden names are short, whatever the file is called: a name may have 255 bytes in all.
_PREFIX = ".lumloss-"
_PROBE = bytes(16384)  # a disk without room for this has no room for a result

# What spreadsheets take for a formula. With an apostrophe before it that was in the name already,
# the name still comes back as it was.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")

_cleared: set[Path] = set()  # folders whose leftovers this process has looked for


def check_writable(folder: Path) -> None:
    """Makes the folder of --output, or says before any work why that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            f"--output {folder} cannot be written to: {error.strerror}. Choose another folder."
        ) from None


def ignores_case(folder: Path) -> bool:
    """Whether ``a.png`` and ``A.PNG`` are one file in ``folder``.

    They are on most cards, on Windows and on macOS.
    """
    with temporary_beside(folder / "name", ".name") as temporary:
        return temporary.with_name(temporary.name.upper()).exists()


def check_replaceable(
    path: Path, is_ours: Callable[[Path], bool], *, option: str, overwrite: bool
) -> None:
    """Refuses, before any work, to replace a file that this program did not write.

    Args:
      path: the file to be written.
      is_ours: whether a file of that name is one that the same command wrote before; it may raise
        anything.
      option: the flag that names the file or its folder, for the error.
      overwrite: whether the user has asked for it.

    Raises:
      InputError: if the file is there, and is not known to be this program's.
    """
    if overwrite or not os.path.lexists(path):
        return
    # What others wrote may be anything, and readers raise whatever they meet
    with contextlib.suppress(Exception):
        if path.is_file() and is_ours(path):
            return
    raise InputError(
        f"{option}: {path} is there already and was not written by this command. Move it, choose "
        f"another {option}, or give --overwrite."
    )


def write_json(value: Any, path: Path) -> None:
    """Writes ``value``; the file appears whole or not at all."""
    write_text(json.dumps(value, indent=2) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Writes UTF-8 with line ends as they are; the file appears whole or not at all."""
    write_bytes(text.encode(), path)


def write_bytes(content: bytes | memoryview, path: Path) -> None:
    """Writes ``content``; the file appears whole or not at all."""
    with whole_or_none(path) as temporary:
        # Python repeats a short write until all is written or the system says why not
        temporary.write_bytes(content)


@contextmanager
def whole_or_none(path: Path) -> Iterator[Path]:
    """A hidden file beside ``path``, renamed to ``path`` if the block ends well, else removed.

    What writes to the file must notice when the disk is full; :func:`write_bytes` does.
    """
    with temporary_beside(path, path.suffix) as temporary:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def sync(path: Path) -> None:
    """Waits until what was written to a file is on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def temporary_beside(path: Path, suffix: str) -> Iterator[Path]:
    """A hidden file beside ``path``, gone when the block ends, unless it was moved away."""
    clear_leftovers(path.parent)
    temporary, lock = _make_hidden(path.parent, suffix)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def clear_leftovers(folder: Path) -> None:
    """Removes hidden files that killed processes have left in ``folder``, once in a process.

    A file that a living process is writing is locked and stays. So does one on a file system that
    knows no locks, and on Windows, where a file that is to be renamed cannot be kept open with a
    lock on it.
    """
    if sys.platform == "win32":
        return
    place = Path(os.path.abspath(folder))
    if place in _cleared:
        return
    _cleared.add(place)
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_unless_locked(Path(entry.path))


def _make_hidden(folder: Path, suffix: str) -> tuple[Path, int | None]:
    """A new hidden file, and what holds its lock."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{suffix}"
        # By tempfile it would be the owner's alone, whatever the umask lets others do.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if sys.platform == "win32":  # which renames no file that is open
            os.close(file)
            return path, None
        try:
            locks.lock(file)
        # Another process is about to remove it, which it took for a leftover
        except BlockingIOError:
            os.close(file)
            continue
        except OSError:  # this file system has no locks
            return path, file
        if locks.is_at(file, path):
            return path, file
        os.close(file)


def _remove_unless_locked(path: Path) -> None:
    """Raises OSError for a file that is in use, or that cannot be known not to be."""
    file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        locks.lock(file)
        path.unlink()
    finally:
        os.close(file)


def _sync_folder(folder: Path) -> None:
    """Waits until a new name is on disk, where the system can: Windows cannot open a folder."""
    with contextlib.suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def write_rows(rows: Sequence[Any], path: Path) -> None:
    """A table of dataclasses of one kind as CSV, a line each, unrounded; whole or not at all.

    A spreadsheet runs a cell that begins with "=" and the like, and names of files are a stranger's
    text: such a cell begins with an apostrophe here. :func:`read_cell` takes it off again.
    """
    names = [field.name for field in fields(rows[0])]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    write_text(file.getvalue(), path)


def _cell(value: Any) -> Any:
    """Numbers are left as they are, a minus sign included."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def read_cell(text: str) -> str:
    """A text as it was before :func:`write_rows` wrote it."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
