"""How often the test photographs were looked at: each look after the first is another chance for a false alarm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.errors import InputError
from train.json_files import UnreadableError, read_json
from train.outputs import write_json

_FILE_NAME = "looks.json"


def take_down(folder: Path, look: Any) -> list[Any]:
    """All looks at an experiment's results so far, by what they were made with.

    Args:
      folder: the experiment's.
      look: what they are looked at with now, as JSON holds it; the same as the last time is no new
        look.
    """
    path = folder / _FILE_NAME
    before = _read(path)
    if before[-1:] != [look]:
        before.append(look)
        write_json(before, path)
    return before


def told_of_looks(looks: Sequence[str], simulated: str = "") -> list[str]:
    """A sentence where there were several looks, each given in words; ``simulated``: how often they mislead."""
    if len(looks) < 2:
        return []
    return [
        f"looked at with {', then '.join(looks)}: each look after the first is another chance for "
        f"a false alarm, which together are more frequent than 5 %{simulated}."
    ]


def _read(path: Path) -> list[Any]:
    try:
        before = read_json(path)
    except FileNotFoundError:
        return []
    except UnreadableError as error:
        raise InputError(
            f"{path}, the record of the looks at the test photographs, cannot be read: {error}."
        ) from None
    if not isinstance(before, list):
        raise InputError(f"{path} must hold a list, the looks at the test photographs.")
    return before
