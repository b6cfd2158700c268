"""A program that tests start. It forks the processes of launches, and prints how they ended.

It imports everything once, and forks: before JAX is used it has no other threads. Launches are its
argument, JSON as ``conftest.Launches`` makes it. A process trains by the command line, or makes one
update of SGD from one state on several meshes and stores what came of it, or fails while the others
wait for it. One may be struck by a signal after it has logged a step.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from optax.tree_utils import tree_get

from train import __main__, assembly, loop
from train.checkpoints import run_folder
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.data import index
from train.data.pipeline import PatchBatches, stream
from train.data.splits import open_splits
from train.devices import distributed, last_words, sharding
from train.devices.session import compile_everywhere
from train.monitoring import metric_writer

Task = dict[str, Any]

SLURM_PORTS = range(65536 - 4096, 65536)

fit = loop.fit
write = metric_writer.MetricWriter.write


def updates(task: Task, run: RunConfig) -> None:
    """Saves loss, gradient and batch of an update on each mesh to files with the meshes' names."""
    distributed.connect(run, lambda words: None)
    words = [str(process) * 5000 * process for process in range(jax.process_count())]
    assert distributed.gather(words[jax.process_index()]) == words  # of any length, none cut
    config = FitConfig(
        data=DataConfig(source=task["photographs"], patch_size=8, batch_size=8),
        model=ModelConfig(model=task["model"]),
        optimizer=OptimizerConfig(
            optimizer="sgd", schedule="constant", learning_rate=0.1, warmup_steps=0
        ),
    )
    splits = open_splits(config.data.source, validation="none", test=config.data.source)
    batches = PatchBatches(splits.train, patch_size=8, batch_size=8, seed=0)
    made = assembly.assemble(config)

    def start() -> Any:
        state = made.fresh_state()  # its last layer is zero, and passes no gradient on
        bent = jax.tree.map(
            lambda p: p + 0.03 * jax.random.normal(jax.random.key(p.size), p.shape), state.params
        )
        return state.replace(params=bent)

    for name, (order, parallel) in task["meshes"].items():
        mesh = sharding.mesh_of([jax.devices()[i] for i in order], run=RunConfig(parallel=parallel))
        layout = sharding.state_sharding(jax.eval_shape(start), mesh)
        rows = sharding.rows_of_process(mesh, 8)
        (batch,) = sharding.to_devices(stream(batches, start=0, stop=1, rows=rows), mesh)
        state = jax.jit(start, out_shardings=layout)()
        step = compile_everywhere(
            sharding.compile_step(made.update, mesh, layout=layout), state, batch
        )
        state, metrics = step(state, batch)
        gradient = sharding.whole(jax.tree.leaves(tree_get(state.opt_state, "trace")))
        batch = sharding.whole(batch)
        if distributed.is_first():
            arrays = {f"gradient{i}": g for i, g in enumerate(gradient)}
            np.savez(Path(task["out"]) / f"{name}.npz", loss=metrics.loss, batch=batch, **arrays)
    distributed.barrier()


def fail_alone(run: RunConfig) -> None:
    """Makes process 0 fail while the others wait at a barrier."""
    with last_words.ending_together(run) as leave:
        distributed.connect(run, leave)
        leave("the last words")
        if distributed.is_first():
            raise RuntimeError("this process fails alone")
        distributed.barrier()
        print("all are here")


def be_struck(number: int, at: int, delay: float = 0.0) -> None:
    """Sends a signal to this process some seconds after it has logged step ``at``, or at once."""

    def write_and_wait_for_it(self: Any, step: int, metrics: Mapping[str, float]) -> None:
        write(self, step, metrics)
        if step == at and delay:
            threading.Timer(delay, os.kill, (os.getpid(), number)).start()
        elif step == at:
            os.kill(os.getpid(), number)

    metric_writer.MetricWriter.write = write_and_wait_for_it


def linger(seconds: float) -> None:
    """Makes each line of the log take this long."""
    logged = metric_writer.MetricWriter.write

    def write_and_rest(self: Any, step: int, metrics: Mapping[str, float]) -> None:
        logged(self, step, metrics)
        time.sleep(seconds)

    metric_writer.MetricWriter.write = write_and_rest


def child(task: Task, process: int, address: str) -> int:
    """Runs one process of a launch, and returns its exit status."""
    log = os.open(f"{task['log']}.{process}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    os.chdir(task.get("where", {}).get(str(process), "."))
    jax.config.update("jax_num_cpu_devices", task["devices"])
    index.PATH = Path(task["log"]).with_name("photographs.sqlite")
    distributed.START_SECONDS = task.get("start_seconds", 120)
    distributed.SILENT_SECONDS = task.get("silent_seconds", 60)
    last_words.LEAVING_SECONDS = task.get("leaving_seconds", 10)
    loop.fit = functools.partial(fit, report=task.get("report", False))
    victim, *strike = task.get("strike", (None,))
    if victim == process:
        be_struck(*strike)
    linger(task.get("linger", 0.0))
    said = {"coordinator": address, "processes": task["processes"], "process": process}
    alone = task["processes"] == 1
    run = RunConfig() if alone else RunConfig(distributed=True, **said)
    if "meshes" in task:
        updates(task, run)
        return 0
    if "fails" in task:
        fail_alone(run)
        return 0
    more = (
        [] if alone else ["--distributed", *(f"--{name}={value}" for name, value in said.items())]
    )
    if task.get("slurm"):
        os.environ |= slurm(address, task["processes"], process)
        more = ["--distributed"]
    return __main__.main(["fit", *task["flags"], *task.get("own", {}).get(str(process), []), *more])


def slurm(address: str, processes: int, process: int) -> dict[str, str]:
    """Sets the environment of SLURM. JAX makes the coordinator's port from the job's number."""
    host, _, port = address.partition(":")
    return {
        "SLURM_JOB_ID": str(int(port) - SLURM_PORTS[0]),
        "SLURM_STEP_NODELIST": host,
        "SLURM_NTASKS": str(processes),
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def free_address(ports: Sequence[int]) -> str:
    """Returns the first free port among these; 0 stands for any port."""
    for port in ports:
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return f"127.0.0.1:{free.getsockname()[1]}"
    raise OSError("no port is free")


def fork(task: Task, process: int, address: str) -> int:
    """Starts a process that ends by itself, and returns its number."""
    if pid := os.fork():
        return pid
    status = 70
    try:
        try:
            status = child(task, process, address)
        except SystemExit as exit_:
            status = exit_.code
        jax.distributed.shutdown()
    finally:
        if status == 70:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def launch(task: Task) -> list[int]:
    """Returns how each process of a launch ended."""
    # A run resumes from its newest checkpoint, or begins again if it has none
    folder = task.get("folder")
    if folder is not None and run_folder.can_resume(Path(folder)):
        task["flags"] = [f"--resume={folder}"]
    elif folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        task["flags"].append(f"--out={folder}")
    address = free_address(SLURM_PORTS if task.get("slurm") else (0,))
    children = [
        fork(task, process, address) for process in task.get("only", range(task["processes"]))
    ]
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


if __name__ == "__main__":
    assert len(os.listdir("/proc/self/task")) == 1
    print(json.dumps([launch(task) for task in json.loads(sys.argv[1])]))
