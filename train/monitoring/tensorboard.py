"""Scalars and pictures for TensorBoard, in event files that can be cut back to a step."""

import contextlib
import os
import secrets
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from train.files.outputs import open_hidden, whole_or_none

_LONGEST = 64_000_000  # bytes in an event; a picture has a few million
_ASIDE = "unreadable."  # beginning of the new name of an event file with other content


class Board:
    """Writes the events of one run.

    It does not use the queue of tensorboardX. If the disk is full, the thread behind that queue
    dies, and the program would wait for it forever.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        """Removes events beyond step ``start``, so that a resumed run shows no step twice."""
        folder.mkdir(exist_ok=True)
        for path in sorted(folder.glob("events.*")):
            cut_back(path, start)
        # The writer names a file by the second, and writes to a file or through a link that is
        # there already. Nobody can guess this suffix, so nothing is there.
        suffix = f".from{start}.{secrets.token_hex(8)}"
        self._writer = EventsWriter(str(folder / "events"), filename_suffix=suffix)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve, and writes them to disk immediately."""
        for name, value in values.items():
            self._write(step, summary.scalar(name, value))
        self._writer.flush()

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image.

        Args:
          step: the step that it belongs to.
          name: the picture's name.
          image: uint8 ``[H, W, 3]``.
        """
        self._write(step, summary.image(name, image, dataformats="HWC"))
        self._writer.flush()

    def _write(self, step: int, content: Summary) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=content))

    def close(self) -> None:
        """Closes the file. Errors are ignored here, because the write has already raised them."""
        with contextlib.suppress(OSError):
            self._writer.close()


def cut_back(path: Path, start: int) -> None:
    """Removes the events beyond step ``start`` from a file, and an incomplete last event.

    If the file contains something else, it is kept under a new name. Anything that is not a file,
    such as a link or a pipe, is left alone.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    damaged = False
    with whole_or_none(path) as temporary:
        with open_hidden(temporary) as new:
            for record, event in records(path):
                if event is None:
                    damaged = True
                elif event.step <= start:
                    new.write(record)
        if damaged:
            os.replace(path, _aside(path))


def _aside(path: Path) -> Path:
    """A new name for a file with other content, which no file has yet."""
    aside, number = path.with_name(_ASIDE + path.name), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{_ASIDE}{number}.{path.name}")
    return aside


def records(path: Path) -> Iterator[tuple[bytes, Event | None]]:
    """Yields the complete records of an event file, as bytes and as events.

    An event is None if it cannot be read. A record is made of the event's length in eight bytes, a
    checksum of the length in four bytes, the event, and a checksum of the event in four bytes.
    """
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack_from("<Q", head)
            left -= 12 + length + 4
            if left < 0:  # The record is incomplete, or the length is wrong.
                return
            # No event is so long. The next record could only be found by reading all of it.
            if length > _LONGEST:
                yield head, None
                return
            body = file.read(length + 4)
            try:
                event = Event.FromString(body[:-4])
            except Exception:  # Protobuf raises its own error, which has no type here.
                event = None
            yield head + body, event
