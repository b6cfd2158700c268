"""What the compiler options of train/sharding.py gain on CPU: training steps of DnCNN with them and without.

    python benchmarks/cpu_compiler_options.py

Times are medians of rounds in which both run once, in an order drawn anew, so that what else the machine does meets
both alike. On other backends, and with a jaxlib that does not know the options, there are none and the ratio is 1.
"""

import os
import platform
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
import tyro

from train import sharding
from train.network import build_model, init_variables
from train.objective import make_objective
from train.state import create_state
from train.step import make_step

# Network, batch size, side of a patch: the default run, the published DnCNN, and a small UNet.
CASES = (
    ("dncnn(depth=8, features=32, batch_norm=False)", 16, 40),
    ("dncnn(depth=17, features=64)", 16, 40),
    ("unet(features=(16, 32))", 8, 64),
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    rounds: int = 15
    """Rounds, in each of which both variants make one update; one more warms up."""


def compiled(model: str, options: dict[str, Any] | None) -> tuple[Any, Any]:
    """A training step and the state that it starts from."""
    network, optimizer = build_model(model), optax.adam(1e-3)
    step = make_step(network, optimizer, make_objective("luminance_l1"), sigma=0.1, seed=0)
    variables = jax.jit(lambda: init_variables(network, jax.random.key(0)))()
    return jax.jit(step, donate_argnums=0, compiler_options=options), create_state(variables, optimizer)


def main(options: Options) -> None:
    """Prints milliseconds and ratios for each case."""
    machine = f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    print(f"{jax.default_backend()}, {machine}, jax {jax.__version__}; options {sharding.compiler_options()}")
    for model, batch_size, side in CASES:
        batch = jax.device_put(np.random.default_rng(0).random((batch_size, side, side, 3), np.float32))
        runs = {"without": compiled(model, None), "with": compiled(model, sharding.compiler_options())}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(options.rounds + 1):
            order = list(runs)
            random.Random(turn).shuffle(order)
            for name in order:
                step, state = runs[name]
                start = time.perf_counter()
                state, _ = jax.block_until_ready(step(state, batch))
                runs[name] = step, state
                if turn:
                    seconds[name].append(time.perf_counter() - start)
        without, gained = (statistics.median(seconds[name]) for name in ("without", "with"))
        case = f"{model}, {batch_size} of {side}x{side}"
        print(f"{case:60} {1e3 * without:8.1f} ms {1e3 * gained:8.1f} ms  {without / gained:5.2f} x")


if __name__ == "__main__":
    main(tyro.cli(Options))
