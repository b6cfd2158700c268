"""What happens when the output cannot be written, in programs of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_BY_RICH = """
import sys
from train.console import make_console, with_output

def program():
    console = make_console()
    for number in range(20_000):
        console.print(f"line {number}")
    return 0

sys.exit(with_output(program))
"""
_BY_PRINT = _BY_RICH.replace("console.print(", "print(")
_NOT_THE_OUTPUT = """
from train.console import with_output

def program():
    raise BrokenPipeError("of a worker")

with_output(program)
"""


def _run(program: list[str], **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *program], cwd=ROOT, text=True, timeout=120, **streams)


def _closed() -> int:
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    "program", [["-c", _BY_RICH], ["-c", _BY_PRINT], ["-m", "train", "--help"]]
)
def test_output_that_nobody_reads_ends_a_program_in_silence(program: list[str]) -> None:
    done = _run(program, stdout=_closed(), stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, "")


def test_errors_that_nobody_reads_end_it_too() -> None:
    assert _run(["-m", "train", "nonsense"], stderr=_closed()).returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("program", [_BY_RICH, _BY_PRINT])
def test_output_to_a_full_disk_is_one_sentence(program: str) -> None:
    with open("/dev/full", "w") as full:
        done = _run(["-c", program], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to standard output: No space left on device.\n"


def test_a_pipe_that_is_not_the_output_keeps_its_traceback() -> None:
    done = _run(["-c", _NOT_THE_OUTPUT], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "BrokenPipeError: of a worker" in done.stderr


def test_closed_streams_do_no_harm() -> None:
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m train --help >&-'], cwd=ROOT, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_during_the_imports_shows_no_traceback() -> None:
    program = (
        "import sys, signal\n"
        "from train import __main__\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'jax': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "sys.exit(__main__.main(['fit', '--help']))\n"
    )
    done = _run(["-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")
