"""What restoring a photograph costs: megapixels per second and peak memory, next to PyTorch's.

    python benchmarks/inference_speed.py
    python benchmarks/inference_speed.py --megapixels 2 --rounds 1

The first command measures DnCNN 17/64 and Retinexformer on 12 megapixels.

Both sides restore the same photograph in the same tiles on the same number of threads. PyTorch uses
the better of its two layouts, which is found with one tile. Every round has a new random order.
Before the rounds, both sides restore one tile, and the pixels must agree. Each run has a process of
its own, which warms up on two tiles. Its peak memory includes libraries.

In PyTorch, Retinexformer attends within each tile, because the whole photograph does not fit at
once. That takes as many operations per pixel, but gives a different result. Our side attends over
the whole photograph, which is then read once for each block and once more ("exact"), or over a
reduced copy ("fast"). The "fast" row is the one to compare with PyTorch.
"""

import functools
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from random_weights import random_variables
from rounds import machine, own_peak_megabytes

from lumloss_jax.models import create_model, to_torch_state_dict
from train.inference.attending import AttendingPredictor
from train.inference.predict import Predictor, for_inference
from train.inference.predictors import predictor_for
from train.inference.tiles.tiles import cut_photograph, photograph_of

Restore = Callable[[np.ndarray], np.ndarray]
NETWORKS = ("dncnn", "retinexformer")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    megapixels: float = 12.0
    """Size of the photograph, whose sides are as 3 to 2."""
    rounds: int = 3
    """Rounds, in each of which every side runs once."""
    networks: tuple[str, ...] = NETWORKS
    """Which networks."""
    tile: int | None = None
    """Side of a tile, for both sides; None: as restore takes it."""
    alone: str | None = None
    """One side, NETWORK/SIDE, once: what the benchmark starts for each side to see its peak
    memory."""


def network_of(name: str) -> tuple[Any, dict[str, Any]]:
    """The published size with random weights."""
    model = create_model(name)
    return model, random_variables(model)


def ours(name: str, *, tile: int | None = None, fast: bool = False) -> Predictor:
    """Our side."""
    model, variables = network_of(name)
    return predictor_for(model, variables["params"], variables["batch_stats"], tile=tile, fast=fast)


def theirs(name: str, example: np.ndarray) -> Restore:
    """PyTorch's side, in the layout that is quicker on ``example``, a tile."""
    import torch
    import torch_networks

    torch.set_num_threads(os.cpu_count() or 1)
    model, variables = network_of(name)
    model, variables = for_inference(model, variables["params"], variables["batch_stats"])
    fields = {"batch_norm": False, "bias": "all"} if name == "dncnn" else {}
    arrays = to_torch_state_dict(name, variables, **fields)

    def in_layout(layout: Any) -> Restore:
        weights = {
            key: torch.from_numpy(array.copy()).contiguous(
                memory_format=layout if array.ndim == 4 else torch.contiguous_format
            )
            for key, array in arrays.items()
        }
        forward = (
            torch_networks.dncnn(weights, model.depth)
            if name == "dncnn"
            else torch_networks.retinexformer(weights, model.num_blocks, model.heads)
        )

        @torch.inference_mode()
        def restore(tile: np.ndarray) -> np.ndarray:
            images = torch.from_numpy(tile).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            return forward(images).clamp(0, 1).permute(0, 2, 3, 1).numpy()

        return restore

    layouts = [in_layout(layout) for layout in (torch.contiguous_format, torch.channels_last)]
    return min(layouts, key=lambda restore: best_seconds(functools.partial(restore, example)))


def in_tiles(restore: Restore, predictor: Predictor, image: np.ndarray) -> np.ndarray:
    """PyTorch's network over the tiles that ours are cut into."""
    photograph = photograph_of(image)
    grid = cut_photograph(photograph, predictor.tile, predictor.model.receptive_field)
    restored = np.empty_like(image)
    for (tile,), batch in grid.batches(photograph, 1):
        (y, rows), (x, columns) = grid.rows.kept(tile.rows), grid.columns.kept(tile.columns)
        restored[rows, columns] = restore(batch)[0, y, x]
    return restored


def sides_of(name: str) -> tuple[str, ...]:
    """What is timed of our side."""
    return ("jax, exact", "jax, fast") if isinstance(ours(name), AttendingPredictor) else ("jax",)


def check_agreement(name: str, image: np.ndarray) -> None:
    """One tile must be the same on both sides."""
    predictor = ours(name)
    tile = np.ascontiguousarray(image[None, : predictor.tile, : predictor.tile])
    worst = np.abs(theirs(name, tile)(tile)[0] - predictor.restore(tile[0])).max()
    if not worst < 1e-3:
        raise RuntimeError(
            f"{name}: the two sides differ by {worst:.2g}, so their times say nothing."
        )
    print(f"{name}: one tile of both sides agrees within {worst:.1e}")


def photograph(megapixels: float) -> np.ndarray:
    """Noise: what is in a photograph does not matter to the time."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return np.random.default_rng(0).random((height, round(1.5 * height), 3), np.float32)


def best_seconds(run: Callable[[], object], rounds: int = 3) -> float:
    """The shortest of several runs, after one that warms up."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def has_torch() -> bool:
    """Whether PyTorch can be imported here."""
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:
        print(f"PyTorch is not here ({error}), so our side stands alone")
        return False
    return True


def run_alone(name: str, side: str, options: Options) -> dict[str, float]:
    """Seconds and megabytes of a process that does nothing else."""
    command = [
        sys.executable,
        __file__,
        f"--alone={name}/{side}",
        f"--megapixels={options.megapixels}",
    ]
    if options.tile is not None:
        command.append(f"--tile={options.tile}")
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def alone(name: str, side: str, options: Options) -> None:
    """Restores once, after two tiles; prints seconds and peak memory without the photograph."""
    image = photograph(options.megapixels)
    predictor = ours(name, tile=options.tile, fast=side == "jax, fast")
    restore: Restore = predictor.restore
    if side == "torch":
        restore = functools.partial(
            in_tiles, theirs(name, image[None, : predictor.tile, : predictor.tile]), predictor
        )
    restore(image[: predictor.tile, : 2 * predictor.tile])
    start = time.perf_counter()
    restore(image)
    seconds = time.perf_counter() - start
    print(
        json.dumps({"seconds": seconds, "megabytes": own_peak_megabytes() - 2 * image.nbytes / 1e6})
    )


def main(options: Options) -> None:
    """Measures and prints a table."""
    if options.alone is not None:
        name, side = options.alone.split("/")
        alone(name, side, options)
        return
    with_torch = has_torch()
    image = photograph(options.megapixels)
    print(f"{image.shape[1]}x{image.shape[0]} pixels; {machine()}", flush=True)
    for name in options.networks:
        sides = sides_of(name)
        if with_torch:
            check_agreement(name, image)
            sides += ("torch",)
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for turn in range(options.rounds):
            for side in random.Random(turn).sample(sides, len(sides)):
                runs[side].append(run_alone(name, side, options))
        for side, seen in runs.items():
            rate = (
                image.shape[0]
                * image.shape[1]
                / 1e6
                / statistics.median(run["seconds"] for run in seen)
            )
            peak = max(run["megabytes"] for run in seen)
            print(f"{name:14} {side:11} {rate:8.4f} MP/s {peak:7.0f} MB", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
