"""Time and memory of each metric, next to the package that gives the same number.

    python benchmarks/metric_speed.py --torch-python ../torch/bin/python

Each metric runs in a process of its own, and so does the package's. The packages may live in an
environment of their own, whose Python ``--torch-python`` names; without it only ours are measured.
``benchmarks/torch_metrics.py`` lists the packages.

The time is the median after compilation, for one pair of images and without a gradient. The memory
is the peak of the process minus what it needs between calls, which includes both images. LPIPS and
DISTS have random weights of the published shapes.
"""

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rounds import machine, own_peak_megabytes

from lumloss_jax import metrics, models
from train.inference.scoring.registry import METRICS

_WIDTHS = {
    "vgg": (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
    "alex": (64, 192, 384, 256, 256),
}
_NUMBERS = {"vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), "alex": (0, 3, 6, 8, 10)}
_KERNELS = {"vgg": (3,) * 13, "alex": (11, 5, 3, 3, 3)}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    names: tuple[str, ...] = tuple(METRICS)
    """Metrics."""
    size: tuple[int, int] = (800, 1080)
    """Height and width of the images."""
    rounds: int = 5
    """Calls after the first, which compiles."""
    torch_python: Path | None = None
    """Python with torch, piq and other packages. None: only ours are measured."""
    alone: str | None = None
    """Measure only this metric of ours, in this process."""


def images(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The prediction and the target, the same in both environments."""
    random = np.random.RandomState(0)
    target = random.uniform(0, 1, (height, width, 3)).astype(np.float32)
    noise = random.normal(0, 0.05, target.shape).astype(np.float32)
    return np.clip(target + noise, 0, 1), target


def random_weights(name: str) -> dict[str, np.ndarray]:
    """Weights of LPIPS or DISTS of the published shapes."""
    net = "alex" if name == "lpips_alex" else "vgg"
    random, arrays, before = np.random.RandomState(1), {}, 3
    for number, width, side in zip(_NUMBERS[net], _WIDTHS[net], _KERNELS[net], strict=True):
        shape = width, before, side, side
        scale = np.sqrt(2 / (before * side * side))
        arrays[f"features.{number}.weight"] = scale * random.normal(size=shape)
        arrays[f"features.{number}.bias"] = np.zeros(width)
        before = width
    taps = (1, 3, 6, 9, 12) if net == "vgg" else range(5)
    widths = [_WIDTHS[net][i] for i in taps]
    if name == "dists":
        total = 3 + sum(widths)
        arrays |= {key: random.uniform(size=(1, total, 1, 1)) for key in ("alpha", "beta")}
    else:
        for i, width in enumerate(widths):
            arrays[f"lin{i}.model.1.weight"] = random.uniform(size=(1, width, 1, 1))
    return {key: value.astype(np.float32) for key, value in arrays.items()}


def forget_peak() -> float:
    """Gives free memory back, and lets the peak begin again; returns the megabytes now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return own_peak_megabytes()


def ours(name: str, options: Options) -> None:
    """Measures one metric, and prints the result as JSON."""
    metric = METRICS[name]
    package: Any = models if metric.has_weights else metrics
    function = getattr(package, metric.function or name)
    fields = {} if metric.has_weights else dict(metric.options)
    pair = jax.device_put(images(*options.size))
    if metric.has_weights:
        weights = jax.device_put(random_weights(name))
        call = jax.jit(lambda p, t: function(p, t, weights=weights, **fields))
    else:
        call = jax.jit(lambda p, t: function(p, t, **fields))
    start = time.perf_counter()
    call(*pair).block_until_ready()
    first = time.perf_counter() - start
    before = forget_peak()
    seconds = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        value = call(*pair).block_until_ready()
        seconds.append(time.perf_counter() - start)
    found = {"first": first, "then": statistics.median(seconds), "value": float(value)}
    print(json.dumps({**found, "mb": own_peak_megabytes() - before}))


def main(options: Options) -> None:
    """Prints a table of all metrics."""
    if options.alone is not None:
        return ours(options.alone, options)
    height, width = options.size
    print(f"{height} x {width}; {machine()}")
    print(
        "| | ms | MB | ms, package | MB, package | relative time | package |\n" + "|---" * 7 + "|"
    )
    for name in options.names:
        command = [sys.executable, __file__, "--alone", name, "--rounds", str(options.rounds)]
        mine = run([*command, "--size", str(height), str(width)])
        theirs = None
        if options.torch_python is not None:
            script = Path(__file__).with_name("torch_metrics.py")
            task = [name, str(height), str(width), str(options.rounds)]
            theirs = run([str(options.torch_python), str(script), *task])
        cells = [f"{1000 * mine['then']:.1f}", f"{mine['mb']:.0f}"]
        if theirs and theirs["package"]:
            cells += [f"{1000 * theirs['then']:.1f}", f"{theirs['mb']:.0f}"]
            cells += [f"{mine['then'] / theirs['then']:.2f}", theirs["package"]]
        else:
            cells += [""] * 4
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def run(command: list[str]) -> dict[str, Any]:
    """Runs one process, and returns what it printed last."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main(tyro.cli(Options))
