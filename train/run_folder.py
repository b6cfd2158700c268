"""The folder that a run writes to."""

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

from train.checkpoint import FOLDER_NAME
from train.checkpoint_files import BROKEN_NAME, steps_in
from train.config import FitConfig
from train.data.splits import Splits, fingerprint
from train.errors import InputError

CONFIG_NAME = "config.json"
_RUNS = Path("runs")


def new_folder(out: str | None, preset: str) -> Path:
    """The run's folder: the one asked for, if nothing of a run is there, else the next free number under runs/."""
    try:
        return _numbered_folder(preset) if out is None else _empty_folder(Path(out))
    except OSError as error:
        raise InputError(
            f"{'runs/' if out is None else f'--out {out}'} cannot be written to: {error.strerror}."
        ) from None


def can_resume(folder: Path) -> bool:
    """Whether a run was stopped there that has a configuration and a checkpoint."""
    return (folder / CONFIG_NAME).is_file() and bool(steps_in(folder / FOLDER_NAME))


def about_of(config: FitConfig, splits: Splits) -> dict[str, Any]:
    """What every checkpoint of a run says of it, so that it is whole by itself."""
    return {"model": config.model.model, "config": dataclasses.asdict(config), "data": fingerprint(splits)}


def clear(folder: Path) -> None:
    """Makes room for a run where one was stopped that cannot go on; its damaged checkpoints stay."""
    for path in _left_in(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _left_in(folder: Path) -> list[Path]:
    """What is in the way of a new run: all but damaged checkpoints, which are never deleted."""
    return [path for path in folder.iterdir() if path.name != BROKEN_NAME] if folder.is_dir() else []


def _empty_folder(folder: Path) -> Path:
    if (folder.exists() and not folder.is_dir()) or _left_in(folder):
        held = "is not empty, and holds no run that can go on: move it away"
        if can_resume(folder):
            held = f"holds a run: go on with it by python -m train fit --resume {folder}"
        raise InputError(f"--out {folder} {held}, or write to a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _numbered_folder(preset: str) -> Path:
    _RUNS.mkdir(exist_ok=True)
    taken = [int(path.name[:3]) for path in _RUNS.iterdir() if path.name[:3].isdigit()]
    number = max(taken, default=0) + 1
    while True:
        folder = _RUNS / f"{number:03d}-{preset}"
        with contextlib.suppress(FileExistsError):  # another run may have taken it a moment ago
            folder.mkdir()
            return folder
        number += 1
