"""A training run's one handle on the other processes that share it, if there are any.

The story of a run asks this object, and nothing else, about processes: which one writes, whether
all of them were given the same input, when all of them stop, and what each says if it is killed.
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
    """This process among those of a run. A run of one process is a session as well."""

    def __init__(self, leave_word: Callable[[str], None]) -> None:
        """``leave_word`` keeps the last words of this process, which replace the ones before."""
        self._leave_word = leave_word
        self.is_first = distributed.is_first()  # the process that writes and prints

    def describe(self) -> str:
        """The number of processes for a line about devices; "" for one process."""
        return distributed.describe_processes()

    def raise_everywhere(self) -> AbstractContextManager[None]:
        """Within it an error of one process is raised in all, so that none waits in vain."""
        return distributed.raise_everywhere()

    def check_same(self, config: FitConfig, photographs: Mapping[str, str]) -> None:
        """Refuses processes that were given different flags or find different photographs."""
        distributed.check_same(config, photographs)

    def broadcast_from_first(self, text: str) -> str:
        """The text of the first process, in every process."""
        return distributed.broadcast_from_first(text)

    def check_shared(self, path: Path) -> None:
        """Refuses a folder that only the first process sees."""
        distributed.check_shared(path)

    def compile(self, step: Any, state: Any, batch: Any) -> Any:
        """The step, compiled in every process before it runs in any of them."""
        return compile_everywhere(step, state, batch)

    def has_folder(self, folder: Path) -> None:
        """From now on the last words name the run's folder, which has no checkpoint yet."""
        self._leave_word(last_words.restart_hint(folder))

    def has_checkpoint(self, folder: Path) -> None:
        """From now on the last words say how to resume the run in ``folder``."""
        self._leave_word(last_words.resume_hint(folder))

    def stopping(self) -> AbstractContextManager[distributed.Stop]:
        """Within it all processes look for Ctrl-C and SIGTERM between two steps."""
        return distributed.stopping()

    def barrier(self) -> None:
        """Waits until every process is here."""
        distributed.barrier()


def compile_everywhere(step: Any, state: Any, batch: Any) -> Any:
    """The step, compiled in every process before it runs in any of them.

    Args:
      step: a jitted function of ``state`` and ``batch``.
      state: its first argument.
      batch: its second argument.

    Returns:
      A function of the same arguments.
    """
    if jax.process_count() > 1:
        step = step.lower(state, batch).compile()
        distributed.barrier()
    return step


@contextlib.contextmanager
def open_session(run: RunConfig) -> Iterator[Session]:
    """Joins the other processes, before any device is looked at; all of them end together.

    Raises:
      InputError: the other processes cannot be found.
    """
    with last_words.ending_together(run) as leave_word:
        distributed.connect(run, leave_word)
        yield Session(leave_word)
