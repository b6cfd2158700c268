"""The story of a training run, top to bottom."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from rich.console import Console

from train import sharding
from train.checkpoint import FOLDER_NAME, Checkpoints, check_room, load_weights, open_checkpoints, restore_newest
from train.checkpoint_files import changed_versions
from train.config import FitConfig, OptimizerConfig, save_config
from train.data.images import write_image
from train.data.photographs import Memory
from train.data.pipeline import PatchBatches, stream
from train.data.splits import check_unchanged, fingerprint, leaked, open_splits, save_splits
from train.errors import InputError
from train.experiments.figures import comparison
from train.inference.evaluate import evaluate, make_table, write_csv
from train.inference.predict import make_predictor
from train.metric_writer import MetricWriter
from train.network import build_model, init_variables
from train.objective import make_objective
from train.state import TrainState, create_state
from train.step import INIT_STREAM, make_step

CONFIG_NAME = "config.json"
_RUNS = Path("runs")


def fit(config: FitConfig, preset: str = "default") -> Path:
    """Trains, evaluates, reports; gives the run's folder. Stopped by Ctrl-C, it saves and says how to go on."""
    console = Console()
    began = time.monotonic()

    # --- all that can be wrong with the input is found before anything is written or compiled
    mesh = sharding.make_mesh(config.run.devices)
    sharding.check_divides(config.data.batch_size, mesh)
    model = build_model(config.model.model)
    # A resumed run takes its weights from its own checkpoint; where they first came from may be gone.
    from_run = None if config.run.resume else config.model.init_from
    initial = None if from_run is None else load_weights(Path(from_run), model, config.model.model)
    splits = open_splits(
        config.data.source,
        config.data.validation_source,
        config.data.test_source,
        group_by=config.data.group_by,
        memory=Memory(config.run.memory_mb),
    )
    batches = PatchBatches(
        splits.train, patch_size=config.data.patch_size, batch_size=config.data.batch_size, seed=config.seed
    )
    if config.run.resume:
        folder = Path(config.run.resume)
        check_unchanged(splits, folder)
    else:
        folder = _new_folder(config.run.out, preset)
        save_splits(splits, folder)
    run = dataclasses.replace(config.run, out=str(folder), resume=None)
    save_config(dataclasses.replace(config, run=run), folder / CONFIG_NAME)

    # --- state and step
    schedule = make_schedule(config.optimizer)
    optimizer = make_optimizer(config.optimizer, schedule)
    objective = make_objective(config.model.loss)
    key = jax.random.fold_in(jax.random.key(config.seed), INIT_STREAM)

    def fresh_state() -> TrainState:
        return create_state(init_variables(model, key), optimizer)

    abstract = jax.eval_shape(fresh_state)
    parameters = sum(x.size for x in jax.tree.leaves(abstract.params))
    degraded = f"sigma {config.data.sigma:g}" if splits.train.inputs is None else "degraded in reality"
    console.print(
        f"{config.model.model}: {parameters:,} parameters; {config.model.loss}; {degraded}; "
        f"{len(splits.train.names)} photographs; {mesh.size} {jax.default_backend()} device{'s' * (mesh.size > 1)}",
        soft_wrap=True,
    )
    if seen := leaked(splits):
        console.print(f"warning: trained on too, so their scores mean little: {', '.join(seen[:10])}", soft_wrap=True)
    step = sharding.compile_step(
        make_step(model, optimizer, objective, sigma=config.data.sigma / 255, seed=config.seed), mesh
    )

    about = {"model": config.model.model, "config": dataclasses.asdict(config), "data": fingerprint(splits)}
    if config.run.resume:
        state, saved = restore_newest(folder / FOLDER_NAME, abstract, sharding.replicated(mesh), console.print)
        console.print(f"going on from step {int(state.step)} of {folder}", soft_wrap=True)
        if changed := changed_versions(saved):
            console.print(f"versions changed, so the last bits may differ: {', '.join(changed)}", soft_wrap=True)
    elif initial is not None:
        state = jax.device_put(create_state(initial, optimizer), sharding.replicated(mesh))
    else:
        state = jax.jit(fresh_state, out_shardings=sharding.replicated(mesh))()

    kept = {"keep_last": run.keep_last, "keep_best": run.keep_best, "best_metric": run.best_metric}
    check_room(folder / FOLDER_NAME, abstract, run.keep_last + run.keep_best)
    with open_checkpoints(folder / FOLDER_NAME, about, **kept) as checkpoints, _stop_on_signal() as stop:
        # --- train
        state = _train(config, state, step, schedule, batches, mesh, checkpoints, stop, folder, console)
        checkpoint = checkpoints.newest()
        if stop:
            console.print(f"stopped after step {int(state.step)}; saved {checkpoint}", soft_wrap=True)
            console.print(f"go on with: python -m train fit --resume {folder}", soft_wrap=True)
            raise SystemExit(130)
    trained = time.monotonic()

    # --- evaluate on photographs that were never trained on, and report
    predict = make_predictor(model, state.params, state.batch_stats, sigma=config.data.sigma / 255)
    evaluations = list(evaluate(predict, splits.test, sigma=config.data.sigma, seed=config.seed))
    rows = [row for evaluation in evaluations for row in evaluation.rows]
    write_csv(rows, folder / "evaluation.csv")
    write_image(folder / "comparison.png", comparison(evaluations[:4]))
    console.print(make_table(rows))
    seconds = f"{trained - began:.0f} s to train, {time.monotonic() - trained:.0f} s to evaluate"
    console.print(f"{config.optimizer.steps} steps; {seconds}")
    for what, path in {
        "picture": folder / "comparison.png",
        "scores": folder / "evaluation.csv",
        "metrics": folder / "metrics.jsonl",
        "configuration": folder / CONFIG_NAME,
        "checkpoint": checkpoint,
    }.items():
        console.print(f"{what:>13}  {path}", soft_wrap=True)
    return folder


def _train(
    config: FitConfig,
    state: TrainState,
    step: sharding.Step,
    schedule: optax.Schedule,
    batches: PatchBatches,
    mesh: Mesh,
    checkpoints: Checkpoints,
    stop: "list[int]",
    folder: Path,
    console: Console,
) -> TrainState:
    """Updates until the last step or a signal; what it leaves is saved."""
    start, steps = int(state.step), config.optimizer.steps
    data = stream(
        batches,
        start=start,
        stop=steps,
        batch_size=config.data.batch_size,
        process=jax.process_index(),
        processes=jax.process_count(),
    )
    with MetricWriter(folder / "metrics.jsonl", console, start=start, steps=steps) as writer:
        for done, clean in enumerate(sharding.to_devices(data, mesh), start + 1):
            state, metrics = step(state, clean)
            if done == start + 1:
                jax.block_until_ready(state)
                writer.started()
            # Reading a metric waits for the device, so it is done now and then only.
            if done % config.run.log_every == 0 or done == steps:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                # jit sorts the names: the loss is read first, its terms next, the rest last.
                loss, norm = values.pop("loss"), values.pop("gradient_norm")
                values = {"loss": loss, **values, "gradient_norm": norm}
                if not np.isfinite(values["loss"]):
                    raise InputError(
                        f"the loss is {values['loss']} at step {done}; the last checkpoint is from before it. "
                        f"Take a lower --learning-rate than {config.optimizer.learning_rate:g}, or set --clip-norm."
                    )
                writer.write(done, {**values, "learning_rate": float(schedule(done - 1))})
            if done % config.run.checkpoint_every == 0 or done == steps or stop:
                checkpoints.save(state)
            if stop:
                break
    return state


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
    """Learning rate as a function of the update's index."""
    if config.schedule == "constant":
        after = optax.constant_schedule(config.learning_rate)
    else:
        after = optax.cosine_decay_schedule(
            config.learning_rate, max(config.steps - config.warmup_steps, 1), alpha=0.01
        )
    if config.warmup_steps == 0:
        return after
    # The first update has index 0 and should move already: the ramp starts one step up.
    ramp = optax.linear_schedule(config.learning_rate / config.warmup_steps, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([ramp, after], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam, behind clipping where asked for."""
    adam = optax.adam(schedule)
    return adam if config.clip_norm is None else optax.chain(optax.clip_by_global_norm(config.clip_norm), adam)


def _new_folder(out: str | None, preset: str) -> Path:
    """The run's folder: the one asked for, if nothing of a run is there, else the next free number under runs/."""
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"--out {folder} is not empty: go on with that run by --resume {folder}, or write to a new folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    _RUNS.mkdir(exist_ok=True)
    taken = [int(path.name[:3]) for path in _RUNS.iterdir() if path.name[:3].isdigit()]
    number = max(taken, default=0) + 1
    while True:
        folder = _RUNS / f"{number:03d}-{preset}"
        with contextlib.suppress(FileExistsError):  # another run may have taken it a moment ago
            folder.mkdir()
            return folder
        number += 1


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM; the loop looks at it after each step. A second one kills."""
    received: list[int] = []
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
