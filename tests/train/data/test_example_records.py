"""One feature of a record is what protobuf reads, and no record fills the memory."""

import random
import tracemalloc

import pytest

from tests.mutations import mutated
from train.data.example_records import MalformedError, read_feature

pytest.importorskip("tensorflow_datasets")


def _varint(number: int) -> bytes:
    content = b""
    while number > 127:
        content += bytes([number & 127 | 128])
        number >>= 7
    return content + bytes([number])


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _entry(name: str, feature: bytes) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, feature))


def _of_protobuf(record: bytes, feature: str) -> tuple[str, list[bytes]]:
    from tensorflow_datasets.proto import tf_example_pb2

    held = tf_example_pb2.Example.FromString(record).features.feature
    if feature not in held:
        return "", []
    kind = held[feature].WhichOneof("kind") or ""
    return kind.removesuffix("_list"), list(held[feature].bytes_list.value)


ENTRIES = (
    _entry("image", _field(1, _field(1, b"pixels" * 100)))
    + _entry("empty", b"")
    + _entry("label", _field(3, _field(1, bytes([1, 2, 3]))))
    + _entry("weight", _field(2, _field(1, bytes(4))))
    + _entry("names", _field(1, _field(1, b"a") + _field(1, b"") + _field(1, "ß".encode())))
    + _entry("twice", _field(1, _field(1, b"first")))
    + _entry("twice", _field(1, _field(1, b"second")))
    + _entry("both", _field(1, _field(1, b"bytes")) + _field(3, _field(1, bytes([1]))))
)
RECORD = _field(1, ENTRIES)
FEATURES = ("image", "empty", "label", "weight", "names", "twice", "both", "missing", "")


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_what_protobuf_reads(feature: str) -> None:
    assert read_feature(RECORD, feature) == _of_protobuf(RECORD, feature)
    # Parts of a message may come one after the other, and unknown fields are skipped
    unknown = bytes([9 << 3]) + _varint(2**63) + bytes([10 << 3 | 1]) + bytes(8)
    parts = unknown + RECORD + _field(1, _entry("more", _field(1, _field(1, b"x"))))
    assert read_feature(parts, feature) == _of_protobuf(parts, feature)


def test_a_damaged_record_is_read_as_protobuf_does_or_refused() -> None:
    rng = random.Random(0)
    read = 0
    for _ in range(2000):
        record = mutated(rng, RECORD, [RECORD])
        try:
            expected = _of_protobuf(record, "image")
        except Exception:  # its class depends on how protobuf was built
            expected = None
        try:
            found = read_feature(record, "image")
        except MalformedError:
            continue
        # What is damaged in the other features is not looked at
        assert expected is None or found == expected
        read += found[1] != []
    assert read > 100


def test_millions_of_empty_values_make_no_objects() -> None:
    many = _field(1, b"\x0a\x00" * 1_000_000)
    record = _field(1, _entry("many", many) + _entry("image", _field(1, _field(1, b"pixels"))))
    tracemalloc.start()
    assert read_feature(record, "image") == ("bytes", [b"pixels"])
    with pytest.raises(MalformedError, match="it has more than 10,000 fields"):
        read_feature(record, "many")
    with pytest.raises(MalformedError, match="it has more than 10,000 fields"):
        read_feature(_field(1, b"\x0a\x00" * 1_000_000), "image")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"\x0a\x05abc", "a field is longer than the message"),
        (b"\x0a", "it ends within a number"),
        (b"\x0a" + b"\xff" * 20, "it ends within a number"),
        (b"\x0b", "it has a field of the unknown type 3"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(record: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        read_feature(record, "image")
