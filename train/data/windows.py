"""Stretches of a run's batches that are cut at once, and worker processes that cut them."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

import absl.flags
import grain


class Windows(Sequence[range]):
    """``start`` to ``stop`` in ranges of 1, 2, 4 and so on to ``most`` batches: the first ones are there soon."""

    def __init__(self, start: int, stop: int, most: int) -> None:
        self._start, self._stop, self._most = start, stop, most
        self._doublings = most.bit_length() - 1

    def _begin(self, number: int) -> int:
        doubled = min(number, self._doublings)
        return min(self._start + 2**doubled - 1 + (number - doubled) * self._most, self._stop)

    def __len__(self) -> int:
        count = self._stop - self._start
        rest = count - (2**self._doublings - 1)  # after the doublings
        return count.bit_length() if rest <= 0 else self._doublings + -(-rest // self._most)

    def __getitem__(self, number: Any) -> Any:
        return range(self._begin(number), self._begin(number + 1))


def in_workers(cut: grain.IterDataset[Any], workers: int) -> grain.IterDataset[Any]:
    """``cut``, element by element in the same order, made by processes that end when this one does."""
    if not absl.flags.FLAGS.is_parsed():
        absl.flags.FLAGS(sys.argv[:1])  # Grain reads its flags when it starts processes; ours are not absl's
    return cut.mp_prefetch(
        grain.MultiprocessingOptions(workers, per_worker_buffer_size=1), worker_init_fn=_end_with_parent
    )


def _end_with_parent(worker: int, workers: int) -> None:
    """Whatever ends the parent, a kill included, ends the worker, which would wait for it for ever."""
    del worker, workers
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
