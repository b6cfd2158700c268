"""The configuration of a run that is resumed, compared with that of its checkpoints.

Every checkpoint holds the configuration, sealed by a digest. So one digit that flipped in
config.json, or was edited, is found before the run goes on to other weights, and a key that is
missing there has a value to come from.
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

# Where and how a run is trained, which may change from one time to the next.
_MAY_DIFFER = ("run",)


def load_resumed(folder: Path) -> FitConfig:
    """The configuration to resume the run in ``folder`` with.

    A key that config.json lacks comes from the newest checkpoint. A field that the checkpoint does
    not know either was added by a later version, and has its default.

    Raises:
      InputError: config.json cannot be read, or differs from what the checkpoint was trained by.
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
            f"{error} Delete it and resume again: the newest checkpoint holds the same."
        ) from None
    config = from_tree(FitConfig, _filled(tree, sealed), str(path))
    check_sealed(config, sealed, folder)
    # No run is saved with the hosts of its processes. A file that names some may be a stranger's,
    # and so may they.
    return dataclasses.replace(config, run=distributed.without_host_flags(config.run))


def check_sealed(config: FitConfig, sealed: Any, folder: Path) -> None:
    """Refuses to resume with another configuration than that of a checkpoint in ``folder``.

    Args:
      config: what the run is about to be trained by.
      sealed: what the checkpoint holds under "config"; None if it holds nothing.
      folder: the run's.

    Raises:
      InputError: if a value differs that decides what is learned.
    """
    if sealed is None:
        return
    trained = from_tree(FitConfig, sealed, f"the configuration in a checkpoint of {folder}")
    before, now = _flat(_plain(trained)), _flat(_plain(config))
    for key, value in before.items():
        if key.partition(".")[0] not in _MAY_DIFFER and now.get(key) != value:
            raise InputError(
                f"{folder / CONFIG_NAME}: {key} is {json.dumps(now.get(key))}, but the "
                f"checkpoints there were trained with {json.dumps(value)}. Put that value back, "
                f"or start a new run with --init-from {folder}."
            )


def _newest_sealed(folder: Path) -> dict[str, Any] | None:
    """The configuration in the newest checkpoint that can be read; None if there is none."""
    for step in sorted(steps_in(folder), reverse=True):
        try:
            found = read_about(folder / str(step)).get("config")
        except Damaged:
            continue  # which is said when the checkpoints are restored
        if isinstance(found, dict):
            return found
    return None


def _filled(tree: Any, sealed: Any) -> Any:
    """``tree`` with the keys of ``sealed`` that it lacks."""
    if not isinstance(tree, dict) or not isinstance(sealed, dict):
        return tree
    return {**sealed, **{key: _filled(value, sealed.get(key)) for key, value in tree.items()}}


def _plain(config: FitConfig) -> dict[str, Any]:
    """As JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _flat(tree: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Values by paths such as "optimizer.steps"."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
