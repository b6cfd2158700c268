"""How fast a run is, how long it waits for data, and how much memory it uses."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax

T = TypeVar("T")


class Meter:
    """Measures rates. The time from :meth:`read` to :meth:`restart` does not count."""

    def __init__(self, batch_size: int, patch_size: int, *, networks: int = 1) -> None:
        """Starts the clock.

        Args:
          batch_size: number of patches that each network sees in a step.
          patch_size: side of a patch, in pixels.
          networks: number of networks that train together.
        """
        self._each = f" for each of {networks} networks" if networks > 1 else ""
        self._images = batch_size
        self._megapixels = batch_size * patch_size**2 / 1e6
        self._newest: Any = None  # an array; its type lacks the method is_ready
        self._steps = 0
        self._all_waited = self._all_seconds = 0.0
        self.steps = 0  # number of steps in all readings
        self.restart()

    def restart(self) -> None:
        """Starts the clock."""
        self._steps = 0
        self._waited = 0.0
        self._began = time.perf_counter()

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """Yields the batches, and measures the time that the devices wait for them.

        The time for a batch counts as waiting if the devices have finished everything when it
        comes.
        """
        iterator = iter(batches)
        while True:
            began = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            if self._newest is not None and self._newest.is_ready():
                self._waited += time.perf_counter() - began
            yield batch

    def stepped(self, result: jax.Array) -> None:
        """Notes that a step has started; ``result`` is one of its results."""
        self._steps += 1
        self._newest = result

    def read(self) -> dict[str, float]:
        """Returns rates and shares since the clock was started."""
        seconds = time.perf_counter() - self._began
        self._all_seconds += seconds
        self._all_waited += self._waited
        self.steps += self._steps
        rate = self._steps / seconds
        return {
            "images_per_second": rate * self._images,
            "megapixels_per_second": rate * self._megapixels,
            "waiting_for_data": self._waited / seconds,
            "memory_mb": memory_bytes() / 1e6,
        }

    def summary(self) -> str:
        """Summarises all measurements in one line."""
        seconds = self._all_seconds or 1.0
        rate = self.steps / seconds
        memory = memory_bytes()
        in_use = "" if math.isnan(memory) else f"; {memory / 1e6:.0f} MB in use"
        return (
            f"{rate * self._images:.0f} images/s, {rate * self._megapixels:.2f} "
            f"megapixels/s{self._each}; "
            f"waited for data {100 * self._all_waited / seconds:.1f} % of the time{in_use}"
        )


def memory_bytes() -> float:
    """Returns the number of bytes in use on the first device.

    On a CPU, which does not report it, this is the main memory of the process. On Windows it is
    NaN, because Python cannot ask for it there.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return int(stats["bytes_in_use"])
    if sys.platform == "win32":
        return math.nan
    import resource  # Windows does not have this module.

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    # This is the maximum so far, because macOS does not report the present value.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
