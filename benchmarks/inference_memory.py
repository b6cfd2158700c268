"""Peak memory of the command that restores a photograph, for each network and size.

    python benchmarks/inference_memory.py
    python benchmarks/inference_memory.py --networks drunet --megapixels 4 12 24
    python benchmarks/inference_memory.py --networks nafnet cidnet --megapixels 12 --tiles 0

The first command measures every network at 12 and 100 megapixels. With ``--tiles 0``, as in the
third one, the network processes every tile, which may take long.

``python -m train restore`` is run on a JPEG file, each time in a process of its own. The memory has
reached its peak after a row of tiles. So that slow networks end in minutes, only the first tiles of
each pass over the photograph go through the network, and the others are returned unchanged.
Everything else is done in full: reading, cutting into tiles, waiting for the devices, assembling,
rounding, keeping pixels on disk, and encoding. The output says how many tiles the network
processes. For networks that run layer by layer, they are strips.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import tyro
from random_weights import random_variables
from rounds import own_peak_megabytes

from train.__main__ import main as train
from train.checkpoints.checkpoint import Network, save_network
from train.inference import attending, predict
from train.inference.layered import LayeredPredictor
from train.inference.tiles.spilled import Pass
from train.inference.tiles.tiles import Grid, StreamedPhotograph, Tile
from train.network import build_model

NETWORKS = (
    "dncnn",
    "dncnn_blind",
    "unet",
    "unet_dpir",
    "unet_scico",
    "drunet",
    "buifd",
    "retinexformer",
    "retinexformer(stages=3)",
    "nafnet(width=16)",
    "nafnet",
    "cidnet",
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    networks: tuple[str, ...] = NETWORKS
    """Networks, with random weights."""
    megapixels: tuple[float, ...] = (12.0, 100.0)
    """Sizes of the photograph, which is as wide as 3 to 2."""
    tiles: int = 3
    """Batches of tiles that the network sees in each pass; 0: all."""
    fast: bool = False
    """Retinexformer: attend over a reduced photograph."""
    alone: tuple[str, ...] = ()
    """Checkpoint, photograph and output: what the benchmark starts for each line."""


def alone(options: Options) -> None:
    """Restores one photograph, and prints what that took, in a line of JSON, last."""
    if options.tiles:
        _let_pass_after(options.tiles)
    checkpoint, photograph, output = options.alone
    start = time.perf_counter()
    status = train(
        [
            "restore",
            checkpoint,
            photograph,
            "--output",
            output,
            *(["--fast"] if options.fast else []),
        ]
    )
    seconds = time.perf_counter() - start
    print(json.dumps({"status": status, "seconds": seconds, "peak_mb": own_peak_megabytes()}))


def _let_pass_after(count: int) -> None:
    """After ``count`` batches of a pass, a call returns its input or the last result."""
    run, batches = predict.Predictor._run, Grid.batches
    number = 0  # a batch's number in its pass; 0 between passes
    last: dict[Any, Any] = {}

    def counted(
        self: Grid, photograph: StreamedPhotograph, at_once: int
    ) -> Iterator[tuple[list[Tile], np.ndarray]]:
        nonlocal number
        for batch in batches(self, photograph, at_once):
            number += 1
            yield batch
        number = 0

    def some(
        self: predict.Predictor, function: Any, *images: np.ndarray, arguments: tuple[Any, ...] = ()
    ) -> Any:
        if number > count:
            restorers = (
                predict._restorer(self.model),
                attending._restorer_with_sums(self.model),
            )
            return np.array(images[0]) if function in restorers else last[function]
        last[function] = run(self, function, *images, arguments=arguments)
        return last[function]

    predict.Predictor._run, Grid.batches = some, counted

    passes = LayeredPredictor._passes

    def some_strips(self: LayeredPredictor, height: int, width: int) -> list[Pass]:
        """Passes that repeat the result of their ``count``-th strip."""
        return [
            one._replace(function=_first_calls(one.function, count))
            for one in passes(self, height, width)
        ]

    LayeredPredictor._passes = some_strips


def _first_calls(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Calls the function ``count`` times, and then returns its last result."""
    results: list[Any] = []

    def some(*arguments: Any) -> Any:
        if len(results) < count:
            results.append(function(*arguments))
        return results[-1]

    return some


def make_checkpoint(spec: str, folder: Path) -> None:
    """A network of random weights."""
    model = build_model(spec)
    variables = random_variables(model)
    save_network(folder, Network(model, spec, variables["params"], variables["batch_stats"]), {})


def make_photograph(megapixels: float, path: Path) -> None:
    """Smooth noise, so that the file has the size of a photograph's."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    coarse = np.random.default_rng(0).integers(
        0, 256, (height // 16 + 1, height * 3 // 32 + 1, 3), np.uint8
    )
    image = pyvips.Image.new_from_array(coarse).resize(16).crop(0, 0, round(1.5 * height), height)
    image.copy(interpretation="srgb").write_to_file(str(path), Q=90)


def measure(options: Options) -> Iterator[str]:
    """A line for each network and size."""
    with tempfile.TemporaryDirectory() as folder:
        photographs = {size: Path(folder) / f"{size:g}.jpg" for size in options.megapixels}
        for size, path in photographs.items():
            make_photograph(size, path)
        for i, spec in enumerate(options.networks):
            make_checkpoint(spec, Path(folder) / str(i))
            for size, path in photographs.items():
                arguments = [
                    "--alone",
                    str(Path(folder) / str(i)),
                    str(path),
                    str(Path(folder) / "out" / str(i)),
                ]
                command = [sys.executable, __file__, f"--tiles={options.tiles}", *arguments]
                run = subprocess.run(
                    [*command, *(["--fast"] if options.fast else [])],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if run.returncode:
                    yield f"{spec:24} {size:5g} MP failed: {run.stderr.strip().splitlines()[-1]}"
                    continue
                seen = json.loads(run.stdout.splitlines()[-1])
                yield f"{spec:24} {size:5g} MP {seen['seconds']:7.0f} s {seen['peak_mb']:6.0f} MB"


def main(options: Options) -> None:
    """Prints the lines as they come."""
    if options.alone:
        alone(options)
        return
    seen = f"the first {options.tiles} batches" if options.tiles else "all batches"
    print(
        f"the network sees {seen} of tiles in a pass; seconds of the whole command, and its peak "
        "memory"
    )
    for line in measure(options):
        print(line, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
