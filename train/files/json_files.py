"""JSON files that others may have written or damaged. Their size is limited when they are read."""

import hashlib
import json
import math
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LONGEST = 16_000_000  # bytes


class UnreadableError(Exception):
    """A file that is not JSON, or is too large. The message gives the reason, but not the file.

    Attributes:
      errno: the system's error number, if reading failed.
    """

    def __init__(self, why: str, *, errno: int | None = None) -> None:
        super().__init__(why)
        self.errno = errno


def read_json(path: Path, *, longest: int = LONGEST) -> Any:
    """Reads the value in a JSON file.

    Args:
      path: a regular file. Pipes and devices are refused, because reading them could take forever.
      longest: largest number of bytes that the file may have.

    Returns:
      The value.

    Raises:
      FileNotFoundError: there is no such file.
      UnreadableError: the file cannot be read, or is not JSON.
    """
    return parse_json(read_bounded(path, longest=longest))


def read_bounded(path: Path, *, longest: int = LONGEST) -> bytes:
    """Reads the bytes of a regular file. It raises the errors of :func:`read_json`."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UnreadableError("it is not a regular file")
        with path.open("rb") as file:
            content = file.read(longest + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # A NUL byte in a name is a ValueError.
        number = getattr(error, "errno", None)
        raise UnreadableError(
            getattr(error, "strerror", None) or str(error), errno=number
        ) from None
    if len(content) > longest:
        raise UnreadableError(f"it has more than {longest:,} bytes")
    return content


def parse_json(content: bytes) -> Any:
    """Parses UTF-8 JSON. Anything else is an :class:`UnreadableError`."""
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except ValueError as error:  # The UTF-8 or the JSON is wrong, or a number has too many digits.
        raise UnreadableError(f"it is not JSON: {error}") from None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that a float can represent.

    True and false are not numbers, although Python can count with them. JSON allows integers of any
    length, and arithmetic with one beyond the range of floats would fail much later.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max


def is_finite(value: Any) -> bool:
    """Whether it is a finite number: Python reads NaN and Infinity from JSON as well."""
    return is_number(value) and math.isfinite(value)


def digest_json(content: Mapping[str, Any]) -> str:
    """Computes a SHA-256 digest that does not depend on the order of the keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
