"""The stream of training batches: a pure function of (seed, global batch index), sliced per host last.

No state is carried from one batch to the next, so a run resumes anywhere, and any number of hosts sees the same global
batches: batch ``i`` of a seed is the same array wherever and whenever it is cut.
"""

from collections.abc import Iterator, Sequence

import grain
import numpy as np

from train.data.batch import Batch, Pair
from train.data.images import to_float
from train.data.sources import Source
from train.errors import InputError

# Which way rows and columns run in each orientation, once odd ones are transposed.
_ROWS, _COLUMNS = (1, -1, -1, 1, 1, -1, -1, 1), (1, 1, -1, -1, -1, -1, 1, 1)


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
        """Batch ``index``, or some rows of it: float32 ``[B, P, P, 3]`` in [0, 1]; two of these from pairs.

        Both halves of a pair are cut at the same place and turned alike.
        """
        # Drawn for the whole batch whichever rows are cut, so that every host draws alike.
        generator = np.random.default_rng([self._seed, index])
        positions = generator.integers(self._ends[-1], size=self._batch_size)[rows]
        orientations = generator.integers(8, size=self._batch_size)[rows]
        which = np.searchsorted(self._ends, positions, side="right")
        row, column = np.divmod(positions - self._starts[which], self._columns[which])
        places = list(zip(which.tolist(), row.tolist(), column.tolist(), orientations.tolist(), strict=True))
        clean = self._cut(self._source.images, places)
        return clean if self._source.inputs is None else Pair(self._cut(self._source.inputs, places), clean)

    def _cut(self, images: Sequence[np.ndarray], places: list[tuple[int, int, int, int]]) -> np.ndarray:
        size = self._patch_size
        crops = [images[which][row : row + size, column : column + size] for which, row, column, _ in places]
        if len({crop.dtype for crop in crops}) > 1:
            crops = [to_float(crop) for crop in crops]
        patches = np.empty((len(places), size, size, 3), crops[0].dtype)
        for patch, crop, (*_, orientation) in zip(_pixels(patches), crops, places, strict=True):
            patch[...] = _turned(_pixels(crop), orientation)
        return patches if patches.dtype == np.float32 else to_float(patches)


def _pixels(image: np.ndarray) -> np.ndarray:
    """``[..., 3]`` as ``[...]`` of whole pixels: a turned copy then moves each at once, four times as fast."""
    return image.view(np.dtype((np.void, 3 * image.itemsize)))[..., 0]


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """One of the eight flips and rotations: ``orientation % 4`` quarter turns, from 4 on mirrored as well."""
    upright = pixels.T if orientation % 2 else pixels
    return upright[:: _ROWS[orientation], :: _COLUMNS[orientation]]


def stream(
    batches: PatchBatches,
    *,
    start: int,
    stop: int,
    batch_size: int,
    process: int = 0,
    processes: int = 1,
    threads: int = 2,
) -> Iterator[Batch]:
    """This process's rows of batches ``start`` to ``stop``, in order, cut ahead of time on Grain's threads.

    One Grain element is one whole batch: per-patch elements are an order of magnitude slower. Threads, not processes:
    decoding and copying leave Python's lock, and every process would hold the photographs once more.
    """
    share = batch_size // processes
    rows = slice(process * share, (process + 1) * share)
    indices = grain.MapDataset.range(start, stop).map(lambda index: batches.global_batch(int(index), rows))
    return iter(indices.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=8)))
