"""Compares the configuration of a resumed run with the one in its checkpoints.

Every checkpoint contains the configuration and a digest of it. So a damaged or edited digit in
config.json is found before the run continues and ends with different weights, and a missing key
gets its value from there.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.checkpoints.checkpoint import FOLDER_NAME
from train.checkpoints.checkpoint_files import Damaged, read_about, steps_in
from train.checkpoints.run_folder import CONFIG_NAME, check_links
from train.config import FitConfig, read_tree
from train.devices import distributed
from train.errors import InputError
from train.files.typed_fields import from_tree

# The fields about where and how a run is trained, which may change when it is resumed.
_MAY_DIFFER = ("run",)


def load_resumed(folder: Path) -> FitConfig:
    """Loads the configuration to resume the run in ``folder`` with.

    A key that is missing in config.json comes from the newest checkpoint. A field that is missing
    there too was added by a later version, and gets its default, or the value that repeats what
    earlier versions did.

    Raises:
      InputError: config.json cannot be read, or differs from the checkpoint's configuration.
    """
    check_links(folder)
    path = folder / CONFIG_NAME
    sealed = _newest_sealed(folder / FOLDER_NAME)
    try:
        tree = {} if sealed is not None and not os.path.lexists(path) else read_tree(path)
    except InputError as error:
        if sealed is None:
            raise
        raise InputError(
            f"{error} Delete it and resume again. The newest checkpoint contains the same."
        ) from None
    config = from_tree(FitConfig, _before_cpu_step(_filled(tree, sealed)), str(path))
    check_sealed(config, sealed, folder)
    # A run is never saved with the addresses of its hosts. If a file has some, they may come from
    # somebody else.
    return dataclasses.replace(config, run=distributed.without_host_flags(config.run))


def to_resume(config: FitConfig, folder: Path) -> FitConfig:
    """Makes the configuration to resume a run of an experiment with.

    Args:
      config: configuration of the run, from the experiment's flags.
      folder: folder of the run, which has a checkpoint.

    Returns:
      The configuration, with which the step is compiled in the way that the run recorded. A
      different way would change the bits.

    Raises:
      InputError: the run's own configuration cannot be read.
    """
    run = dataclasses.replace(config.run, out=None, resume=str(folder))
    recorded = os.path.lexists(folder / CONFIG_NAME) or _newest_sealed(folder / FOLDER_NAME)
    # Only earlier versions, which had one way to compile a step, could leave no record.
    cpu_step = load_resumed(folder).run.cpu_step if recorded else "plain"
    return dataclasses.replace(config, run=dataclasses.replace(run, cpu_step=cpu_step))


def check_sealed(config: FitConfig, sealed: Any, folder: Path) -> None:
    """Refuses to resume with a configuration that differs from the one in a checkpoint.

    Args:
      config: configuration to resume with.
      sealed: the configuration in the checkpoint; None if it has none.
      folder: folder of the run.

    Raises:
      InputError: a value that changes what is learned is different.
    """
    if sealed is None:
        return
    trained = from_tree(FitConfig, sealed, f"the configuration in a checkpoint of {folder}")
    before, now = _flat(_plain(trained)), _flat(_plain(config))
    for key, value in before.items():
        if key.partition(".")[0] not in _MAY_DIFFER and now.get(key) != value:
            raise InputError(
                f"{folder / CONFIG_NAME}: {key} is {json.dumps(now.get(key))}, but the "
                f"checkpoints of this run were trained with {json.dumps(value)}. Restore that "
                f"value, or start a new run with --init-from {folder}."
            )


def _newest_sealed(folder: Path) -> dict[str, Any] | None:
    """Returns the configuration in the newest readable checkpoint; None if there is none."""
    for step in sorted(steps_in(folder), reverse=True):
        try:
            found = read_about(folder / str(step)).get("config")
        except Damaged:
            continue  # The damage is reported when the checkpoints are loaded.
        if isinstance(found, dict):
            return found
    return None


def _filled(tree: Any, sealed: Any) -> Any:
    """Adds the keys of ``sealed`` that are missing in ``tree``."""
    if not isinstance(tree, dict) or not isinstance(sealed, dict):
        return tree
    return {**sealed, **{key: _filled(value, sealed.get(key)) for key, value in tree.items()}}


def _before_cpu_step(tree: Any) -> Any:
    """Adds ``run.cpu_step`` to the configuration of a run that started before that field existed.

    Its default today compiles the step in a different way, which changes the last bits.
    """
    run = tree.get("run", {}) if isinstance(tree, dict) else None
    return {**tree, "run": {"cpu_step": "plain", **run}} if isinstance(run, dict) else tree


def _plain(config: FitConfig) -> dict[str, Any]:
    """Converts a configuration to plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _flat(tree: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Returns values by paths such as "optimizer.steps"."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
