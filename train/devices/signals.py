"""Handles Ctrl-C and SIGTERM: a loop can check for them, and a program can clean up."""

import _thread
import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

_TRY_AGAIN = 0.05  # seconds

# Modules that import others before a verb begins its work. The first is train/__main__.py.
_BEFORE_WORK = ("__main__", "train.verbs")


@contextlib.contextmanager
def interruptible(*, ours: bool) -> Iterator[None]:
    """Within it every Ctrl-C ends the program, whatever the program is doing.

    Python's own handler raises KeyboardInterrupt wherever the program is. While a compiled module
    is imported, that becomes an ImportError or a crash. In a callback of the garbage collector,
    such as the one of JAX, Python prints the interrupt and then continues. So an interrupt waits
    for the end of an import, and an interrupt that was dropped is repeated. The imports before the
    work of a verb take seconds, and nothing is lost there: the program ends at once.

    Args:
      ours: whether this process belongs to the command line. Otherwise nothing changes.
    """
    # A shell lets programs in the background ignore Ctrl-C.
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    report_dropped = sys.unraisablehook

    def notice(dropped: Any) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            _interrupt_later()
        else:
            report_dropped(dropped)

    sys.unraisablehook = notice
    signal.signal(signal.SIGINT, _interrupt)
    # This runs last. While Python then takes its modules down, it has no handlers any more, and
    # Ctrl-C would kill a program that has done its work.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    except KeyboardInterrupt:
        # Python would wait for threads that still compile or decode, and may crash meanwhile.
        _end_at_once(signal.SIGINT, None)
    finally:
        # The rest is Python's own end, which has no place for a KeyboardInterrupt either.
        signal.signal(signal.SIGINT, _end_at_once)


def _interrupt(number: int, frame: FrameType | None) -> None:
    importer = _first_importer(frame)
    if importer is None:
        raise KeyboardInterrupt
    if importer in _BEFORE_WORK:
        _end_at_once(number, frame)
    _interrupt_later()


def _first_importer(frame: FrameType | None) -> str | None:
    """The module whose import is being executed, or None. If imports are nested, the outermost."""
    importer = None
    while frame is not None:
        outer = frame.f_back
        if _is_import(frame) and not _is_import(outer):
            importer = _module(outer)
        frame = outer
    return importer


def _is_import(frame: FrameType | None) -> bool:
    return _module(frame).startswith(("importlib._bootstrap", "_frozen_importlib"))


def _module(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__"))


def _end_at_once(number: int, frame: FrameType | None) -> None:
    # Standard error may be closed, or nobody reads it any more.
    with contextlib.suppress(OSError):
        os.write(2, b"stopped\n")
    os._exit(130)


def _interrupt_later() -> None:
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _repeat)
        signal.setitimer(signal.ITIMER_REAL, _TRY_AGAIN)
    else:
        _thread.start_new_thread(_sleep_and_interrupt, ())


def _repeat(number: int, frame: FrameType | None) -> None:
    # Meanwhile a loop may have begun that looks at Ctrl-C between its steps.
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)


def _sleep_and_interrupt() -> None:
    time.sleep(_TRY_AGAIN)
    _thread.interrupt_main()


@contextlib.contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Gives a list that is empty until Ctrl-C or SIGTERM, for a loop to check after each step.

    A second signal kills the process.
    """
    received: list[int] = []
    previous: dict[int, Any] = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the program like Ctrl-C does, so that half-written files are removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        # This is the status that a shell reports for a process that a signal ended.
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
