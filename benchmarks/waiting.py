"""Seconds that a user waits for a command, from outside: python benchmarks/waiting.py.

Every command is run as a user runs it, in a process of its own, with a compilation cache that is
empty at first ("cold") and then has what the same command left there ("warm"). Nothing in the
command is changed. Its progress is read from the files and lines that it writes:

- ``fit`` writes the line of its first step to metrics.jsonl;
- ``restore`` has ended when its photograph is complete;
- ``compare`` prints a line before it trains each network. The memory of its process is read at the
  same time.

``--checkout`` measures a different version of the program, such as the one before a change.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import skimage.data
import skimage.io
import tyro
from rounds import machine

_POLL = 0.005  # seconds


@dataclass(frozen=True)
class Options:
    """What to measure."""

    what: tuple[str, ...] = ("fit", "restore", "compare")
    """Which commands."""
    rounds: int = 3
    """Times that a command is repeated with a warm cache."""
    preset: str = "default"
    """Preset of fit, which is stopped after its first step."""
    seeds: int = 4
    """Seeds of the comparison, which trains two networks for each."""
    checkout: Path = Path(__file__).resolve().parents[1]
    """Checkout of the version to measure."""


class Commands:
    """Commands of one checkout that share a compilation cache."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        """The cache lies in ``folder``, and is empty."""
        self._checkout = checkout
        self.cache = folder / "cache"
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(checkout),
            "PYTHONUNBUFFERED": "1",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
        }

    def forget(self) -> None:
        """Empties the cache."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Starts ``python -m train`` with these words."""
        return subprocess.Popen(
            [sys.executable, "-m", "train", *map(str, words)],
            cwd=self._checkout,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def first_step(commands: Commands, preset: str, folder: Path) -> float:
    """Seconds until the first step of a run is done. The run is stopped then."""
    began = time.perf_counter()
    process = commands.start("fit", preset, "--log-every", "1", "--out", folder)
    lines = folder / "metrics.jsonl"
    while not lines.exists() or not lines.stat().st_size:
        if process.poll() is not None:
            raise SystemExit(f"fit ended before its first step, with status {process.returncode}")
        time.sleep(_POLL)
    passed = time.perf_counter() - began
    process.kill()
    process.wait()
    return passed


def restored(commands: Commands, photograph: Path, output: Path) -> float:
    """Seconds until one photograph is restored and the command has ended."""
    began = time.perf_counter()
    process = commands.start("restore", photograph, "--output", output)
    process.communicate()
    if process.returncode or not (output / photograph.name).exists():
        raise SystemExit(f"restore ended with status {process.returncode}")
    return time.perf_counter() - began


def networks(commands: Commands, seeds: int, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Yields each network of ``compare smoke``, its seconds, and megabytes when it begins."""
    process = commands.start("compare", "smoke", "--seeds", str(seeds), "--out", folder)
    assert process.stdout is not None
    name, began, megabytes = "start", time.perf_counter(), 0.0
    for line in process.stdout:
        if line.startswith("training "):
            now = time.perf_counter()
            yield name, now - began, megabytes
            name, began = line.split()[1], now
            megabytes = resident_megabytes(process.pid)
    if process.wait():
        raise SystemExit(f"compare ended with status {process.returncode}")
    yield f"{name}, scores and report", time.perf_counter() - began, megabytes


def resident_megabytes(process: int) -> float:
    """Main memory of a process, on Linux."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(options: Options) -> None:
    """Prints a table for ``fit`` and ``restore``, and one for the networks of ``compare``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = Commands(options.checkout.resolve(), folder)
        photograph = folder / "chelsea.png"
        skimage.io.imsave(photograph, skimage.data.chelsea())
        if {"fit", "restore"} & {*options.what}:
            print("| command | cold cache | warm cache | smallest to largest |\n|---|---|---|---|")
        for what in options.what:
            if what == "compare":
                continue
            commands.forget()
            seconds = []
            for turn in range(options.rounds + 1):
                out = folder / f"{what}{turn}"
                if what == "fit":
                    seconds.append(first_step(commands, options.preset, out))
                else:
                    seconds.append(restored(commands, photograph, out))
            cold, *warm = seconds
            print(
                f"| {what} | {cold:.2f} s | {statistics.median(warm):.2f} s | "
                f"{min(warm):.2f} to {max(warm):.2f} s |",
                flush=True,
            )
        if "compare" in options.what:
            commands.forget()
            print("\n| compare smoke | seconds | MB when it begins |\n|---|---|---|")
            for row, seconds_of_row, megabytes in networks(
                commands, options.seeds, folder / "compare"
            ):
                print(f"| {row} | {seconds_of_row:.2f} | {megabytes:,.0f} |", flush=True)
    print(machine())


if __name__ == "__main__":
    main(tyro.cli(Options))
