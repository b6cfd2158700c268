"""Reads from the text of a compiled program what moves between devices, and to their memory.

XLA's cost analysis does not include the former, and does not tell a TPU's memory (HBM) from the
memory inside the chip.

The text (HLO) is a list of computations. A computation comes before those that call it. A line such
as

    %all-reduce.3 = f32[9,64]{1,0} all-reduce(%fusion.2), channel_id=1, to_apply=%add

has a name, the type of the result, the operation and its operands, and the computations that it
calls. The body of a loop appears only once, for any number of iterations.
"""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f64": 8,
    "s64": 8,
    "u64": 8,
    "token": 0,
}

_HEAD = re.compile(r"(?:ENTRY )?%?([\w.-]+) \(.*\{")
_LINE = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*?)\)(?=,|$)(.*)")
_NAME = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_CALLED_PER_ELEMENT = re.compile(r"(?:calls|to_apply)=%([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


# What names arrays and moves nothing, and what moves only in the computations that it calls.
_MOVES_NOTHING = (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
)


class Array(NamedTuple):
    """An array in the type of a result."""

    size: int  # bytes
    in_hbm: bool  # False: in a memory inside the chip


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    kind: str  # name of the operation
    result: tuple[Array, ...]  # several for a tuple
    operands: tuple[str, ...]  # names
    value: str  # the text in the brackets, which is the value of a constant
    rest: str  # the computations that it calls, and notes


def read_collectives(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """Counts the collectives of each kind, and the bytes that a device sends to them.

    The results may have the same size (a sum), or be larger (a gather) or smaller. A collective
    that is split into a start and an end counts once.
    """
    counts: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for turns, line, arrays in _run(text):
        kind = line.kind.removesuffix("-start")
        if kind in _COLLECTIVES:
            counts[kind] += turns
            sent[kind] += turns * sum(_total(arrays[name]) for name in line.operands)
    return dict(counts), dict(sent)


def read_slice_transfers(text: str) -> tuple[int, int]:
    """Counts the sums over slices of TPUs, and the bytes that a device sends to them.

    The chips within a slice sum first. Then each chip sends its share through its host, which adds
    the shares of the other slices.
    """
    count = sent = 0
    for turns, line, arrays in _run(text):
        if line.kind == "send" and "_xla_megascale_transfer_type" in line.rest:
            count += turns
            sent += turns * _total(arrays[line.operands[0]])
    return count, sent


def read_hbm_bytes(text: str) -> int:
    """Counts the bytes that a TPU's program moves to and from HBM, at most.

    XLA keeps some results inside the chip, in 128 MiB on a v5e, and marks their layouts with
    ``S(1)``. Inside a fusion nothing moves. Here, an operand of which an operation reads only a
    part counts as a whole. XLA's own count, ``bytes accessed``, includes what stays inside the
    chip.
    """
    inside = {
        name
        for lines in _parse(text).values()
        for line in lines
        if line.kind not in ("call", "async-start")
        for name in _CALLED_PER_ELEMENT.findall(line.rest)
    }
    return sum(
        turns * _moved(line, arrays)
        for turns, line, arrays in _run(text, without=inside)
        if line.kind not in _MOVES_NOTHING and not line.kind.endswith("-done")
    )


def _moved(line: Instruction, arrays: dict[str, tuple[Array, ...]]) -> int:
    """Returns the bytes that one operation reads from HBM and writes to it."""
    read = [array for name in line.operands for array in arrays[name]]
    if line.kind in ("copy-start", "slice-start"):
        # The result names the copy and its source. The source comes first for slices only.
        copy = line.result[0 if line.kind == "copy-start" else len(read)]
        return copy.size * (copy.in_hbm + any(array.in_hbm for array in read))
    return sum(array.size for array in (*read, *line.result) if array.in_hbm)


def _run(
    text: str, *, without: Collection[str] = ()
) -> Iterator[tuple[int, Instruction, dict[str, tuple[Array, ...]]]]:
    """Yields how often each line runs, the line, and all results by name.

    Args:
      text: the program.
      without: names of computations to leave out.
    """
    computations = _parse(text)
    results = {line.name: line.result for line in itertools.chain(*computations.values())}
    turns = Counter({list(computations)[-1]: 1})  # The entry is the last computation.
    for name, lines in reversed(computations.items()):
        for line in lines:
            trips = _trips(line, computations) if line.kind == "while" else 1
            for called in _NAME.findall(line.rest):
                if called in computations:
                    turns[called] += trips * turns[name]
            if name not in without:
                yield turns[name], line, results


def _parse(text: str) -> dict[str, list[Instruction]]:
    computations: dict[str, list[Instruction]] = {}
    lines: list[Instruction] = []
    for written in text.splitlines():
        if head := _HEAD.match(written):
            lines = computations.setdefault(head[1], [])
        elif found := _LINE.match(written):
            name, result, kind, value, rest = found.groups()
            lines.append(
                Instruction(name, kind, _arrays(result), tuple(_NAME.findall(value)), value, rest)
            )
    return computations


def _trips(loop: Instruction, computations: dict[str, list[Instruction]]) -> int:
    """Returns how often the body of a loop runs.

    XLA notes the number, or jax.lax.scan compares its counter with it. Otherwise the number is not
    known before the program runs, and 1 is returned.
    """
    if known := _TRIPS.search(loop.rest):
        return int(known[1])
    bounds = []
    for called in re.findall(r"condition=%([\w.-]+)", loop.rest):
        for line in computations[called]:
            if line.kind == "constant" and line.value.isdigit():
                bounds.append(int(line.value))
    return bounds[0] if len(bounds) == 1 else 1


def _arrays(result: str) -> tuple[Array, ...]:
    """Returns the array of an array's type, or all arrays of a tuple's type."""
    found = []
    for dtype, sizes, layout in _ARRAY.findall(result):
        shape = [int(size) for size in sizes.split(",") if size]
        size = _BYTES.get(dtype, 4) * int(np.prod(shape, dtype=np.int64))
        found.append(Array(size, in_hbm="S(" not in layout))
    return tuple(found)


def _total(arrays: tuple[Array, ...]) -> int:
    return sum(array.size for array in arrays)
