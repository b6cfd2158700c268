"""Seconds that methods need for a megapixel, without the time of compiling a program."""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


class Stopwatch:
    """Times methods while photographs are scored."""

    def __init__(self) -> None:
        """Starts without any times."""
        self._totals: dict[str, tuple[float, float]] = {}  # seconds and megapixels by method
        self._compiled: set[tuple[str, Hashable]] = set()
        self._untimed: dict[str, tuple[Callable[[], object], int]] = {}

    def run(
        self, method: str, function: Callable[[], Result], *, pixels: int, compiles: Hashable = None
    ) -> Result:
        """Calls a function, and adds its time to that of a method.

        Args:
          method: name of the method.
          function: what to call.
          pixels: number of pixels that it restores.
          compiles: what a new program is compiled for, such as the size of the photographs. The
            first call for each value is not timed. None: nothing is compiled.

        Returns:
          The result of the function.
        """
        if compiles is not None and (method, compiles) not in self._compiled:
            self._compiled.add((method, compiles))
            if method not in self._totals:
                self._untimed[method] = (function, pixels)
            return function()
        start = time.perf_counter()
        result = function()
        seconds, megapixels = self._totals.get(method, (0.0, 0.0))
        seconds += time.perf_counter() - start
        self._totals[method] = (seconds, megapixels + pixels / 1e6)
        self._untimed.pop(method, None)  # It holds on to photographs.
        return result

    def per_megapixel(self, methods: Sequence[str]) -> dict[str, float]:
        """Seconds per megapixel of each method that was run.

        A method of which each call compiled something is called once more.
        """
        for method, (function, pixels) in list(self._untimed.items()):
            self.run(method, function, pixels=pixels)
        found = {}
        for method in methods:
            if method in self._totals:
                seconds, megapixels = self._totals[method]
                found[method] = seconds / megapixels
        return found
