"""What the application's tests share: a tiny network, a command line that is quick, and runs of several processes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import pytest

from lumloss_jax.models import create_model
from train.data import index
from train.data.images import write_image
from train.metric_writer import SPEED

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
    """Flags of ``fit`` under which a run takes a second or two; evaluation is on whatever --test-data names."""
    return TINY


@pytest.fixture(scope="session", autouse=True)
def separate_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests decode is not taken down in the checkout's own index of photographs."""
    index.PATH = tmp_path_factory.mktemp("index") / "photographs.sqlite"


# One process imports everything once, and forks the processes of each launch: before JAX is used it has no other
# threads. A process of a launch trains by the command line, or makes one update of SGD from one state on several
# meshes and stores what came of it. One of them may be struck by a signal when it has logged a step.
DRIVER = """
import dataclasses, functools, json, os, re, signal, socket, sys, time
from pathlib import Path
import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from optax.tree_utils import tree_get
from train import __main__, assembly, distributed, loop, metric_writer, run_folder, sharding
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.data.pipeline import PatchBatches, stream
from train.data.splits import open_splits

loop.fit = functools.partial(loop.fit, report=False)
write = metric_writer.MetricWriter.write

def updates(task, run):
    distributed.connect(run, lambda words: None)
    config = FitConfig(
        data=DataConfig(source=task["photographs"], patch_size=8, batch_size=8),
        model=ModelConfig(model=task["model"]),
        optimizer=OptimizerConfig(optimizer="sgd", schedule="constant", learning_rate=0.1, warmup_steps=0),
    )
    splits = open_splits(config.data.source, "none", config.data.source)
    batches = PatchBatches(splits.train, patch_size=8, batch_size=8, seed=0)
    made = assembly.assemble(config)
    for name, (order, parallel) in task["meshes"].items():
        devices = [jax.devices()[i] for i in order]
        mesh = sharding.mesh_of(devices, RunConfig(parallel=parallel))
        layout = sharding.state_sharding(jax.eval_shape(made.fresh_state), mesh)
        @functools.partial(jax.jit, out_shardings=layout)
        def start():  # the last layer is zero in a fresh state, and passes no gradient on
            state = made.fresh_state()
            bend = lambda p: p + 0.03 * jax.random.normal(jax.random.key(p.size), p.shape)
            return state.replace(params=jax.tree.map(bend, state.params))
        rows = sharding.rows_of_process(mesh, 8)
        (batch,) = sharding.to_devices(stream(batches, start=0, stop=1, rows=rows), mesh)
        state = start()
        step = distributed.compiled(sharding.compile_step(made.update, mesh, layout), state, batch)
        state, metrics = step(state, batch)
        gradient = sharding.whole(jax.tree.leaves(tree_get(state.opt_state, "trace")))
        batch = sharding.whole(batch)
        if distributed.is_first():
            arrays = {f"gradient{i}": g for i, g in enumerate(gradient)}
            np.savez(Path(task["out"]) / f"{name}.npz", loss=metrics.loss, batch=batch, **arrays)
    distributed.meet()

def child(task, process, address):
    log = os.open(f"{task['log']}.{process}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    jax.config.update("jax_num_cpu_devices", task["devices"])
    distributed.START_SECONDS = task.get("start_seconds", 120)
    distributed.SILENT_SECONDS = task.get("silent_seconds", 60)
    victim, number, at = task.get("strike", (-1, 0, 0))
    def write_and_be_struck(self, step, metrics):
        write(self, step, metrics)
        if step == at and process == victim:
            os.kill(os.getpid(), number)
        if victim >= 0:
            time.sleep(0.5)  # JAX's runtime looks for a signal once a second
    metric_writer.MetricWriter.write = write_and_be_struck
    said = {"distributed": True, "coordinator": address, "processes": task["processes"], "process": process}
    alone = task["processes"] == 1
    if "meshes" in task:
        updates(task, RunConfig() if alone else RunConfig(**said))
        return 0
    more = [] if alone else ["--distributed", *(f"--{k}={v}" for k, v in list(said.items())[1:])]
    return __main__.main(["fit", *task["flags"], *task.get("own", {}).get(str(process), []), *more])

def launch(task):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    children = []
    for process in task.get("only", range(task["processes"])):
        pid = os.fork()
        if not pid:
            status = 70
            try:
                status = child(task, process, address)
                jax.distributed.shutdown()
            except SystemExit as exit_:
                status = exit_.code
                jax.distributed.shutdown()
            finally:
                if status == 70:
                    sys.excepthook(*sys.exc_info())
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(status)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]

assert len(os.listdir("/proc/self/task")) == 1
print(json.dumps([launch(task) for task in json.loads(sys.argv[1])]))
"""

MODEL = "dncnn(depth=3, features=32, batch_norm=False)"  # its middle kernel is large enough to be divided
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
    """Where the processes of some launches write, and how they ended."""

    folder: Path
    photographs: str
    steps: int = 20

    def run(self, *tasks: dict[str, Any], seconds: float = 900) -> list[list[int]]:
        """Exit statuses of the processes of each launch; none is left behind."""
        caching = {
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
        with subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps(tasks)],
            cwd=ROOT,
            env={**os.environ, **caching, "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as driver:
            try:
                printed, _ = driver.communicate(timeout=seconds)
            finally:
                if driver.poll() is None:
                    os.killpg(driver.pid, signal.SIGKILL)
        assert driver.returncode == 0
        return json.loads(printed.splitlines()[-1])

    def fit(self, name: str, *flags: str, processes: int, devices: int, **more: Any) -> dict[str, Any]:
        """A launch of the command line, into the folder of that name."""
        source = [f"--data={self.photographs}", f"--test-data={self.photographs}", f"--steps={self.steps}"]
        resumed = any(flag.startswith("--resume") for flag in flags)
        start = [] if resumed else [*FLAGS, *source, f"--out={self.folder / name}"]
        log = str(self.folder / f"{name}.log")
        return {"processes": processes, "devices": devices, "flags": [*start, *flags], "log": log, **more}

    def updates(self, processes: int, devices: int, **meshes: tuple[list[int], str]) -> dict[str, Any]:
        """A launch that makes one update on each mesh, given as the order of its devices and how they share."""
        task = {"processes": processes, "devices": devices, "meshes": meshes, "model": MODEL}
        where = {"out": str(self.folder), "log": str(self.folder / f"updates{processes}.log")}
        return {**task, **where, "photographs": self.photographs}

    def said(self, name: str, process: int) -> str:
        """What a process printed, in one line."""
        return " ".join((self.folder / f"{name}.log.{process}").read_text().split())

    def metrics(self, name: str) -> dict[int, dict[str, float]]:
        """What was logged of each step, but for speed."""
        lines = map(json.loads, (self.folder / name / "metrics.jsonl").read_text().splitlines())
        return {line["step"]: {key: value for key, value in line.items() if key not in SPEED} for line in lines}

    def check_updates(self, *meshes: str) -> None:
        """Loss and gradient of updates on some meshes are those on one device, and so are the rows of the batch."""
        with np.load(self.folder / "one.npz") as wanted:
            gradient = [name for name in wanted.files if name.startswith("gradient")]
            for mesh in meshes:
                with np.load(self.folder / f"{mesh}.npz") as ours:
                    np.testing.assert_array_equal(ours["batch"], wanted["batch"])
                    for names in (["loss"], gradient):
                        assert _off([ours[name] for name in names], [wanted[name] for name in names]) < 1e-6

    def difference(self, name: str, other: str) -> float:
        """The largest of all that two runs logged of the same steps, relative."""
        ours, wanted = self.metrics(name), self.metrics(other)
        assert ours.keys() == wanted.keys()
        pairs = [(ours[step][key], value) for step, line in wanted.items() for key, value in line.items()]
        return max(abs(x - y) / abs(y) if y else abs(x) for x, y in pairs)


def _off(ours: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Norm of the difference over that of what is wanted, of all arrays together."""
    pairs = [(np.float64(x), np.float64(y)) for x, y in zip(ours, wanted, strict=True)]
    return float(np.sqrt(sum(np.sum((x - y) ** 2) for x, y in pairs) / sum(np.sum(y**2) for _, y in pairs)))


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Launches:
    """Runs of several processes, trained on one small photograph."""
    if not sys.platform.startswith("linux"):
        # Windows has no fork and macOS no /proc; what is proved of processes holds there as well as here.
        pytest.skip("forks, and counts its threads in /proc")
    folder = tmp_path_factory.mktemp("processes")
    (folder / "photographs").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    write_image(folder / "photographs" / "one.png", image)
    return Launches(folder, f"folder:{folder / 'photographs'}")
