"""Several runs of ``fit`` that take every step together.

Each device holds one population of networks. The loop is the same as in ``fit``
(:func:`train.training.train`). Each run's folder holds what ``fit`` would have written:
configuration, split, metrics.jsonl, curves and checkpoints. A run that was interrupted resumes from
its own newest checkpoint, here or with ``fit --resume``.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from train import training
from train.assembly import assemble, open_photographs
from train.checkpoints.checkpoint import FOLDER_NAME, check_disk_space, load_newest, load_weights
from train.checkpoints.checkpoint_writer import Checkpoints, open_checkpoints
from train.checkpoints.resumed_config import check_sealed
from train.checkpoints.run_folder import (
    BOARD_NAME,
    CONFIG_NAME,
    describe_run,
    hold_run,
    new_folder,
)
from train.config import FitConfig, save_config
from train.console import make_console
from train.data.splits import (
    Splits,
    check_fingerprint,
    check_scorable,
    check_unchanged,
    save_splits,
)
from train.devices.distributed import stopping
from train.devices.sharding import within_memory
from train.experiments.networks.device_groups import DeviceGroups, TrainingRun, deal, does_not_fit
from train.inference.scoring.registry import METRICS
from train.inference.scoring.sizes import check_large_enough
from train.monitoring.metric_lines import FILE_NAME as METRICS_NAME
from train.monitoring.metric_writer import MetricWriter
from train.monitoring.tensorboard import Board
from train.monitoring.tracing import Trace
from train.network import init_variables
from train.randomness import INIT_STREAM
from train.state import TrainState
from train.training import Logbook, Validate
from train.validation import Validator


def fit_together(
    configs: Sequence[FitConfig],
    devices: Sequence[jax.Device],
    console: Console,
    resume_hint: str,
) -> list[str]:
    """Trains several runs at once.

    If the process was killed while the checkpoints of one step were being written, runs resume from
    different steps. They are then trained in groups that start at the same step. Runs whose step
    was compiled in different ways (--cpu-step) are not trained together either.

    Args:
      configs: the runs. They may differ in loss, seed, learning rate, clipping and folder.
      devices: devices to train on; each takes its share of the runs.
      console: for progress.
      resume_hint: what the user must do to resume, printed after Ctrl-C or SIGTERM.

    Returns:
      For each run why it diverged, or "" if it did not.

    Raises:
      InputError: if the input is wrong, or the disk or the memory of a device is full.
      SystemExit: with status 130 after Ctrl-C, or 143 after SIGTERM.
    """
    say: Callable[[str], None] = functools.partial(console.print, soft_wrap=True)
    splits = open_photographs(configs[0])
    for config in configs:
        if config.run.resume:
            check_unchanged(splits, Path(config.run.resume))
    check_scorable(splits)
    best_metric = configs[0].run.best_metric
    check_large_enough("--best-metric", best_metric, splits, of=("validation",))
    with contextlib.ExitStack() as held:
        runs = _open(configs, splits, devices[0], say, held)
        for alike in sorted({_alike(run) for run in runs}):
            together = [run for run in runs if _alike(run) == alike]
            _train(together, splits, devices, console, resume_hint)
    return [run.diverged for run in runs]


def _alike(run: TrainingRun) -> tuple[int, str]:
    """What the runs of one population must have in common, apart from their configuration."""
    return run.start, run.config.run.cpu_step


def _open(
    configs: Sequence[FitConfig],
    splits: Splits,
    device: jax.Device,
    say: Callable[[str], None],
    held: contextlib.ExitStack,
) -> list[TrainingRun]:
    """Opens and locks the folders, and makes the states; fresh ones depend only on the seed."""
    where = NamedSharding(Mesh(np.array([device]), ("member",)), PartitionSpec())
    model = assemble(configs[0]).model
    draw = jax.jit(lambda key: init_variables(model, key))
    starts: dict[int, Any] = {}
    runs = []
    for config in configs:
        assembly = assemble(config)
        if config.run.resume:
            # 1. a run's own newest checkpoint
            folder = Path(config.run.resume)
            held.enter_context(hold_run(folder))
            abstract = jax.eval_shape(assembly.fresh_state)
            state, saved = load_newest(folder / FOLDER_NAME, abstract, where, say)
            check_fingerprint(splits, saved, folder)
            check_sealed(config, saved.get("config"), folder)
        else:
            folder = new_folder(config.run.out, "compare", held)
            save_splits(splits, folder)
            seed, source = config.seed, config.model.init_from
            if seed not in starts and source is not None:
                # 2. the weights of --init-from
                starts[seed] = load_weights(Path(source), model, config.model.model, warn=say)
            elif seed not in starts:
                # 3. fresh weights
                starts[seed] = draw(jax.random.fold_in(jax.random.key(seed), INIT_STREAM))
            state = assembly.state_from(starts[seed])
        save_config(_saved_config(config, folder), folder / CONFIG_NAME)
        runs.append(TrainingRun(config, folder, jax.device_put(state, device)))
    return runs


def _train(
    runs: Sequence[TrainingRun],
    splits: Splits,
    devices: Sequence[jax.Device],
    console: Console,
    resume_hint: str,
) -> None:
    """Trains runs that start at the same step, until the last step or a signal; saves them."""
    shared, start = runs[0].config, runs[0].start
    used = min(len(devices), len(runs))
    console.print(
        f"{len(runs)} networks at once on {used} {devices[0].platform} device{'s' * (used > 1)}",
        soft_wrap=True,
    )
    check_disk_space(
        {run.folder / FOLDER_NAME: run.state for run in runs},
        shared.run.keep_last + shared.run.keep_best,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(within_memory(functools.partial(does_not_fit, runs, devices)))
        groups = deal(runs, devices)
        validate = None
        if splits.validation is not None:
            model = assemble(shared).model
            validator = Validator(
                model,
                splits.validation,
                sigma=shared.data.sigma,
                best_metric=shared.run.best_metric,
            )
            validate = _make_validate(validator)
        stop = stack.enter_context(stopping())
        checkpoints = [stack.enter_context(_open_checkpoints(run, splits)) for run in runs]
        writers = [stack.enter_context(_open_writer(run)) for run in runs]
        # All advance together, so one bar is enough. It shows the first run that has not diverged.
        steps = shared.optimizer.steps
        shown = stack.enter_context(MetricWriter(None, console, start=start, steps=steps))
        logbooks = [
            Logbook(writer, kept, validate)
            for writer, kept in zip(writers, checkpoints, strict=True)
        ]
        done = training.train(
            DeviceGroups(groups, splits, logbooks),
            stop=stop,
            console=console,
            trace=Trace(runs[0].folder, None, console.print),
            shown=shown,
        )
    if stop.requested:
        console.print(f"stopped after step {done}; everything is saved")
        console.print(f"to resume: {resume_hint}", soft_wrap=True)
        raise SystemExit(stop.status)


def _make_validate(validator: Validator) -> Validate:
    def validate(state: TrainState) -> tuple[dict[str, float], list[np.ndarray]]:
        scores, *images = validator(state.eval_params, state.eval_batch_stats)
        return scores, images

    return validate


def _saved_config(config: FitConfig, folder: Path) -> FitConfig:
    """The configuration in the form that the folder and the checkpoints of a run hold."""
    return dataclasses.replace(
        config, run=dataclasses.replace(config.run, out=str(folder), resume=None)
    )


def _open_checkpoints(
    run: TrainingRun, splits: Splits
) -> contextlib.AbstractContextManager[Checkpoints]:
    kept = run.config.run
    return open_checkpoints(
        run.folder / FOLDER_NAME,
        describe_run(_saved_config(run.config, run.folder), splits),
        keep_last=kept.keep_last,
        keep_best=kept.keep_best,
        best_metric=kept.best_metric,
        higher_is_better=METRICS[kept.best_metric].higher_is_better,
    )


def _open_writer(run: TrainingRun) -> MetricWriter:
    """Opens the file of a run's metrics, without printing anything."""
    start, steps = run.start, run.config.optimizer.steps
    board = Board(run.folder / BOARD_NAME, start=start) if run.config.run.tensorboard else None
    console = make_console(quiet=True)
    return MetricWriter(run.folder / METRICS_NAME, console, start=start, steps=steps, board=board)
