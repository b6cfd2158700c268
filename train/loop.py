"""The story of a training run, top to bottom."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from train import distributed, locks, sharding
from train.assembly import assemble, open_photographs
from train.checkpoint import FOLDER_NAME, check_disk_space, load_newest, load_weights
from train.checkpoint_files import check_path, list_changed_versions
from train.checkpoint_writer import Checkpoints, advising_resume, open_checkpoints
from train.config import FitConfig, save_config
from train.console import make_console
from train.dark_photographs import describe_degradation
from train.data.images import write_image
from train.data.pipeline import PatchBatches, stream
from train.data.splits import (
    check_fingerprint,
    check_scorable,
    check_unchanged,
    data_warnings,
    fingerprint,
    save_splits,
)
from train.due import STEPS_AHEAD, due
from train.errors import DivergedError
from train.inference.figures import comparison
from train.inference.fit_scores import evaluate, make_table
from train.inference.predictors import predictor_for
from train.inference.scores import write_rows
from train.meters import Meter
from train.metric_lines import FILE_NAME as METRICS_NAME
from train.metric_writer import MetricWriter
from train.panels import panels
from train.resumed_config import check_sealed
from train.run_folder import BOARD_NAME, CONFIG_NAME, PROFILE_NAME, describe_run, new_folder
from train.state import TrainState
from train.step import Metrics, Step, culprits_of
from train.tensorboard import Board
from train.tracing import Trace
from train.validation import Validator

Watch = Callable[[int, dict[str, float]], bool]
Validate = Callable[[TrainState], tuple[dict[str, float], list[np.ndarray]]]


def fit(
    config: FitConfig, preset: str = "default", *, report: bool = True, watch: Watch | None = None
) -> Path:
    """Trains, evaluates, reports; gives the run's folder. Stopped by Ctrl-C, it saves and says how to go on.

    Without ``report`` it ends when the network is trained: whoever trains many looks at the test
    photographs himself. ``watch(step, scores)`` is told of each validation; where it gives True the
    training ends there.
    """
    with distributed.ending_together(config.run) as leave_word, contextlib.ExitStack() as held:
        distributed.connect(config.run, leave_word)
        return _fit(config, preset, report, watch, leave_word, held)


def _fit(
    config: FitConfig,
    preset: str,
    report: bool,
    watch: Watch | None,
    leave_word: Callable[[str], None],
    held: contextlib.ExitStack,
) -> Path:
    first = distributed.is_first()
    console = make_console(quiet=not first)
    say = functools.partial(console.print, soft_wrap=True)
    began = time.monotonic()

    # --- all that can be wrong with the input is found before anything is written or compiled
    with distributed.together():
        check_path(Path(config.run.resume or config.run.out or "runs"))
        mesh = sharding.make_mesh(config.run.devices, config.run)
        sharding.check_divides(config.data.batch_size, mesh, config.optimizer.accumulate)
        model, update, state_from, fresh_state = assemble(config)
        splits = open_photographs(config)
        if config.run.resume:  # of photographs that changed no other fault is worth a word
            check_unchanged(splits, Path(config.run.resume))
        check_scorable(splits)
        batches = PatchBatches(
            splits.train,
            patch_size=config.data.patch_size,
            batch_size=config.data.batch_size,
            seed=config.seed,
        )
    distributed.check_same(config, fingerprint(splits))
    # A resumed run takes its weights from its own checkpoint; where they first came from may be
    # gone.
    from_run = None if config.run.resume else config.model.init_from
    initial = (
        None if from_run is None else load_weights(Path(from_run), model, config.model.model, say)
    )
    folder = Path(config.run.resume or "")
    with distributed.together():
        if first and config.run.resume:
            held.enter_context(locks.hold(folder))
        elif first:
            folder = new_folder(config.run.out, preset, held, config)
            with advising_resume(folder):
                save_splits(splits, folder)
    folder = Path(distributed.of_first(str(folder)))
    held.enter_context(advising_resume(folder))
    last_words = distributed.go_on_with if config.run.resume else distributed.start_again
    leave_word(last_words(folder))
    run = dataclasses.replace(config.run, out=str(folder), resume=None)
    saved_config = dataclasses.replace(config, run=distributed.without_hosts(run))
    with distributed.together(), advising_resume(folder):
        if first:
            save_config(saved_config, folder / CONFIG_NAME)
        distributed.check_shared(folder / CONFIG_NAME)

    # --- state and step
    abstract = jax.eval_shape(fresh_state)
    layout = sharding.state_sharding(abstract, mesh)
    parameters = sum(x.size for x in jax.tree.leaves(abstract.params))
    data = config.data
    describe = functools.partial(
        describe_degradation, sigma=data.sigma, blind=data.blind, low_light=data.low_light
    )
    say(
        f"{config.model.model}: {parameters:,} parameters; {config.model.loss}; {describe(splits.train)}; "
        f"{len(splits.train.names)} photographs; {mesh.size} {jax.default_backend()} "
        f"device{'s' * (mesh.size > 1)}{distributed.said()}"
    )
    for warning in data_warnings(splits, run.workers):
        say(f"warning: {warning}")
    step = sharding.compile_step(update, mesh, layout)

    about = describe_run(saved_config, splits)
    if config.run.resume:
        state, saved = load_newest(folder / FOLDER_NAME, abstract, layout, say)
        check_fingerprint(splits, saved, folder)
        check_sealed(config, saved.get("config"), folder)
        say(f"going on from step {int(state.step)} of {folder}")
        if changed := list_changed_versions(saved):
            say(f"versions changed, so the last bits may differ: {', '.join(changed)}")
    elif initial is not None:
        state = jax.jit(state_from, out_shardings=layout)(jax.device_get(initial))
    else:
        state = jax.jit(fresh_state, out_shardings=layout)()

    def has_checkpoint() -> None:
        leave_word(distributed.go_on_with(folder))

    kept: dict[str, Any] = {
        "keep_last": run.keep_last,
        "keep_best": run.keep_best,
        "best_metric": run.best_metric,
    }
    kept["told"] = has_checkpoint
    with distributed.together():
        if first:
            check_disk_space({folder / FOLDER_NAME: abstract}, run.keep_last + run.keep_best)
    with (
        open_checkpoints(folder / FOLDER_NAME, about, **kept) as checkpoints,
        distributed.stopping() as stop,
    ):
        # --- train
        validate = None
        if splits.validation is not None:
            validate = _validation(
                Validator(model, splits.validation, sigma=config.data.sigma) if first else None
            )
        state = _train(
            config, state, step, batches, mesh, checkpoints, validate, watch, stop, folder, console
        )
        checkpoint, best = checkpoints.newest(), checkpoints.best()
        if stop.happened:
            say(f"stopped after step {int(state.step)}; saved {checkpoint}")
            say(f"resume it by: python -m train fit --resume {shlex.quote(str(folder))}")
            raise SystemExit(130)
    trained = time.monotonic()
    if not report:
        return folder

    # --- evaluate on photographs that were never trained on, and report
    weights = sharding.whole((state.released, state.released_stats))
    if first:
        predictor = predictor_for(model, *weights)
        predict = functools.partial(predictor.restore, sigma=config.data.sigma / 255)
        evaluations = evaluate(predict, splits.test, sigma=config.data.sigma, seed=config.seed)
        shown = list(itertools.islice(evaluations, 4))  # of the others the pixels are let go
        rows = [
            row for evaluation in itertools.chain(shown, evaluations) for row in evaluation.rows
        ]
        write_rows(rows, folder / "evaluation.csv")
        write_image(folder / "comparison.png", comparison(shown))
        console.print(make_table(rows, describe(splits.test)))
        seconds = (
            f"{trained - began:.0f} s to train, {time.monotonic() - trained:.0f} s to evaluate"
        )
        console.print(f"{config.optimizer.steps} steps; {seconds}")
        for what, path in {
            "picture": folder / "comparison.png",
            "scores": folder / "evaluation.csv",
            "metrics": folder / METRICS_NAME,
            "configuration": folder / CONFIG_NAME,
            "checkpoint": checkpoint,
            "best": best,
        }.items():
            if path is not None:
                say(f"{what:>13}  {path}")
    distributed.meet()
    return folder


def _validation(validate: Validator | None) -> Validate:
    """By process 0; its scores go to all, which keep the same checkpoints. Pictures are in process 0 only."""

    def scores_and_pictures(state: TrainState) -> tuple[dict[str, float], list[np.ndarray]]:
        weights = sharding.whole((state.released, state.released_stats))
        scores, *images = ({},) if validate is None else validate(*weights)
        return json.loads(distributed.of_first(json.dumps(scores))), images

    return scores_and_pictures


def _train(
    config: FitConfig,
    state: TrainState,
    step: Step,
    batches: PatchBatches,
    mesh: Mesh,
    checkpoints: Checkpoints,
    validate: Validate | None,
    watch: Watch | None,
    stop: distributed.Stop,
    folder: Path,
    console: Console,
) -> TrainState:
    """Updates until the last step or a signal; what it leaves is saved."""
    run, start, steps = config.run, int(state.step), config.optimizer.steps
    data = stream(
        batches,
        start=start,
        stop=steps,
        rows=sharding.rows_of_process(mesh, config.data.batch_size),
        workers=run.workers,
    )
    meter = Meter(config.data.batch_size, config.data.patch_size)
    ahead: collections.deque[jax.Array] = collections.deque()
    first = distributed.is_first()
    board = Board(folder / BOARD_NAME, start=start) if run.tensorboard and first else None
    written, traced = (folder / METRICS_NAME, run.profile) if first else (None, None)
    with (
        MetricWriter(written, console, start=start, steps=steps, board=board) as writer,
        Trace(
            folder / PROFILE_NAME, traced, functools.partial(console.print, soft_wrap=True)
        ) as trace,
        sharding.within_memory(config),
    ):
        for done, batch in enumerate(meter.timed(sharding.to_devices(data, mesh)), start + 1):
            if done == start + 1:
                step = distributed.compiled(step, state, batch)
            trace.before(done)
            # But for the batch, which is on the devices by now
            with jax.transfer_guard("disallow"):
                state, metrics = step(state, batch)
            trace.after(done, metrics.loss)
            meter.stepped(metrics.loss)
            if done == start + 1:
                jax.block_until_ready(state)
                writer.started()
                meter.restart()
            ahead.append(metrics.loss)
            if len(ahead) > STEPS_AHEAD:
                ahead.popleft().block_until_ready()

            stopping = stop.after(done)
            validating, saving, logging = due(
                run, done, steps, validates=validate is not None, stopping=stopping
            )
            if logging or saving:
                # A state that stands still is found out here, before it is saved.
                values = {**read_metrics(metrics, config), **meter.read()}
                scores: dict[str, float] = {}
                if validate is not None and validating:
                    scores, images = validate(state)
                    if images:
                        writer.picture(done, "validation", panels(*images))
                if logging:
                    writer.write(
                        done,
                        {
                            **values,
                            **{f"validation/{name}": score for name, score in scores.items()},
                        },
                    )
                if saving:
                    checkpoints.save(state, scores)
                meter.restart()
                if scores and watch is not None and watch(done, scores):
                    break
            if stopping:
                break
        if meter.steps:
            console.print(meter.summary(), soft_wrap=True)
    return state


def read_metrics(metrics: Metrics, config: FitConfig) -> dict[str, float]:
    """Metrics as numbers by name, the loss first; an error where the state stands still over what is not finite."""
    read = jax.device_get(metrics)
    if read.guard.in_row >= config.optimizer.max_skips:
        last = int(read.step)
        named = ", ".join(culprits_of(read.guard, read.terms))
        raise DivergedError(
            f"steps {last - int(read.guard.in_row) + 1} to {last} were all skipped: not finite in "
            f"the last of them: {named}. Nothing of them was applied; the weights in the last "
            "checkpoint are from before them. Take a lower --learning-rate than "
            f"{config.optimizer.learning_rate:g}, or set --clip-norm."
        )
    values = {
        "loss": read.loss,
        **read.terms,
        "gradient_norm": read.gradient_norm,
        "learning_rate": read.learning_rate,
    }
    values |= {f"weight/{name}": weight for name, weight in read.weights.items()}
    values["skipped"] = read.guard.skipped
    return {name: float(value) for name, value in values.items()}
