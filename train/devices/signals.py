"""Handles Ctrl-C and SIGTERM: a loop can check for them, and a program can clean up."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


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
