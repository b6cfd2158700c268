"""The stream of training batches: a pure function of (seed, global batch index), sliced per host last.

No state is carried from one batch to the next, so a run resumes anywhere, and any number of hosts sees the same global
batches: batch ``i`` of a seed is the same array wherever and whenever it is cut.
"""

from collections.abc import Iterator

import grain
import numpy as np

from train.data.images import to_float
from train.data.sources import Source
from train.errors import InputError


class PatchBatches:
    """Cuts batches of random patches out of photographs, in one of the eight flips and rotations each."""

    def __init__(self, source: Source, *, patch_size: int, batch_size: int, seed: int) -> None:
        """Every position of every photograph is as likely as any other, so a large photograph gives more patches."""
        small = [
            f"{name} ({image.shape[1]}x{image.shape[0]})"
            for name, image in zip(source.names, source.images, strict=True)
            if min(image.shape[:2]) < patch_size
        ]
        if small:
            smallest = min(min(image.shape[:2]) for image in source.images)
            raise InputError(
                f"--patch-size {patch_size} is larger than {len(small)} of {len(source.images)} photographs: "
                f"{', '.join(small[:10])}; take --patch-size {smallest} or less, or leave these out."
            )
        self._images = source.images
        self._patch_size = patch_size
        self._batch_size = batch_size
        self._seed = seed
        positions = [(h - patch_size + 1) * (w - patch_size + 1) for h, w, _ in (i.shape for i in source.images)]
        self._ends = np.cumsum(positions)

    def global_batch(self, index: int, rows: slice = slice(None)) -> np.ndarray:
        """Batch ``index``, or some rows of it: float32 ``[B, P, P, 3]`` in [0, 1]."""
        # Drawn for the whole batch whichever rows are cut, so that every host draws alike.
        generator = np.random.default_rng([self._seed, index])
        positions = generator.integers(self._ends[-1], size=self._batch_size)
        orientations = generator.integers(8, size=self._batch_size)
        return np.stack([self._patch(p, o) for p, o in zip(positions[rows], orientations[rows], strict=True)])

    def _patch(self, position: int, orientation: int) -> np.ndarray:
        which = int(np.searchsorted(self._ends, position, side="right"))
        image, size = self._images[which], self._patch_size
        row, column = divmod(int(position - (self._ends[which - 1] if which else 0)), image.shape[1] - size + 1)
        patch = np.rot90(image[row : row + size, column : column + size], orientation % 4)
        return to_float(patch[:, ::-1] if orientation >= 4 else patch)


def stream(
    batches: PatchBatches, *, start: int, stop: int, batch_size: int, process: int = 0, processes: int = 1
) -> Iterator[np.ndarray]:
    """This process's rows of batches ``start`` to ``stop``, in order, cut ahead of time on Grain's threads.

    One Grain element is one whole batch: per-patch elements are an order of magnitude slower.
    """
    share = batch_size // processes
    rows = slice(process * share, (process + 1) * share)
    indices = grain.MapDataset.range(start, stop).map(lambda index: batches.global_batch(int(index), rows))
    return iter(indices.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)))
