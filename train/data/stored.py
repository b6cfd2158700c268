"""Photographs in storage that are decoded on demand, within a budget of memory.

Photographs are decoded in parallel. A single one may have 200 megapixels, so the number of threads
does not limit the memory. All threads share a budget that does.
"""

import abc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.data.images import Rows, cut_strips, decode_image, decode_rows, read_file


@dataclass(frozen=True)
class StoredPhotograph(abc.ABC):
    """A photograph that is decoded when it is called. It can be sent to other processes."""

    name: str  # for errors

    def __call__(self) -> np.ndarray:
        """The decoded photograph."""
        return decode_image(self.content(), self.name)

    @abc.abstractmethod
    def content(self) -> bytes:
        """The encoded photograph."""

    @contextmanager
    def opened(self) -> Iterator[Rows]:
        """The photograph's size and strips. A thread waits here while the budget is used up."""
        rows = decode_rows(self.content(), self.name)
        with _DECODED.hold(rows.memory):
            yield rows


@dataclass(frozen=True)
class StoredFile(StoredPhotograph):
    """A photograph in a file of its own."""

    path: Path

    def content(self) -> bytes:
        """The file's bytes."""
        return read_file(self.path)

    @contextmanager
    def opened(self) -> Iterator[Rows]:
        """The photograph's size and strips. The file is read while it is decoded."""
        rows = decode_rows(self.path, self.name)
        with _DECODED.hold(rows.memory):
            yield rows


class Budget:
    """Bytes that several threads may hold together. More than the total is held by one alone."""

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


# Bytes of decoded pixels, and of a decoder's coefficients. A photograph counts with all its pixels,
# even if it is read in strips.
_DECODED = Budget(300e6)


@contextmanager
def opened(decode: Callable[[], np.ndarray]) -> Iterator[Rows]:
    """A photograph's size and strips, from storage or from pixels that are decoded already."""
    if isinstance(decode, StoredPhotograph):
        with decode.opened() as rows:
            yield rows
        return
    image = decode()
    height, width = image.shape[:2]
    yield Rows(height, width, image.dtype.itemsize * 8, iter(cut_strips(image)))
