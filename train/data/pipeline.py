"""The stream of training batches: a pure function of (seed, global batch index), sliced per host last.

No state is carried from one batch to the next, so a run resumes anywhere, and any number of hosts, threads and worker
processes sees the same global batches: batch ``i`` of a seed is the same array wherever and whenever it is cut.

Photographs that stay decoded in memory are cut batch by batch. Where some do not, many batches ahead are cut at once:
what they draw is known, so each photograph is decoded once for all its patches in them, and let go.
"""

import collections
import functools
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grain
import numpy as np

from train.data.batch import Batch, Pair
from train.data.photographs import Photographs
from train.data.sources import Source
from train.data.windows import Windows, in_workers
from train.errors import InputError

# Which way rows and columns run in each orientation, once odd ones are transposed.
_ROWS, _COLUMNS = (1, -1, -1, 1, 1, -1, -1, 1), (1, 1, -1, -1, -1, -1, 1, 1)
_WHOLE_ROWS = (0, 6)  # orientations in which a row of pixels stays a row

# Patches that are cut at once from photographs on disk. As many again wait to be taken.
_WINDOW_BYTES = 128e6


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
        small = [
            f"{entry.name} ({entry.width}x{entry.height})"
            for entry in source.entries
            if min(entry.height, entry.width) < patch_size
        ]
        if small:
            smallest = min(min(entry.height, entry.width) for entry in source.entries)
            raise InputError(
                f"--patch-size {patch_size} is larger than {len(small)} of {len(source.names)} photographs: "
                f"{', '.join(small[:10])}; take --patch-size {smallest} or less, or leave these out."
            )
        self._source = source
        self._patch_size = patch_size
        self._batch_size = batch_size
        self._seed = seed
        sides = np.array([(entry.height, entry.width) for entry in source.entries])
        rows, self._columns = (sides - patch_size + 1).T
        self._ends = np.cumsum(rows * self._columns)
        self._starts = self._ends - rows * self._columns

    def global_batch(self, index: int, rows: slice = slice(None)) -> Batch:
        """Batch ``index``, or some rows of it: ``[B, P, P, 3]``, uint8, or uint16 where any photograph has 16 bits.

        From pairs, two of these, cut at the same places and turned alike.
        """
        return _each(self.global_batches(range(index, index + 1), rows))[0]

    def global_batches(self, indices: range, rows: slice = slice(None), *, threads: int = 1) -> Batch:
        """Several batches in one array ``[N, B, P, P, 3]``, or two; a photograph is decoded once for all of them."""
        drawn = [self._draw(index, rows) for index in indices]
        places = _Places(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))
        entries = self._source.entries

        def cut(images: Sequence[np.ndarray], bits: set[int | None]) -> np.ndarray:
            patches = self._cut(images, places, 16 if 16 in bits else 8, threads)
            return patches.reshape(len(indices), -1, *patches.shape[1:])

        clean = cut(self._source.images, {entry.bits for entry in entries})
        if self._source.inputs is None:
            return clean
        return Pair(cut(self._source.inputs, {entry.input_bits for entry in entries}), clean)

    def window(self) -> int:
        """Batches to cut at once: one where all photographs stay in memory, else as many as the window's bytes hold."""
        images, inputs = self._source.images, self._source.inputs
        if all(side.kept == len(side) for side in (images, inputs) if isinstance(side, Photographs)):
            return 1
        depth = max(entry.bits for entry in self._source.entries) // 8
        size = self._batch_size * self._patch_size**2 * 3 * depth * (1 if inputs is None else 2)
        return max(1, int(_WINDOW_BYTES // size))

    def _draw(self, index: int, rows: slice) -> _Places:
        # Drawn for the whole batch whichever rows are cut, so that every host draws alike.
        generator = np.random.default_rng([self._seed, index])
        positions = generator.integers(self._ends[-1], size=self._batch_size)[rows]
        orientations = generator.integers(8, size=self._batch_size)[rows]
        which = np.searchsorted(self._ends, positions, side="right")
        row, column = np.divmod(positions - self._starts[which], self._columns[which])
        return _Places(which, row, column, orientations)

    def _cut(self, images: Sequence[np.ndarray], places: _Places, bits: int, threads: int) -> np.ndarray:
        size = self._patch_size
        which, *corners = (numbers.tolist() for numbers in places)
        where = list(zip(*corners, strict=True))
        patches = np.empty((len(which), size, size, 3), np.uint16 if bits == 16 else np.uint8)
        of: dict[int, list[int]] = {}
        for number, photograph in enumerate(which):
            of.setdefault(photograph, []).append(number)

        def cut(photograph: int) -> None:
            image = images[photograph]
            for number in of[photograph]:
                row, column, orientation = where[number]
                crop = image[row : row + size, column : column + size]
                if crop.dtype != patches.dtype:
                    crop = crop * np.uint16(257)  # 255 becomes 65535: the same brightness, exactly
                _turn(crop, orientation, patches[number])

        if threads == 1:
            for photograph in of:
                cut(photograph)
        else:
            with ThreadPoolExecutor(threads) as pool:
                collections.deque(pool.map(cut, of), maxlen=0)  # for its errors
        return patches


def _turn(crop: np.ndarray, orientation: int, out: np.ndarray) -> None:
    """One of the eight flips and rotations: ``orientation % 4`` quarter turns, from 4 on mirrored as well."""
    upright = crop.swapaxes(0, 1) if orientation % 2 else crop
    turned = upright[:: _ROWS[orientation], :: _COLUMNS[orientation]]
    if orientation in _WHOLE_ROWS:
        out[...] = turned
        return
    for channel in range(3):  # one plane at a time: NumPy walks rows of pixels then, not pixels of three bytes
        out[..., channel] = turned[..., channel]


def stream(
    batches: PatchBatches,
    *,
    start: int,
    stop: int,
    batch_size: int,
    process: int = 0,
    processes: int = 1,
    threads: int = 2,
    workers: int = 0,
) -> Iterator[Batch]:
    """This process's rows of batches ``start`` to ``stop``, in order, cut ahead of time.

    One Grain element is one whole batch, or one window of them: per-patch elements are an order of magnitude slower.
    Threads by default: decoding and copying leave Python's lock. A worker process decodes by itself all that it needs,
    so these are taken only where photographs are decoded over and over.

    Args:
      batches: what is cut.
      start: number of the first batch.
      stop: number after the last one.
      batch_size: patches in a global batch.
      process: which rows of each batch: the block of this process's number.
      processes: blocks that a batch is divided into.
      threads: threads that cut, in this process.
      workers: processes that cut in their stead, a window each; 0 for none. They end with this process.
    """
    share = batch_size // processes
    rows = slice(process * share, (process + 1) * share)
    most = batches.window()
    windows = grain.MapDataset.source(Windows(start, stop, most))
    if most == 1:
        # Threads take a batch each.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=8)
        cut = windows.map(functools.partial(batches.global_batches, rows=rows)).to_iter_dataset(options)
    else:
        # Threads share a window: while it is cut, no more than one other is in memory, and that one is being used up.
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        alone = 1 if workers else threads
        cut = windows.map(functools.partial(batches.global_batches, rows=rows, threads=alone)).to_iter_dataset(options)
        if workers:
            cut = in_workers(cut, workers)
    return itertools.chain.from_iterable(map(_each, cut))


def _each(window: Batch) -> list[Batch]:
    """The batches of a window."""
    return [Pair(*both) for both in zip(*window, strict=True)] if isinstance(window, Pair) else list(window)
