"""One lock for each folder that a command writes to, so that no two write to the same run.

The operating system holds the lock, so it disappears with the process, however that ends. A process
may hold a folder several times over: a comparison holds its own folder, and each of its trainings
holds the folder of that training.
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

# Windows forbids others to read bytes that are locked. This one lies beyond what the file says.
_LOCKED_BYTE = 1 << 30
_LONGEST_SAID = 1000  # bytes

_held: dict[Path, int] = {}  # folders that this process holds, and how many times


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps other processes out of ``folder`` until the block ends.

    Args:
      folder: one that exists.

    Raises:
      InputError: another process holds it, or nothing can be written there.
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
    """Whether a process holds the folder, or held it when it was killed."""
    return os.path.lexists(folder / FILE_NAME)


def _lock_file(folder: Path, path: Path) -> int:
    """Opens the lock's file and locks it."""
    while True:
        try:
            # A link is not followed: what is locked is also written to.
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}.") from None
        if why := why_not_ours(os.fstat(file)):
            os.close(file)
            raise InputError(f"{path}, which marks a folder in use, {why}. Move it away.")
        try:
            lock(file)
        except BlockingIOError:
            holder = os.read(file, _LONGEST_SAID).decode(errors="replace")
            os.close(file)
            said = f" ({holder})" if holder else ""
            raise InputError(
                f"{folder}: another process is at work there{said}. Wait until it has ended, or "
                "write to a new folder."
            ) from None
        except OSError:
            pass  # this file system has no locks, and a run there goes without
        # The process that held the lock before may have removed the file after it was opened here.
        if is_at(file, path):
            break
        os.close(file)
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
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
    if sys.platform == "win32":  # which removes no file that is open
        os.close(file)
        with contextlib.suppress(OSError):
            path.unlink()
        return
    # A file that is another by now belongs to another process: somebody removed ours.
    if is_at(file, path):
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(file)


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def lock(file: int) -> None:
        """Locks an open file until it is closed; a BlockingIOError if another process has it."""
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:  # how Windows says that it is locked
            raise BlockingIOError(*error.args) from None
        finally:
            os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def lock(file: int) -> None:
        """Locks an open file until it is closed; a BlockingIOError if another process has it."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
