"""The folder that a run writes to."""

import contextlib
import dataclasses
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from train.checkpoints.checkpoint import FOLDER_NAME
from train.checkpoints.checkpoint_files import BROKEN_NAME, check_path, is_unfinished, steps_in
from train.config import FitConfig, load_config
from train.data.splits import FILE_NAME as SPLIT_NAME
from train.data.splits import Splits, fingerprint
from train.errors import InputError
from train.files import locks
from train.files.outputs import clear_leftovers
from train.monitoring.metric_lines import FILE_NAME as METRICS_NAME

CONFIG_NAME = "config.json"
BOARD_NAME = "tensorboard"
PROFILE_NAME = "profile"
_RUNS = Path("runs")
# All that a run writes before it has a checkpoint.
_BEFORE_CHECKPOINTS = {CONFIG_NAME, SPLIT_NAME, METRICS_NAME, BOARD_NAME, FOLDER_NAME}


def new_folder(
    out: str | None, preset: str, held: contextlib.ExitStack, *, config: FitConfig | None = None
) -> Path:
    """The folder of a new run, locked.

    Args:
      out: the folder asked for. Nothing may be in it, except a run of the same configuration that
        was stopped before its first checkpoint: that run has nothing to lose, and makes room. None:
        the next free number under runs/.
      preset: its name follows the number.
      held: keeps the lock.
      config: of the run.

    Returns:
      The folder.

    Raises:
      InputError: if it is not empty, or cannot be written.
    """
    check_path(_RUNS if out is None else Path(out))
    try:
        if out is not None:
            return _empty_folder(Path(out), held, config)
        folder = _numbered_folder(preset)
        held.enter_context(locks.hold(folder))
        return folder
    except OSError as error:
        raise InputError(
            f"{'runs/' if out is None else f'--out {out}'} cannot be written to: {error.strerror}."
        ) from None


def check_links(folder: Path) -> None:
    """Refuses a run whose parts are links that lead out of it.

    Resuming would write and delete there.

    The folder of the run itself may be a link.
    """
    checkpoints = folder / FOLDER_NAME
    for name in (FOLDER_NAME, BROKEN_NAME, BOARD_NAME, PROFILE_NAME):
        check_link(folder / name, folder)
    for checkpoint in checkpoints.iterdir() if os.path.isdir(checkpoints) else ():
        check_link(checkpoint, folder)


def check_link(part: Path, whole: Path) -> None:
    """Refuses a part of a run or of an experiment that is a link to a place outside of it."""
    if os.path.islink(part) and not part.resolve().is_relative_to(whole.resolve()):
        raise InputError(
            f"{part} is a link to {os.readlink(part)}, outside the run. Resuming would write and "
            "delete files there. Replace the link by the folder itself, or start a new run with "
            "--init-from."
        )


def can_resume(folder: Path) -> bool:
    """Whether a run was stopped there that has a configuration and a checkpoint."""
    check_links(folder)
    return os.path.isfile(folder / CONFIG_NAME) and bool(steps_in(folder / FOLDER_NAME))


def describe_run(config: FitConfig, splits: Splits) -> dict[str, Any]:
    """What every checkpoint of a run says of it, so that it is whole by itself."""
    return {
        "model": config.model.model,
        "config": dataclasses.asdict(config),
        "data": fingerprint(splits),
    }


def clear(folder: Path) -> None:
    """Removes a run that cannot be resumed, except damaged checkpoints."""
    if not folder.is_dir():
        return
    with locks.hold(folder):
        for path in _in_the_way(folder):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _in_the_way(folder: Path) -> list[Path]:
    """What is in the way of a new run.

    The lock is not, nor are damaged checkpoints, which are never deleted.
    """
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name not in (BROKEN_NAME, locks.FILE_NAME)]


def _empty_folder(folder: Path, held: contextlib.ExitStack, config: FitConfig | None) -> Path:
    """``folder``, once it is locked and nothing of a run is in it."""
    # Nothing is written to a folder of other things, not even a lock. If there is a lock it is
    # tried first: that another process is at work is then the reason why the folder is not empty.
    if not locks.is_marked(folder):
        _check_empty(folder, config)
        folder.mkdir(parents=True, exist_ok=True)
    held.enter_context(locks.hold(folder))
    _check_empty(folder, config)
    clear(folder)
    return folder


def _check_empty(folder: Path, config: FitConfig | None) -> None:
    if not os.path.lexists(folder) or (
        folder.is_dir() and (not _in_the_way(folder) or _only_begun(folder, config))
    ):
        return
    found = "is not empty, and holds no run that can go on: move it away"
    if can_resume(folder):
        found = f"holds a run: resume it by python -m train fit --resume {shlex.quote(str(folder))}"
    raise InputError(f"--out {folder} {found}, or write to a new folder.")


def _only_begun(folder: Path, config: FitConfig | None) -> bool:
    """Whether the folder holds only what a run of this configuration writes before a checkpoint."""
    if config is None:
        return False
    clear_leftovers(folder)
    names = {path.name for path in _in_the_way(folder)}
    if not names <= _BEFORE_CHECKPOINTS or not _holds_no_checkpoint(folder / FOLDER_NAME):
        return False
    if CONFIG_NAME not in names:
        return names == {SPLIT_NAME}  # which is written first
    try:
        begun = load_config(folder / CONFIG_NAME)
    except InputError:
        return False
    return dataclasses.replace(begun, run=config.run) == config


def _holds_no_checkpoint(folder: Path) -> bool:
    """Whether all that is in the folder of the checkpoints is what Orbax did not finish."""
    return not folder.is_dir() or all(is_unfinished(path) for path in folder.iterdir())


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
