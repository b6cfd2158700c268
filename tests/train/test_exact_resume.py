"""Runs that are killed, terminated and interrupted end with the same bits as one that never was."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.data.images import write_image
from train.metric_writer import SPEED
from train.tensorboard import records

ROOT = Path(__file__).resolve().parents[2]

# One process imports everything once, and forks one child for each run: before JAX is used it has no other threads.
# A child is struck by a signal some milliseconds after it has logged a step, wherever it is by then.
DRIVER = """
import functools, json, os, random, shutil, signal, sys, threading
from pathlib import Path
from train import __main__, loop, metric_writer, run_folder

task = json.loads(sys.argv[1])
loop.fit = functools.partial(loop.fit, report=False)
write = metric_writer.MetricWriter.write

def run(arguments, number=None, at=0, delay=0.0):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.dup2(os.open(task["printed"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    def write_and_wait_for_it(self, step, metrics):
        write(self, step, metrics)
        if step == at:
            threading.Timer(delay, os.kill, (os.getpid(), number)).start()
    metric_writer.MetricWriter.write = write_and_wait_for_it
    try:
        status = __main__.main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    sys.stdout.flush()
    os._exit(status)

assert len(os.listdir("/proc/self/task")) == 1
chance = random.Random(task["seed"])
whole, parts = Path(task["whole"]), Path(task["parts"])
assert run(["fit", *task["flags"], f"--out={whole}"]) == 0
ends = []
for number, first, last in task["strikes"]:
    if run_folder.can_resume(parts):
        arguments = ["fit", "--resume", str(parts)]
    else:  # before its first checkpoint
        shutil.rmtree(parts, ignore_errors=True)
        arguments = ["fit", *task["flags"], f"--out={parts}"]
    ends.append(run(arguments, number, chance.randint(first, last), chance.uniform(0, 0.02)))
ends.append(run(["fit", "--resume", str(parts)]))
print(json.dumps(ends))
"""


def _check(folder: Path, strikes: list[tuple[int, int, int]], steps: int, ends: list[int], *more: str) -> str:
    """Runs both, and compares all that they leave; gives what the struck one printed."""
    (folder / "photographs").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    write_image(folder / "photographs" / "one.png", image)
    photographs = f"folder:{folder / 'photographs'}"
    flags = [
        "--model=dncnn(depth=3, features=2)",
        "--loss=l1 + mse",
        "--balance=gradnorm",
        "--ema=0.9",
        "--patch-size=8",
        "--batch-size=2",
        f"--steps={steps}",
        "--checkpoint-every=6",
        "--log-every=1",
        "--devices=1",
        f"--data={photographs}",
        f"--test-data={photographs}",
        *more,
    ]
    task = {
        "flags": flags,
        "strikes": strikes,
        "seed": int.from_bytes(os.urandom(2)),
        "printed": str(folder / "printed.txt"),
    }
    task |= {"whole": str(folder / "whole"), "parts": str(folder / "parts")}
    caching = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(task)],
        cwd=ROOT,
        env={**os.environ, **caching, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ends, done.stderr
    whole, parts = folder / "whole", folder / "parts"
    assert _about(parts, steps)["digests"] == _about(whole, steps)["digests"]
    assert {p.name for p in (parts / "checkpoints").iterdir()} == {p.name for p in (whole / "checkpoints").iterdir()}
    learned = _metrics(parts)
    assert [line["step"] for line in learned] == list(range(1, steps + 1))
    assert learned == _metrics(whole)
    points = _points(parts)
    assert points == _points(whole)
    assert set(points.values()) == {1}
    return (folder / "printed.txt").read_text()


def _about(folder: Path, step: int) -> dict[str, Any]:
    """What a checkpoint says of itself: of every array a digest."""
    return json.loads((folder / "checkpoints" / str(step) / "about" / "metadata").read_text())


def _metrics(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in SPEED} for line in lines]


def _points(folder: Path) -> Counter[tuple[str, int]]:
    events = [event for path in (folder / "tensorboard").iterdir() for _, event in records(path.read_bytes())]
    return Counter((value.tag, event.step) for event in events for value in event.summary.value)


forking = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and counts its threads in /proc")


@forking
def test_killed_terminated_and_interrupted_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    strikes = [(9, 8, 20), (9, 28, 40), (15, 44, 48), (2, 60, 64)]
    printed = _check(tmp_path, strikes, 90, [-9, -9, 130, 130, 0], "--validation-data=none")
    assert printed.count("stopped after step") == 2
    assert printed.count(f"python -m train fit --resume {tmp_path / 'parts'}") == 2
    assert "going on from step" in printed


@forking
@pytest.mark.slow
def test_killed_twenty_times_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    strikes = [(9, 40 * i + 1, 40 * i + 30) for i in range(20)]
    photographs = f"folder:{tmp_path / 'photographs'}"
    _check(tmp_path, strikes, 860, [-9] * 20 + [0], f"--validation-data={photographs}", "--validate-every=12")
