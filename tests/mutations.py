"""Ways to damage a valid file for the fuzz tests: functions of a random generator and of files.

A mutation that knows the format reaches further: a damaged zip archive mostly fails on a checksum,
so ``mutated_zip`` damages an entry and packs the archive again, and ``mutated_json`` changes values
instead of characters.
"""

import io
import json
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

# Numbers at which arithmetic goes wrong: signs, widths of integers, and sizes that no memory holds.
_WIDTHS = (2**7, 2**8, 2**15, 2**16, 2**31, 2**32, 2**62, 2**63, 2**64)
_NUMBERS = (0, 1, -1, 10**6, -(2**63), *_WIDTHS, *(width - 1 for width in _WIDTHS))
_NOT_INTEGERS = ("1e308", "1e999", "0.5", "-0", "NaN", "Infinity", "9" * 400)
_NUMBERS_IN_TEXT = (*(str(number) for number in _NUMBERS), *_NOT_INTEGERS)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**9,
    2**63,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "0",
    "a" * 5000,
    "\x1b[31m[red]\n",
    "../../etc/passwd",
    [],
    {},
    [[0]],
    {"a": {"a": 0}},
)


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Makes one to four changes: bits flipped, numbers changed, pieces cut, doubled or moved."""
    changes = (_flip, _flip, _number, _number, _digits, _truncate, _cut, _double, _splice, _noise)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = rng.choice(changes)
        data = change(rng, data, others)
    return data


def mutated_json(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """JSON with up to three values changed, removed or nested; one time in five, changed bytes."""
    if rng.random() < 0.2:
        return mutated(rng, data, others)
    tree = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _changed(rng, tree)
    text = json.dumps(tree)
    if rng.random() < 0.02:
        depth = 10 ** rng.randrange(2, 6)
        text = "[" * depth + text + "]" * depth
    return text.encode()


def mutated_zip(inside: Mutator = mutated) -> Mutator:
    """Changes entries of a zip archive, with right checksums, or one time in four its bytes."""

    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        if rng.random() < 0.25:
            return mutated(rng, data, others)
        entries = _entries(data)
        spare = [content for other in others for _, content in _entries(other)]
        for _ in range(rng.choice((1, 1, 1, 2))):
            at = rng.randrange(len(entries))
            name, content = entries[at]
            what = rng.randrange(12)
            if what == 0:
                del entries[at]
            elif what == 1:
                entries.append((name, inside(rng, content, spare)))  # the same name twice
            elif what == 2:
                entries[at] = (
                    rng.choice((f"../{name}", name.upper(), f"{name}\x1b[2J", "", "/")),
                    content,
                )
            else:
                entries[at] = name, inside(rng, content, spare)
            if not entries:
                break
        return _packed(
            entries, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        )

    return mutate


def _flip(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _number(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Overwrites bytes with a telling integer of one to eight bytes, in either byte order."""
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice((*_NUMBERS, len(data), rng.randrange(2**32))) % 2 ** (8 * width)
    start = rng.randrange(len(data) + 1)
    return (
        data[:start] + number.to_bytes(width, rng.choice(("little", "big"))) + data[start + width :]
    )


def _digits(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Replaces a number that is written in digits, or flips a bit if there is none."""
    runs = list(re.finditer(rb"\d+", data))
    if not runs:
        return _flip(rng, data, others)
    run = rng.choice(runs)
    return data[: run.start()] + rng.choice(_NUMBERS_IN_TEXT).encode() + data[run.end() :]


def _truncate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _cut(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _piece(rng, data)
    return data[:start] + data[end:]


def _double(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _piece(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else data
    start, end = _piece(rng, other)
    at = rng.randrange(len(data) + 1)
    return data[:at] + other[start:end] + data[at + rng.choice((0, end - start)) :]


def _noise(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _piece(rng, data)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def _piece(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 4, 16, 64, 1024)))


def _changed(rng: random.Random, tree: Any) -> Any:
    """The tree with one of its values changed; each value is as likely as the others."""
    places = list(_places(tree))
    if not places:
        return rng.choice(_VALUES)
    holder, key = rng.choice(places)
    what = rng.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1:
        other_holder, other_key = rng.choice(places)
        holder[key] = json.loads(json.dumps(other_holder[other_key]))
    elif what == 2 and isinstance(holder, dict):
        holder[rng.choice(("unknown", "__class__", "", f"{key}\x1b", key.upper()))] = holder[key]
    elif what == 3 and isinstance(holder[key], int | float):
        holder[key] = holder[key] + rng.choice((-1, 1, 1e-9, 10**6))
    else:
        holder[key] = rng.choice(_VALUES)
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container in the tree with each of its keys or positions."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        keys = (
            value.keys()
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else ()
        )
        for key in keys:
            found.append((value, key))
            waiting.append(value[key])
    return found


def _entries(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _packed(entries: Sequence[tuple[str, bytes]], method: int) -> bytes:
    """A zip archive, in which names may occur twice."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # zipfile's, about a name that occurs twice
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w") as file:
                file.write(content)
    return buffer.getvalue()


def with_declared_size(data: bytes, entry: str, size: int) -> bytes:
    """A zip archive whose directory claims that ``entry`` is ``size`` bytes long."""
    at = data.index(entry.encode(), data.index(b"PK\x01\x02")) - 46
    return data[: at + 24] + struct.pack("<I", size) + data[at + 28 :]
