"""Zip archives of strangers: their table of contents is bounded before it is read."""

import zipfile
from typing import BinaryIO, cast

# Some hundred bytes for each entry. Python makes objects of ten times that size of them.
_LONGEST_TABLE = 4 * 2**20


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """An archive that is open for reading.

    Raises:
      ValueError: if it has more entries than any file of weights, or compresses one of them by
        another method than deflate; zipfile raises errors of its own.
    """
    bounded = _Bounded(file)
    archive = zipfile.ZipFile(cast(BinaryIO, bounded))  # it reads the whole table at once
    bounded.most = None
    for entry in archive.infolist():
        # A read of so many bytes is bounded for these alone: of bzip2 and LZMA zipfile unpacks as
        # much as its input gives, which is a million times its size.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("an entry is compressed by another method than deflate")
    return archive


class _Bounded:
    """A file of which at most so many bytes are read at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.most: int | None = _LONGEST_TABLE

    def read(self, count: int = -1) -> bytes:
        """As of a file."""
        if self.most is not None and count > self.most:
            raise ValueError(
                f"its table of contents has {count:,} bytes, and at most {self.most:,} are read"
            )
        return self._file.read(count)

    def seek(self, place: int, whence: int = 0) -> int:
        """As of a file."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()

    def seekable(self) -> bool:
        """As of a file."""
        return True
