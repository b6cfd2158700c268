"""``NAME.json`` beside a restored photograph: what made it, and what it was when it was made.

It is there before the photograph, and until that is there too it also says what the file was that the photograph
replaces: however a run ends, the next one knows what it finds as its own, and which of the two it is.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.errors import InputError
from train.outputs import write_json

_OUTPUT = "output_sha256"
_REPLACED = "replaces_sha256"  # of the file that stood there, until the photograph does
_MEND = "move it, choose another --output, or give --overwrite."


def is_made(target: Path, record: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether ``target`` is what ``record`` describes; an error where it is nobody's to replace.

    Args:
      target: the photograph to be written.
      record: what its content depends on.
      overwrite: replace it whatever it is.
    """
    if not os.path.exists(target):  # unlike Path's, no error where a name is too long
        return False
    found = _read(target)
    if found is not None:
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
    """An error where ``target`` exists and is not from here."""
    if os.path.exists(target) and _read(target) is None:
        raise InputError(f"{target} was not written by restore: {_MEND}")


def write_record(target: Path, record: Mapping[str, Any], content: Path) -> None:
    """Says of ``content``, which ``target`` is about to be, what it is; :func:`close_record` is to follow."""
    replaced = {_REPLACED: hash_of(target)} if target.is_file() else {}
    write_json({**record, _OUTPUT: hash_of(content), **replaced}, _beside(target))


def close_record(target: Path) -> None:
    """Leaves out what ``target`` has replaced, now that it has."""
    record = _read(target)
    if record is not None and record.pop(_REPLACED, None) is not None:
        write_json(record, _beside(target))


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _read(target: Path) -> dict[str, Any] | None:
    """The record of a photograph, if there is one that was written here."""
    try:
        record = json.loads(_beside(target).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and _OUTPUT in record else None
