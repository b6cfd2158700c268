"""The training loop, for one network and for several networks that take every step together.

:func:`train` does not know the networks. It asks a :class:`Trainee` for batches and steps, keeps
the host a little ahead of the devices, and decides after each step whether to log, validate, save
or stop. What is logged and saved goes into the :class:`Logbook` of each network.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from rich.console import Console

from train.checkpoints.checkpoint_writer import Checkpoints
from train.config import FitConfig, RunConfig
from train.devices import sharding
from train.devices.distributed import Stop
from train.errors import DivergedError, InputError
from train.guard import nonfinite_names
from train.monitoring.meters import Meter
from train.monitoring.metric_writer import MetricWriter
from train.monitoring.panels import panels
from train.monitoring.tracing import Trace
from train.state import Metrics, TrainState

Watch = Callable[[int, dict[str, float]], bool]
Validate = Callable[[TrainState], tuple[dict[str, float], list[np.ndarray]]]

# The host stays this many steps ahead of the devices. That keeps them busy, and more would only
# keep more batches in memory.
_STEPS_AHEAD = 2


class Actions(NamedTuple):
    """What a run does after a step. Each action waits for the devices, so not every step has it."""

    validate: bool
    save: bool
    log: bool


def actions_after(
    done: int, steps: int, run: RunConfig, *, validates: bool, stopping: bool
) -> Actions:
    """Says what a run does after a step.

    All actions follow the last step. A checkpoint is also saved whenever a run stops or validates.

    Args:
      done: number of steps that are done, including this one.
      steps: number of steps of the whole run.
      run: how often each action is taken.
      validates: whether there are photographs to validate on.
      stopping: whether the run has been told to stop after this step.

    Returns:
      The actions to take now.
    """
    last = done == steps
    validate = validates and (last or done % run.validate_every == 0)
    save = last or stopping or validate or done % run.checkpoint_every == 0
    log = last or validate or done % run.log_every == 0
    return Actions(validate, save, log)


@dataclasses.dataclass(frozen=True)
class Logbook:
    """Writes the metrics, pictures and checkpoints of one network while it trains."""

    writer: MetricWriter
    checkpoints: Checkpoints
    validate: Validate | None  # gives scores and pictures; None without validation photographs

    def enter(
        self,
        done: int,
        actions: Actions,
        values: Mapping[str, float],
        state: Callable[[], TrainState],
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Validates, logs and saves, as far as ``actions`` asks for it.

        Args:
          done: number of steps that are done.
          actions: what to do.
          values: metrics of the last step.
          state: gives the state after that step. It is not called only to log.

        Returns:
          The line for the log, and the scores of the validation.
        """
        scores: dict[str, float] = {}
        if self.validate is not None and actions.validate:
            scores, images = self.validate(state())
            if images:
                self.writer.picture(done, "validation", panels(*images))
        line = {**values, **{f"validation/{name}": score for name, score in scores.items()}}
        if actions.log:
            self.writer.write(done, line)
        if actions.save:
            self.checkpoints.save(state(), metrics=scores)
        return line, scores


class Reading(NamedTuple):
    """The result of the last step for one network."""

    values: dict[str, float]  # metrics by name
    logbook: Logbook
    state: Callable[[], TrainState]


class Trainee(Protocol):
    """What :func:`train` trains: one network, or several that take every step together."""

    @property
    def config(self) -> FitConfig:
        """The configuration. Several networks return what they have in common."""

    @property
    def start(self) -> int:
        """Number of steps that were done before training began or was resumed."""

    @property
    def logbooks(self) -> Sequence[Logbook]:
        """One logbook for each network."""

    def batches(self) -> Iterator[Any]:
        """Yields the batches of all remaining steps, and sends them to the devices in advance."""

    def compile(self, batch: Any) -> None:
        """Compiles the step. It is called once, with the first batch."""

    def step(self, batch: Any) -> list[jax.Array]:
        """Starts one step on the devices, and returns a loss of each program to wait for."""

    def wait(self) -> None:
        """Waits until the devices have finished all steps."""

    def read(self) -> list[Reading]:
        """Waits for the last step and reads it, except for networks that have diverged.

        Raises:
          DivergedError: the only network has diverged.
        """

    def does_not_fit(self, why: str) -> InputError:
        """Makes the error for a step that needs too much memory; ``why`` is the backend's text."""


def train(
    trainee: Trainee,
    *,
    stop: Stop,
    console: Console,
    trace: Trace,
    shown: MetricWriter | None = None,
    watch: Watch | None = None,
) -> int:
    """Trains until the last step, a signal or ``watch`` ends it, and saves a checkpoint.

    Args:
      trainee: the network or networks to train.
      stop: says after every step whether the run has been told to stop.
      console: prints the summary.
      trace: profiles some of the steps.
      shown: a separate writer for the progress bar, if the writers of the logbooks are quiet.
      watch: receives the step and the scores of each validation. Training ends if it returns True.

    Returns:
      The number of steps that are done, including those before the run was resumed.

    Raises:
      DivergedError: too many steps in a row were not finite.
      InputError: the step does not fit into memory, or the disk is full.
    """
    config, start, logbooks = trainee.config, trainee.start, trainee.logbooks
    validates = any(logbook.validate is not None for logbook in logbooks)
    writers = [*(logbook.writer for logbook in logbooks), *([] if shown is None else [shown])]
    meter = Meter(config.data.batch_size, config.data.patch_size, networks=len(logbooks))
    ahead: collections.deque[list[jax.Array]] = collections.deque()
    done = start  # stays so if no step is left

    with trace, sharding.within_memory(trainee.does_not_fit):
        for done, batch in enumerate(meter.timed(trainee.batches()), start + 1):
            # --- one step
            is_first = done == start + 1
            if is_first:
                trainee.compile(batch)
            trace.before(done)
            # All arrays are on the devices or on their way, so a transfer here would be a mistake.
            with jax.transfer_guard("disallow"):
                losses = trainee.step(batch)
            trace.after(done, losses[-1])
            meter.stepped(losses[-1])
            if is_first:
                # The first step is mostly compilation, which the rates should not include.
                trainee.wait()
                for writer in writers:
                    writer.started()
                meter.restart()
            ahead.append(losses)
            if len(ahead) > _STEPS_AHEAD:
                jax.block_until_ready(ahead.popleft())

            # --- log, validate, save
            # The signal is read only once, so that one that arrives later waits for the next step.
            stopping = stop.after(done)
            actions = actions_after(
                done, config.optimizer.steps, config.run, validates=validates, stopping=stopping
            )
            ended = False
            if actions.log or actions.save:
                # This notices that a network has diverged before its state is saved.
                readings = trainee.read()
                rates = meter.read()
                entered = [
                    reading.logbook.enter(done, actions, {**reading.values, **rates}, reading.state)
                    for reading in readings
                ]
                for line, _ in entered[:1]:
                    if shown is not None and actions.log:
                        shown.write(done, line)
                meter.restart()
                ended = not readings
                for _, scores in entered:
                    if scores and watch is not None and watch(done, scores):
                        ended = True
            if stopping or ended:
                break
        if meter.steps:
            console.print(meter.summary(), soft_wrap=True)
    return done


def read_metrics(metrics: Metrics, config: FitConfig) -> dict[str, float]:
    """Reads metrics as numbers by name, the loss first.

    Raises:
      DivergedError: the state does not change any more, because too many steps in a row were not
        finite.
    """
    read = jax.device_get(metrics)
    if read.guard.consecutive_skips >= config.optimizer.max_skips:
        last = int(read.step)
        named = ", ".join(nonfinite_names(read.guard, read.terms))
        raise DivergedError(
            f"Steps {last - int(read.guard.consecutive_skips) + 1} to {last} were all skipped. In "
            f"the last of them these were not finite: {named}. The weights in the newest "
            "checkpoint are from before these steps. Use a lower --learning-rate than "
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
