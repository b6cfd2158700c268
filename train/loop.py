"""A training run from beginning to end: prepare, start, train, finish."""

import contextlib
import functools
import itertools
import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train import training
from train.checkpoints.checkpoint import FOLDER_NAME, check_disk_space, load_newest
from train.checkpoints.checkpoint_files import list_changed_versions
from train.checkpoints.checkpoint_writer import open_checkpoints
from train.checkpoints.resumed_config import check_sealed
from train.checkpoints.run_folder import BOARD_NAME, CONFIG_NAME, PROFILE_NAME, describe_run
from train.config import FitConfig
from train.data.images import write_image
from train.data.pipeline import stream
from train.data.splits import check_fingerprint
from train.devices import sharding
from train.devices.session import open_session
from train.errors import InputError, list_some
from train.files.outputs import write_rows
from train.inference.predictors import predictor_for
from train.inference.scoring.baseline_table import make_table, score_with_baselines
from train.inference.scoring.figures import comparison
from train.inference.scoring.registry import METRICS
from train.monitoring.metric_lines import FILE_NAME as METRICS_NAME
from train.monitoring.metric_writer import MetricWriter
from train.monitoring.tensorboard import Board
from train.monitoring.tracing import Trace
from train.preparation import PreparedRun, describe_photographs, prepare
from train.state import Metrics, TrainState
from train.training import Logbook, Reading, Validate, Watch, read_metrics
from train.validation import Validator


def fit(
    config: FitConfig,
    *,
    preset: str = "default",
    report: bool = True,
    watch: Watch | None = None,
    resume_hint: str | None = None,
) -> Path:
    """Trains a network, evaluates it and reports.

    After Ctrl-C it saves a checkpoint and prints how to resume.

    Args:
      config: the run.
      preset: name of the preset, which becomes part of the folder's name.
      report: warn about the photographs, evaluate on the test photographs and report. Callers that
        train many networks warn once, and score them later.
      watch: receives the step and the scores of each validation. Training ends if it returns True.
      resume_hint: what the user must do to resume, printed after Ctrl-C or SIGTERM. None: ``fit``
        with ``--resume`` and the run's folder.

    Returns:
      The run's folder.

    Raises:
      DivergedError: too many steps in a row were not finite.
      InputError: the input is wrong, or the disk or a device's memory is full.
      SystemExit: with status 130 after Ctrl-C, or 143 after SIGTERM.
    """
    with open_session(config.run) as session, contextlib.ExitStack() as held:
        run = prepare(config, preset, session, held, warn=report)
        state = start(run)
        trained = train(run, state, watch=watch, resume_hint=resume_hint)
        if report:
            finish(run, trained)
        return run.folder


@dataclass(frozen=True)
class TrainedRun:
    """The result of training."""

    state: TrainState  # after the last step
    newest: Path  # the newest checkpoint
    best: Path | None  # the checkpoint with the best validation
    ended: float  # seconds, on the monotonic clock


def start(run: PreparedRun) -> TrainState:
    """Returns the state that training begins with, from the first of these that applies.

    1. the run's newest checkpoint, if it is resumed;
    2. the weights of ``--init-from``;
    3. random weights, drawn with the seed.

    Args:
      run: from :func:`prepare`.

    Returns:
      The state, laid out over the devices.

    Raises:
      InputError: no checkpoint is intact, or the run was trained on different photographs or with a
        different configuration.
    """
    if run.config.run.resume:
        checkpoints = run.folder / FOLDER_NAME
        state, saved = load_newest(checkpoints, run.programs.abstract, run.programs.layout, run.say)
        check_fingerprint(run.splits, saved, run.folder)
        check_sealed(run.config, saved.get("config"), run.folder)
        run.say(f"resuming from step {int(state.step)} of {run.folder}")
        if changed := list_changed_versions(saved):
            changes = list_some(changed)
            run.say(f"package versions changed ({changes}), so the last bits may differ")
        return state
    if run.initial is not None:
        return run.programs.state_from(jax.device_get(run.initial))
    return run.programs.fresh_state()


def train(
    run: PreparedRun,
    state: TrainState,
    *,
    watch: Watch | None = None,
    resume_hint: str | None = None,
) -> TrainedRun:
    """Trains until the last step, a signal or ``watch`` ends it, and saves a checkpoint.

    Args:
      run: from :func:`prepare`.
      state: from :func:`start`. It is donated, so the caller cannot use it afterwards.
      watch: receives the step and the scores of each validation. Training ends if it returns True.
      resume_hint: what the user must do to resume. None: ``fit`` with ``--resume``.

    Returns:
      The last state, and the paths of the newest and the best checkpoint.

    Raises:
      DivergedError: too many steps in a row were not finite.
      InputError: the disk or a device's memory is full.
      SystemExit: with status 130 after Ctrl-C, or 143 after SIGTERM.
    """
    kept, session = run.config.run, run.session
    checkpoints_folder = run.folder / FOLDER_NAME
    with session.raise_everywhere():
        if session.is_first:
            check_disk_space(
                {checkpoints_folder: run.programs.abstract}, kept.keep_last + kept.keep_best
            )
    with (
        open_checkpoints(
            checkpoints_folder,
            describe_run(run.saved_config, run.splits),
            keep_last=kept.keep_last,
            keep_best=kept.keep_best,
            best_metric=kept.best_metric,
            higher_is_better=METRICS[kept.best_metric].higher_is_better,
            told=functools.partial(session.has_checkpoint, run.folder),
        ) as checkpoints,
        session.stopping() as stop,
    ):
        with _open_writer(run, int(state.step)) as writer:
            logbook = Logbook(writer, checkpoints, _make_validate(run))
            network = OneNetwork(run, state, logbook)
            steps = kept.profile if session.is_first else None
            trace = Trace(run.folder / PROFILE_NAME, steps, run.say)
            training.train(network, stop=stop, console=run.console, trace=trace, watch=watch)
        trained = TrainedRun(
            network.state, checkpoints.newest(), checkpoints.best(), time.monotonic()
        )
        if stop.happened:
            run.say(f"stopped after step {int(trained.state.step)}; saved {trained.newest}")
            hint = f"python -m train fit --resume {shlex.quote(str(run.folder))}"
            run.say(f"to resume: {resume_hint or hint}")
            raise SystemExit(stop.status)
    return trained


def finish(run: PreparedRun, trained: TrainedRun) -> None:
    """Evaluates the network on photographs that it was never trained on, and reports.

    Args:
      run: from :func:`prepare`.
      trained: from :func:`train`.
    """
    state, config, folder = trained.state, run.config, run.folder
    weights = sharding.whole((state.eval_params, state.eval_batch_stats))
    if run.session.is_first:
        # --- score every photograph, and keep the pixels of the few that the picture shows
        predictor = predictor_for(run.model, *weights)
        predict = functools.partial(predictor.restore, sigma=config.data.sigma / 255)
        evaluations = score_with_baselines(
            predict, run.splits.test, sigma=config.data.sigma, seed=config.seed
        )
        shown = list(itertools.islice(evaluations, 4))
        every = itertools.chain(shown, evaluations)
        rows = list(itertools.chain.from_iterable(evaluation.rows for evaluation in every))
        write_rows(rows, folder / "evaluation.csv")
        write_image(folder / "comparison.png", comparison(shown))

        # --- report
        run.console.print(make_table(rows, describe_photographs(run.splits.test, config.data)))
        seconds = (
            f"{trained.ended - run.began:.0f} s to train, "
            f"{time.monotonic() - trained.ended:.0f} s to evaluate"
        )
        run.console.print(f"{config.optimizer.steps} steps; {seconds}")
        for what, path in {
            "picture": folder / "comparison.png",
            "scores": folder / "evaluation.csv",
            "metrics": folder / METRICS_NAME,
            "configuration": folder / CONFIG_NAME,
            "checkpoint": trained.newest,
            "best": trained.best,
        }.items():
            if path is not None:
                run.say(f"{what:>13}  {path}")
    run.session.barrier()


class OneNetwork:
    """The network of a run, with the interface that :func:`train.training.train` needs."""

    def __init__(self, run: PreparedRun, state: TrainState, logbook: Logbook) -> None:
        """Prepares the network for training.

        Args:
          run: from :func:`prepare`.
          state: the state to begin with. It is donated to the first step.
          logbook: what the run writes while it trains.
        """
        self.config = run.config
        self.start = int(state.step)
        self.logbooks = [logbook]
        self.state = state
        self._run = run
        self._metrics: Metrics

    def batches(self) -> Iterator[Any]:
        """Yields the batches of all remaining steps, with the rows of this process only."""
        data, mesh = self.config.data, self._run.mesh
        batches = stream(
            self._run.batches,
            start=self.start,
            stop=self.config.optimizer.steps,
            rows=sharding.rows_of_process(mesh, data.batch_size),
            workers=self.config.run.workers,
        )
        return sharding.to_devices(batches, mesh)

    def compile(self, batch: Any) -> None:
        """Compiles the step in every process before it runs in any."""
        self._run.programs.compile(self._run.session.compile, self.state, batch)

    def step(self, batch: Any) -> list[jax.Array]:
        """Starts one step on the devices, and returns its loss to wait for."""
        self.state, self._metrics = self._run.programs.step(self.state, batch)
        return [self._metrics.loss]

    def wait(self) -> None:
        """Waits until the devices have finished all steps."""
        jax.block_until_ready(self.state)

    def read(self) -> list[Reading]:
        """Waits for the last step and reads its metrics."""
        values = read_metrics(self._metrics, self.config)
        return [Reading(values, self.logbooks[0], lambda: self.state)]

    def does_not_fit(self, why: str) -> InputError:
        """Makes the error for a step that needs more memory than a device has."""
        return sharding.does_not_fit(self.config, why)


def _open_writer(run: PreparedRun, start: int) -> MetricWriter:
    """Opens the metrics of the run, which only the first process writes."""
    path, board = None, None
    if run.session.is_first:
        path = run.folder / METRICS_NAME
        if run.config.run.tensorboard:
            board = Board(run.folder / BOARD_NAME, start=start)
    steps = run.config.optimizer.steps
    return MetricWriter(path, run.console, start=start, steps=steps, board=board)


def _make_validate(run: PreparedRun) -> Validate | None:
    """Makes the validation, which runs in the first process.

    All processes receive the scores, so that they keep the same checkpoints.
    """
    source, validator = run.splits.validation, None
    if source is None:
        return None
    if run.session.is_first:
        validator = Validator(
            run.model,
            source,
            sigma=run.config.data.sigma,
            best_metric=run.config.run.best_metric,
        )

    def validate(state: TrainState) -> tuple[dict[str, float], list[np.ndarray]]:
        # Every process takes part in gathering the weights.
        weights = sharding.whole((state.eval_params, state.eval_batch_stats))
        scores: dict[str, float] = {}
        images: list[np.ndarray] = []
        if validator is not None:
            scores, *images = validator(*weights)
        return json.loads(run.session.broadcast_from_first(json.dumps(scores))), images

    return validate
