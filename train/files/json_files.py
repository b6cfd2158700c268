"""JSON that somebody else may have written or damaged: bounded when read, checked before use."""

import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LONGEST = 16_000_000  # bytes


class UnreadableError(Exception):
    """A file that holds no JSON, or too much of it; says why, without the file's name.

    Attributes:
      errno: the system's number of the error, if it was one of reading.
    """

    def __init__(self, why: str, *, errno: int | None = None) -> None:
        super().__init__(why)
        self.errno = errno


def read_json(path: Path, *, longest: int = LONGEST) -> Any:
    """What the file holds.

    Args:
      path: of a regular file: a pipe or a device is not waited for.
      longest: most bytes that it may have.

    Raises:
      FileNotFoundError: there is no such file.
      UnreadableError: it cannot be read, or holds no JSON.
    """
    return parse_json(read_bounded(path, longest=longest))


def read_bounded(path: Path, *, longest: int = LONGEST) -> bytes:
    """The bytes of a regular file; raises as :func:`read_json` does."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UnreadableError("it is not a regular file")
        with path.open("rb") as file:
            content = file.read(longest + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        number = getattr(error, "errno", None)
        raise UnreadableError(
            getattr(error, "strerror", None) or str(error), errno=number
        ) from None
    if len(content) > longest:
        raise UnreadableError(f"it has more than {longest:,} bytes")
    return content


def parse_json(content: bytes) -> Any:
    """The value that UTF-8 JSON stands for; an :class:`UnreadableError` if it stands for none."""
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except ValueError as error:  # of UTF-8, of JSON, or of a number with too many digits
        raise UnreadableError(f"it is not JSON: {error}") from None


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that a float can hold.

    True and false are not numbers, though Python counts with them. JSON has integers of any length,
    and arithmetic with one beyond the range of floats would be an error much later.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max


def digest_json(content: Mapping[str, Any]) -> str:
    """SHA-256 of something that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
