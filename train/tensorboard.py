"""Scalars and pictures for TensorBoard, in event files that can be cut back to a step."""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event

from train.outputs import write_bytes


class Board:
    """Writes events of one run."""

    def __init__(self, folder: Path, *, start: int) -> None:
        """Events beyond step ``start`` are cut first: after a resume no step appears twice."""
        for path in sorted(folder.glob("events.*")):
            cut_back(path, start)
        # Named by the second: two of one second are told apart by where they start, and of one start only one counts.
        self._writer = SummaryWriter(str(folder), filename_suffix=f".from{start}")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point on each curve, on disk at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """An image, uint8 ``[H, W, 3]``."""
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Completes the file."""
        self._writer.close()


def cut_back(path: Path, start: int) -> None:
    """Removes the events beyond step ``start`` from a file, and one that a kill cut short."""
    kept = b"".join(record for record, event in records(path.read_bytes()) if event.step <= start)
    write_bytes(kept, path)


def records(content: bytes) -> Iterator[tuple[bytes, Event]]:
    """The whole records of an event file, as they stand and as they are read.

    A record is its length in eight bytes and a checksum of these in four, the event, and a checksum of it in four.
    """
    position = 0
    while position + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        end = position + 12 + length + 4
        if end > len(content):
            return
        yield content[position:end], Event.FromString(content[position + 12 : end - 4])
        position = end
