"""Ctrl-C and SIGTERM, as something that a loop looks at between steps, or that cleans up."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM.

    The loop looks at it after each step. A second signal kills.
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
    """Within it SIGTERM ends the program as Ctrl-C does: half-written files are removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        # The status of a process that a signal ended, as a shell has it
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
