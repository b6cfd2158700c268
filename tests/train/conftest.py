"""What the application's tests share: a tiny network, a quick command line, launches."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import pytest

from lumloss_jax.models import create_model
from train.data import index
from train.data.images import write_image
from train.monitoring.metric_writer import SPEED

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "--model=dncnn(depth=2, features=4, batch_norm=False)",
    "--patch-size=8",
    "--batch-size=8",
    "--warmup-steps=2",
    "--log-every=2",
)


@pytest.fixture(scope="session")
def tiny_model() -> nn.Module:
    return create_model("dncnn", depth=3, features=4, batch_norm=False)


@pytest.fixture(scope="session")
def tiny_flags() -> tuple[str, ...]:
    """Flags of ``fit`` that make a run last a second or two, without the evaluation."""
    return TINY


@pytest.fixture(scope="session", autouse=True)
def separate_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps photographs that tests decode out of the checkout's own index."""
    index.PATH = tmp_path_factory.mktemp("index") / "photographs.sqlite"


_HOLD = """
import sys
from pathlib import Path
from train.files import locks
with locks.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold_elsewhere() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts processes that each lock a folder until their input ends."""
    with contextlib.ExitStack() as started:

        def hold(folder: Path) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", _HOLD, str(folder)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.enter_context(process)
            started.callback(process.kill)
            assert process.stdout.readline() == "held\n"
            return process

        yield hold


MODEL = "dncnn(depth=3, features=32, batch_norm=False)"  # the middle kernel can be divided
FLAGS = [
    f"--model={MODEL}",
    "--patch-size=8",
    "--batch-size=8",
    "--log-every=1",
    "--warmup-steps=2",
    "--optimizer=sgd",
    "--learning-rate=0.1",
    "--no-tensorboard",
    "--validation-data=none",
]


@dataclasses.dataclass(frozen=True)
class Launches:
    """The folder that launches write to, and the photographs that they train on."""

    folder: Path
    photographs: str
    steps: int = 20

    def run(self, *tasks: dict[str, Any], seconds: float = 900) -> list[list[int]]:
        """Runs launches and returns the exit statuses of their processes. None keeps running."""
        caching = {
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
        with subprocess.Popen(
            [sys.executable, "-m", "tests.train.processes", json.dumps(tasks)],
            cwd=ROOT,
            env={**os.environ, **caching, "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as program:
            try:
                printed, _ = program.communicate(timeout=seconds)
            finally:
                if program.poll() is None:
                    os.killpg(program.pid, signal.SIGKILL)
        assert program.returncode == 0
        return json.loads(printed.splitlines()[-1])

    def fit(
        self, name: str, *flags: str, processes: int, devices: int, **more: Any
    ) -> dict[str, Any]:
        """A launch of the command line that writes to the folder with this name."""
        source = [
            f"--data={self.photographs}",
            f"--test-data={self.photographs}",
            f"--steps={self.steps}",
        ]
        resumed = any(flag.startswith("--resume") for flag in flags)
        start = [] if resumed else [*FLAGS, *source, f"--out={self.folder / name}"]
        log = str(self.folder / f"{name}.log")
        return {
            "processes": processes,
            "devices": devices,
            "flags": [*start, *flags],
            "log": log,
            **more,
        }

    def alone(self, name: str, flags: Sequence[str], **more: Any) -> dict[str, Any]:
        """A launch of one process with only these flags, which resumes its run if it can."""
        paths = {"folder": str(self.folder / name), "log": str(self.folder / f"{name}.log")}
        return {"processes": 1, "devices": 1, "flags": list(flags), **paths, **more}

    def updates(
        self, processes: int, devices: int, **meshes: tuple[list[int], str]
    ) -> dict[str, Any]:
        """A launch that makes one update on each mesh, given by its devices and --parallel."""
        task = {"processes": processes, "devices": devices, "meshes": meshes, "model": MODEL}
        where = {"out": str(self.folder), "log": str(self.folder / f"updates{processes}.log")}
        return {**task, **where, "photographs": self.photographs}

    def said(self, name: str, process: int) -> str:
        """What a process printed, in one line, without Gloo's messages about its connections."""
        printed = (self.folder / f"{name}.log.{process}").read_text()
        return " ".join(
            " ".join(line for line in printed.splitlines() if not line.startswith("[Gloo]")).split()
        )

    def metrics(self, name: str) -> dict[int, dict[str, float]]:
        """The metrics that were logged for each step, except the speed."""
        lines = [
            json.loads(line)
            for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()
        ]
        logged = {
            line["step"]: {key: value for key, value in line.items() if key not in SPEED}
            for line in lines
        }
        assert len(logged) == len(lines)  # no step twice
        return logged

    def digests(self, name: str, step: int) -> dict[str, dict[str, str]]:
        """The digests of every array of a checkpoint, from its item about."""
        about = self.folder / name / "checkpoints" / str(step) / "about" / "metadata"
        return json.loads(about.read_text())["digests"]

    def check_updates(self, *meshes: str) -> None:
        """Checks loss, gradient and rows of the batch on some meshes against one device."""
        with np.load(self.folder / "one.npz") as wanted:
            gradient = [name for name in wanted.files if name.startswith("gradient")]
            for mesh in meshes:
                with np.load(self.folder / f"{mesh}.npz") as ours:
                    np.testing.assert_array_equal(ours["batch"], wanted["batch"])
                    for names in (["loss"], gradient):
                        assert (
                            _off([ours[name] for name in names], [wanted[name] for name in names])
                            < 1e-6
                        )

    def difference(self, name: str, other: str) -> float:
        """The largest relative difference of metrics that two runs logged for the same steps."""
        ours, wanted = self.metrics(name), self.metrics(other)
        assert ours.keys() == wanted.keys()
        pairs = [
            (ours[step][key], value) for step, line in wanted.items() for key, value in line.items()
        ]
        return max(abs(x - y) / abs(y) if y else abs(x) for x, y in pairs)


def _off(ours: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The norm of the difference divided by the norm of the wanted values, over all arrays."""
    pairs = [(np.float64(x), np.float64(y)) for x, y in zip(ours, wanted, strict=True)]
    return float(
        np.sqrt(sum(np.sum((x - y) ** 2) for x, y in pairs) / sum(np.sum(y**2) for _, y in pairs))
    )


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Launches:
    """Runs of several processes, trained on one small photograph."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "photographs").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    write_image(folder / "photographs" / "one.png", image)
    return Launches(folder, f"folder:{folder / 'photographs'}")
