"""The stream of training batches, a pure function of (seed, global batch index).

No state is carried from one batch to the next. So a run can resume at any batch, and any number of
hosts, threads and worker processes sees the same global batches: batch ``i`` of a seed is the same
array wherever and whenever it is cut.

Several batches are cut together, in a window, which costs Grain as much as one batch. If not all
photographs stay decoded in memory, the window is large, and each photograph is decoded once for all
its patches in the window.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np

from train.data.batch import Batch, Pair
from train.data.cutting import Cutter, PatchFiller, Threads
from train.data.photographs import Photographs
from train.data.sources import Source, smaller_than
from train.data.windows import Windows
from train.data.workers import Workers
from train.errors import InputError, list_some

# Bytes of the patches that are cut together, from photographs on disk and from photographs in
# memory. Another window of the same size waits to be used.
_WINDOW_BYTES, _WINDOW_BYTES_IN_MEMORY = 256e6, 16e6
# Most batches in a window from memory. More would not be faster, because Grain's share of the time
# is already small.
_WINDOW_IN_MEMORY = 8


class _Places(NamedTuple):
    """Where patches are cut, with one number for every patch in each array."""

    which: np.ndarray  # number of the photograph
    row: np.ndarray  # pixels from the top
    column: np.ndarray  # pixels from the left
    orientation: np.ndarray  # 0 to 7


class PatchBatches:
    """Cuts batches of random patches, each in one of the eight flips and rotations."""

    def __init__(self, source: Source, *, patch_size: int, batch_size: int, seed: int) -> None:
        """Prepares to draw every position in every photograph with the same probability.

        So large photographs give more patches than small ones.

        Args:
          source: the photographs.
          patch_size: side of a patch, in pixels.
          batch_size: number of patches in a batch.
          seed: the seed from which the positions are drawn.

        Raises:
          InputError: if a photograph is smaller than a patch.
        """
        if small := smaller_than(source, patch_size):
            smallest = min(min(entry.height, entry.width) for entry in source.entries)
            raise InputError(
                f"--patch-size {patch_size} is larger than {len(small)} of {len(source.names)} "
                f"photographs: {list_some(small)}. Use --patch-size {smallest} or less, or leave "
                "these photographs out."
            )
        self.cutter = Cutter(source, patch_size)
        self._batch_size = batch_size
        self._seed = seed
        sizes = np.array([(entry.height, entry.width) for entry in source.entries])
        # Number of places for a patch in each photograph, from top to bottom and from left to right
        rows, self._columns = (sizes - patch_size + 1).T
        self._ends = np.cumsum(rows * self._columns)
        self._starts = self._ends - rows * self._columns

    def global_batches(
        self,
        indices: range,
        *,
        rows: slice | np.ndarray = slice(None),
        filler: PatchFiller | None = None,
    ) -> Batch:
        """Cuts several batches together, and decodes each photograph once for all of them.

        Args:
          indices: numbers of the batches.
          rows: which patches of each batch to cut.
          filler: cuts the patches; None: this thread.

        Returns:
          ``[N, B, P, P, 3]``, uint8, or uint16 if any photograph has 16 bits. For pairs, two such
          arrays, cut at the same places and turned in the same way.
        """
        places = [self._draw(index, rows) for index in indices]
        which = np.concatenate([place.which for place in places]).tolist()
        corners = list(
            zip(
                np.concatenate([place.row for place in places]).tolist(),
                np.concatenate([place.column for place in places]).tolist(),
                np.concatenate([place.orientation for place in places]).tolist(),
                strict=True,
            )
        )
        wanted: dict[int, list[int]] = {}
        for number, photograph in enumerate(which):
            wanted.setdefault(photograph, []).append(number)

        filler = filler or Threads(1, self.cutter)
        cut = []  # degraded and clean, or clean alone
        for side in range(len(self.cutter.sides)):
            patches = self.cutter.empty_patches(side, len(corners))
            filler.fill(side, wanted, corners, patches)
            cut.append(patches.reshape(len(indices), -1, *patches.shape[1:]))
        return cut[0] if len(cut) == 1 else Pair(*cut)

    @property
    def in_memory(self) -> bool:
        """Whether all photographs stay decoded."""
        return all(
            images.kept == len(images)
            for images in self.cutter.sides
            if isinstance(images, Photographs)
        )

    def window(self) -> int:
        """The number of batches that are cut together."""
        size = sum(
            self.cutter.empty_patches(side, self._batch_size).nbytes
            for side in range(len(self.cutter.sides))
        )
        if self.in_memory:
            return max(1, min(_WINDOW_IN_MEMORY, int(_WINDOW_BYTES_IN_MEMORY // size)))
        return max(1, int(_WINDOW_BYTES // size))

    def _draw(self, index: int, rows: slice | np.ndarray) -> _Places:
        # Places are drawn for the whole batch even if only some rows are cut, so that every host
        # draws the same.
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
    """Yields this process's rows of batches ``start`` to ``stop``, in order, cut ahead of time.

    One element of Grain is a window of whole batches. One element per patch would be an
    order of magnitude slower.

    Args:
      batches: cuts the batches.
      start: number of the first batch.
      stop: number after the last batch.
      rows: which patches of each batch this process cuts.
      threads: number of threads in this process that decode; decoded photographs are cut by one.
      workers: number of processes that decode and cut instead, if not all photographs stay in
        memory; 0: no processes.

    Returns:
      The batches, one by one.
    """
    windows = grain.MapDataset.source(Windows(start, stop, batches.window()))
    # One thread reads windows, so at most two are in memory: one in use, and one being cut.
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
    if isinstance(window, Pair):
        return [Pair(*both) for both in zip(*window, strict=True)]
    return list(window)
