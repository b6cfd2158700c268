"""What a process of a run says when it ends, even if nothing in it can speak any more.

JAX's runtime aborts a process that has lost another, and Python gets no word in. So a shell holds
the other end of a pipe, and speaks for the process when it is gone:

    process ---- "resume with --resume runs/001" ----> pipe ----> shell
    process ---- "well", if it ends in order --------> pipe ----> shell: says nothing
    process -x   killed or aborted               (pipe closes)    shell: says the last line it read
"""

import contextlib
import os
import shlex
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from train.config import RunConfig
from train.console import complain, printable
from train.devices.distributed import ENDED, barrier_at
from train.errors import InputError

LEAVING_SECONDS = 10  # that a process that fails waits for the others to fail as well


@contextlib.contextmanager
def ending_together(run: RunConfig) -> Iterator[Callable[[str], None]]:
    """Within it the processes of a run end together: if one fails or is killed, the others end too.

    Args:
      run: the flags.

    Yields:
      A function that keeps the last words of this process, which replace the ones before.
    """
    if not run.distributed:
        yield lambda words: None
        return
    command = (
        'trap "" INT TERM; while read -r words; do last=$words; done; '
        '[ "$last" = well ] || echo "$last" >&2'
    )
    with subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.PIPE, text=True, bufsize=1
    ) as shell:

        def leave_word(words: str) -> None:
            if shell.stdin is not None:
                shell.stdin.write(
                    f"{printable(words)}\n"
                )  # one line, whatever the folder is called

        try:
            yield leave_word
        except SystemExit:  # after a signal, in every process
            leave_word("well")
            raise
        except BaseException as error:
            try:
                # If the same has happened to all, they meet here and each ends by itself. A process
                # that continues never comes here.
                barrier_at("leaving", LEAVING_SECONDS)
            except Exception:  # of Orbax, or of JAX's runtime
                known = isinstance(error, InputError | jax.errors.JaxRuntimeError)
                if known:
                    complain(f"error: {error}")
                else:
                    traceback.print_exc()
                os._exit(1)  # at its regular end JAX would wait for the others
            leave_word("well")
            raise
        leave_word("well")


def restart_hint(folder: Path) -> str:
    """Last words of a run that has a folder, but no checkpoint."""
    return (
        f"{ENDED}. There is no checkpoint in {folder} yet: give the same command again on every "
        "host"
    )


def resume_hint(folder: Path) -> str:
    """Last words of a run that has a checkpoint."""
    resume = f"--resume {shlex.quote(str(folder))}"
    return (
        f"{ENDED}. Resume from the last checkpoint: give the same command on every host, with "
        f"{resume}"
    )
