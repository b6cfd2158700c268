"""Records the looks at test results: each after the first is another chance of a false alarm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.bounds import MOST_SEEDS
from train.errors import LISTED, InputError
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json

_FILE_NAME = "looks.json"
_LONGEST = 1000  # characters of a loss
_ADVICE = "Rename or delete it, then repeat the command. Earlier looks are then no longer counted."


def record_look(folder: Path, look: Any) -> list[Any]:
    """Records a look at an experiment's results, and returns all looks so far.

    Args:
      folder: the experiment's folder.
      look: the settings of this look, as JSON holds them. The same settings as the last time are
        not a new look.

    Returns:
      The settings of each look, the first one first.

    Raises:
      InputError: if the record cannot be read.
    """
    path = folder / _FILE_NAME
    before = _read(path, like=look)
    if before[-1:] != [look]:
        before.append(look)
        write_json(before, path)
    return before


def look_warnings(looks: Sequence[str], *, simulated: str = "") -> list[str]:
    """Makes one sentence if there were several looks, which are given in words; otherwise none."""
    if len(looks) < 2:
        return []
    listed = f"with {', then with '.join(looks)}"
    if len(looks) > LISTED:
        listed = f"{len(looks)} times, most recently with {looks[-1]}"
    return [
        f"the test results were looked at {listed}. Each look after the first is another chance of "
        f"a false alarm, so the rate of false alarms is above 5 %{simulated}."
    ]


def _read(path: Path, *, like: Any) -> list[Any]:
    try:
        before = read_json(path)
    except FileNotFoundError:
        return []
    except UnreadableError as error:
        raise InputError(
            f"{path}, the record of the looks at the test photographs, cannot be read: {error}. "
            f"{_ADVICE}"
        ) from None
    if not isinstance(before, list):
        raise InputError(
            f"{path} does not hold a list of the looks at the test photographs. {_ADVICE}"
        )
    if not all(_is_like(look, like) for look in before):
        raise InputError(
            f"{path} holds something other than looks at the test photographs. {_ADVICE}"
        )
    return before


def _is_like(value: Any, example: Any) -> bool:
    """Whether two JSON values have the same types and keys, and are as large as a look's."""
    if type(value) is not type(example):
        return False
    if isinstance(example, int):
        return 0 < value <= MOST_SEEDS
    if not isinstance(example, dict):
        return len(value) <= _LONGEST
    same_keys = value.keys() == example.keys()
    return same_keys and all(_is_like(value[key], example[key]) for key in example)
