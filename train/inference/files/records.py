"""``NAME.lumloss.json`` next to a restored photograph records how it was made, and its hash.

Earlier versions used the name ``NAME.json``, which Google Takeout uses for its own files. Such a
record is still read, and replaced by one with the new name. A file that is not a record is never
touched.

The record is written before the photograph. Until the photograph is in place, the record also holds
the hash of the file that it will replace. Therefore, however a run ends, the next run recognizes
what it finds as its own, and knows which of the two it is.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.errors import InputError
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json

_INPUT = "input_sha256"
_OUTPUT = "output_sha256"
_REPLACED = "replaces_sha256"  # hash of the file that is about to be replaced
_SUFFIX, _EARLIER_SUFFIX = ".lumloss.json", ".json"
_LONGEST_NAME = 255  # bytes that file systems allow
_LARGEST = 100_000  # bytes of a record, which is many more than any has
_ADVICE = "Rename it, choose a different --output, or use --overwrite."


def is_made(target: Path, record: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether ``target`` is already the photograph that ``record`` describes.

    Args:
      target: the photograph to write.
      record: what its content depends on.
      overwrite: replace it whatever it is.

    Returns:
      True if nothing is left to do, False if the photograph must be written.

    Raises:
      InputError: if ``target`` exists, may not be replaced, and is not from this program. A folder
        is never replaced.
    """
    if not os.path.lexists(target):  # unlike Path.exists, it raises nothing if a name is too long
        return False
    found = _read(target)
    if found is not None and target.is_file():
        output, replaced = found.pop(_OUTPUT), found.pop(_REPLACED, None)
        stands = hash_of(target)
        if stands == output:
            return found == record
        if stands == replaced:
            return False
    if target.is_dir():
        raise InputError(f"{target} is a folder. Rename it, or choose a different --output.")
    if overwrite:
        return False
    raise InputError(f"{target} was changed after restore wrote it. {_ADVICE}")


def check_ours(target: Path) -> None:
    """Raises an error if ``target`` or its record exists, but restore did not write it."""
    if os.path.lexists(target) and _read(target) is None:
        raise InputError(f"{target} was not written by restore. {_ADVICE}")
    record = _beside(target)
    if os.path.lexists(record) and _read_file(record) is None:
        raise InputError(
            f"{record} was not written by restore, which needs this name for a record. {_ADVICE}"
        )


def write_record(target: Path, record: Mapping[str, Any], content: Path) -> None:
    """Writes the record of a photograph that is about to be put in place.

    Afterwards, :func:`close_record` must be called.

    Args:
      target: the photograph, which may still be an earlier one.
      record: what its content depends on.
      content: the hidden file that will become ``target``.
    """
    replaced = {_REPLACED: hash_of(target)} if target.is_file() else {}
    write_json({**record, _OUTPUT: hash_of(content), **replaced}, _beside(target))


def close_record(target: Path) -> None:
    """Removes the hash of the file that was replaced, and the record of an earlier version."""
    record = _read_file(_beside(target))
    if record is not None and record.pop(_REPLACED, None) is not None:
        write_json(record, _beside(target))
    earlier = target.with_name(target.name + _EARLIER_SUFFIX)
    if _read_file(earlier) is not None:
        earlier.unlink()


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(target: Path) -> Path:
    """The path of the record; a long name is shortened, and a digest of all of it is added."""
    name = target.name + _SUFFIX
    if len(os.fsencode(name)) > _LONGEST_NAME:
        ending = f"-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}{_SUFFIX}"
        start = os.fsencode(target.name)[: _LONGEST_NAME - len(ending)]
        name = start.decode(errors="ignore") + ending
    return target.with_name(name)


def _read(target: Path) -> dict[str, Any] | None:
    """The record of a photograph, if this program wrote one."""
    found = _read_file(_beside(target))
    return _read_file(target.with_name(target.name + _EARLIER_SUFFIX)) if found is None else found


def _read_file(path: Path) -> dict[str, Any] | None:
    """The record in a file, if this program wrote it."""
    try:
        record = read_json(path, longest=_LARGEST)
    except (FileNotFoundError, UnreadableError):
        return None
    return record if isinstance(record, dict) and {_OUTPUT, _INPUT} <= record.keys() else None
