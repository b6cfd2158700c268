"""Ctrl-C at every kind of moment, in programs of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.slow_cases import slow_for
from train.devices import signals

ROOT = Path(__file__).resolve().parents[3]

# The command line, which Ctrl-C reaches when it looks for a module or collects garbage.
_COMMAND = """
import gc, runpy, signal, sys

def strike():
    signal.raise_signal(signal.SIGINT)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            gc.callbacks.append(lambda *_: strike()) if collecting else strike()

moment, collecting = sys.argv.pop(1), sys.argv.pop(1) == "collecting"
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("train", run_name="__main__", alter_sys=True)
"""

# A program at work: Ctrl-C reaches it in a callback, or in an import of one of its modules.
_AT_WORK = """
import gc, signal, sys, threading, time
from train.devices.signals import interruptible
import work

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=time.sleep, args=(1000,)).start()  # Python would wait for it
with interruptible(ours=True):
    try:
        getattr(work, sys.argv[1])()
        while True:
            time.sleep(0.01)
    finally:
        print("cleaned up", flush=True)
"""
_WORK = """
import gc, signal

def collect():
    gc.callbacks.append(lambda *_: (gc.callbacks.pop(), signal.raise_signal(signal.SIGINT)))
    gc.collect()
    print("collected", flush=True)

def delete():
    class Struck:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)
    Struck()
    print("deleted", flush=True)

def load():
    import loaded
    print("loaded", flush=True)
"""


def _run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.run(
        [sys.executable, "-c", *words],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("how", ["finding", "collecting"])
@slow_for(
    "moment",
    ["train.console", "jax", "jaxlib.xla_client", "tyro", "optax"],
    ["jaxlib.xla_client", "tyro", "optax"],  # after seconds of imports
)
def test_ctrl_c_ends_a_command_during_its_imports(moment: str, how: str) -> None:
    done = _run(_COMMAND, moment, how, "restore", "nowhere", "nothing.png", "--output", "nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize(
    ("work", "said"), [("collect", "collected"), ("delete", "deleted"), ("load", "loaded")]
)
def test_ctrl_c_is_neither_lost_nor_raised_within_an_import(
    work: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "work.py").write_text(_WORK)
    (tmp_path / "loaded.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = _run(_AT_WORK, work, folder=tmp_path)
    assert (done.returncode, done.stderr) == (130, "stopped\n")
    assert done.stdout == f"{said}\ncleaned up\n"


def test_a_program_that_is_done_keeps_its_status() -> None:
    program = (
        "import os, signal\n"
        "from train.devices.signals import interruptible\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGINT):\n"
        "        kill(own, number)\n"
        "late = Late()\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with interruptible(ours=True):\n"
        "    print('done', flush=True)\n"
    )
    done = _run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def _frames(*modules: str) -> Any:
    """Frames of these modules, each called by the one before."""
    frame = None
    for module in modules:
        frame = SimpleNamespace(f_globals={"__name__": module}, f_back=frame)
    return frame


_IMPORT = ("importlib._bootstrap", "importlib._bootstrap_external", "importlib._bootstrap")


@pytest.mark.parametrize(
    ("modules", "done"),
    [
        ((), "raise"),
        (("__main__", "train.verbs", "train.loop", "jax._src.lib"), "raise"),
        (("__main__", *_IMPORT, "train.verbs", *_IMPORT, "jax"), "end"),
        (("__main__", "train.verbs", *_IMPORT, "train.loop", "gc"), "end"),
        (("__main__", "train.verbs", "train.loop", *_IMPORT, "numpy"), "later"),
        (("__main__", "train.loop", *_IMPORT, "train.verbs", *_IMPORT, "numpy"), "later"),
        (("__main__", "train.loop", "_frozen_importlib"), "later"),
    ],
)
def test_an_interrupt_waits_for_an_import(
    modules: tuple[str, ...], done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(signals, "_interrupt_later", lambda: seen.append("later"))
    monkeypatch.setattr(signals.os, "write", lambda *_: None)
    monkeypatch.setattr(signals.os, "_exit", _leave)
    try:
        signals._interrupt(signal.SIGINT, _frames(*modules))
    except KeyboardInterrupt:
        seen.append("raise")
    except SystemExit as end:
        seen.append("end")
        assert end.code == 130
    assert seen == [done]


def _leave(status: int) -> None:
    raise SystemExit(status)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_nothing_changes_for_programs_in_the_background_or_of_others(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with signals.interruptible(ours=handler == signal.SIG_IGN):
            assert signal.getsignal(signal.SIGINT) == handler
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_postponed_interrupt_goes_to_the_loop_that_has_begun() -> None:
    with signals.stop_on_signal() as received:
        signals._repeat(signal.SIGALRM, None)
        assert received == [signal.SIGINT]
