"""The folder that a run writes to."""

import contextlib
import dataclasses
import os
import shlex
import shutil
from collections.abc import Iterator
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
# Everything that a run writes before it has a checkpoint.
_BEFORE_CHECKPOINTS = {CONFIG_NAME, SPLIT_NAME, METRICS_NAME, BOARD_NAME, FOLDER_NAME}


def new_folder(
    out: str | None, preset: str, held: contextlib.ExitStack, *, config: FitConfig | None = None
) -> Path:
    """Makes and locks the folder of a new run.

    Args:
      out: the folder that the user gave. It must be empty, or contain only a run with the same
        configuration that was stopped before its first checkpoint. Such a run is replaced, because
        it has nothing to lose. None: the next free number under runs/.
      preset: name of the preset, which follows the number.
      held: keeps the lock.
      config: configuration of the run; None to accept only an empty folder.

    Returns:
      The folder.

    Raises:
      InputError: the folder is not empty, or cannot be written.
    """
    check_path(_RUNS if out is None else Path(out))
    try:
        if out is not None:
            return _empty_folder(Path(out), held, config)
        folder = _numbered_folder(preset)
        held.enter_context(hold_run(folder))
        return folder
    except OSError as error:
        raise InputError(
            f"{'runs/' if out is None else f'--out {out}'} cannot be written to: {error.strerror}."
        ) from None


@contextlib.contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Keeps other processes out of the folder of a run or of an experiment until the block ends.

    Everything that writes to such a folder holds it in this way. So no part of the folder that it
    writes to or deletes from lies elsewhere.

    Raises:
      InputError: another process uses the folder, or a part of it is a link to a place outside.
    """
    with locks.hold(folder):
        check_links(folder)
        yield


def check_links(folder: Path) -> None:
    """Refuses a run or an experiment with parts that are links to places outside of it.

    Resuming would write and delete files there. The folder itself may be a link. Links to files are
    accepted, because files are replaced, and never changed in place.
    """
    for name in (FOLDER_NAME, BROKEN_NAME, BOARD_NAME, PROFILE_NAME):
        check_link(folder / name, folder)
    left = [folder] if os.path.isdir(folder) else []
    while left:
        part = left.pop()
        try:
            entries = list(os.scandir(part))
        except OSError as error:
            raise InputError(
                f"The folder {part} cannot be read: {error.strerror}. Change its permissions."
            ) from None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))
            elif entry.is_dir():
                check_link(Path(entry.path), folder)


def check_link(part: Path, whole: Path) -> None:
    """Refuses a part of a run or of an experiment that is a link to a place outside of it."""
    if os.path.islink(part) and not part.resolve().is_relative_to(whole.resolve()):
        raise InputError(
            f"{part} is a link to {os.readlink(part)}, outside the run. Resuming would write and "
            "delete files there. Replace the link with the folder itself, or start a new run with "
            "--init-from."
        )


def can_resume(folder: Path) -> bool:
    """Whether the folder contains a run with a configuration and a checkpoint."""
    check_links(folder)
    return os.path.isfile(folder / CONFIG_NAME) and bool(steps_in(folder / FOLDER_NAME))


def describe_run(config: FitConfig, splits: Splits) -> dict[str, Any]:
    """Returns the facts about a run that every checkpoint contains, to be self-contained."""
    return {
        "model": config.model.model,
        "config": dataclasses.asdict(config),
        "data": fingerprint(splits),
    }


def clear(folder: Path) -> None:
    """Removes a run that cannot be resumed, except damaged checkpoints."""
    if not folder.is_dir():
        return
    with hold_run(folder):
        for path in _in_the_way(folder):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _in_the_way(folder: Path) -> list[Path]:
    """Lists what is in the way of a new run.

    The lock is not in the way, and neither are damaged checkpoints, which are never deleted.
    """
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name not in (BROKEN_NAME, locks.FILE_NAME)]


def _empty_folder(folder: Path, held: contextlib.ExitStack, config: FitConfig | None) -> Path:
    """Makes, locks and empties ``folder``."""
    # Nothing is written to a folder with other content, not even a lock. If there is a lock, it is
    # tried first, because then the folder may not be empty because another process uses it.
    if not locks.is_marked(folder):
        _check_empty(folder, config)
        folder.mkdir(parents=True, exist_ok=True)
    held.enter_context(hold_run(folder))
    _check_empty(folder, config)
    clear(folder)
    return folder


def _check_empty(folder: Path, config: FitConfig | None) -> None:
    if not os.path.lexists(folder) or (
        folder.is_dir() and (not _in_the_way(folder) or _only_begun(folder, config))
    ):
        return
    found = "is not empty, and does not contain a run to resume. Move or delete it"
    if not folder.is_dir():
        found = "is not a folder. Move or delete it"
    elif can_resume(folder):
        command = f"python -m train fit --resume {shlex.quote(str(folder))}"
        found = f"contains a run. Resume it with {command}"
    raise InputError(f"--out {folder} {found}, or choose another --out.")


def _only_begun(folder: Path, config: FitConfig | None) -> bool:
    """Whether a folder has only what a run with this configuration writes before a checkpoint."""
    if config is None:
        return False
    clear_leftovers(folder)
    names = {path.name for path in _in_the_way(folder)}
    if not names <= _BEFORE_CHECKPOINTS or not _holds_no_checkpoint(folder / FOLDER_NAME):
        return False
    if CONFIG_NAME not in names:
        return names == {SPLIT_NAME}  # This file is written first.
    try:
        begun = load_config(folder / CONFIG_NAME)
    except InputError:
        return False
    return dataclasses.replace(begun, run=config.run) == config


def _holds_no_checkpoint(folder: Path) -> bool:
    """Whether the folder of the checkpoints has only unfinished ones."""
    return not folder.is_dir() or all(is_unfinished(path) for path in folder.iterdir())


def _numbered_folder(preset: str) -> Path:
    _RUNS.mkdir(exist_ok=True)
    taken = [int(path.name[:3]) for path in _RUNS.iterdir() if path.name[:3].isdigit()]
    number = max(taken, default=0) + 1
    while True:
        folder = _RUNS / f"{number:03d}-{preset}"
        with contextlib.suppress(FileExistsError):  # Another run may just have made it.
            folder.mkdir()
            return folder
        number += 1
