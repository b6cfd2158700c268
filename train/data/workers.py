"""Worker processes that decode photographs and cut patches if photographs do not fit in memory."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import numpy as np

from train.data.cutting import Corner, Cutter, Wanted
from train.errors import InputError

_TOGETHER = 8  # largest number of photographs that a worker gets at a time


class Workers:
    """Worker processes for one cutter. They end with ``close``, or when this process ends."""

    def __init__(self, number: int, cutter: Cutter) -> None:
        """Prepares the processes. They start when they are first needed, with a cutter each."""
        self._number = number
        # They are spawned, because a fork would lose the threads of JAX and libvips.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(number, context, initializer=_begin, initargs=(cutter,))

    def fill(
        self, side: int, wanted: Wanted, corners: Sequence[Corner], patches: np.ndarray
    ) -> None:
        """Cuts all patches, as :class:`train.data.cutting.PatchFiller` says.

        Args:
          side: which side of pairs to cut.
          wanted: numbers of the patches to cut, by photograph.
          corners: the place of each patch, by its number.
          patches: the array that the patches are written to, by their numbers.

        Raises:
          InputError: if a worker process was ended from outside.
        """
        places = []
        for numbers in wanted.values():
            places.append([corners[i] for i in numbers])
        together = max(1, min(_TOGETHER, len(wanted) // (4 * self._number)))
        try:
            with _without_ctrl_c():
                cut = self._pool.map(_cut, [side] * len(wanted), wanted, places, chunksize=together)
            for numbers, found in zip(wanted.values(), cut, strict=True):
                patches[numbers] = found
        except BrokenProcessPool:
            raise InputError(
                f"one of {self._number} worker processes was killed, most likely because memory "
                "ran out. Use fewer --workers."
            ) from None

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Within it this thread starts processes that Ctrl-C never reaches, not even at their start.

    Ctrl-C goes to every process of a terminal, and the main process decides what to do.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows, where workers soon ignore it
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_cutter: Cutter  # this worker's own


def _begin(cutter: Cutter) -> None:
    global _cutter
    _cutter = cutter
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed. Otherwise it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cut(side: int, photograph: int, corners: list[Corner]) -> np.ndarray:
    patches = _cutter.empty_patches(side, len(corners))
    _cutter.cut(side, photograph, corners, patches)
    return patches
