"""Scalars and pictures for TensorBoard, in event files that can be cut back to a step."""

import contextlib
import os
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

from train.files.outputs import whole_or_none

_LONGEST = 64_000_000  # bytes of an event; a picture takes a few
_ASIDE = "unreadable."  # before the name of an event file that holds something else


class Board:
    """Writes events of one run.

    By itself, not through tensorboardX's queue: the thread behind that dies of a full disk, and
    whoever writes to the queue then waits for ever.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        """Events beyond step ``start`` are cut first: after a resume no step appears twice."""
        folder.mkdir(exist_ok=True)
        for path in sorted(folder.glob("events.*")):
            cut_back(path, start)
        # Named by the second: two of one second are told apart by where they start, and of one
        # start only one counts.
        self._writer = EventsWriter(str(folder / "events"), filename_suffix=f".from{start}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point on each curve, on disk at once."""
        for name, value in values.items():
            self._write(step, summary.scalar(name, value))
        self._writer.flush()

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image.

        Args:
          step: the number of updates before it.
          name: the picture's name.
          image: uint8 ``[H, W, 3]``.
        """
        self._write(step, summary.image(name, image, dataformats="HWC"))
        self._writer.flush()

    def _write(self, step: int, content: Summary) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=content))

    def close(self) -> None:
        """Completes the file; what the disk did not take was an error when it was written."""
        with contextlib.suppress(OSError):
            self._writer.close()


def cut_back(path: Path, start: int) -> None:
    """Removes the events beyond step ``start`` from a file, and one that a kill cut short.

    A file that holds something else is kept beside the new one, under a name of its own. What is no
    file, such as a link or a pipe, is left alone.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    damaged = False
    with whole_or_none(path) as temporary:
        with temporary.open("wb") as new:
            for record, event in records(path):
                if event is None:
                    damaged = True
                elif event.step <= start:
                    new.write(record)
        if damaged:
            os.replace(path, path.with_name(_ASIDE + path.name))


def records(path: Path) -> Iterator[tuple[bytes, Event | None]]:
    """The whole records of an event file, as they are stored and as they are read.

    An event is None if it cannot be read.

    A record is its length in eight bytes and a checksum of these in four, the event, and a checksum
    of it in four.
    """
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack_from("<Q", head)
            left -= 12 + length + 4
            if left < 0:  # cut short, or the length is wrong
                return
            # No event of ours: what follows it cannot be found without reading it
            if length > _LONGEST:
                yield head, None
                return
            body = file.read(length + 4)
            try:
                event = Event.FromString(body[:-4])
            except Exception:  # protobuf's own error, for which there are no types
                event = None
            yield head + body, event
