"""Files that appear completely or not at all, and folders to write them to.

Every file of this program is first written under a hidden name in the same folder. When it is on
disk, it is renamed. A killed process leaves the hidden file, and the next process that writes to
the folder removes it.
"""

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

from train.errors import InputError
from train.files import locks

# Errors of the system that the next file would cause as well.
LASTING = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES)

# Hidden names do not contain the final name, because a name may have only 255 bytes.
_PREFIX = ".lumloss-"
# The name of a file of somebody else may begin in the same way.
_HIDDEN = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{16}(\..*)?")
_PROBE = bytes(16384)  # A disk that is too full for this is too full for any result.

# Texts that spreadsheets read as a formula. Leading apostrophes are included, so that a name that
# has some already stays the same after writing and reading.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")

_cleared: set[Path] = set()  # folders in which this process has removed leftovers


def check_writable(folder: Path) -> None:
    """Makes the folder of --output, or raises an error before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        _check_folder(folder)
        raise InputError(
            f"--output {folder} cannot be written to: {error.strerror}. Choose a different folder."
        ) from None


def _check_folder(folder: Path) -> None:
    """Refuses a name at which no folder can be made, because something else has it."""
    for path in (folder, *folder.parents):
        if path.is_dir() or not os.path.lexists(path):
            continue
        what = "a file"
        if path.is_symlink() and not path.exists():
            what = f"a link to {os.readlink(path)}, which does not exist"
        raise InputError(
            f"--output must be a folder, and {path} is {what}. Choose a different folder."
        )


def ignores_case(folder: Path) -> bool:
    """Whether ``a.png`` and ``A.PNG`` are the same file in ``folder``.

    They are the same on most memory cards, on Windows and on macOS.
    """
    with temporary_beside(folder / "name", ".name") as temporary:
        return temporary.with_name(temporary.name.upper()).exists()


def check_replaceable(
    path: Path, is_ours: Callable[[Path], bool], *, option: str, overwrite: bool
) -> None:
    """Refuses, before any work is done, to replace a file that this program did not write.

    Args:
      path: the file that will be written.
      is_ours: says whether the same command wrote the existing file. It may raise any error.
      option: the flag that names the file or its folder, for the error message.
      overwrite: whether the user has allowed it.

    Raises:
      InputError: the file exists, and this program may not have written it.
    """
    if overwrite or not os.path.lexists(path):
        return
    # The file may contain anything, so reading it may raise any error.
    with contextlib.suppress(Exception):
        if path.is_file() and is_ours(path):
            return
    raise InputError(
        f"{option}: {path} exists and was not written by this command. Rename it, choose a "
        f"different {option}, or use --overwrite."
    )


def write_json(value: Any, path: Path) -> None:
    """Writes a value as JSON. The file appears completely or not at all."""
    write_text(json.dumps(value, indent=2) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Writes UTF-8 with unchanged line ends. The file appears completely or not at all."""
    write_bytes(text.encode(), path)


def write_bytes(content: bytes | memoryview, path: Path) -> None:
    """Writes bytes. The file appears completely or not at all."""
    with whole_or_none(path) as temporary:
        # Python repeats an incomplete write until everything is written or the system reports an
        # error.
        with open_hidden(temporary) as file:
            file.write(content)


@contextmanager
def whole_or_none(path: Path) -> Iterator[Path]:
    """Gives a hidden file, which becomes ``path`` if the block succeeds, and is removed otherwise.

    The code that writes to the file must notice a full disk, as :func:`write_bytes` does.

    Raises:
      InputError: ``path`` is a folder, which no file can replace.
    """
    if path.is_dir() and not path.is_symlink():
        raise InputError(
            f"{path} is a folder, but a file of this name must be written. Rename or delete the "
            "folder, then repeat the command."
        )
    with temporary_beside(path, path.suffix) as temporary:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)


def sync(path: Path) -> None:
    """Waits until the content of a file is on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def open_hidden(path: Path) -> BinaryIO:
    """Opens a hidden file, which exists, to write it from its beginning.

    It may have been made an hour ago, in a folder to which others may write. Somebody may have put
    a link in its place since then, through which a file elsewhere would be overwritten.

    Raises:
      OSError: the file is gone, or something else has its name.
    """
    file = os.open(path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    if locks.why_not_ours(os.fstat(file)):
        os.close(file)
        raise OSError(errno.ESTALE, "another process has replaced the file", str(path))
    os.ftruncate(file, 0)
    return os.fdopen(file, "wb")


@contextmanager
def temporary_beside(path: Path, suffix: str) -> Iterator[Path]:
    """Gives a hidden file in the folder of ``path``, and removes it after the block."""
    clear_leftovers(path.parent)
    temporary, lock = _make_hidden(path.parent, suffix)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def clear_leftovers(folder: Path) -> None:
    """Removes hidden files that killed processes have left in ``folder``, once per process.

    A file that another process is writing is locked, and stays. All of them stay on file systems
    without locks, and on Windows, where a locked file is open and could not be renamed.
    """
    if sys.platform == "win32":
        return
    place = Path(os.path.abspath(folder))
    if place in _cleared:
        return
    _cleared.add(place)
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if _HIDDEN.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_unless_locked(Path(entry.path))


def _make_hidden(folder: Path, suffix: str) -> tuple[Path, int | None]:
    """Makes a hidden file, and returns it with the open file that holds its lock."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{suffix}"
        # The tempfile module would make a file that only the owner can read, for any umask.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if sys.platform == "win32":  # Windows cannot rename an open file.
            os.close(file)
            return path, None
        try:
            locks.lock(file)
        # Another process is about to remove this file, because it looks like a leftover.
        except BlockingIOError:
            os.close(file)
            continue
        except OSError:  # This file system does not have locks.
            return path, file
        if locks.is_at(file, path):
            return path, file
        os.close(file)


def _remove_unless_locked(path: Path) -> None:
    """Removes a file. OSError: the file is in use, or the file system cannot say."""
    file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        locks.lock(file)
        path.unlink()
    finally:
        os.close(file)


def _sync_folder(folder: Path) -> None:
    """Waits until a new name is on disk. Windows cannot do this, as it cannot open a folder."""
    with contextlib.suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def write_rows(rows: Sequence[Any], path: Path) -> None:
    """Writes dataclasses of the same class as CSV, one per line, without rounding.

    A field that holds numbers by name becomes a column for each name. NaN in it is an empty cell.
    Names of files come from others, and a spreadsheet runs a cell that begins with "=" or similar.
    Such a cell gets an apostrophe in front, which :func:`read_cell` removes. The file appears
    completely or not at all.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(_cells(rows[0]))
    writer.writerows(map(_cell, _cells(row).values()) for row in rows)
    write_text(file.getvalue(), path)


def _cells(row: Any) -> dict[str, Any]:
    """The cells of a row by the headings of their columns."""
    cells: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Mapping):
            cells |= {name: "" if math.isnan(one) else one for name, one in value.items()}
        else:
            cells[field.name] = value
    return cells


def _cell(value: Any) -> Any:
    """Escapes a text. Numbers stay unchanged, also with a minus sign."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def read_cell(text: str) -> str:
    """Returns the text that :func:`write_rows` was given for a cell."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
