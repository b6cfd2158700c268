"""Locks a folder while a command writes to it, so that no two commands write to the same run.

The operating system holds the lock, so it disappears with the process, in whatever way that ends. A
process may lock a folder several times: a comparison locks its folder, and each training run of the
comparison locks its own.
"""

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from train.errors import InputError

FILE_NAME = ".in_use"

# On Windows, other processes cannot read locked bytes. This byte is beyond the file's text.
_LOCKED_BYTE = 1 << 30
_LONGEST_TEXT = 1000  # bytes

_held: dict[Path, int] = {}  # folders that this process has locked, and how many times


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps other processes out of ``folder`` until the block ends.

    Args:
      folder: an existing folder.

    Raises:
      InputError: another process has locked it, or it is not writable.
    """
    place = folder.resolve()
    if place in _held:
        _held[place] += 1
        try:
            yield
        finally:
            _held[place] -= 1
        return

    file = _lock_file(folder, place / FILE_NAME)
    _held[place] = 1
    try:
        yield
    finally:
        del _held[place]
        _let_go(file, place / FILE_NAME)


def is_marked(folder: Path) -> bool:
    """Whether a process has locked the folder, or had locked it when it was killed."""
    return os.path.lexists(folder / FILE_NAME)


def _lock_file(folder: Path, path: Path) -> int:
    """Opens the lock's file and locks it."""
    while True:
        try:
            # A link is not followed, because the file that is locked is also written.
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}.") from None
        if why := why_not_ours(os.fstat(file)):
            os.close(file)
            raise InputError(
                f"{path}, which marks a folder as in use, {why}. Rename or delete it, then repeat "
                "the command."
            )
        try:
            lock(file)
        except BlockingIOError:
            holder = os.read(file, _LONGEST_TEXT).decode(errors="replace")
            os.close(file)
            who = f"another process ({holder})" if holder else "another process"
            raise InputError(
                f"{folder} is used by {who}. Wait until it has ended, or write to a new folder."
            ) from None
        except OSError:
            pass  # This file system does not have locks, so the run does without.
        # The process that held the lock before may have removed the file after it was opened here.
        if is_at(file, path):
            break
        os.close(file)
    with contextlib.suppress(OSError):  # If the disk is full, the lock works without this text.
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return file


def why_not_ours(found: os.stat_result) -> str:
    """Why a file must not be written to in place, although its name is ours; "" if it may be.

    A stranger can plant a hard link to a file that belongs to the user, which would then be
    changed, or a pipe, which would be waited for.
    """
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_nlink > 1:
        return "is a hard link to a file that has another name too"
    return ""


def _let_go(file: int, path: Path) -> None:
    """Removes the lock's file, and with it the lock."""
    if sys.platform == "win32":  # Windows cannot remove an open file.
        os.close(file)
        with contextlib.suppress(OSError):
            path.unlink()
        return
    # If there is a different file now, somebody removed ours, and this one belongs to another
    # process.
    if is_at(file, path):
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(file)


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the file at ``path``."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def lock(file: int) -> None:
        """Locks an open file until it is closed. BlockingIOError: another process has locked it."""
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:  # This is the error of Windows for a locked byte.
            raise BlockingIOError(*error.args) from None
        finally:
            os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def lock(file: int) -> None:
        """Locks an open file until it is closed. BlockingIOError: another process has locked it."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
