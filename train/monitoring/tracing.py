"""Profiles some steps, for the trace viewers of TensorBoard and Perfetto."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import jax


class Trace:
    """Traces a range of steps, or nothing."""

    def __init__(
        self, folder: Path, steps: tuple[int, int] | None, say: Callable[[str], object]
    ) -> None:
        """Prepares a trace, which begins with the first step of the range.

        Args:
          folder: where the trace is written.
          steps: the first and last step to trace; None to trace nothing.
          say: prints a line about the trace.
        """
        self._folder = folder
        self._first, self._last = steps or (0, -1)
        self._say = say
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace if it begins with ``step``. Call this before the step starts."""
        if self._first <= step <= self._last and not self._running:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, result: jax.Array) -> None:
        """Ends the trace if it ends with ``step``. Call this after the step has started.

        Args:
          step: the step.
          result: one of its results, to wait for.
        """
        if self._running and step >= self._last:
            result.block_until_ready()
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
        self._say(f"wrote a profile of steps {self._first} to {self._last} to {self._folder}")

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
