"""Writes a run's checkpoints in the background, reads them back, and then deletes older ones."""

import contextlib
import logging
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from train.checkpoints.checkpoint import FOLDER_NAME, on_host, training_item, weights_item
from train.checkpoints.checkpoint_files import (
    Damaged,
    check_path,
    read_items,
    sealed,
    steps_in,
)
from train.checkpoints.versions import package_versions
from train.errors import InputError, first_line
from train.files.outputs import LASTING
from train.state import TrainState

# Validation metrics of which less is better; of others, more is.
_LESS_IS_BETTER = ("ciede2000",)

_NO_METRICS: Mapping[str, float] = {}


class Checkpoints:
    """The checkpoints of one run, numbered by the batches seen."""

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        *,
        keep_last: int = 2,
        keep_best: int = 0,
        best_metric: str = "psnr",
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """Opens ``folder``, made where it is missing.

        Args:
          folder: of all checkpoints of the run.
          about: written into every checkpoint.
          keep_last: newest checkpoints to keep.
          keep_best: checkpoints to keep beside them: those of the best ``best_metric`` among the
            ones saved with it.
          best_metric: name of a validation metric.
          told: called whenever a checkpoint is on disk and was read back.
        """
        check_path(folder)
        # Orbax deletes nothing by itself: an old checkpoint goes when a newer one was read back.
        # What it left half written when it was killed, it removes.
        options = ocp.CheckpointManagerOptions(
            best_fn=self._merit, cleanup_tmp_directories=True, create=True
        )
        with _clear_os_errors(f"{folder} cannot be written to"):
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._about = {**about, "versions": package_versions()}
        self._keep_last, self._keep_best, self._best_metric = keep_last, keep_best, best_metric
        self._unread: tuple[int, dict[str, Any]] | None = None
        self._told = told
        self.folder = folder

    def _merit(self, metrics: Mapping[str, float]) -> float:
        value = metrics.get(self._best_metric, math.nan)
        if math.isnan(value):
            return -math.inf
        return -value if self._best_metric in _LESS_IS_BETTER else value

    def save(self, state: TrainState, *, metrics: Mapping[str, float] = _NO_METRICS) -> None:
        """Saves ``state`` under its step, unless that is on disk already.

        Returns while the files are being written.

        Args:
          state: all of it.
          metrics: of validation at this step; without them the checkpoint cannot become the best.
        """
        step = int(state.step)
        self.wait()
        if step == self._manager.latest_step():
            return
        arrays = {"weights": weights_item(state), "training": training_item(state)}
        about = {**self._about, "step": step, "next_batch": step, "metrics": dict(metrics)}
        items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
        self._unread = step, jax.tree.map(on_host, arrays)
        with self._advising_resume(f"the checkpoint of step {step}"):
            written = self._manager.save(
                step,
                args=ocp.args.Composite(**items, about=ocp.args.JsonSave(sealed(about, arrays))),
                metrics=dict(metrics),
            )
        if not written:
            raise InputError(
                f"the checkpoint of step {step} was not written, because {self.folder} holds one "
                f"of a later step ({self._manager.latest_step()}). Move that one away and resume "
                "again."
            )

    def newest(self) -> Path:
        """Folder of the newest checkpoint, once it is wholly written."""
        self.wait()
        return self.folder / str(self._manager.latest_step())

    def best(self) -> Path | None:
        """Folder of the checkpoint with the best metric; None if none was saved with it."""
        self.wait()
        step = self._manager.best_step()
        measured = step is not None and self._best_metric in (self._manager.metrics(step) or {})
        return self.folder / str(step) if measured else None

    def wait(self) -> None:
        """Returns when what is being written is on disk and was read back."""
        try:
            with self._advising_resume("the last checkpoint"):
                self._manager.wait_until_finished()
        except InputError:
            self._unread = None  # there is nothing to read back
            raise
        self._read_back()

    def close(self) -> None:
        """Waits for what is being written."""
        try:
            self.wait()
        finally:
            with self._advising_resume("the last checkpoint"):
                self._manager.close()

    def _read_back(self) -> None:
        """Compares the newest checkpoint on disk with what was saved, then deletes older ones."""
        if self._unread is None:
            return
        (step, shapes), self._unread = self._unread, None
        try:
            read_items(self.folder / str(step), lambda about: shapes)
        except Damaged as error:
            raise InputError(
                f"the checkpoint of step {step} was written, but cannot be read back: {error}; "
                f"{resume_advice(self.folder, unless=step)}"
            ) from None
        self._told()
        steps = set(self._manager.all_steps())
        with self._advising_resume("an old checkpoint", did="deleted"):
            for old in sorted(steps - self._kept(steps)):
                self._manager.delete(old)

    def _kept(self, steps: set[int]) -> set[int]:
        """The newest steps, and those of the best metric among the ones that were validated."""
        merits = {}
        for step in sorted(steps):
            if metrics := self._manager.metrics(step):
                merits[step] = self._merit(metrics)
        ranked = sorted(merits, key=lambda step: (merits[step], step), reverse=True)
        return {*sorted(steps)[-self._keep_last :], *ranked[: self._keep_best]}

    @contextlib.contextmanager
    def _advising_resume(self, what: str, *, did: str = "written") -> Iterator[None]:
        """Names the newest whole checkpoint in the error.

        An old checkpoint is deleted only after a newer one is whole, so there is one.
        """
        try:
            yield
        except Exception as error:  # what tensorstore raises has no one type
            raise InputError(
                f"{what} could not be {did}: {first_line(error)}; {resume_advice(self.folder)}"
            ) from error


@contextlib.contextmanager
def advising_resume(run: Path) -> Iterator[None]:
    """Ends a run whose disk fails in one sentence, which names its newest whole checkpoint."""
    try:
        yield
    except OSError as error:
        if error.errno not in LASTING:
            raise
        raise InputError(
            f"{error.filename or run} could not be written: {error.strerror}; "
            f"{resume_advice(run / FOLDER_NAME)}"
        ) from error


def resume_advice(folder: Path, *, unless: int | None = None) -> str:
    """The newest checkpoint of a run that can be resumed from, and how.

    Args:
      folder: of all checkpoints.
      unless: the step of one that cannot be read.
    """
    run = folder.parent
    steps = set(steps_in(folder)) - {unless}
    left, then = "there is no checkpoint before it", "give the same command again"
    if steps:
        left, then = (
            f"the newest whole checkpoint is {folder / str(max(steps))}",
            f"resume fit by --resume {shlex.quote(str(run))}",
        )
    return (
        f"{left}. Fix that (is the disk full?) and {then}; compare and tune are resumed by their "
        "own command."
    )


@contextlib.contextmanager
def open_checkpoints(
    folder: Path, about: Mapping[str, Any], **options: Any
) -> Iterator[Checkpoints]:
    """Opens checkpoints and closes them, so that they are complete however the block ends.

    Args:
      folder: of all checkpoints of the run.
      about: written into every checkpoint.
      **options: options of :class:`Checkpoints`.
    """
    with without_tracebacks():
        checkpoints = Checkpoints(folder, about, **options)
        try:
            yield checkpoints
        except BaseException:
            with contextlib.suppress(InputError):  # the first error is the one to hear of
                checkpoints.close()
            raise
        checkpoints.close()


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """Silences Orbax, which logs the traceback of each thread that fails.

    The failure itself is reported.
    """
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)  # not after a failure: threads may still fail later


@contextlib.contextmanager
def _clear_os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: {error.strerror or error}.") from None
