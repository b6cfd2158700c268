"""Photographs that are decoded on demand, and stay decoded while there is memory for them."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

import numpy as np

from train.data.images import Rows
from train.data.stored import opened

Decode = Callable[[], np.ndarray]


class Memory:
    """A budget for decoded photographs, which all sources of a run share.

    Photographs that are decoded first stay in memory. After the budget is spent, further ones are
    decoded on each access, which is slower and gives the same pixels.
    """

    def __init__(self, megabytes: float) -> None:
        self._left = megabytes * 1e6
        self._lock = threading.Lock()

    def admit(self, size: int) -> bool:
        """Reserves ``size`` more bytes, and returns whether there was room for them."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True


class Photographs(Sequence[np.ndarray]):
    """Read-only arrays ``[H, W, 3]``, uint8 or uint16, by index, safe to read in many threads."""

    def __init__(self, decoders: Iterable[Decode], memory: Memory) -> None:
        self._photographs = tuple(_CachedPhotograph(decode, memory) for decode in decoders)

    def __len__(self) -> int:
        return len(self._photographs)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return self._photographs[index].pixels()

    def take(self, indices: Iterable[int]) -> "Photographs":
        """Some of the photographs. Those that are decoded stay decoded."""
        taken = Photographs((), Memory(0))
        taken._photographs = tuple(self._photographs[i] for i in indices)
        return taken

    def admit(self, index: int, size: int) -> None:
        """Reserves ``size`` bytes, if they are left, so that a photograph stays once decoded."""
        self._photographs[index].admit(size)

    @contextmanager
    def opened(self, index: int) -> Iterator[Rows]:
        """A photograph's size and strips, decoded on demand, and kept if the budget allows it."""
        photograph = self._photographs[index]
        with opened(photograph.pixels if photograph.decoded else photograph.decode) as rows:
            photograph.admit(rows.height * rows.width * 3 * rows.bits // 8)
            yield rows._replace(strips=photograph.keeping(rows)) if photograph.stays else rows

    def is_decoded(self, index: int) -> bool:
        """Whether a photograph is decoded now."""
        return self._photographs[index].decoded

    @property
    def kept(self) -> int:
        """The number of photographs that are in memory, or will be once they are decoded."""
        return sum(photograph.stays for photograph in self._photographs)


class _CachedPhotograph:
    def __init__(self, decode: Decode, memory: Memory) -> None:
        self.decode, self._memory = decode, memory
        self._lock = threading.Lock()
        self._kept: np.ndarray | None = None
        self.stays = False

    def __reduce__(self) -> Any:
        """Sends only the decoder to another process, neither pixels nor the budget."""
        return _undecoded, (self.decode,)

    def admit(self, size: int) -> None:
        with self._lock:
            self.stays = self.stays or self._memory.admit(size)

    @property
    def decoded(self) -> bool:
        return self._kept is not None

    def keeping(self, rows: Rows) -> Iterator[np.ndarray]:
        """Yields the same strips, and keeps the photograph after the last one."""
        if self._kept is not None:
            yield from rows.strips
            return
        pixels = np.empty((rows.height, rows.width, 3), np.uint8 if rows.bits == 8 else np.uint16)
        top = 0
        for strip in rows.strips:
            pixels[top : top + len(strip)] = strip
            top += len(strip)
            yield strip
        pixels.setflags(write=False)
        self._keep(pixels)

    def pixels(self) -> np.ndarray:
        if self._kept is not None:
            return self._kept
        pixels = np.ascontiguousarray(self.decode())
        pixels.setflags(write=False)
        self.admit(pixels.nbytes)
        self._keep(pixels)
        return pixels

    def _keep(self, pixels: np.ndarray) -> None:
        with self._lock:  # if two threads decoded the same photograph, only one keeps it
            if self.stays and self._kept is None:
                self._kept = pixels


def _undecoded(decode: Decode) -> _CachedPhotograph:
    return _CachedPhotograph(decode, Memory(0))
