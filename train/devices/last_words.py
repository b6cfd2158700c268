"""A last message for the user from a process, even if it is killed.

JAX's runtime aborts a process that has lost another one, and Python cannot print anything then. So
a shell reads from the other end of a pipe, and prints the message when the process has ended:

    process ---- "resume with --resume runs/001" ----> pipe ----> shell
    process ---- "well", if it ends normally --------> pipe ----> shell: prints nothing
    process -x   killed or aborted               (pipe closes)    shell: prints the last line
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

LEAVING_SECONDS = 10  # how long a failed process waits for the others to fail as well


@contextlib.contextmanager
def ending_together(run: RunConfig) -> Iterator[Callable[[str], None]]:
    """Makes the processes of a run end together. If one fails or is killed, the others end too.

    Args:
      run: the flags.

    Yields:
      A function that sets the last words of this process. They replace the words before.
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
                # The escaped words have one line, for any name of a folder.
                shell.stdin.write(f"{printable(words)}\n")

        try:
            yield leave_word
        except SystemExit:  # After a signal, every process ends like this.
            leave_word("well")
            raise
        except BaseException as error:
            try:
                # If all processes failed, they meet here, and each ends normally. A process that
                # continues never arrives.
                barrier_at("leaving", LEAVING_SECONDS)
            except Exception:  # Orbax and JAX's runtime raise different errors.
                known = isinstance(error, InputError | jax.errors.JaxRuntimeError)
                if known:
                    complain(f"error: {error}")
                else:
                    traceback.print_exc()
                os._exit(1)  # A normal exit would make JAX wait for the others.
            leave_word("well")
            raise
        leave_word("well")


def restart_hint(folder: Path) -> str:
    """Returns the last words of a run that has a folder, but no checkpoint."""
    return (
        f"{ENDED}. There is no checkpoint in {folder} yet. Give the same command again on every "
        "host"
    )


def resume_hint(folder: Path) -> str:
    """Returns the last words of a run that has a checkpoint."""
    resume = f"--resume {shlex.quote(str(folder))}"
    return (
        f"{ENDED}. To resume from the last checkpoint, give the same command on every host, with "
        f"{resume}"
    )
