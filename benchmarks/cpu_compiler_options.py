"""What the CPU compiler options of train/devices/sharding.py gain: training steps with and without.

    python benchmarks/cpu_compiler_options.py

Times are medians of rounds in which both run once, in a new random order, so that other load on the
machine affects both in the same way. On other backends, and with a jaxlib that does not know the
options, there are none and the ratio is 1.
"""

import statistics
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
import tyro
from rounds import machine, seconds_of

from train.devices import sharding
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


class Training:
    """Updates of a network on one batch, compiled with some options."""

    def __init__(self, model: str, batch: jax.Array, options: dict[str, Any] | None) -> None:
        """A fresh state, and the step that changes it."""
        network, optimizer = build_model(model), optax.adam(1e-3)
        step = make_step(network, optimizer, make_objective("luminance_l1"), sigma=0.1, seed=0)
        variables = jax.jit(lambda: init_variables(network, jax.random.key(0)))()
        self._step = jax.jit(step, donate_argnums=0, compiler_options=options)
        self._state = create_state(variables, optimizer)
        self._batch = batch

    def update(self) -> Any:
        """One of them."""
        self._state, metrics = self._step(self._state, self._batch)
        return self._state, metrics


def main(options: Options) -> None:
    """Prints milliseconds and ratios for each case."""
    print(f"{machine()}; options {sharding.compiler_options()}")
    for model, batch_size, side in CASES:
        batch = jax.device_put(
            np.random.default_rng(0).random((batch_size, side, side, 3), np.float32)
        )
        chosen = {"without": None, "with": sharding.compiler_options()}
        updates = {name: Training(model, batch, of_run).update for name, of_run in chosen.items()}
        without, gained = map(statistics.median, seconds_of(updates, options.rounds).values())
        case = f"{model}, {batch_size} of {side}x{side}"
        print(
            f"{case:60} {1e3 * without:8.1f} ms {1e3 * gained:8.1f} ms  {without / gained:5.2f} x"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
