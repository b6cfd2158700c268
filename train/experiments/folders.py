"""Where an experiment of many trainings stands: its folder, its settings, its photographs."""

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax

from train.assembly import open_photographs
from train.checkpoints.checkpoint_files import check_path
from train.checkpoints.checkpoint_writer import advising_resume
from train.checkpoints.run_folder import new_folder
from train.config import FitConfig
from train.data.sources import Source
from train.data.splits import Splits, check_scorable, check_unchanged, save_splits
from train.devices import sharding
from train.errors import InputError
from train.files import locks
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json

_SETTINGS = "settings.json"
_FEWEST_TESTED = 2  # photographs: of one there is no spread, and so no interval
# How much is done of an experiment and how, not what of: what is done already stays what it would
# be.
_MAY_CHANGE = ("seeds", "population", "crops", "trials", "batch")


def open_with_validation(fit: FitConfig, verb: str) -> tuple[Splits, Source]:
    """Opens the photographs.

    There are some to pick settings on, and all can be scored.
    """
    splits = open_photographs(fit)
    check_scorable(splits)
    if splits.validation is None:
        raise InputError(
            f"{verb} picks settings on validation photographs and there are none: give "
            "--validation-data, or more in --data."
        )
    if (found := len(splits.test.names)) < _FEWEST_TESTED:
        raise InputError(
            f"{verb} takes {_FEWEST_TESTED} test photographs or more, and 10 for a verdict; "
            f"{splits.test.spec} has {found}: name others by --test-data."
        )
    return splits, splits.validation


def open_folder(config: Any, splits: Splits, verb: str, held: contextlib.ExitStack) -> Path:
    """Opens the experiment's folder and locks it.

    It is new, or holds a part of this experiment, with the same settings and photographs.

    What another process trains there, this one would take for stopped, and remove: ``held`` keeps
    it out.

    Args:
      config: the experiment's configuration.
      splits: its photographs.
      verb: names a new folder.
      held: keeps the lock, so that no other process takes a training for stopped and removes it.

    Returns:
      The folder.

    Raises:
      InputError: if it holds another experiment, or cannot be written.
    """
    _check_divides(config)
    check_path(Path(config.fit.run.out or "runs"))
    settings = json.loads(json.dumps(config.settings()))
    out = config.fit.run.out
    if out is not None and os.path.exists(saved := Path(out) / _SETTINGS):
        folder = Path(out)
        held.enter_context(locks.hold(folder))
        held.enter_context(advising_resume(folder))
        before = _read_settings(saved, config)
        other = [name for name in settings if _fixed(before)[name] != _fixed(settings)[name]]
        if other:
            named = ", ".join(name.replace("_", "-") for name in other)
            raise InputError(
                f"--out {out} holds an experiment with other settings ({named}): write to a new "
                "folder, or give the flags that it was started with."
            )
        if set(os.listdir(folder)) <= {_SETTINGS, locks.FILE_NAME}:  # killed before there was more
            save_splits(splits, folder)
        check_unchanged(splits, folder, instead="write to a new folder")
        write_json(settings, saved)
    else:
        folder = new_folder(out, verb, held)
        held.enter_context(advising_resume(folder))
        write_json(settings, folder / _SETTINGS)
        save_splits(splits, folder)
    return folder


def _read_settings(path: Path, config: Any) -> dict[str, Any]:
    """The settings in an experiment's folder; options that were added since have their defaults."""
    try:
        saved = read_json(path)
    except UnreadableError as error:
        raise InputError(
            f"{path} cannot be read as an experiment's settings: {error}. Write to a new folder."
        ) from None
    defaults = json.loads(json.dumps(dataclasses.asdict(type(config)())))
    filled = _filled(saved, defaults)
    if not isinstance(filled, dict) or not isinstance(filled.get("fit"), dict):
        raise InputError(f"{path} does not hold an experiment's settings: write to a new folder.")
    return filled


def _check_divides(config: Any) -> None:
    """Refuses a batch that cannot be divided, since it could not be changed in a folder."""
    run = config.fit.run
    mesh = sharding.make_mesh(run.devices, run=run)
    if config.population != "loop":  # each network has its whole batch on one device
        mesh = sharding.mesh_of(jax.devices()[:1])
    sharding.check_divides(config.fit.data.batch_size, mesh, parts=config.fit.optimizer.accumulate)


def _fixed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without what may change from one time to the next.

    In ``fit`` that is where and how it runs.
    """
    kept = {name: None if name in _MAY_CHANGE else value for name, value in settings.items()}
    return {
        **kept,
        "fit": {name: value for name, value in settings["fit"].items() if name != "run"},
    }


def _filled(saved: Any, defaults: Any) -> Any:
    """Settings that an earlier version saved, with the defaults of options that it did not have."""
    if not isinstance(saved, dict) or not isinstance(defaults, dict):
        return saved
    return {
        **defaults,
        **{name: _filled(value, defaults.get(name)) for name, value in saved.items()},
    }
