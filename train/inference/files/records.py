"""``NAME.lumloss.json`` beside a restored photograph: what made it, and what it was when it was made.

Earlier versions called it ``NAME.json``, and so does Google Takeout call its own files beside
photographs: such a record is read still, and replaced by one of the new name; what is not a record
is never touched.

It is there before the photograph, and until that is there too it also says what the file was that
the photograph replaces: however a run ends, the next one knows what it finds as its own, and which
of the two it is.
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
_REPLACED = "replaces_sha256"  # of the file that stood there, until the photograph does
_SUFFIX, _EARLIER_SUFFIX = ".lumloss.json", ".json"
_LONGEST_NAME = 255  # bytes that file systems allow
_LARGEST = 100_000  # bytes of a record, and many more than one has
_MEND = "move it, choose another --output, or give --overwrite."


def is_made(target: Path, record: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether ``target`` is what ``record`` describes; an error where it is nobody's to replace.

    Args:
      target: the photograph to be written.
      record: what its content depends on.
      overwrite: replace it whatever it is.
    """
    if not os.path.lexists(target):  # unlike Path's, no error where a name is too long
        return False
    found = _read(target)
    if found is not None and target.is_file():
        output, replaced = found.pop(_OUTPUT), found.pop(_REPLACED, None)
        stands = hash_of(target)
        if stands == output:
            return found == record
        if stands == replaced:
            return False
    if overwrite:
        return False
    raise InputError(f"{target} was changed since restore wrote it: {_MEND}")


def check_ours(target: Path) -> None:
    """An error where ``target`` or its record exists and is not from here."""
    if os.path.lexists(target) and _read(target) is None:
        raise InputError(f"{target} was not written by restore: {_MEND}")
    record = _beside(target)
    if os.path.lexists(record) and _read_file(record) is None:
        raise InputError(
            f"{record} is not a record of restore, which keeps one under that name: {_MEND}"
        )


def write_record(target: Path, record: Mapping[str, Any], content: Path) -> None:
    """Says of ``content``, which ``target`` is about to be, what it is; :func:`close_record` is to follow."""
    replaced = {_REPLACED: hash_of(target)} if target.is_file() else {}
    write_json({**record, _OUTPUT: hash_of(content), **replaced}, _beside(target))


def close_record(target: Path) -> None:
    """Leaves out what ``target`` has replaced, now that it has, and removes a record of an earlier version."""
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
    """Where the record is: of a long name only the start fits before the ending, and a digest of the whole."""
    name = target.name + _SUFFIX
    if len(os.fsencode(name)) > _LONGEST_NAME:
        ending = f"-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}{_SUFFIX}"
        start = os.fsencode(target.name)[: _LONGEST_NAME - len(ending)]
        name = start.decode(errors="ignore") + ending
    return target.with_name(name)


def _read(target: Path) -> dict[str, Any] | None:
    """The record of a photograph, if there is one that was written here."""
    found = _read_file(_beside(target))
    return _read_file(target.with_name(target.name + _EARLIER_SUFFIX)) if found is None else found


def _read_file(path: Path) -> dict[str, Any] | None:
    """The record in a file, if it is one that was written here."""
    try:
        record = read_json(path, longest=_LARGEST)
    except (FileNotFoundError, UnreadableError):
        return None
    return record if isinstance(record, dict) and {_OUTPUT, _INPUT} <= record.keys() else None
