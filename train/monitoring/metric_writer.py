"""What a run reports while it trains: metrics.jsonl, TensorBoard, and a progress bar."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from train.console import make_bar
from train.monitoring.metric_lines import cut_back
from train.monitoring.tensorboard import Board

# If the output is not a terminal (in CI, or in a log file), a bar cannot move. Then a line is
# printed from time to time instead.
_SECONDS_BETWEEN_LINES = 15.0
# Metrics that are only written to the file.
SPEED = ("images_per_second", "megapixels_per_second", "waiting_for_data", "memory_mb")
_NOT_SHOWN = ("gradient_norm", "learning_rate", "skipped", *SPEED)


class MetricWriter:
    """Appends one line of JSON per logged step, and moves the bar."""

    def __init__(
        self,
        path: Path | None,
        console: Console,
        *,
        start: int,
        steps: int,
        board: Board | None = None,
    ) -> None:
        """Opens the files, and removes lines beyond step ``start``, which a resumed run repeats.

        Args:
          path: metrics.jsonl; None to write no lines.
          console: where the bar is shown.
          start: the step that the run resumes from, or 0.
          steps: number of steps of the whole run.
          board: TensorBoard's events, if they are written.
        """
        if path is not None and (told := cut_back(path, start)):
            console.print(f"warning: {told}", soft_wrap=True)
        self._board = board
        self._file = open(os.devnull if path is None else path, "a")
        self._console = console
        self._steps = steps
        self._start = start
        self._began = time.monotonic()
        self._last_line = self._began
        self._bar = make_bar(
            "{task.description}",
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            "{task.fields[rate]}",
            TimeRemainingColumn(),
            "{task.fields[terms]}",
            console=console,
        )
        self._task = self._bar.add_task(
            "training", total=steps, completed=start, rate="compiling", terms=""
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of the update that made ``step``."""
        # JSON does not have NaN, so null is written for a skipped step.
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.scalars(
                step, {name: value for name, value in finite.items() if value is not None}
            )
        now = time.monotonic()
        rate = (step - self._start) / (now - self._began)
        terms = "  ".join(
            f"{name} {value:.4g}" for name, value in metrics.items() if name not in _NOT_SHOWN
        )
        self._bar.update(self._task, completed=step, rate=f"{rate:.1f} steps/s", terms=terms)
        if not self._console.is_terminal and (
            now - self._last_line > _SECONDS_BETWEEN_LINES or step == self._steps
        ):
            self._last_line = now
            left = (self._steps - step) / rate
            line = f"step {step}/{self._steps}  {rate:.1f} steps/s  {left:.0f} s left  {terms}"
            self._console.print(line, soft_wrap=True)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image for TensorBoard.

        Args:
          step: the step that it belongs to.
          name: the picture's name.
          image: uint8 ``[H, W, 3]``.
        """
        if self._board is not None:
            self._board.picture(step, name, image)

    def started(self) -> None:
        """Starts the clock, after compilation."""
        self._began = time.monotonic()

    def __enter__(self) -> "MetricWriter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        try:
            self._file.close()
        finally:
            if self._board is not None:
                self._board.close()
