"""Encoded photographs where they are stored, and how much of them is in memory at once.

Photographs are looked at in parallel. Each alone may have 200 megapixels, so the number of threads does not bound what
is decoded; two budgets do, which all threads share: one for encoded bytes, one for decoded pixels.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.data.images import Rows, decode_image, decode_rows, read_file, strips_of


@dataclass(frozen=True)
class StoredPhotograph:
    """A photograph that is decoded when it is called. Other processes may be sent it."""

    name: str  # what errors call it

    def __call__(self) -> np.ndarray:
        """The decoded photograph."""
        return decode_image(self.content(), self.name)

    def content(self) -> bytes:
        """The encoded photograph."""
        raise NotImplementedError

    def size(self) -> int:
        """Bytes that ``content`` takes, if that can be told before it is read; else 0."""
        return 0


@dataclass(frozen=True)
class StoredFile(StoredPhotograph):
    """A photograph in a file of its own."""

    path: Path

    def content(self) -> bytes:
        """The file's bytes."""
        return read_file(self.path)

    def size(self) -> int:
        """The file's."""
        try:
            return self.path.stat().st_size
        except OSError:  # said when it is read
            return 0


class Budget:
    """Bytes that several threads may hold together; what is larger than the whole is held alone."""

    def __init__(self, total: float) -> None:
        self._total = total
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Waits until there is room for ``size`` bytes, and holds it until the block ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + size <= self._total)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()


# A thread that waits for pixels holds encoded bytes; none that holds pixels waits. So they never wait for each other.
_ENCODED = Budget(300e6)
_DECODED = Budget(300e6)


@contextmanager
def opened(decode: Callable[[], np.ndarray]) -> Iterator[Rows]:
    """A photograph's size and strips; other threads wait as long as too much is decoded at once."""
    if not isinstance(decode, StoredPhotograph):
        image = decode()
        height, width = image.shape[:2]
        yield Rows(height, width, image.dtype.itemsize * 8, iter(strips_of(image)))
        return
    with _ENCODED.hold(decode.size()):
        content = decode.content()
        rows = decode_rows(content, decode.name)
        with _DECODED.hold(rows.height * rows.width * rows.bits // 8 * 3):
            yield rows
