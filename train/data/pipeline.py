"""The stream of training batches: a pure function of (seed, global batch index).

No state is carried from one batch to the next, so a run resumes anywhere, and any number of hosts,
threads and worker processes sees the same global batches: batch ``i`` of a seed is the same array
wherever and whenever it is cut.

Several batches are cut at once, in a window, which costs Grain as much as one batch. If photographs
do not all stay decoded in memory the window is large: each photograph is decoded once for all its
patches in the window.
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
    """Cuts batches of random patches, each in one of the eight flips and rotations."""

    def __init__(self, source: Source, *, patch_size: int, batch_size: int, seed: int) -> None:
        """Every position of every photograph is equally likely: large ones give more patches.

        Args:
          source: the photographs.
          patch_size: side of a patch, in pixels.
          batch_size: patches in a batch.
          seed: of the places that are drawn.

        Raises:
          InputError: if a photograph is smaller than a patch.
        """
        if small := smaller_than(source, patch_size):
            smallest = min(min(entry.height, entry.width) for entry in source.entries)
            raise InputError(
                f"--patch-size {patch_size} is larger than {len(small)} of {len(source.names)} "
                f"photographs: {list_some(small)}; take --patch-size {smallest} or less, or leave "
                "these out."
            )
        self.cutter = Cutter(source, patch_size)
        self._batch_size = batch_size
        self._seed = seed
        sizes = np.array([(entry.height, entry.width) for entry in source.entries])
        # How many places there are for a patch in each photograph, from top to bottom and across
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
        """Cuts several batches at once, and decodes each photograph once for all of them.

        Args:
          indices: numbers of the batches.
          rows: which patches of each batch.
          filler: who cuts them; this thread if it is not given.

        Returns:
          ``[N, B, P, P, 3]``, uint8, or uint16 if any photograph has 16 bits. From pairs there are
          two of these arrays, cut at the same places and turned in the same way.
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
        """How many batches are cut at once."""
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
    """Yields this process's rows of batches ``start`` to ``stop``, in order, cut ahead of time.

    One Grain element is one window of whole batches: per-patch elements are an order of magnitude
    slower.

    Args:
      batches: what is cut.
      start: number of the first batch.
      stop: number after the last one.
      rows: which of each batch this process takes.
      threads: threads that decode, in this process; what is decoded one thread cuts.
      workers: processes that decode and cut instead, if photographs do not all stay in memory; 0
        for none.

    Returns:
      The batches, one by one.
    """
    windows = grain.MapDataset.source(Windows(start, stop, batches.window()))
    # One thread reads windows: while a window is cut, only the one in use is in memory beside it.
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
