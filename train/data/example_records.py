"""Reads one feature of a tf.Example, the message that each record of a data set contains.

Protobuf would make an object of every value of every feature. A record of 62 MB can hold 31
million empty values, and the objects take 15 times as much memory. Here the other features are
skipped, and the number of values is limited.
"""

from collections.abc import Iterator

MOST_FIELDS = 10_000  # in a record; one has a few for each feature
_KINDS = {1: "bytes", 2: "float", 3: "int64"}  # by the number of the field in a Feature
_FIXED = {1: 8, 5: 4}  # bytes of a value, by its wire type


class MalformedError(Exception):
    """The bytes are not a tf.Example that can be read. The text says why."""


def read_feature(record: bytes, feature: str) -> tuple[str, list[bytes]]:
    """Reads a feature of a record.

    Args:
      record: a serialized tf.Example.
      feature: its name.

    Returns:
      The kind of the feature: "bytes", "float", "int64", or "" if the record lacks it or it is
      empty; and its values, if they are bytes.

    Raises:
      MalformedError: if the record is damaged, or has too many fields.
    """
    fields = _Fields()
    kind, values = "", list[memoryview]()
    for entry in _messages(fields, _messages(fields, iter([memoryview(record)]), 1), 1):
        parts = list(fields.read(entry))
        names = [content for number, content in parts if number == 1]
        if not names or names[-1] != feature.encode():
            continue
        # As in protobuf, the last of several entries with the same name is the one that counts
        kind, values = "", []
        for value in (content for number, content in parts if number == 2):
            for number, content in fields.read(value):
                if number not in _KINDS:
                    continue
                if _KINDS[number] != kind:
                    kind, values = _KINDS[number], []
                if kind == "bytes":
                    values += _messages(fields, iter([content]), 1)
    return kind, [bytes(value) for value in values]


class _Fields:
    """Reads the fields of messages, and counts them."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def read(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yields the number and the content of each field that has a length."""
        place = 0
        while place < len(message):
            self._left -= 1
            if self._left < 0:
                raise MalformedError(f"it has more than {MOST_FIELDS:,} fields")
            tag, place = read_integer(message, place)
            kind = tag & 7
            length = _FIXED.get(kind, 0)
            if kind == 0:
                _, place = read_integer(message, place)
            elif kind == 2:
                length, place = read_integer(message, place)
            elif kind not in _FIXED:
                raise MalformedError(f"it has a field of the unknown type {kind}")
            if length > len(message) - place:
                raise MalformedError("a field is longer than the message that contains it")
            if kind == 2:
                yield tag >> 3, message[place : place + length]
            place += length


def _messages(fields: _Fields, messages: Iterator[memoryview], number: int) -> Iterator[memoryview]:
    """The contents of the fields of one number, in all of some messages."""
    for message in messages:
        for found, content in fields.read(message):
            if found == number:
                yield content


def read_integer(message: memoryview, place: int) -> tuple[int, int]:
    """An integer of variable length, and the place after it."""
    value = 0
    for i, byte in enumerate(message[place : place + 10]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, place + i + 1
    raise MalformedError("it ends within a number")
