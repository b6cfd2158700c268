"""Milliseconds of a training step, next to PyTorch's: eager in channels-last layout, and compiled.

    python benchmarks/step_speed.py --torch-python ../torch/bin/python --out speed.json
    python benchmarks/step_speed.py --environment GLIBC_TUNABLES=glibc.malloc.hugetlb=1
    python benchmarks/step_speed.py --sides jax jax-plain --devices 4 --parallel fsdp

Every side trains the same network on one batch, adds new noise in each step and uses Adam. Before
anything is timed, PyTorch's loss and the norm of its gradient must agree with ours for the same
weights and noise. Our side is the step that ``fit`` compiles, with its guards against NaN and
infinity. ``jax-plain`` is the same with ``--cpu-step plain``. The case whose name begins with
"forward" restores one image instead, by a network without batch norm.

Each side runs in a process of its own, one process at a time. A round starts each side once, in a
new random order, and a process reports the median of its steps after some that warm it up. The
table shows the median over the rounds, and the smallest and the largest value, which tell how much
to trust it. PyTorch may be installed in an environment of its own, whose Python you give as
``--torch-python``. Without it, only our side is measured. ``--environment`` applies to all sides.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

# Name in the table, network, its fields, patches in a step, side of a patch.
CASES = {
    "dncnn-8-32": ("dncnn", {"depth": 8, "features": 32, "batch_norm": False}, 16, 40),
    "dncnn-17-64": ("dncnn", {"depth": 17, "features": 64}, 16, 40),
    "unet": ("unet", {"features": (16, 32, 64)}, 8, 64),
    "retinexformer": ("retinexformer", {"features": 16, "num_blocks": (1, 1, 1)}, 8, 64),
    "forward-17-64": ("dncnn", {"depth": 17, "features": 64, "batch_norm": False}, 1, 512),
}
OUR_SIDES = {"jax": "fast", "jax-plain": "plain"}  # each with its --cpu-step
SIDES = (*OUR_SIDES, "torch", "torch.compile")
SIGMA = 25 / 255


@dataclass(frozen=True)
class Options:
    """What to measure."""

    networks: tuple[str, ...] = tuple(CASES)
    """Which networks."""
    sides: tuple[str, ...] = ("jax", "torch", "torch.compile")
    """Which sides: jax, jax-plain, torch, torch.compile."""
    rounds: int = 3
    """Rounds, in each of which every side runs in a new process."""
    steps: int = 20
    """Steps that a process times."""
    warm_up: int = 5
    """Steps before them."""
    torch_python: Path | None = None
    """Python of an environment with PyTorch. None: measure our side alone."""
    devices: int = 1
    """Faked devices of our side."""
    parallel: Literal["data", "fsdp"] = "data"
    """What is divided among them, as for fit."""
    environment: tuple[str, ...] = ()
    """Variables to set for all sides, as NAME=VALUE, such as XLA_FLAGS=--xla_cpu_max_isa=AVX2."""
    out: Path | None = None
    """JSON file to write, with the median of every process."""
    worker: Path | None = None
    """For this script's own processes: the task to time."""


def ours(task: dict[str, Any]) -> dict[str, Any]:
    """Times steps of our side in this process.

    Args:
      task: what to time, from :func:`make_task`.

    Returns:
      Milliseconds of each step, and what they were measured with.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", task["devices"])
    with np.load(task["file"]) as arrays:
        clean, noisy = arrays["clean"], arrays["noisy"]
    milliseconds: list[float] = []
    update = restoring(task, noisy) if task["forward"] else updating(task, clean)
    for _ in range(task["warm_up"] + task["steps"]):
        start = time.perf_counter()
        last = update()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    if not np.isfinite(last):
        raise RuntimeError("The result is not finite, so the times say nothing.")
    return {
        "milliseconds": milliseconds[task["warm_up"] :],
        "versions": f"jax {jax.__version__}",
        "threads": len(os.sched_getaffinity(0)),
    }


def updating(task: dict[str, Any], clean: np.ndarray) -> Callable[[], float]:
    """A function that makes one update, waits for it, and returns the loss."""
    import jax

    from train.assembly import RunPrograms
    from train.config import DataConfig, FitConfig, ModelConfig, RunConfig
    from train.devices import sharding

    config = FitConfig(
        data=DataConfig(patch_size=task["side"], batch_size=task["patches"], sigma=255 * SIGMA),
        model=ModelConfig(model=spec_of(task["network"], task["fields"])),
        run=RunConfig(
            cpu_step=task["cpu_step"], devices=task["devices"], parallel=task["parallel"]
        ),
    )
    mesh = sharding.make_mesh(task["devices"], run=config.run)
    run = RunPrograms(config, mesh)
    batch = jax.device_put(clean, sharding.split_by_batch(mesh))
    state = run.fresh_state()

    def update() -> float:
        nonlocal state
        state, metrics = jax.block_until_ready(run.step(state, batch))
        return float(metrics.loss)

    return update


def restoring(task: dict[str, Any], noisy: np.ndarray) -> Callable[[], float]:
    """A function that restores an image as ``restore`` does, and returns a value of the result."""
    import jax

    from train.devices.cpu_programs import compiler_options, inference_options
    from train.network import build_model, init_variables

    plain = task["cpu_step"] == "plain"
    model = build_model(spec_of(task["network"], task["fields"]))
    variables = jax.jit(lambda: init_variables(model, jax.random.key(0)))()
    forward = jax.jit(
        lambda image: model.apply({"params": variables["params"]}, image),
        compiler_options=compiler_options("plain") if plain else inference_options(),
    )
    image = jax.device_put(noisy)
    return lambda: float(jax.block_until_ready(forward(image))[0, 0, 0, 0])


def spec_of(network: str, fields: dict[str, Any]) -> str:
    """A network in the form of ``--model``."""
    return f"{network}({', '.join(f'{key}={value!r}' for key, value in fields.items())})"


def make_task(case: str, options: Options, folder: Path) -> dict[str, Any]:
    """Writes weights, a batch, and our loss and gradient for it, as PyTorch's side needs them."""
    import jax

    jax.config.update("jax_platforms", "cpu")

    import optax
    from random_weights import random_variables

    from lumloss_jax.losses import luminance_l1_loss
    from lumloss_jax.models import create_model, to_torch_state_dict

    network, fields, patches, side = CASES[case]
    model = create_model(network, **fields)
    variables = random_variables(model)
    rng = np.random.default_rng(0)
    clean = rng.random((patches, side, side, 3), np.float32)
    noisy = clean + np.float32(SIGMA) * rng.standard_normal(clean.shape, np.float32)

    @jax.jit
    @jax.value_and_grad
    def loss_of(params: Any) -> jax.Array:
        statistics = {"batch_stats": variables["batch_stats"]}
        restored, _ = model.apply(
            {"params": params, **statistics},
            noisy,
            train=True,
            mutable=["batch_stats", "intermediates"],
        )
        return luminance_l1_loss(restored, clean)

    loss, gradients = loss_of(variables["params"])
    if not variables["batch_stats"]:
        del variables["batch_stats"]
    weights = to_torch_state_dict(network, variables, **fields)
    file = folder / f"{case}.npz"
    np.savez(
        file,
        clean=clean,
        noisy=noisy,
        loss=loss,
        gradient_norm=optax.tree.norm(gradients),
        **{f"weight/{key}": array for key, array in weights.items()},
    )
    return {
        "network": network,
        "fields": fields,
        "patches": patches,
        "side": side,
        "sigma": SIGMA,
        "file": str(file),
        "forward": case.startswith("forward"),
        "devices": options.devices,
        "parallel": options.parallel,
        "steps": options.steps,
        "warm_up": options.warm_up,
    }


def run_side(side: str, task: dict[str, Any], options: Options, folder: Path) -> dict[str, Any]:
    """Runs one side in a process of its own, and returns what it printed."""
    path = folder / "task.json"
    how = {"compile": side == "torch.compile", "cpu_step": OUR_SIDES.get(side)}
    path.write_text(json.dumps({**task, **how}))
    command = [sys.executable, __file__, f"--worker={path}"]
    if side not in OUR_SIDES:
        command = [str(options.torch_python), str(Path(__file__).with_name("torch_steps.py"))]
        command.append(str(path))
    given = dict(pair.split("=", 1) for pair in options.environment)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **given}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def processor() -> str:
    """Name of the processor, and the widest vectors that it computes with."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = facts.get("flags", "").split()
    widest = next((name for name in ("avx512f", "avx2") if name in flags), "no AVX2")
    return f"{len(os.sched_getaffinity(0))} cores of {facts.get('model name')}, {widest}"


def table(results: list[dict[str, Any]]) -> list[str]:
    """A Markdown table of medians over rounds."""
    lines = ["| network | side | ms | smallest to largest | relative to PyTorch |"]
    lines.append("|---|---|---|---|---|")
    medians = {(row["case"], row["side"]): row["median"] for row in results}
    for row in results:
        baseline = medians.get((row["case"], "torch"))
        ratio = f"{row['median'] / baseline:.2f}" if baseline else ""
        lines.append(
            f"| {row['case']} | {row['side']} | {row['median']:.1f} | "
            f"{min(row['rounds']):.1f} to {max(row['rounds']):.1f} | {ratio} |"
        )
    return lines


def main(options: Options) -> None:
    """Measures, and prints a table."""
    if options.worker is not None:
        print(json.dumps(ours(json.loads(options.worker.read_text()))))
        return
    sides = [side for side in options.sides if side in OUR_SIDES or options.torch_python]
    results, versions, threads = [], {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in options.networks:
            task = make_task(case, options, folder)
            rounds: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(options.rounds):
                for side in random.Random(turn).sample(sides, len(sides)):
                    ran = run_side(side, task, options, folder)
                    rounds[side].append(statistics.median(ran["milliseconds"]))
                    versions[side], threads[side] = ran["versions"], ran["threads"]
            for side, seen in rounds.items():
                median = statistics.median(seen)
                results.append({"case": case, "side": side, "median": median, "rounds": seen})
    about = {
        "machine": processor(),
        "load": os.getloadavg()[0],
        "versions": versions,
        "threads": threads,
        "options": {key: str(value) for key, value in asdict(options).items() if key != "out"},
    }
    print(f"{about['machine']}; load {about['load']:.1f}")
    print("; ".join(f"{side}: {versions[side]}, {threads[side]} threads" for side in sides))
    print("\n".join(["", *table(results)]))
    if options.out is not None:
        options.out.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
