"""Reads ``cost.json`` of a network: the seconds that its training took, and for how many steps."""

from pathlib import Path

from train.bounds import MOST
from train.files.json_files import UnreadableError, is_finite, read_json

COST_NAME = "cost.json"
_LONGEST = 1e10  # seconds to train a network; this is 300 years


def read_cost(path: Path) -> tuple[float, int] | None:
    """Seconds and steps; None if they make no sense, because no result depends on them."""
    try:
        cost = read_json(path)
    except (FileNotFoundError, UnreadableError):
        return None
    if (
        not isinstance(cost, dict)
        or not is_finite(cost.get("seconds"))
        or not 0 <= cost["seconds"] <= _LONGEST
        or type(cost.get("steps")) is not int
        or not 0 < cost["steps"] <= MOST
    ):
        return None
    return cost["seconds"], cost["steps"]
