"""A run of several processes, one for each host, which agree on what they train.

JAX's own runtime does it: a coordinator in process 0 introduces the processes, hears their
heartbeats, and fixes the step after which all stop when one is told to. Every process runs the same
program on its share of each batch; process 0 alone writes and prints.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from train.config import FitConfig, RunConfig
from train.devices.signals import stop_on_signal
from train.errors import InputError
from train.files.json_files import digest_json

START_SECONDS = 300  # that processes wait for one another
SILENT_SECONDS = 60  # after which a process that was not heard of is dead
# That a process waits for one that is heard to be alive: it reads, compiles, validates
_PATIENCE_SECONDS = 7 * 86400
_TEXT_BLOCK = 4096  # bytes; a text is sent in a whole number of them
_SHARED_SECONDS = 10.0  # that a network's file system may take to show a new folder

# How the last words of a process begin.
ENDED = "this process stopped because another process of the run failed, or because it was killed"
_meetings = itertools.count()


def connect(run: RunConfig, leave_word: Callable[[str], None]) -> None:
    """Joins the other processes, if ``--distributed`` says that there are any.

    It must be called before any device is looked at.

    Args:
      run: the flags.
      leave_word: of :func:`train.devices.last_words.ending_together`. JAX's runtime aborts a process that
        waits for the others in vain.

    Raises:
      InputError: nothing says which process this is.
    """
    if not run.distributed or jax.distributed.is_initialized():
        return
    leave_word(
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
    leave_word(f"{ENDED} before it had a folder. Start it again, on every host.")


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def describe_processes() -> str:
    """The number of processes, for the line that says what a run is on; "" for one."""
    return f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""


def barrier() -> None:
    """Waits until every process is here.

    What moves data between devices has less patience (30 s on CPU).
    """
    barrier_at(f"meeting {next(_meetings)}", _PATIENCE_SECONDS)


def barrier_at(name: str, seconds: int) -> None:
    """Waits so many seconds until every process is at the barrier of that name."""
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        ocp.multihost.sync_global_processes(name, timeout=seconds, processes=everyone)


def gather(text: str) -> list[str]:
    """A text of each process, in their order. Every process has to call this."""
    if jax.process_count() == 1:
        return [text]
    barrier()
    content = np.frombuffer(text.encode(), np.uint8)
    # What processes exchange has one shape, and each length is a compilation: let there be few.
    sizes = multihost_utils.process_allgather(np.int32(len(content)))
    length = _TEXT_BLOCK * max(1, -(-int(sizes.max()) // _TEXT_BLOCK))
    rows = multihost_utils.process_allgather(np.pad(content, (0, length - len(content))))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def broadcast_from_first(text: str) -> str:
    """The text of process 0, in every process."""
    return gather(text)[0]


@contextlib.contextmanager
def raise_everywhere() -> Iterator[None]:
    """Within it an error of one process's input is raised in all, so that none waits in vain."""
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
    """Refuses processes that have different flags or photographs than the first one."""
    flags = digest_json(
        dataclasses.asdict(dataclasses.replace(config, run=without_host_flags(config.run)))
    )
    facts = {"flags": flags} | {
        f"{split} photographs": digest for split, digest in photographs.items()
    }
    first, *others = map(json.loads, gather(json.dumps(facts)))
    for process, other in enumerate(others, 1):
        if wrong := [name for name in {**first, **other} if other.get(name) != first.get(name)]:
            raise InputError(
                f"process {process} has different {' and different '.join(wrong)} than process 0. "
                "Give the same command on every host, except for --process, and the same files."
            )


def without_host_flags(run: RunConfig) -> RunConfig:
    """What a run keeps of its flags: it may be resumed on other hosts, or on one."""
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
    """Within it all processes look for Ctrl-C and SIGTERM, to any of them, between two steps.

    A second signal kills.
    """
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
