"""Trains networks for the same time, one after the other, on the same photographs and noise.

    python benchmarks/equal_time.py
    python benchmarks/equal_time.py --minutes 1 --models dncnn "nafnet(width=8)"

The first command gives a NAFNet of width 16 and the default DnCNN ten minutes each. Nothing else
should run meanwhile. Two short trainings say how long an update takes, so that each network gets as
many updates as fit in the time, with a full schedule. Its test scores are at the end of what
``fit`` prints, which is passed on.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rounds import machine

SHORT, LONG = 10, 40  # updates of the two short trainings


@dataclass(frozen=True)
class Options:
    """What to train."""

    models: tuple[str, ...] = ("nafnet(width=16)", "dncnn(depth=8, features=32, batch_norm=False)")
    """Networks, as for --model."""
    minutes: float = 10.0
    """Time for the updates of each network, without compiling and testing."""
    flags: tuple[str, ...] = ()
    """More flags of fit, which are the same for all networks."""


def updates_within(seconds: float, short: float, long: float) -> int:
    """How many updates fit in the time, from the seconds that the two short trainings took.

    What they took beside their updates is the same for both, and cancels.
    """
    return max(round(seconds / ((long - short) / (LONG - SHORT))), 1)


def fit(model: str, steps: int, flags: tuple[str, ...], folder: Path) -> tuple[float, str]:
    """Trains a network; returns the seconds and what was printed."""
    command = [sys.executable, "-m", "train", "fit", f"--model={model}", f"--steps={steps}"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, *flags, f"--out={folder}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{model}: {done.stderr.strip() or done.stdout.strip()}")
    return time.perf_counter() - start, done.stdout


def main(options: Options) -> None:
    """Trains the networks, and prints each one's updates and scores."""
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        for number, model in enumerate(options.models):
            folder = Path(temporary) / str(number)
            # The first training also fills the cache of compiled programs
            short, _ = fit(model, SHORT, options.flags, folder / "compiling")
            short, _ = fit(model, SHORT, options.flags, folder / "short")
            long, _ = fit(model, LONG, options.flags, folder / "long")
            steps = updates_within(60 * options.minutes, short, long)
            seconds, printed = fit(model, steps, options.flags, folder / "run")
            print(f"\n{model}: {steps:,} updates, {seconds:.0f} s in all\n{printed}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
