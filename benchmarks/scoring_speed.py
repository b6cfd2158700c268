"""Time and memory that it takes to score one photograph.

    python benchmarks/scoring_speed.py

Each size and set of metrics is measured in a process of its own. The first time includes compiling,
which happens once for each size. The peak excludes the two photographs themselves.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import tyro
from rounds import machine, own_peak_megabytes

from train.inference.scoring.measure import score
from train.inference.scoring.registry import columns

_DEFAULT = columns((), also=("ms_ssim",))
SETS = {
    # The default columns of earlier versions
    "before": tuple(name for name in _DEFAULT if name not in ("haarpsi", "flip")),
    "default": _DEFAULT,
    "all": columns(("all",)),
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    sizes: tuple[tuple[int, int], ...] = ((321, 481), (1000, 1500), (2828, 4243))
    """Height and width of each photograph."""
    sets: tuple[str, ...] = ("default", "all")
    """Metrics: those that evaluate had before HaarPSI and FLIP, those that it has, or all."""
    rounds: int = 3
    """Times that each photograph is scored after the first."""
    alone: bool = False
    """Measure the only size and set in this process."""


def alone(options: Options) -> None:
    """Scores one photograph, and prints what that took as JSON."""
    ((height, width),), (chosen,) = options.sizes, options.sets
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 1, (height, width, 3)).astype(np.float32)
    image = np.clip(clean + np.float32(0.05), 0, 1)
    score(image[:32, :32], clean[:32, :32], names=("psnr",))  # starts XLA
    before = own_peak_megabytes()
    seconds = []
    for _ in range(options.rounds + 1):
        start = time.perf_counter()
        score(image, clean, names=SETS[chosen])
        seconds.append(time.perf_counter() - start)
    first, *others = seconds
    found = {"first": first, "then": statistics.median(others), "mb": own_peak_megabytes() - before}
    print(json.dumps(found))


def main(options: Options) -> None:
    """Prints a table of all sizes and sets."""
    if options.alone:
        return alone(options)
    print(f"| megapixels | metrics | first time | then | peak memory |\n{'|---' * 5}|")
    for height, width in options.sizes:
        for chosen in options.sets:
            command = [sys.executable, __file__, "--alone", "--rounds", str(options.rounds)]
            command += ["--sizes", str(height), str(width), "--sets", chosen]
            line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(line.splitlines()[-1])
            print(
                f"| {height * width / 1e6:.2g} | {chosen} | {found['first']:.2f} s | "
                f"{found['then']:.2f} s | {found['mb']:,.0f} MB |",
                flush=True,
            )
    print(machine())


if __name__ == "__main__":
    main(tyro.cli(Options))
