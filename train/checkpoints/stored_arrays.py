"""Checks the descriptions of a checkpoint's arrays before Orbax and tensorstore use them.

Each array is stored in chunks, and a text beside them says how large a chunk is when it is
unpacked. Tensorstore takes that memory at once, so a chunk must not be larger than its array. With
some kinds of compression it unpacks all of a chunk before it looks at the size, so only the kind
that checkpoints are written with is accepted. A text that is nested too deeply ends the process.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import tensorstore

from train.checkpoints.packed_index import exceeds
from train.files.json_files import UnreadableError, parse_json, read_json

_LONGEST = 4096  # bytes of an array's description, which has about 200
_LARGEST = 64 * 2**20  # bytes of an array
_MOST_TIMES_LARGER = 32  # than the largest array of the network that is wanted
_MOST_MORE = 1000  # arrays that another network may have in addition
_PLAIN = re.compile(r"[<>|][biufc](\d\d?)", re.ASCII)  # a type of numbers, and its bytes
_WIDEST = 16  # bytes of a number of any other type, such as bfloat16
_COMPRESSION = "zstd"
_MOST_CHUNKS = 200_000  # in all arrays; each array has one chunk per device at most
# Bytes of the unpacked index, which has about a thousand for each array.
_LARGEST_INDEX = 128 * 2**20


def array_complaint(item: Path, target: Any) -> str | None:
    """Says why the arrays of an item must not be read; None if nothing is wrong.

    Args:
      item: the folder of the item, such as ``weights``.
      target: the arrays, or their shapes, that are wanted.

    Raises:
      Exception: tensorstore's own error, if it cannot read a description.
    """
    try:
        tree = read_json(item / "_METADATA")
        entries = tree["tree_metadata"]
        names = [
            ".".join(str(key["key"]) for key in entry["key_metadata"]) for entry in entries.values()
        ]
        usual = tree["use_ocdbt"] is True and tree["use_zarr3"] is False
    except (FileNotFoundError, NotADirectoryError):
        return "there is no file _METADATA"
    except UnreadableError as error:
        return f"_METADATA cannot be read: {error}"
    except (KeyError, TypeError, AttributeError):
        return "_METADATA does not list arrays as this program does"
    if not usual:
        return "_METADATA says that the arrays are not stored as OCDBT and Zarr 2"

    leaves = jax.tree.leaves(target)
    if len(names) > (most := 2 * len(leaves) + _MOST_MORE):
        return (
            f"_METADATA lists {len(names):,} arrays, and at most {most:,} are read for a network "
            f"of {len(leaves):,}"
        )
    if exceeds(item, _LARGEST_INDEX):
        return (
            f"the index of its arrays may need more than {_LARGEST_INDEX / 1e6:,.0f} MB when it is "
            "unpacked, which no network does"
        )
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in leaves]
    largest = max(_LARGEST, _MOST_TIMES_LARGER * max(sizes, default=0))
    chunks = 0
    for name, content in _descriptions(item, names):
        if why := _wrong(content, largest):
            return f"the description of {name[:200]} {why}"
        chunks += _chunk_count(parse_json(content))
        if chunks > _MOST_CHUNKS:
            return (
                f"its arrays are divided into more than {_MOST_CHUNKS:,} chunks, the most that are "
                "read"
            )
    return None


def _descriptions(item: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """The stored description of each array that has one."""
    # Tensorstore refuses ".." in a path.
    base = {"driver": "file", "path": f"{item.resolve().as_posix()}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    for name in names:
        found = store.read(f"{name}/.zarray").result()
        if found.state == "value":
            yield name, found.value


def _wrong(content: bytes, largest: int) -> str:
    """What is wrong with a description; "" if nothing is."""
    if len(content) > _LONGEST:
        return f"has {len(content):,} bytes, and at most {_LONGEST:,} are accepted"
    try:
        array = parse_json(content)
        shape, chunks, kind = array["shape"], array["chunks"], array["dtype"]
        compressor, filters = array["compressor"], array["filters"]
    except UnreadableError as error:
        return f"cannot be read: {error}"
    except (KeyError, TypeError):
        return "lacks a shape, a chunk, a type or a compression"
    compression = compressor.get("id") if isinstance(compressor, dict) else compressor
    if compression != _COMPRESSION or filters is not None:
        shown = json.dumps(compression if filters is None else filters)[:200]
        return f"gives it the compression {shown}, and only {_COMPRESSION} is accepted"
    if not isinstance(kind, str) or kind[1:2] in ("S", "U", "V"):
        return "does not say that the array holds numbers"
    if not _are_sides(shape) or not _are_sides(chunks) or len(shape) != len(chunks):
        return "has a shape or a chunk that no array has"
    if math.prod(chunks) > max(math.prod(shape), 1):
        return (
            f"has chunks of {math.prod(chunks):,} numbers for an array of {math.prod(shape):,}. A "
            "chunk must not be larger than its array"
        )
    plain = _PLAIN.fullmatch(kind)
    size = math.prod(shape) * (int(plain[1]) if plain else _WIDEST)
    if size > largest:
        return (
            f"gives it {size / 1e6:,.0f} MB, and no array of this network may have more than "
            f"{largest / 1e6:,.0f} MB"
        )
    return ""


def _chunk_count(array: Any) -> int:
    sides = zip(array["shape"], array["chunks"], strict=True)
    return math.prod(-(-side // max(chunk, 1)) for side, chunk in sides)


def _are_sides(value: Any) -> bool:
    return isinstance(value, list) and all(type(side) is int and side >= 0 for side in value)
