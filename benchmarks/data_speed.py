"""Training patches per second that reach the device, compared with a torch DataLoader.

    python benchmarks/data_speed.py FOLDER

FOLDER holds colour photographs, such as CBSD432. They are first written as array_record.

Both sides cut a random patch, turn it in one of eight ways and give float32 in [0, 1]. Our side
ends with arrays on JAX's device. The other side is a torch DataLoader of the usual kind. It loads
one patch per item, with the number of worker processes that suits it best, and ends with tensors on
the CPU. From disk it reads the folder's files through Pillow. Rates are medians of rounds in which
every variant runs once, in a new random order, so that other load on the machine affects all in the
same way. torch is needed only for its own rows.
"""

import functools
import importlib.util
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import PIL.Image
import tyro
from rounds import machine

from train.data.folders import list_folder
from train.data.photographs import Decode, Memory
from train.data.pipeline import PatchBatches, stream
from train.data.prepare import prepare
from train.data.sources import Source, open_source
from train.devices import sharding
from train.pixels import to_unit_range

SIZES = {40: 128, 128: 32}  # side of a patch: patches in a batch
WORKERS = (0, 1, 2)
OUR_WORKERS = (2,)
AHEAD = 24  # batches of ours that may be waiting when a round begins: taken before its clock starts


@dataclass(frozen=True)
class Options:
    """What to measure."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of photographs."""
    rounds: int = 7
    """Rounds of timing, in each of which every variant runs once."""
    seconds: float = 3.0
    """Seconds that a variant runs in a round."""
    threads: int = 2
    """Threads that cut patches."""


class TorchPatches:
    """A torch data set: one random patch an item, as restoration code usually has it."""

    def __init__(self, images: Sequence[Decode], patch_size: int) -> None:
        """Each of ``images`` gives a photograph: out of memory, or decoded for each item."""
        self._images, self._size = images, patch_size

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: int) -> Any:
        import torch

        image = random.choice(self._images)()
        row = random.randint(0, image.shape[0] - self._size)
        column = random.randint(0, image.shape[1] - self._size)
        patch = image[row : row + self._size, column : column + self._size]
        if random.random() < 0.5:
            patch = patch[:, ::-1]
        patch = np.rot90(patch, random.randrange(4))
        return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1))).float().div(255)


class Ours:
    """Batches on JAX's device."""

    def __init__(self, source: Source, size: int, threads: int, workers: int = 0) -> None:
        """Opens the stream, and takes what comes before its windows have their full length."""
        batches = PatchBatches(source, patch_size=size, batch_size=SIZES[size], seed=0)
        host = stream(batches, start=0, stop=1 << 30, threads=threads, workers=workers)
        self._batches = map(
            jax.jit(to_unit_range), sharding.to_devices(host, sharding.make_mesh(1))
        )
        self._window = None if batches.in_memory else batches.window()
        if self._window is not None:
            # The first windows have 1, 2, 4 batches and so on; one batch is always on its way.
            self._take(2 ** (self._window.bit_length() - 1) - 2)

    def _take(self, count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(next(self._batches))

    def rate(self, seconds: float) -> float:
        """Patches per second."""
        if self._window is None:
            return rate(self._batches, seconds, AHEAD)
        # One window was cut meanwhile. With its first batch the next one is begun, and with that
        # one's first batch the one after: what lies between is what one window takes.
        start = time.perf_counter()
        count = len(next(self._batches)) * self._window
        self._take(self._window - 1)
        jax.block_until_ready(next(self._batches))
        passed = time.perf_counter() - start
        self._take(self._window - 1)
        time.sleep(passed)  # the next is cut now, not while others are measured
        return count / passed


def pillow(path: Path) -> np.ndarray:
    """A photograph as restoration code in torch usually reads it."""
    with PIL.Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def theirs(images: Sequence[Decode], size: int, workers: int) -> Iterator[Any]:
    """Batches of a torch DataLoader."""
    import torch.utils.data

    # Processes are not forked from this one: JAX's threads would be lost in them.
    context = "forkserver" if workers else None
    loader = torch.utils.data.DataLoader(
        TorchPatches(images, size),
        batch_size=SIZES[size],
        num_workers=workers,
        multiprocessing_context=context,
    )
    return iter(loader)


def rate(batches: Iterator[Any], seconds: float, ahead: int) -> float:
    """Patches per second, once ``ahead`` batches are taken."""
    for _ in range(ahead):
        jax.block_until_ready(next(batches))
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        count += len(jax.block_until_ready(next(batches)))
    return count / passed


def measure(
    options: Options, sources: dict[str, Source], decoders: dict[str, Sequence[Decode]], size: int
) -> None:
    """Prints a table for one size of patch."""
    variants: dict[tuple[str, str], Any] = {}
    for where, source in sources.items():
        variants[where, "ours"] = Ours(source, size, options.threads).rate
        if where != "memory":
            for n in OUR_WORKERS:
                variants[where, f"ours, {n} workers"] = Ours(source, size, options.threads, n).rate
    if importlib.util.find_spec("torch"):
        for where, images in decoders.items():
            for n in WORKERS:
                variants[where, f"torch, {n} workers"] = functools.partial(
                    rate, theirs(images, size, n), ahead=2 * n + 1
                )
    rates: dict[tuple[str, str], list[float]] = {variant: [] for variant in variants}
    order = list(variants)
    for turn in range(options.rounds):
        random.Random(turn).shuffle(order)
        for variant in order:
            rates[variant].append(variants[variant](options.seconds))
    print(f"{size}x{size} colour patches per second, batches of {SIZES[size]}")
    for where in sources:
        median = {
            name: statistics.median(found)
            for (place, name), found in rates.items()
            if place == where
        }
        best = max(
            (value for name, value in median.items() if name.startswith("torch")), default=None
        )
        for name, value in median.items():
            against = (
                f"  {value / best:5.2f} x torch's best" if best and name.startswith("ours") else ""
            )
            print(f"  {where:12} {name:18} {value:9,.0f}{against}")


def main(options: Options) -> None:
    """Measures both sizes from both places."""
    with tempfile.TemporaryDirectory() as folder:
        spec = prepare(f"folder:{options.folder}", data_dir=Path(folder))
        sources = {
            "memory": open_source(f"folder:{options.folder}", "train", memory=Memory(100_000)),
            "array_record": open_source(spec, "train", memory=Memory(0)),
        }
        print(f"{len(sources['memory'].names)} photographs; {machine()}")
        if not importlib.util.find_spec("torch"):
            print("torch is not installed here, so its rows are missing: pip install torch")
        decoders: dict[str, Sequence[Decode]] = {
            "memory": [functools.partial(np.asarray, image) for image in sources["memory"].images],
            "array_record": [
                functools.partial(pillow, path) for path in list_folder(options.folder).files
            ],
        }
        for size in SIZES:
            measure(options, sources, decoders, size)


if __name__ == "__main__":
    main(tyro.cli(Options))
