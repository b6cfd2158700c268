"""Writes a run's checkpoints in the background, verifies them, and then deletes older ones."""

import contextlib
import logging
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from train.checkpoints.checkpoint import FOLDER_NAME, on_host, training_item, weights_item
from train.checkpoints.checkpoint_files import (
    Damaged,
    check_path,
    read_items,
    sealed,
    steps_in,
)
from train.checkpoints.imported_later import imported_later
from train.checkpoints.versions import package_versions
from train.errors import InputError, first_line
from train.files.outputs import LASTING
from train.state import TrainState

ocp = imported_later("orbax.checkpoint")

_NO_METRICS: Mapping[str, float] = {}


class Checkpoints:
    """The checkpoints of one run. Each has the number of its step."""

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        *,
        keep_last: int = 2,
        keep_best: int = 0,
        best_metric: str = "psnr",
        higher_is_better: bool = True,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """Opens ``folder``, and makes it if it is missing.

        Args:
          folder: folder of all checkpoints of the run.
          about: facts to write into every checkpoint.
          keep_last: number of newest checkpoints to keep.
          keep_best: number of best checkpoints to keep in addition, among those with validation
            metrics.
          best_metric: name of the validation metric that says which are best.
          higher_is_better: whether its higher values are better.
          told: called whenever a checkpoint is on disk and has been verified.

        Raises:
          InputError: checkpoints cannot be written to the folder.
        """
        check_path(folder)
        # Orbax removes what it left half-written when it was killed. It does not delete old
        # checkpoints: that happens here, after a newer one has been verified.
        options = ocp.CheckpointManagerOptions(
            best_fn=self._merit, cleanup_tmp_directories=True, create=True
        )
        with _clear_os_errors(f"{folder} cannot be written to"):
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._about = {**about, "versions": package_versions()}
        self._keep_last, self._keep_best, self._best_metric = keep_last, keep_best, best_metric
        self._higher_is_better = higher_is_better
        self._unread: tuple[int, dict[str, Any]] | None = None
        self._told = told
        self.folder = folder

    def _merit(self, metrics: Mapping[str, float]) -> float:
        value = metrics.get(self._best_metric, math.nan)
        if math.isnan(value):
            return -math.inf
        return value if self._higher_is_better else -value

    def save(self, state: TrainState, *, metrics: Mapping[str, float] = _NO_METRICS) -> None:
        """Saves a state under its step, unless this step is on disk already.

        It returns while the files are still being written.

        Args:
          state: the whole state.
          metrics: validation metrics of this step. Without them the checkpoint cannot be the best.

        Raises:
          InputError: the checkpoint cannot be written, or the one before was not written well.
        """
        step = int(state.step)
        self.wait()
        if step == self._manager.latest_step():
            return
        arrays = {"weights": weights_item(state), "training": training_item(state)}
        about = {**self._about, "step": step, "next_batch": step, "metrics": dict(metrics)}
        items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
        self._unread = step, jax.tree.map(on_host, arrays)
        with self._advising_resume(f"The checkpoint of step {step}"):
            written = self._manager.save(
                step,
                args=ocp.args.Composite(**items, about=ocp.args.JsonSave(sealed(about, arrays))),
                metrics=dict(metrics),
            )
        if not written:
            raise InputError(
                f"The checkpoint of step {step} was not written, because {self.folder} has one of "
                f"the later step {self._manager.latest_step()}. Move that one away and resume "
                "again."
            )

    def newest(self) -> Path:
        """Waits until the newest checkpoint is complete, and returns its folder."""
        self.wait()
        return self.folder / str(self._manager.latest_step())

    def best(self) -> Path | None:
        """Returns the folder of the best checkpoint; None if none has the metric."""
        self.wait()
        step = self._manager.best_step()
        measured = step is not None and self._best_metric in (self._manager.metrics(step) or {})
        return self.folder / str(step) if measured else None

    def wait(self) -> None:
        """Waits until the checkpoint that is being written is on disk and has been verified."""
        try:
            with self._advising_resume("The last checkpoint"):
                self._manager.wait_until_finished()
        except InputError:
            self._unread = None  # There is nothing to verify.
            raise
        self._read_back()

    def close(self) -> None:
        """Waits for the checkpoint that is being written, and closes the folder."""
        try:
            self.wait()
        finally:
            with self._advising_resume("The last checkpoint"):
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
                f"The checkpoint of step {step} was written, but cannot be read again: {error}. "
                f"{resume_advice(self.folder, unless=step)}"
            ) from None
        self._told()
        steps = set(self._manager.all_steps())
        with self._advising_resume("An old checkpoint", did="deleted"):
            for old in sorted(steps - self._kept(steps)):
                self._manager.delete(old)

    def _kept(self, steps: set[int]) -> set[int]:
        """Returns the newest steps, and the best of the steps that were validated."""
        merits = {}
        for step in sorted(steps):
            if metrics := self._manager.metrics(step):
                merits[step] = self._merit(metrics)
        ranked = sorted(merits, key=lambda step: (merits[step], step), reverse=True)
        return {*sorted(steps)[-self._keep_last :], *ranked[: self._keep_best]}

    @contextlib.contextmanager
    def _advising_resume(self, what: str, *, did: str = "written") -> Iterator[None]:
        """Adds the newest intact checkpoint to an error message.

        There is one, because an old checkpoint is deleted only after a newer one is intact.
        """
        try:
            yield
        except Exception as error:  # Tensorstore raises many different errors.
            raise InputError(
                f"{what} could not be {did}: {first_line(error)}. {resume_advice(self.folder)}"
            ) from error


@contextlib.contextmanager
def advising_resume(run: Path) -> Iterator[None]:
    """Ends a run whose disk fails with a message that names its newest intact checkpoint."""
    try:
        yield
    except OSError as error:
        if error.errno not in LASTING:
            raise
        raise InputError(
            f"{error.filename or run} could not be written: {error.strerror}. "
            f"{resume_advice(run / FOLDER_NAME)}"
        ) from error


def resume_advice(folder: Path, *, unless: int | None = None) -> str:
    """Names the newest checkpoint to resume from, and says how to resume.

    Args:
      folder: folder of all checkpoints.
      unless: step of a checkpoint that cannot be read; None if there is none.

    Returns:
      The sentences.
    """
    run = folder.parent
    steps = set(steps_in(folder)) - {unless}
    left, then = "There is no earlier checkpoint", "give the same command again"
    if steps:
        left, then = (
            f"The newest intact checkpoint is {folder / str(max(steps))}",
            f"resume fit with --resume {shlex.quote(str(run))}",
        )
    return (
        f"{left}. Fix the cause (is the disk full?) and {then}. To resume compare or tune, repeat "
        "its command with --out set to its folder."
    )


@contextlib.contextmanager
def open_checkpoints(
    folder: Path, about: Mapping[str, Any], **options: Any
) -> Iterator[Checkpoints]:
    """Opens checkpoints and closes them, so that they are complete in whatever way the block ends.

    Args:
      folder: folder of all checkpoints of the run.
      about: facts to write into every checkpoint.
      **options: options of :class:`Checkpoints`.

    Yields:
      The checkpoints.
    """
    with without_tracebacks():
        checkpoints = Checkpoints(folder, about, **options)
        try:
            yield checkpoints
        except BaseException:
            with contextlib.suppress(InputError):  # The first error is the one to report.
                checkpoints.close()
            raise
        checkpoints.close()


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """Keeps Orbax from logging the traceback of each thread that fails.

    The failure itself is reported.
    """
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)  # After a failure it stays silent, because other threads may fail too.


@contextlib.contextmanager
def _clear_os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: {error.strerror or error}.") from None
