"""Processes that decode photographs and cut patches, if photographs do not fit into memory."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from train.data.cutting import Corner, Cutter, Wanted
from train.errors import InputError

_TOGETHER = 8  # photographs that a worker is given at a time


class Workers:
    """Worker processes for one cutter. They end by ``close`` or with this process."""

    def __init__(self, number: int, cutter: Cutter) -> None:
        """They start when they are first needed; each is sent the cutter once."""
        self._number = number
        # Spawned: a fork would lose the threads of JAX and libvips.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(number, context, initializer=_begin, initargs=(cutter,))

    def fill(
        self, side: int, wanted: Wanted, corners: Sequence[Corner], patches: np.ndarray
    ) -> None:
        """Writes all patches, as :class:`train.data.cutting.PatchFiller` says.

        Args:
          side: which side of pairs is cut.
          wanted: numbers of the patches to cut, by photograph.
          corners: where each patch is, by its number.
          patches: takes the pixels of each patch, by its number.

        Raises:
          InputError: if a worker process was ended from outside.
        """
        places = []
        for numbers in wanted.values():
            places.append([corners[i] for i in numbers])
        together = max(1, min(_TOGETHER, len(wanted) // (4 * self._number)))
        try:
            cut = self._pool.map(_cut, [side] * len(wanted), wanted, places, chunksize=together)
            for numbers, found in zip(wanted.values(), cut, strict=True):
                patches[numbers] = found
        except BrokenProcessPool:
            raise InputError(
                f"one of {self._number} worker processes was ended, most likely for want of "
                "memory: take fewer --workers."
            ) from None

    def close(self) -> None:
        """Ends them."""
        self._pool.shutdown(cancel_futures=True)


_cutter: Cutter  # one in each worker


def _begin(cutter: Cutter) -> None:
    global _cutter
    _cutter = cutter
    # Ctrl-C reaches every process of a terminal, and the first process decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed; it would wait for work for ever otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cut(side: int, photograph: int, corners: list[Corner]) -> np.ndarray:
    patches = _cutter.empty_patches(side, len(corners))
    _cutter.cut(side, photograph, corners, patches)
    return patches
