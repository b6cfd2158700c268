"""A run of several processes, one for each host, which agree on what they train.

This uses JAX's runtime. A coordinator in process 0 connects the processes, receives their
heartbeats, and chooses the step after which all stop when one is told to. Every process runs the
same program on its share of each batch, and only process 0 writes and prints.
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
from jax.experimental import multihost_utils

from train.config import FitConfig, RunConfig
from train.devices.signals import stop_on_signal
from train.errors import InputError
from train.files.json_files import digest_json

START_SECONDS = 300  # how long processes wait for each other at the start
SILENT_SECONDS = 60  # A process without a heartbeat for this long is considered dead.
# How long a process waits for another one that is alive. That one may be reading, compiling or
# validating.
_PATIENCE_SECONDS = 7 * 86400
_TEXT_BLOCK = 4096  # bytes; texts are padded to a multiple of this
_SHARED_SECONDS = 10.0  # how long a network file system may need to show a new folder

# The beginning of the last words of a process.
ENDED = "this process stopped because another process of the run failed, or because it was killed"
_meetings = itertools.count()


def connect(run: RunConfig, leave_word: Callable[[str], None]) -> None:
    """Connects to the other processes, if ``--distributed`` says that there are any.

    Call this before any device is used.

    Args:
      run: the flags.
      leave_word: from :func:`train.devices.last_words.ending_together`. JAX's runtime aborts a
        process that waits for the others in vain.

    Raises:
      InputError: this process cannot find out its index.
    """
    if not run.distributed or jax.distributed.is_initialized():
        return
    leave_word(
        "error: --distributed: the processes did not find each other within "
        f"{START_SECONDS} s. Start --processes of them, each with a different --process, on hosts "
        "that can reach the --coordinator."
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
            "--distributed: the index of this process was not found, because this is not a job of "
            f"a TPU pod, SLURM, Open MPI or GKE ({error}) Give each process --coordinator "
            "HOST:PORT (the address of process 0), --processes N and --process I."
        ) from None
    leave_word(f"{ENDED} before it had a folder. Start it again on every host.")


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def describe_processes() -> str:
    """Returns the number of processes for the line about a run's devices; "" for one process."""
    return f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""


def barrier() -> None:
    """Waits until every process has called this.

    Collective operations on devices wait only for a short time (30 s on CPU).
    """
    barrier_at(f"meeting {next(_meetings)}", _PATIENCE_SECONDS)


def barrier_at(name: str, seconds: int) -> None:
    """Waits until every process is at the barrier with this name, but at most ``seconds``."""
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        import orbax.checkpoint as ocp  # Its import takes a noticeable time.

        ocp.multihost.sync_global_processes(name, timeout=seconds, processes=everyone)


def gather(text: str) -> list[str]:
    """Returns the texts of all processes, in order. Every process must call this."""
    if jax.process_count() == 1:
        return [text]
    barrier()
    content = np.frombuffer(text.encode(), np.uint8)
    # All processes must send the same shape, and each shape is compiled. So lengths are rounded up.
    sizes = multihost_utils.process_allgather(np.int32(len(content)))
    length = _TEXT_BLOCK * max(1, -(-int(sizes.max()) // _TEXT_BLOCK))
    rows = multihost_utils.process_allgather(np.pad(content, (0, length - len(content))))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def broadcast_from_first(text: str) -> str:
    """Returns the text of process 0 in every process."""
    return gather(text)[0]


@contextlib.contextmanager
def raise_everywhere() -> Iterator[None]:
    """Raises an input error of one process in all of them, so that no process waits in vain."""
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
    """Refuses processes whose flags or photographs differ from those of the first process."""
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
                f"The {' and the '.join(wrong)} of process {process} differ from those of process "
                "0. Give every host the same files and, except for --process, the same command."
            )


def without_host_flags(run: RunConfig) -> RunConfig:
    """Removes the flags about hosts, because a run may be resumed on different or fewer hosts."""
    return dataclasses.replace(
        run, distributed=False, coordinator=None, processes=None, process=None
    )


def check_shared(path: Path) -> None:
    """Refuses a folder that only process 0 sees, because all processes write a checkpoint there."""
    until = time.monotonic() + _SHARED_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            raise InputError(
                f"Process 0 wrote {path}, but this host does not see it. Give an --out that all "
                "hosts share."
            )
        time.sleep(0.1)


class Stop:
    """Says whether the run ends after a step. All processes get the same answer."""

    def __init__(self, received: list[int]) -> None:
        self._received = received
        self.happened = False

    @property
    def requested(self) -> bool:
        """Whether the run was told to end, even after its last step."""
        return self.happened or bool(self._received)

    @property
    def status(self) -> int:
        """The exit status of a run that ends, as of a process that the signal would have killed.

        If several processes share the run, it is that of Ctrl-C. JAX does not tell which of them
        received which signal.
        """
        return 128 + (self._received[0] if self._received else signal.SIGINT)

    def after(self, step: int) -> bool:
        """Whether the run ends after ``step``. Every process must call this after every step."""
        alone = jax.process_count() == 1
        told = (
            bool(self._received) if alone else multihost_utils.reached_preemption_sync_point(step)
        )
        self.happened = self.happened or told
        return self.happened


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Lets the run end between two steps after Ctrl-C or SIGTERM to any process.

    A second signal kills the process.
    """
    if jax.process_count() == 1:
        with stop_on_signal() as received:
            yield Stop(received)
        return
    # JAX's runtime handles SIGTERM. It tells the other processes, and chooses a step that none of
    # them has passed yet.
    previous = signal.getsignal(signal.SIGINT)

    def pass_on(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGINT, pass_on)
    try:
        yield Stop([])
    finally:
        signal.signal(signal.SIGINT, previous)
