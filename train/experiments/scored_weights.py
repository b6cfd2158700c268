"""The weights of LPIPS and DISTS that an experiment was scored with.

A table of scores says nothing about them. If they changed between two runs of an experiment, its
tables would mix scores that cannot be compared.
"""

from collections.abc import Iterable
from pathlib import Path

from train.errors import InputError, list_some
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json
from train.inference.scoring.metric_weights import FOLDER, digests
from train.inference.scoring.registry import METRICS

_NAME = "metric_weights.json"


def keep_weights(folder: Path, metrics: Iterable[str]) -> None:
    """Records the weights of an experiment's metrics, which must stay the same.

    Args:
      folder: folder of the experiment.
      metrics: the metrics of this run. The record also keeps the metrics of earlier runs.

    Raises:
      InputError: the weights of a metric have changed since the experiment was scored, or the
        record cannot be read.
    """
    path = folder / _NAME
    now, before = digests(metrics), _read(path)
    changed = [METRICS[name].label for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        raise InputError(
            f"The weights of {list_some(changed)} in {FOLDER} are not those that {folder} was "
            "scored with. Put the earlier ones back, leave the metric out, or write to a new "
            "folder."
        )
    if now.keys() - before.keys():
        write_json({**before, **now}, path)


def _read(path: Path) -> dict[str, str]:
    try:
        before = read_json(path)
    except FileNotFoundError:
        return {}
    except UnreadableError as error:
        raise InputError(f"{path} cannot be read: {error}. Write to a new folder.") from None
    if not isinstance(before, dict):
        raise InputError(f"{path} is not a file that compare or tune wrote. Write to a new folder.")
    return before
