"""A profile of some steps, for TensorBoard's and Perfetto's trace viewers."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import jax


class Trace:
    """Traces steps ``first`` to ``last`` into ``folder``; nothing where no steps are asked for."""

    def __init__(
        self, folder: Path, steps: tuple[int, int] | None, say: Callable[[str], object]
    ) -> None:
        """Prepares a trace, which begins with the first step.

        Args:
          folder: where the trace is written.
          steps: the first and last step to trace; None for none.
          say: takes a sentence about the trace.
        """
        self._folder = folder
        self._first, self._last = steps or (0, -1)
        self._say = say
        self._running = False

    def before(self, step: int) -> None:
        """Called before ``step`` is handed to the devices."""
        if self._first <= step <= self._last and not self._running:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, result: jax.Array) -> None:
        """Called after ``step`` was handed to the devices; ``result`` is of its results."""
        if self._running and step >= self._last:
            result.block_until_ready()
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
        self._say(f"profile of steps {self._first} to {self._last}: {self._folder}")

    def __enter__(self) -> "Trace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running:
            self._stop()
