"""The files of one checkpoint: reads and verifies them, and moves damaged ones aside."""

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from train.checkpoints.bundled import bundled_names
from train.checkpoints.checkpoint_bounds import complaint
from train.checkpoints.digests import differing, digest_arrays
from train.checkpoints.imported_later import imported_later
from train.checkpoints.stored_arrays import array_complaint
from train.checkpoints.versions import package_versions
from train.devices import distributed
from train.errors import InputError, first_line
from train.files.json_files import UnreadableError, digest_json, is_number, read_json

ocp = imported_later("orbax.checkpoint")

# The folder that damaged checkpoints are moved to. They are never deleted.
BROKEN_NAME = "broken_checkpoints"
# Errors of reading that are about permissions, limits or the network. They say nothing about the
# content of a file.
_NOT_OF_CONTENT = {
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
# The same in the texts of tensorstore, and of devices without free memory.
_NOT_OF_CONTENT_TEXTS = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED")

# Characters in a path that Orbax reads as a pattern when it looks for what it has just written.
_PATTERN = "*?[" if os.sep == "\\" else "*?[\\"
# Parts of names in a path that Orbax cannot read.
_UNREADABLE = ("**",) if os.sep == "\\" else ("**", "\\")
_REMOTE = ("gs:", "s3:", "az:", "hf:")  # names that Orbax reads as the beginning of an address
_UNFINISHED = ".orbax-checkpoint-tmp"  # part of the names of unfinished checkpoints
_LONGEST_METRICS = 100_000  # bytes
_LONGEST_ABOUT = 16_000_000  # bytes; an array needs about a hundred
_LONGEST_VERSION = 50  # characters of a package's name or version that are shown
_STEP = re.compile("0|[1-9][0-9]{0,17}")


class Damaged(Exception):
    """A checkpoint does not contain what was saved. The message says what is wrong."""


def read_items(
    folder: Path, targets_for: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the item ``about`` and other items of a checkpoint, in all processes or in none.

    Args:
      folder: folder of the checkpoint.
      targets_for: makes the targets of the other items from the item ``about``.

    Returns:
      The item ``about``, and the other items by name.

    Raises:
      Damaged: the checkpoint is damaged.
      InputError: the checkpoint cannot be read, but may be intact.
    """
    found: tuple[dict[str, Any], dict[str, Any]] | None = None
    wrong = ""
    with distributed.raise_everywhere():
        try:
            found = _read_items(folder, targets_for)
        except Damaged as error:
            wrong = str(error)
    wrong = next(filter(None, (wrong, *distributed.gather(wrong))), "")
    if found is None or wrong:
        raise Damaged(wrong)
    return found


def _read_items(
    folder: Path, targets_for: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    for part in folder.absolute().parts[1:]:
        if part in _REMOTE or any(text in part for text in _UNREADABLE):
            raise InputError(
                f"{folder} cannot be read because of the name {part!r}. Rename that folder, or "
                "copy the checkpoint to a different one."
            )
    about = read_about(folder)
    targets = targets_for(about)
    try:
        if why := complaint(folder, targets):
            raise Damaged(why)
    except OSError as error:
        raise _failed(folder, "files", error) from error
    items = {}
    ignore_late_answers()
    with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as reader:
        for name, target in targets.items():
            if name not in about["digests"]:
                raise Damaged(f"{name}: the checkpoint does not have this item")
            try:
                why = array_complaint(folder / name, target)
            except Exception as error:
                raise _failed(folder, name, error) from error
            if why:
                raise Damaged(f"{name}: {why}")
            # This comes before any array is read, because Orbax leaves threads after a failed read.
            if name == "weights" and (
                differs := _other_weights(folder / name, target, about["model"])
            ):
                raise Damaged(f"{name}: {differs}")
            try:
                wanted = ocp.args.Composite(**{name: ocp.args.StandardRestore(target)})
                items[name] = reader.restore(folder.absolute(), args=wanted)[name]
            except Exception as error:
                raise _failed(folder, name, error) from error
            if wrong := differing(about["digests"][name], digest_arrays(items[name])):
                raise Damaged(
                    f"{name}: {len(wrong)} arrays differ from what was saved; the first is "
                    f"{wrong[0]}"
                )
    return about, items


@functools.cache
def ignore_late_answers() -> None:
    """Hides messages about threads of tensorstore that answer after a read or a write has failed.

    Orbax has closed its event loop by then, and Python would print an error. The failure itself has
    already been raised.
    """
    before = sys.unraisablehook

    def report(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = report


def read_about(folder: Path) -> dict[str, Any]:
    """Reads and verifies the item ``about`` of a checkpoint.

    Raises:
      Damaged: the item is damaged.
      InputError: the item cannot be read for a different reason.
    """
    if _UNFINISHED in folder.name:
        raise Damaged("it is not complete")
    try:
        about = read_json(folder / "about" / "metadata", longest=_LONGEST_ABOUT)
    except FileNotFoundError as error:
        raise _failed(
            folder, "about", FileNotFoundError("there is no file about/metadata")
        ) from error
    except UnreadableError as error:
        raise _failed(folder, "about", error) from error
    if not isinstance(about, dict):
        raise Damaged("about: it is not a JSON object")
    seal = about.pop("digest", None)
    if seal != digest_json(about):
        raise Damaged("about: its digest does not match its content")
    # Somebody who forges the content can forge the digest too, so the types are checked.
    for key, kind in {"model": str, "versions": dict, "digests": dict}.items():
        if not isinstance(about.get(key), kind):
            raise Damaged(f"about: {key} is missing, or was not written by this program")
    if not all(isinstance(digests, dict) for digests in about["digests"].values()):
        raise Damaged("about: digests was not written by this program")
    return about


def _failed(folder: Path, name: str, error: Exception) -> Damaged | InputError:
    """Makes the error for an item that cannot be read: Damaged, if its content is the reason."""
    number, text = getattr(error, "errno", None), str(error)
    foreign = number in _NOT_OF_CONTENT or any(code in text for code in _NOT_OF_CONTENT_TEXTS)
    # If a folder is not readable, Orbax reports its files as missing.
    if not foreign and all(os.access(path, os.R_OK) for path in (folder, *folder.rglob("*"))):
        return Damaged(f"{name}: {first_line(error)}")
    return InputError(
        f"{folder} cannot be read, but may be intact ({name}: {first_line(error)}). Check "
        "permissions and memory, and give the same command again."
    )


def _other_weights(folder: Path, target: Any, spec: str) -> str | None:
    """Says how the stored arrays differ from those of ``spec``; None if names and shapes match."""
    try:
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            tree = handler.metadata(folder.absolute()).tree
    except Exception:  # The files are damaged. Reading them gives a clearer error.
        return None
    wanted, found = _shapes(target), _shapes(tree)
    path = next(
        (path for path in sorted({*wanted, *found}) if wanted.get(path) != found.get(path)), None
    )
    return path and (
        f'"{spec}" has {len(wanted)} arrays, and {len(found)} are there: {path} is '
        f"{wanted.get(path, 'none')} in that network and {found.get(path, 'none')} on disk; copy "
        "the whole checkpoint again, or use a different one"
    )


def _shapes(tree: Any) -> dict[str, Any]:
    """Returns the shapes of arrays by their paths; None for a leaf that is not an array."""
    return {
        jax.tree_util.keystr(path): getattr(leaf, "shape", None)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def checkpoint_folders(path: Path, name: str) -> list[Path]:
    """Returns the folders of the checkpoints at ``path``, the newest first.

    The path is that of a checkpoint, or of a run, whose checkpoints are in its folder ``name``.
    """
    if os.path.isfile(path):  # Unlike Path.is_file, this accepts a name that is too long.
        raise InputError(
            f"{path} is a file, but a checkpoint is a folder. To convert weights of PyTorch, use "
            f"python -m train import {path} --model NAME, and give the folder that it writes."
        )
    if not os.path.isdir(path):
        raise InputError(
            f"There is no folder {path}. Give the folder of a run or of one of its checkpoints, or "
            f"the name of a bundled network: {', '.join(bundled_names())}."
        )
    if (path / "weights").is_dir():
        return [path.absolute()]
    below = path / name if (path / name).is_dir() else path
    steps = steps_in(below)
    if not steps:
        raise InputError(
            f"There is no checkpoint in {path}. Give the folder of a run or of one of its "
            "checkpoints."
        )
    return [(below / str(step)).absolute() for step in sorted(steps, reverse=True)]


def check_path(folder: Path) -> None:
    """Refuses a folder whose name would let checkpoints be written, but not be read."""
    path = folder.absolute()
    for part in path.parts[1:]:
        if part in _REMOTE or _UNFINISHED in part or set(part) & set(_PATTERN):
            raise InputError(
                f"Checkpoints cannot be stored in {path} because of the name {part!r}. Names must "
                f"not contain {' '.join(_PATTERN)}, {', '.join(_REMOTE)} or {_UNFINISHED}. Write "
                "to a different folder, or use a symbolic link to this one."
            )


def sealed(about: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Adds a digest of every array, and a digest of the result, to ``about``."""
    about = {**about, "digests": {name: digest_arrays(tree) for name, tree in arrays.items()}}
    # JSON turns tuples into lists, and the digest must be that of the lists.
    about = json.loads(json.dumps(about))
    return {**about, "digest": digest_json(about)}


def steps_in(folder: Path) -> list[int]:
    """Returns the steps whose checkpoints are in ``folder``.

    A name such as 055 is ignored, because this program does not write it.
    """
    try:
        found = list(folder.iterdir()) if os.path.isdir(folder) else []
        return [int(path.name) for path in found if _STEP.fullmatch(path.name) and path.is_dir()]
    except PermissionError as error:
        raise InputError(
            f"The folder {folder} cannot be read: {error.strerror}. Change its permissions."
        ) from None


def is_unfinished(folder: Path) -> bool:
    """Whether a folder is a checkpoint that Orbax was writing when it was killed."""
    return _UNFINISHED in folder.name


def remove_unfinished(folder: Path) -> None:
    """Removes what is left of a process that was killed while it wrote the checkpoint."""
    for path in folder.parent.iterdir():
        if (
            path.name.startswith(folder.name + _UNFINISHED)
            and path.is_dir()
            and not path.is_symlink()
        ):
            shutil.rmtree(path)


def drop_unreadable_metrics(folder: Path) -> bool:
    """Removes validation metrics that are not numbers in JSON, and returns whether there were any.

    Otherwise Orbax would refuse to open the folder of all checkpoints.
    """
    path = folder / "metrics"
    if not os.path.lexists(path):
        return False
    try:
        found = read_json(path / "metrics", longest=_LONGEST_METRICS)
    except (UnreadableError, FileNotFoundError, NotADirectoryError):
        found = None
    if isinstance(found, dict) and all(is_number(value) for value in found.values()):
        return False
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def move_aside(folder: Path) -> Path:
    """Moves a damaged checkpoint to another folder of the run, and returns its new path."""
    below = folder.parent.parent / BROKEN_NAME
    aside = below / folder.name
    if distributed.is_first():
        below.mkdir(exist_ok=True)
        while aside.exists():
            aside = aside.with_name(aside.name + "_again")
        folder.rename(aside)
    distributed.barrier()
    return aside


def list_changed_versions(about: Mapping[str, Any]) -> list[str]:
    """Lists packages with a different version than the one that wrote a checkpoint.

    A run repeats bit for bit only with the same versions.
    """
    now = package_versions()
    return [
        f"{name[:_LONGEST_VERSION]} {str(old)[:_LONGEST_VERSION]} -> {now.get(name)}"
        for name, old in about["versions"].items()
        if now.get(name) != old
    ]
