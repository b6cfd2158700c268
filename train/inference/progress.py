"""The progress bar of restoring photographs from file to file."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

from train.console import make_bar
from train.inference.files.inputs import Job


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was there a moment ago; the error is reported when its turn comes
        return 0


class RestoringBar:
    """One progress bar for all files, and a line for each file that is done."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        """Prepares a bar for ``jobs``, which prints on ``console``."""
        # Progress counts bytes: for pixels headers would have to be read, which may be broken.
        self._sizes = {job: _size_of(job.source) for job in jobs}
        self._shares = dict.fromkeys(jobs, 0.0)
        self._console = console
        self._bar = make_bar(
            "{task.description}",
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("restoring", total=sum(self._sizes.values()))

    def advance(self, job: Job, share: float) -> None:
        """Counts ``share`` of ``job`` as done, in addition to what was done before."""
        self._shares[job] += share
        self._bar.update(self._task, advance=share * self._sizes[job], description=job.source.name)

    def say(self, job: Job, line: str) -> None:
        """Prints what holds for a photograph before it is restored."""
        self._console.print(f"{job.source}: {line}")

    def finish(self, job: Job, line: str) -> None:
        """Counts the whole of ``job`` as done, even if it failed, and prints ``line``."""
        self._bar.update(self._task, advance=(1 - self._shares[job]) * self._sizes[job])
        self._console.print(line)

    def __enter__(self) -> "RestoringBar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
