"""A run of several processes, one for each host: they find one another, agree on what they train, and end together.

JAX's own runtime does it: a coordinator in process 0 introduces the processes, hears their
heartbeats, and fixes the step after which all stop when one is told to. Every process runs the same
program on its share of each batch; process 0 alone writes and prints.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import shlex
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from train.config import FitConfig, RunConfig
from train.console import complain, printable
from train.errors import InputError
from train.json_files import digest_json
from train.signals import stop_on_signal

START_SECONDS = 300  # that processes wait for one another
SILENT_SECONDS = 60  # after which a process that was not heard of is dead
# That a process waits for one that is heard to be alive: it reads, compiles, validates
_PATIENCE_SECONDS = 7 * 86400
_TEXT_BLOCK = 4096  # bytes; a text is sent in a whole number of them
_LEAVING_SECONDS = 10  # that a process that fails waits for the others to fail as well
_SHARED_SECONDS = 10.0  # that a network's file system may take to show a new folder

_ENDED = "this process has ended before its time, since no process of a run goes on without the others, or was killed"
_meetings = itertools.count()


def connect(run: RunConfig, leave: Callable[[str], None]) -> None:
    """Joins the other processes, where ``--distributed`` says that there are any. Before any device is looked at.

    Args:
      run: the flags.
      leave: of :func:`ending_together`. JAX's runtime aborts a process that waits for the others in
        vain.
    """
    if not run.distributed or jax.distributed.is_initialized():
        return
    leave(
        f"error: --distributed: the processes did not find one another within {START_SECONDS} s: "
        "start as many as --processes says, each with its own --process, where all can reach the "
        "--coordinator."
    )
    try:
        jax.distributed.initialize(
            run.coordinator,
            run.processes,
            run.process,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=SILENT_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            "--distributed: no TPU pod, SLURM, Open MPI or GKE job says which process this is "
            f"({error}) Give --coordinator HOST:PORT (of process 0), --processes N and --process "
            "I to each."
        ) from None
    leave(f"{_ENDED} before it had a folder: start it anew, on every host.")


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def said() -> str:
    """For the line that tells what a run is on."""
    return f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""


def meet() -> None:
    """Waits until every process is here: what moves data between devices has less patience (30 s on CPU)."""
    _meet_at(f"meeting {next(_meetings)}", _PATIENCE_SECONDS)


def _meet_at(name: str, seconds: int) -> None:
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        ocp.multihost.sync_global_processes(name, timeout=seconds, processes=everyone)


def gather(text: str) -> list[str]:
    """A text of each process, in their order. All have to call this."""
    if jax.process_count() == 1:
        return [text]
    meet()
    content = np.frombuffer(text.encode(), np.uint8)
    # What processes exchange has one shape. Few lengths, for each is a compilation.
    sizes = multihost_utils.process_allgather(np.int32(len(content)))
    length = _TEXT_BLOCK * max(1, -(-int(sizes.max()) // _TEXT_BLOCK))
    rows = multihost_utils.process_allgather(np.pad(content, (0, length - len(content))))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def of_first(text: str) -> str:
    """The text of process 0, in every process."""
    return gather(text)[0]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """An error of one process's input is one of all: none is left waiting for the others."""
    found: InputError | None = None
    try:
        yield
    except InputError as error:
        found = error
    texts = gather(str(found or ""))
    if found is not None:
        raise found
    for process, text in enumerate(texts):
        if text:
            raise InputError(f"process {process}: {text}")


def check_same(config: FitConfig, photographs: Mapping[str, str]) -> None:
    """Refuses processes that were started with other flags, or find other photographs, than the first."""
    flags = digest_json(
        dataclasses.asdict(dataclasses.replace(config, run=without_hosts(config.run)))
    )
    facts = {"flags": flags} | {
        f"{split} photographs": digest for split, digest in photographs.items()
    }
    first, *others = map(json.loads, gather(json.dumps(facts)))
    for process, other in enumerate(others, 1):
        if wrong := [name for name in {**first, **other} if other.get(name) != first.get(name)]:
            raise InputError(
                f"process {process} has other {' and other '.join(wrong)} than process 0: every "
                "host takes the same command, but for --process, and the same files."
            )


def without_hosts(run: RunConfig) -> RunConfig:
    """What a run keeps of its configuration: it may be resumed on other hosts, or on one."""
    return dataclasses.replace(
        run, distributed=False, coordinator=None, processes=None, process=None
    )


def check_shared(path: Path) -> None:
    """Refuses a folder that only process 0 sees: a checkpoint is written by all, into one."""
    until = time.monotonic() + _SHARED_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            raise InputError(
                f"{path} is not there, but process 0 wrote it: give an --out that all hosts share."
            )
        time.sleep(0.1)


@contextlib.contextmanager
def ending_together(run: RunConfig) -> Iterator[Callable[[str], None]]:
    """Where one process fails, or is killed, the others end too, and each has the last words that were left with this.

    JAX's runtime aborts a process that has lost another, and Python gets no word in. So a shell
    holds the other end of a pipe: when this process is gone without having said that all is well,
    it says what was written to it last.
    """
    if not run.distributed:
        yield lambda words: None
        return
    command = 'trap "" INT TERM; while read -r words; do last=$words; done; [ "$last" = well ] || echo "$last" >&2'
    with subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.PIPE, text=True, bufsize=1
    ) as shell:

        def leave(words: str) -> None:
            if shell.stdin is not None:
                shell.stdin.write(f"{printable(words)}\n")  # a line, whatever the folder is called

        try:
            yield leave
        except SystemExit:  # after a signal, in every process
            leave("well")
            raise
        except BaseException as error:
            try:
                # The same has happened to all: each ends by itself. No process that goes on is ever
                # met there.
                _meet_at("leaving", _LEAVING_SECONDS)
            except Exception:  # of Orbax, or of JAX's runtime
                known = isinstance(error, InputError | jax.errors.JaxRuntimeError)
                if known:
                    complain(f"error: {error}")
                else:
                    traceback.print_exc()
                os._exit(1)  # at its regular end JAX would wait for the others
            leave("well")
            raise
        leave("well")


def start_again(folder: Path) -> str:
    """Last words of a run that has a folder, but no checkpoint."""
    return f"{_ENDED}. There is no checkpoint in {folder} yet: give the same command again on every host"


def go_on_with(folder: Path) -> str:
    """Last words of a run that has a checkpoint."""
    resume = f"--resume {shlex.quote(str(folder))}"
    return (
        f"{_ENDED}: go on from its last checkpoint by the same command on every host, with {resume}"
    )


class Stop:
    """Whether the run is to end after a step; the same answer in every process."""

    def __init__(self, received: list[int]) -> None:
        self._received = received
        self.happened = False

    @property
    def requested(self) -> bool:
        """Whether the run was told to end, also if that came after its last step."""
        return self.happened or bool(self._received)

    def after(self, step: int) -> bool:
        """To be asked after every step, by every process."""
        alone = jax.process_count() == 1
        told = (
            bool(self._received) if alone else multihost_utils.reached_preemption_sync_point(step)
        )
        self.happened = self.happened or told
        return self.happened


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM, to whichever process, as something that all look at between two steps. A second one kills."""
    if jax.process_count() == 1:
        with stop_on_signal() as received:
            yield Stop(received)
        return
    # SIGTERM is heard by JAX's runtime, which tells the other processes and finds a step that none
    # has passed yet.
    previous = signal.getsignal(signal.SIGINT)

    def pass_on(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGINT, pass_on)
    try:
        yield Stop([])
    finally:
        signal.signal(signal.SIGINT, previous)
