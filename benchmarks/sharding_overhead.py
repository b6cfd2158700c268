"""What dividing a batch over devices costs at equal total work, on faked devices that share cores.

    python benchmarks/sharding_overhead.py
    python benchmarks/sharding_overhead.py --devices 2 --rounds 15

The first command compares 2, 4 and 8 devices with one.

Each number of devices has a process of its own, in which jax makes that many CPU devices. All
processes share the same cores and do the same work in total. Several devices lose time in the sums
over devices, including those of batch norm, and in convolutions of smaller batches. They may gain
time by using a core that the operations of a single device leave idle. In each round the processes
run one at a time, in a new random order. A ratio is the median over the rounds of the time with
several devices, divided by the time of one device in the same round. Other load on the machine
affects both, but not equally: on a busy machine, more threads get a larger share of the cores.

If there are more devices than cores, the ratio says little about devices with cores of their own.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Options:
    """What to measure."""

    devices: tuple[int, ...] = (2, 4, 8)
    """Counts of devices, each against one."""
    model: str = "dncnn(depth=8, features=32)"
    """Network, with batch norm by default: the dearer case, two sums over devices a layer."""
    batch_size: int = 32
    """Patches in a step, over all devices together."""
    patch_size: int = 40
    """Side of a patch."""
    steps: int = 3
    """Steps in a round."""
    rounds: int = 15
    """Rounds of timing; one more warms up."""
    worker: int = 0
    """For this script's own processes: serve rounds with that many devices."""


def serve(options: Options) -> None:
    """Compiles the step for this process's devices, then times a round for each line it reads."""
    import jax
    import numpy as np

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.worker)

    from train.assembly import assemble
    from train.config import DataConfig, FitConfig, ModelConfig
    from train.devices import sharding

    config = FitConfig(
        data=DataConfig(patch_size=options.patch_size, batch_size=options.batch_size),
        model=ModelConfig(model=options.model),
    )
    mesh = sharding.make_mesh(options.worker)
    assembly = assemble(config)
    state = jax.device_put(jax.jit(assembly.fresh_state)(), sharding.replicated(mesh))
    shape = (options.batch_size, options.patch_size, options.patch_size, assembly.model.channels)
    patches = np.random.default_rng(0).random(shape, np.float32)
    batch = jax.device_put(patches, sharding.split_by_batch(mesh))
    step = sharding.compile_step(assembly.update, mesh)
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    print(json.dumps({"loss": float(metrics.loss), "jax": jax.__version__}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(options.steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        print((time.perf_counter() - start) / options.steps, flush=True)


def start(devices: int) -> subprocess.Popen[str]:
    """A process of this script, with the same options, that serves rounds."""
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", str(devices)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str]) -> float:
    """Seconds of a step, by the mean over a round."""
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main(options: Options) -> None:
    """Prints a row for each count of devices."""
    if options.worker:
        serve(options)
        return
    counts = (1, *options.devices)
    processes, about = {}, {}
    for count in counts:  # one after the other: compiling side by side would be slower
        processes[count] = start(count)
        about[count] = json.loads(processes[count].stdout.readline())
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(options.rounds + 1):
        for count in random.Random(turn).sample(counts, len(counts)):
            measured = ask(processes[count])
            if turn:
                seconds[count].append(measured)
    for process in processes.values():
        process.stdin.close()
        process.wait()

    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, jax {about[1]['jax']}"
    work = f"{options.batch_size} patches of {options.patch_size} x {options.patch_size}"
    print(f"training step of {options.model}, {work}; {load}; medians of {options.rounds} rounds")
    for count in counts:
        ratios = [mine / one for mine, one in zip(seconds[count], seconds[1], strict=True)]
        off = about[count]["loss"] / about[1]["loss"] - 1
        print(
            f"{count} device{'s' * (count > 1):1}  {1e3 * statistics.median(seconds[count]):8.1f} "
            f"ms  {100 * (statistics.median(ratios) - 1):+6.1f} %  loss of the first step off by "
            f"{off:+.0e}"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
