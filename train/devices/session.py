"""Everything that a training run asks about the other processes that share it, if there are any.

A session knows which process writes, whether all were given the same input, when all stop, and what
each prints if it is killed.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax

from train.config import FitConfig, RunConfig
from train.devices import distributed, last_words


class Session:
    """This process among the processes of a run. There may be only one."""

    def __init__(self, leave_word: Callable[[str], None]) -> None:
        """Makes a session; ``leave_word`` sets the last words of this process."""
        self._leave_word = leave_word
        self.is_first = distributed.is_first()  # the process that writes and prints

    def describe(self) -> str:
        """Returns the number of processes for a line about devices; "" for one process."""
        return distributed.describe_processes()

    def raise_everywhere(self) -> AbstractContextManager[None]:
        """Raises an input error of one process in all of them, so that no process waits in vain."""
        return distributed.raise_everywhere()

    def check_same(self, config: FitConfig, photographs: Mapping[str, str]) -> None:
        """Refuses processes whose flags or photographs differ from those of the first process."""
        distributed.check_same(config, photographs)

    def broadcast_from_first(self, text: str) -> str:
        """Returns the text of the first process in every process."""
        return distributed.broadcast_from_first(text)

    def check_shared(self, path: Path) -> None:
        """Refuses a folder that only the first process sees."""
        distributed.check_shared(path)

    def compile(self, step: Any, *arguments: Any) -> Any:
        """Compiles a step in every process before it runs in any of them.

        Args:
          step: a jitted function.
          *arguments: its arguments.

        Returns:
          A function with the same arguments.
        """
        return compile_everywhere(step, *arguments)

    def has_folder(self, folder: Path) -> None:
        """Sets last words that name the run's folder, which has no checkpoint yet."""
        self._leave_word(last_words.restart_hint(folder))

    def has_checkpoint(self, folder: Path) -> None:
        """Sets last words that say how to resume the run in ``folder``."""
        self._leave_word(last_words.resume_hint(folder))

    def stopping(self) -> AbstractContextManager[distributed.Stop]:
        """Lets the run end between two steps after Ctrl-C or SIGTERM."""
        return distributed.stopping()

    def barrier(self) -> None:
        """Waits until every process has called this."""
        distributed.barrier()


def compile_everywhere(step: Any, *arguments: Any) -> Any:
    """Compiles a step in every process before it runs in any of them.

    Args:
      step: a jitted function.
      *arguments: its arguments.

    Returns:
      A function with the same arguments.
    """
    if jax.process_count() > 1:
        step = step.lower(*arguments).compile()
        distributed.barrier()
    return step


@contextlib.contextmanager
def open_session(run: RunConfig) -> Iterator[Session]:
    """Connects to the other processes before any device is used. All of them end together.

    Raises:
      InputError: the other processes cannot be found.
    """
    with last_words.ending_together(run) as leave_word:
        distributed.connect(run, leave_word)
        yield Session(leave_word)
