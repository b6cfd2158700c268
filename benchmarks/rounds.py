"""Rounds of timing, in which every variant runs once, so that other load affects all alike.

It also describes the process and the machine that they run on.
"""

import os
import platform
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax


def seconds_of(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round, in a new random order; a first round only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for turn in range(rounds + 1):
        random.Random(turn).shuffle(order)
        for name in order:
            start = time.perf_counter()
            jax.block_until_ready(variants[name]())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def machine() -> str:
    """Backend, cores, their load and the version of jax, which every table of times needs."""
    cores = f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    return f"{jax.default_backend()}, {cores}, jax {jax.__version__}"


def own_peak_megabytes() -> float:
    """The most memory that this process has had, on Linux.

    Not by getrusage: what that says begins at the peak of the process that started this one.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].removesuffix("kB")) * 1024 / 1e6
