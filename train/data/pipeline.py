"""The stream of training batches: a pure function of (seed, global batch index), sliced per host last.

No state is carried from one batch to the next, so a run resumes anywhere, and any number of hosts,
threads and worker processes sees the same global batches: batch ``i`` of a seed is the same array
wherever and whenever it is cut.

Several batches are cut at once, which Grain hands over for the price of one. Where photographs do
not all stay decoded in memory they are many: what they draw is known, so each photograph is decoded
once for all its patches in them, and let go.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np

from train.data.batch import Batch, Pair
from train.data.cutting import Cutter, PatchFiller, Threads
from train.data.photographs import Photographs
from train.data.sources import Source, smaller_than, some
from train.data.windows import Windows
from train.data.workers import Workers
from train.errors import InputError

# Patches that are cut at once from photographs on disk, and from those in memory. As many again
# wait to be taken.
_WINDOW_BYTES, _WINDOW_BYTES_IN_MEMORY = 256e6, 16e6
# From memory more batches at once are no quicker: what one costs Grain is then little beside
# cutting it.
_WINDOW_IN_MEMORY = 8


class _Places(NamedTuple):
    """Where patches are cut: one number each for every patch."""

    which: np.ndarray
    row: np.ndarray
    column: np.ndarray
    orientation: np.ndarray


class PatchBatches:
    """Cuts batches of random patches out of photographs, in one of the eight flips and rotations each."""

    def __init__(self, source: Source, *, patch_size: int, batch_size: int, seed: int) -> None:
        """Every position of every photograph is as likely as any other, so a large photograph gives more patches."""
        if small := smaller_than(source, patch_size):
            smallest = min(min(entry.height, entry.width) for entry in source.entries)
            raise InputError(
                f"--patch-size {patch_size} is larger than {len(small)} of {len(source.names)} "
                f"photographs: {some(small)}; take --patch-size {smallest} or less, or leave "
                "these out."
            )
        self.cutter = Cutter(source, patch_size)
        self._batch_size = batch_size
        self._seed = seed
        sides = np.array([(entry.height, entry.width) for entry in source.entries])
        rows, self._columns = (sides - patch_size + 1).T
        self._ends = np.cumsum(rows * self._columns)
        self._starts = self._ends - rows * self._columns

    def global_batches(
        self,
        indices: range,
        rows: slice | np.ndarray = slice(None),
        filler: PatchFiller | None = None,
    ) -> Batch:
        """Several batches in one array ``[N, B, P, P, 3]``; a photograph is decoded once for all of them.

        They are uint8, or uint16 where any photograph has 16 bits. From pairs there are two of
        these arrays, cut at the same places and turned alike.
        """
        drawn = [self._draw(index, rows) for index in indices]
        which, *where = (np.concatenate(parts).tolist() for parts in zip(*drawn, strict=True))
        corners = list(zip(*where, strict=True))
        wanted: dict[int, list[int]] = {}
        for number, photograph in enumerate(which):
            wanted.setdefault(photograph, []).append(number)
        sides = []
        for side in range(len(self.cutter.sides)):
            patches = self.cutter.empty_patches(side, len(corners))
            (filler or Threads(1, self.cutter)).fill(side, wanted, corners, patches)
            sides.append(patches.reshape(len(indices), -1, *patches.shape[1:]))
        return sides[0] if len(sides) == 1 else Pair(*sides)

    @property
    def in_memory(self) -> bool:
        """Whether all photographs stay decoded."""
        return all(
            images.kept == len(images)
            for images in self.cutter.sides
            if isinstance(images, Photographs)
        )

    def window(self) -> int:
        """Batches to cut at once: what a window's bytes hold, and no more than a few where all stay in memory."""
        size = sum(
            self.cutter.empty_patches(side, self._batch_size).nbytes
            for side in range(len(self.cutter.sides))
        )
        if self.in_memory:
            return max(1, min(_WINDOW_IN_MEMORY, int(_WINDOW_BYTES_IN_MEMORY // size)))
        return max(1, int(_WINDOW_BYTES // size))

    def _draw(self, index: int, rows: slice | np.ndarray) -> _Places:
        # Drawn for the whole batch whichever rows are cut, so that every host draws alike.
        generator = np.random.default_rng([self._seed, index])
        positions = generator.integers(self._ends[-1], size=self._batch_size)[rows]
        orientations = generator.integers(8, size=self._batch_size)[rows]
        which = np.searchsorted(self._ends, positions, side="right")
        row, column = np.divmod(positions - self._starts[which], self._columns[which])
        return _Places(which, row, column, orientations)


def stream(
    batches: PatchBatches,
    *,
    start: int,
    stop: int,
    rows: slice | np.ndarray = slice(None),
    threads: int = 2,
    workers: int = 0,
) -> Iterator[Batch]:
    """This process's rows of batches ``start`` to ``stop``, in order, cut ahead of time.

    One Grain element is one window of whole batches: per-patch elements are an order of magnitude
    slower.

    Args:
      batches: what is cut.
      start: number of the first batch.
      stop: number after the last one.
      rows: which of each batch this process takes.
      threads: threads that decode, in this process; what is decoded one thread cuts.
      workers: processes that decode and cut in their stead where photographs do not all stay in
        memory; 0 for none.
    """
    windows = grain.MapDataset.source(Windows(start, stop, batches.window()))
    # All take photographs of one window. While it is cut no more than one other is in memory: the
    # one in use.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    filler = (
        Workers(workers, batches.cutter)
        if workers and not batches.in_memory
        else Threads(threads, batches.cutter)
    )
    cut = functools.partial(batches.global_batches, rows=rows, filler=filler)
    try:
        for window in windows.map(cut).to_iter_dataset(options):
            yield from _each(window)
    finally:
        filler.close()


def _each(window: Batch) -> list[Batch]:
    """The batches of a window."""
    return (
        [Pair(*both) for both in zip(*window, strict=True)]
        if isinstance(window, Pair)
        else list(window)
    )
