"""The fuzz tests' harness: readers get damaged files, and may return or raise InputError only.

The reader runs in a child process that is given one file after another and is started again after a
crash or a hang. A case fails when the process dies, when anything except InputError is raised, when
it computes for longer than ``SECONDS`` or does nothing for ``PATIENCE``, or when it takes more
memory than ``MEMORY``. The time is that of the process, so a busy machine changes nothing. The same
case is made from the same seed on every machine.

A failing case is kept in ``.cache/fuzz``. ``python -m tests.fuzzing MODULE:FUNCTION FILE`` reads it
once more, without limits and with the traceback.
"""

import faulthandler
import importlib
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.mutations import Mutator, mutated
from train.errors import InputError

Reader = Callable[[Path], object]

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".cache" / "fuzz"
SECONDS = 10  # of the processor
PATIENCE = 60  # seconds by the clock
STARTING = 300
MEMORY = 1_500_000_000
MOST_FAILURES = 5  # that one test shows: the others are mostly the same one again

# Numbers of cases for a parametrisation: a few when its file is run, FUZZ_CASES by `make fuzz`
# and in CI, and many if the slow ones are asked for.
CASES = (
    pytest.param(int(os.environ.get("FUZZ_CASES", "20")), id="quick", marks=pytest.mark.fuzz),
    pytest.param(2000, id="long", marks=(pytest.mark.fuzz, pytest.mark.slow)),
)


class Failure(NamedTuple):
    """What a reader did with one case that it must not do."""

    number: int
    what: str
    kept: Path


def check(
    reader: Reader,
    seeds: Mapping[str, bytes],
    path: Path,
    *,
    cases: int,
    mutate: Mutator | Sequence[Mutator] = mutated,
    seed: int = 0,
) -> None:
    """Fails the test if the reader does anything except returning or raising InputError.

    Args:
      reader: a function of a file's path, at the top of a module that can be imported. Of a format
        of several files it gets one of them, and finds the others beside it, where the test has put
        them.
      seeds: valid files by a name for the report; the reader must accept each as it is.
      path: where each case is written to. The suffix matters to most readers.
      cases: how many damaged files to make, mostly one of ``CASES``.
      mutate: how to damage a file, or several ways, used in turn.
      seed: chooses other damages.
    """
    name = _name(reader)
    failures = list(_failures(name, seeds, path, cases, mutate, seed))
    lines = [f"case {number}: {what}\n  kept as {kept}" for number, what, kept in failures]
    again = f"{sys.executable} -m tests.fuzzing {name} FILE reads one again"
    assert not failures, "\n".join((f"{name} fails on damaged files ({again}):", *lines))


def answers(reader: Reader, files: Mapping[str, bytes], path: Path) -> dict[str, str]:
    """What the reader makes of hostile files, under the same limits.

    "" for each that it reads, or its InputError.

    Args:
      reader: as for :func:`check`.
      files: any files by name.
      path: where each is written to.
    """
    said = {}
    with _Child(_name(reader)) as child:
        for known, content in files.items():
            path.write_bytes(content)
            said[known] = child.read(path)
    failed = {
        known: answer
        for known, answer in said.items()
        if answer and not answer.startswith(_REFUSED)
    }
    assert not failed, "\n".join(f"{known}: {answer}" for known, answer in failed.items())
    return said


def damaged_file(
    seeds: Mapping[str, bytes],
    mutate: Mutator | Sequence[Mutator],
    name: str,
    seed: int,
    number: int,
) -> bytes:
    """The file of one case: a function of its arguments alone."""
    rng = random.Random(f"{name} {seed} {number}")
    ways = [mutate] if callable(mutate) else list(mutate)
    chosen = rng.choice(list(seeds.values()))
    return ways[number % len(ways)](rng, chosen, list(seeds.values()))


def _failures(
    name: str,
    seeds: Mapping[str, bytes],
    path: Path,
    cases: int,
    mutate: Mutator | Sequence[Mutator],
    seed: int,
) -> Iterator[Failure]:
    found = 0
    with _Child(name) as child:
        for known, content in seeds.items():
            path.write_bytes(content)
            answer = child.read(path)
            assert answer == "", f"{name} does not read the valid file {known!r}: {answer}"
        for number in range(cases):
            content = damaged_file(seeds, mutate, name, seed, number)
            path.write_bytes(content)
            answer = child.read(path)
            if answer and not answer.startswith(_REFUSED):
                KEPT.mkdir(parents=True, exist_ok=True)
                kept = KEPT / f"{name.replace(':', '.')}-{seed}-{number}{path.suffix}"
                kept.write_bytes(content)
                yield Failure(number, answer, kept)
                found += 1
                if found == MOST_FAILURES:
                    return


def _name(reader: Reader) -> str:
    """How the child finds the reader."""
    assert sys.platform.startswith("linux"), "a child's memory is read from /proc of Linux"
    assert hasattr(importlib.import_module(reader.__module__), reader.__qualname__)
    return f"{reader.__module__}:{reader.__qualname__}"


_REFUSED = "InputError"


class _Child:
    """A process that reads files with one reader, and is started again when it has died."""

    def __init__(self, reader: str) -> None:
        self._reader = reader
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *ignored: Any) -> None:
        self._stop()
        self._log.close()

    def read(self, path: Path) -> str:
        """The result for one file: "" if it was read, "InputError: ...", or what went wrong."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(f"{path}\n".encode())
            process.stdin.flush()
        except BrokenPipeError:
            return self._died()
        line = self._line(SECONDS, PATIENCE)
        if line is None:
            self._stop()
            return f"no answer within {SECONDS} s of computing or {PATIENCE} s of waiting"
        if not line:
            return self._died()
        answer = json.loads(line)
        if answer["taken"] > MEMORY:
            self._stop()
            end = answer["error"] or "was read"
            return f"took {answer['taken'] / 1e9:.1f} GB of memory, then: {end}"
        return answer["error"]

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzzing", self._reader],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._line(STARTING, STARTING) == b"ready\n", (
            f"{self._reader} cannot be started: {self._last_words()}"
        )
        return self._process

    def _line(self, computing: float, waiting: float) -> bytes | None:
        """The next line that the process prints; "" at its end, None if none comes in time."""
        assert self._process is not None and self._process.stdout is not None
        end, most = time.monotonic() + waiting, self._computed() + computing
        while time.monotonic() < end and self._computed() < most:
            ready, _, _ = select.select([self._process.stdout], [], [], 0.5)
            if ready:
                return self._process.stdout.readline()
        return None

    def _computed(self) -> float:
        """Seconds of the processor that the process has taken so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            with self._process:
                self._process.wait()
        self._process = None

    def _died(self) -> str:
        assert self._process is not None
        status = self._process.wait()
        self._stop()
        return f"the process died with status {status}: {self._last_words()}"

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace")


def _serve(reader: Reader) -> None:
    """Reads the files whose paths come in; prints what became of each as a line of JSON."""
    import resource  # which Windows lacks

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the reader prints is not an answer
    faulthandler.enable()
    before = _status("VmRSS")
    # Nothing may fill the machine's memory; one that asks for more gets a MemoryError, which is a
    # failure.
    most = _status("VmData") + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is taken now
        error = _outcome(reader, Path(line.rstrip("\n")))
        answer = {"error": error, "taken": _status("VmHWM") - before}
        print(json.dumps(answer), file=answers, flush=True)


def _outcome(reader: Reader, path: Path) -> str:
    try:
        reader(path)
    except InputError as error:
        if _was_out_of_memory(error):
            return f"asked for more memory than the limit: {error}"
        return f"{_REFUSED}: {error}"
    except BaseException:  # a panic of Rust code is no Exception
        return traceback.format_exc(limit=-6)
    return ""


def _was_out_of_memory(error: BaseException | None) -> bool:
    """Whether a MemoryError lies behind the error, even one that was turned into something else."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(field: str) -> int:
    """A field of what Linux says about this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main(arguments: Sequence[str]) -> None:
    """Serves a reader to the harness, or, given a file too, reads it once."""
    module, _, function = arguments[0].partition(":")
    reader = getattr(importlib.import_module(module), function)
    if len(arguments) > 1:
        print(reader(Path(arguments[1])))
    else:
        _serve(reader)


if __name__ == "__main__":
    main(sys.argv[1:])
