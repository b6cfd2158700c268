"""Opens zip archives from others. The size of the table of contents is limited."""

import zipfile
from typing import BinaryIO, cast

# An entry needs about a hundred bytes, and Python makes objects of ten times that size.
_LONGEST_TABLE = 4 * 2**20


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Opens an archive for reading.

    Raises:
      ValueError: it has more entries than any file of weights, or one is compressed with a
        different method from deflate. zipfile raises other errors.
    """
    bounded = _Bounded(file)
    archive = zipfile.ZipFile(cast(BinaryIO, bounded))  # This reads the whole table at once.
    bounded.most = None
    for entry in archive.infolist():
        # zipfile limits reads of these two methods only. Data of bzip2 and LZMA are unpacked
        # completely, to up to a million times their size.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("an entry is not compressed with deflate, but with another method")
    return archive


class _Bounded:
    """A file that limits the number of bytes in a single read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.most: int | None = _LONGEST_TABLE

    def read(self, count: int = -1) -> bytes:
        """Reads bytes, as a file does."""
        if self.most is not None and count > self.most:
            raise ValueError(
                f"its table of contents has {count:,} bytes, and at most {self.most:,} are accepted"
            )
        return self._file.read(count)

    def seek(self, place: int, whence: int = 0) -> int:
        """Changes the position, as a file does."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """Returns the position, as a file does."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Returns that the position can be changed."""
        return True
