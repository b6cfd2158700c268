"""Recognizes files that ``export`` wrote, which it may replace.

Each format has a place for the name of the program that wrote a file. Nothing else in an existing
file is parsed, because the file may come from somebody else.
"""

import os
import re
import struct
from pathlib import Path

from train.files.json_files import parse_json
from train.inference.exports.darktable import COMMENT
from train.inference.exports.function import PRODUCER
from train.inference.exports.stablehlo import is_program
from train.inference.exports.torch import PRODUCER_KEY

_LONGEST_HEADER = 4 * 2**20  # bytes of the header of a safetensors file
# bytes after the last entry of a zip archive, without its comment
_END_OF_ARCHIVE = 22
# An ONNX model begins with field 1, the version of the format, and field 2, the producer.
_ONNX_STARTS = re.compile(rb"\x08.\x12" + bytes([len(PRODUCER)]) + PRODUCER.encode(), re.DOTALL)


def is_ours(path: Path) -> bool:
    """Whether export wrote a file; for a file of another program it may raise any error.

    Args:
      path: the file, whose ending says its format.

    Returns:
      Whether its mark is there.
    """
    return {
        ".safetensors": _is_state_dict,
        ".onnx": _is_model,
        ".dtmodel": _is_archive,
        ".stablehlo": is_program,
    }[path.suffix](path)


def _is_state_dict(path: Path) -> bool:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            return False
        metadata = parse_json(file.read(length))["__metadata__"]
    return bool(metadata[PRODUCER_KEY] == PRODUCER)


def _is_model(path: Path) -> bool:
    with path.open("rb") as file:
        return _ONNX_STARTS.match(file.read(len(PRODUCER) + 4)) is not None


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-_END_OF_ARCHIVE - len(COMMENT), os.SEEK_END)
        end = file.read()
    length = len(COMMENT).to_bytes(2, "little")
    return end.startswith(b"PK\x05\x06") and end.endswith(length + COMMENT)
