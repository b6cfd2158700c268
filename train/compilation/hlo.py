"""What moves between devices, read from the text of a compiled program.

XLA's own account of a program leaves it out.

The text (HLO) is a list of computations, the one that is called before the one that calls it. A
line of one is

    %all-reduce.3 = f32[9,64]{1,0} all-reduce(%fusion.2), channel_id=1, to_apply=%add

a name, the type of the result, the operation and its operands, and then whom it calls. The body of
a loop stands there once, however often it is gone through.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
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
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    kind: str
    result: int  # bytes
    operands: tuple[str, ...]
    value: str  # what stands between the brackets: of a constant its value
    rest: str  # whom it calls, and notes


def read_collectives(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """How many collectives of each kind a program runs, and the bytes that a device gives to them.

    What they give back may be as much (a sum), more (a gather) or less. A collective that is split
    into its start and its end counts once.
    """
    counts: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for turns, line, sizes in _run(text):
        kind = line.kind.removesuffix("-start")
        if kind in _COLLECTIVES:
            counts[kind] += turns
            taken[kind] += turns * sum(sizes[name] for name in line.operands)
    return dict(counts), dict(taken)


def read_slice_transfers(text: str) -> tuple[int, int]:
    """How many sums over slices of TPUs a program runs, and the bytes that a device gives to them.

    Within a slice the chips sum first; each then sends its share through its host, which sums with
    the other slices'.
    """
    count = sent = 0
    for turns, line, sizes in _run(text):
        if line.kind == "send" and "_xla_megascale_transfer_type" in line.rest:
            count += turns
            sent += turns * sizes[line.operands[0]]
    return count, sent


def _run(text: str) -> Iterator[tuple[int, Instruction, dict[str, int]]]:
    """Each line of a program: how often it is run, itself, and the bytes of every name's result."""
    computations = _parse(text)
    sizes = {line.name: line.result for line in itertools.chain(*computations.values())}
    turns = Counter({list(computations)[-1]: 1})  # the entry is the last
    for name, lines in reversed(computations.items()):
        for line in lines:
            trips = _trips(line, computations) if line.kind == "while" else 1
            for called in _NAME.findall(line.rest):
                if called in computations:
                    turns[called] += trips * turns[name]
            yield turns[name], line, sizes


def _parse(text: str) -> dict[str, list[Instruction]]:
    computations: dict[str, list[Instruction]] = {}
    lines: list[Instruction] = []
    for written in text.splitlines():
        if head := _HEAD.match(written):
            lines = computations.setdefault(head[1], [])
        elif found := _LINE.match(written):
            name, result, kind, value, rest = found.groups()
            lines.append(
                Instruction(name, kind, _size(result), tuple(_NAME.findall(value)), value, rest)
            )
    return computations


def _trips(loop: Instruction, computations: dict[str, list[Instruction]]) -> int:
    """How often a loop's body runs.

    XLA notes it, or jax.lax.scan compares its counter with it.

    Where neither is there nobody knows before it runs: once.
    """
    if known := _TRIPS.search(loop.rest):
        return int(known[1])
    bounds = []
    for called in re.findall(r"condition=%([\w.-]+)", loop.rest):
        for line in computations[called]:
            if line.kind == "constant" and line.value.isdigit():
                bounds.append(int(line.value))
    return bounds[0] if len(bounds) == 1 else 1


def _size(result: str) -> int:
    """Bytes of a type: of an array, or of a tuple's arrays together."""
    total = 0
    for dtype, sizes in _ARRAY.findall(result):
        shape = [int(size) for size in sizes.split(",") if size]
        total += _BYTES.get(dtype, 4) * int(np.prod(shape, dtype=np.int64))
    return total
