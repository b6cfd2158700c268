"""Files that appear whole or not at all, and folders to write them to."""

import errno
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.errors import InputError

# Of the system's errors in writing a file those that the next one would meet as well.
LASTING = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES)


def check_writable(folder: Path) -> None:
    """Makes the folder of --output, or says before any work why that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--output {folder} cannot be written to: {error.strerror}; take another folder.") from None


def write_json(value: Any, path: Path) -> None:
    """Writes ``value``; the file appears whole or not at all."""
    with whole_or_none(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


@contextmanager
def whole_or_none(path: Path) -> Iterator[Path]:
    """A hidden file beside ``path`` to write to; it takes that name when the block ends well, and else goes."""
    with temporary_beside(path, path.suffix) as temporary:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)


def sync(path: Path) -> None:
    """Waits until what was written to a file is on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def temporary_beside(path: Path, suffix: str) -> Iterator[Path]:
    """A hidden file beside ``path``, gone when the block ends, unless it was moved away."""
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{suffix}")
    temporary.touch(exist_ok=False)  # by tempfile it would be the owner's alone, whatever the umask lets others do
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
