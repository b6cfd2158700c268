"""Where an experiment of many trainings stands: its folder, its settings, its photographs."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from train.config import FitConfig
from train.data.photographs import Memory
from train.data.sources import Source
from train.data.splits import Splits, open_splits
from train.errors import InputError
from train.run_folder import new_folder

_SETTINGS = "settings.json"


def open_photographs(fit: FitConfig) -> Splits:
    """The photographs that a run of this configuration takes."""
    data = fit.data
    return open_splits(
        data.source,
        data.validation_source,
        data.test_source,
        group_by=data.group_by,
        memory=Memory(fit.run.memory_mb),
    )


def open_with_validation(fit: FitConfig, verb: str) -> tuple[Splits, Source]:
    """The photographs, and those of validation, without which nothing can be picked."""
    splits = open_photographs(fit)
    if splits.validation is None:
        raise InputError(
            f"{verb} picks settings on validation photographs and there are none: give --validation-data, or more in "
            "--data."
        )
    return splits, splits.validation


def open_folder(config: Any, out: str | None, verb: str) -> Path:
    """The experiment's folder: new, or with a part of this same experiment, by its settings, in it."""
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    # Where it stands is none of what it is: without --out it was numbered, and that number is given to go on.
    settings["fit"]["run"]["out"] = None
    if out is not None and (saved := Path(out) / _SETTINGS).exists():
        defaults = json.loads(json.dumps(dataclasses.asdict(type(config)())))
        before = _filled(json.loads(saved.read_text()), defaults)
        before["fit"]["run"]["out"] = None
        if before != settings:
            raise InputError(f"--out {out} holds an experiment with other settings: write to a new folder.")
        return Path(out)
    folder = new_folder(out, verb)
    write_json(settings, folder / _SETTINGS)
    return folder


def _filled(saved: Any, defaults: Any) -> Any:
    """Settings that an earlier version saved, with the defaults of the options that it did not have."""
    if not isinstance(saved, dict) or not isinstance(defaults, dict):
        return saved
    return {**defaults, **{name: _filled(value, defaults.get(name)) for name, value in saved.items()}}


def write_json(value: Any, path: Path) -> None:
    """Writes ``value``; the file appears whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)
