"""How much time each choice in train/devices/cpu_programs.py saves on this CPU.

    python benchmarks/cpu_compiler_options.py

Times are medians of rounds in which every variant runs once, in a new random order, so that other
load on the machine affects all in the same way. Training and restoring are timed. Options that the
installed jaxlib does not know are left out.
"""

import functools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
import tyro
from rounds import machine, seconds_of

from train.devices.cpu_programs import compiler_options, transposes_apart
from train.network import build_model, init_variables
from train.objective import make_objective
from train.state import create_state
from train.step import make_step

# Network, batch size, side of a patch: the default run, the published DnCNN, and a small UNet.
CASES = (
    ("dncnn(depth=8, features=32, batch_norm=False)", 16, 40),
    ("dncnn(depth=17, features=64)", 16, 40),
    ("unet(features=(16, 32, 64))", 8, 64),
)


@dataclass(frozen=True)
class Options:
    """What to measure."""

    rounds: int = 15
    """Rounds, in each of which each variant makes one update; one more warms up."""
    cases: tuple[int, ...] = tuple(range(len(CASES)))
    """Which networks to train, counted from 0: DnCNN 8/32, DnCNN 17/64, UNet."""
    restoring: bool = True
    """Also measure restoring."""


class Training:
    """Updates of a network on one batch, compiled in one way."""

    def __init__(
        self, model: str, batch: jax.Array, options: dict[str, Any] | None, apart: bool
    ) -> None:
        """A fresh state, and the step that changes it."""
        network, optimizer = build_model(model), optax.adam(1e-3)
        step = make_step(network, optimizer, make_objective("luminance_l1"), sigma=0.1, seed=0)
        if apart:
            step = transposes_apart(step, lambda state: state.step)
        variables = jax.jit(lambda: init_variables(network, jax.random.key(0)))()
        self._step = jax.jit(step, donate_argnums=0, compiler_options=options)
        self._state = create_state(variables, optimizer)
        self._batch = batch

    def update(self) -> Any:
        """One of them."""
        self._state, metrics = self._step(self._state, self._batch)
        return self._state, metrics


def restoring(options: dict[str, Any] | None) -> Callable[[], jax.Array]:
    """DnCNN-17/64 without batch norm, which inference folds away, on 512x512 pixels."""
    network = build_model("dncnn(depth=17, features=64, batch_norm=False)")
    variables = jax.jit(lambda: init_variables(network, jax.random.key(0)))()
    image = jax.device_put(np.random.default_rng(0).random((1, 512, 512, 3), np.float32))
    restore = jax.jit(
        lambda image: network.apply({"params": variables["params"]}, image),
        compiler_options=options,
    )
    return functools.partial(restore, image)


def report(case: str, variants: Mapping[str, Callable[[], Any]], rounds: int) -> None:
    """Times variants of one case and prints them, with ratios to the first."""
    print(case)
    medians = {
        name: statistics.median(seconds) for name, seconds in seconds_of(variants, rounds).items()
    }
    first = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"  {name:16} {1e3 * median:8.1f} ms  {first / median:5.2f} x", flush=True)


def main(options: Options) -> None:
    """Prints milliseconds for each case and variant."""
    plain, fast = compiler_options("plain"), compiler_options("fast")
    variants = {
        "no options": (None, False),
        "plain": (plain, False),
        "options of fast": (fast, False),
        "fast": (fast, True),
    }
    print(machine())
    for model, batch_size, side in (CASES[i] for i in options.cases):
        batch = jax.device_put(
            np.random.default_rng(0).random((batch_size, side, side, 3), np.float32)
        )
        updates = {name: Training(model, batch, *how).update for name, how in variants.items()}
        report(f"{model}, {batch_size} of {side}x{side}", updates, options.rounds)
    if options.restoring:
        functions = {"no options": restoring(None), "plain": restoring(plain)}
        report("restoring 512x512 pixels", functions, options.rounds)


if __name__ == "__main__":
    main(tyro.cli(Options))
