"""The files of one checkpoint: written with digests, read back and verified, moved if damaged."""

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
import orbax.checkpoint as ocp

from train.checkpoints.checkpoint_bounds import complaint
from train.checkpoints.digests import differing, digest_arrays
from train.checkpoints.stored_arrays import array_complaint
from train.checkpoints.versions import package_versions
from train.devices import distributed
from train.errors import InputError, first_line
from train.files.json_files import UnreadableError, digest_json, is_number, read_json

BROKEN_NAME = "broken_checkpoints"  # where what cannot be read is moved to: it is never deleted
# Of reads that fail over a right, a limit or a network, and so tell nothing of what is on disk.
_NOT_OF_CONTENT = {
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
# By tensorstore, and by devices without memory
_NOT_OF_CONTENT_SAID = (
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
)


# Characters of a path that Orbax takes for a pattern when it looks for what it has just written.
_PATTERN = "*?[" if os.sep == "\\" else "*?[\\"
# Parts of names below which it reads nothing either
_UNREADABLE = ("**",) if os.sep == "\\" else ("**", "\\")
_REMOTE = ("gs:", "s3:", "az:", "hf:")  # names that it takes for the beginning of an address
_UNFINISHED = ".orbax-checkpoint-tmp"  # part of the names of what it has not finished
_LONGEST_METRICS = 100_000  # bytes
_LONGEST_ABOUT = 16_000_000  # bytes: some hundred for each array
_STEP = re.compile("0|[1-9][0-9]{0,17}")


class Damaged(Exception):
    """A checkpoint that does not hold what was saved; says what is wrong with it."""


def read_items(
    folder: Path, targets_for: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads items of a checkpoint and what it says of itself, in all processes or in none.

    Raises :class:`Damaged` if it is damaged.

    What cannot be read, but may be whole, is an :class:`InputError`.
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
                f"{folder} cannot be read because of the name {part!r}: rename that folder, or "
                "copy the checkpoint to another one."
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
                raise Damaged(f"{name}: the checkpoint has none")
            try:
                why = array_complaint(folder / name, target)
            except Exception as error:
                raise _failed(folder, name, error) from error
            if why:
                raise Damaged(f"{name}: {why}")
            # Before any array is read: of a read that fails Orbax leaves threads behind.
            if name == "weights" and (
                differs := _other_weights(folder / name, target, about["model"])
            ):
                raise Damaged(f"{name}: {differs}")
            try:
                asked = ocp.args.Composite(**{name: ocp.args.StandardRestore(target)})
                items[name] = reader.restore(folder.absolute(), args=asked)[name]
            except Exception as error:
                raise _failed(folder, name, error) from error
            if wrong := differing(about["digests"][name], digest_arrays(items[name])):
                raise Damaged(
                    f"{name}: {len(wrong)} arrays are not what was saved, {wrong[0]} the first"
                )
    return about, items


@functools.cache
def ignore_late_answers() -> None:
    """Drops what Python would print of threads that answer after a read or a write has failed.

    The threads are tensorstore's.

    Orbax has closed its event loop by then. The failure itself was raised, and is what the user
    hears of.
    """
    before = sys.unraisablehook

    def report(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = report


def read_about(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises :class:`Damaged` if it is damaged, and an InputError if it cannot be read for another
    reason.
    """
    if _UNFINISHED in folder.name:
        raise Damaged("it was not finished")
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
        raise Damaged("about: its digest is not that of its content")
    # A person who makes the content up can make up the digest too.
    for key, kind in {"model": str, "versions": dict, "digests": dict}.items():
        if not isinstance(about.get(key), kind):
            raise Damaged(f"about: {key} is missing, or is not what this program writes")
    if not all(isinstance(digests, dict) for digests in about["digests"].values()):
        raise Damaged("about: digests is not what this program writes")
    return about


def _failed(folder: Path, name: str, error: Exception) -> Damaged | InputError:
    """The error of an item that was not read: Damaged, if the failure tells of its content."""
    number, said = getattr(error, "errno", None), str(error)
    foreign = number in _NOT_OF_CONTENT or any(code in said for code in _NOT_OF_CONTENT_SAID)
    # What lies in a folder that may not be looked into is missing, by Orbax.
    if not foreign and all(os.access(path, os.R_OK) for path in (folder, *folder.rglob("*"))):
        return Damaged(f"{name}: {first_line(error)}")
    return InputError(
        f"{folder} cannot be read, but may be whole ({name}: {first_line(error)}). Fix that "
        "(permissions or memory) and give the same command again."
    )


def _other_weights(folder: Path, target: Any, spec: str) -> str | None:
    """How the stored arrays differ from those of ``spec``; None if names and shapes match."""
    try:
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            tree = handler.metadata(folder.absolute()).tree
    except Exception:  # of what is broken, which reading it tells
        return None
    wanted, found = _shapes(target), _shapes(tree)
    path = next(
        (path for path in sorted({*wanted, *found}) if wanted.get(path) != found.get(path)), None
    )
    return path and (
        f'"{spec}" has {len(wanted)} arrays, and {len(found)} are there: {path} is '
        f"{wanted.get(path, 'none')} in that network and {found.get(path, 'none')} on disk; copy "
        "the whole checkpoint again, or take another"
    )


def _shapes(tree: Any) -> dict[str, Any]:
    """Shapes of arrays by their paths; None for a leaf that is not an array."""
    return {
        jax.tree_util.keystr(path): getattr(leaf, "shape", None)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def checkpoint_folders(path: Path, name: str) -> list[Path]:
    """The folders of the checkpoints at ``path``, the newest first.

    The path is a checkpoint's, or a run's, whose checkpoints are in its folder ``name``.
    """
    if os.path.isfile(path):  # unlike Path's, no error if the name is too long
        raise InputError(
            f"{path} is a file, and a checkpoint is a folder: bring weights of PyTorch here by "
            f"python -m train import {path} --model NAME, and give the folder that it writes."
        )
    if not os.path.isdir(path):
        raise InputError(
            f"There is no folder {path}: give that of a run, or of one of its checkpoints."
        )
    if (path / "weights").is_dir():
        return [path.absolute()]
    below = path / name if (path / name).is_dir() else path
    steps = steps_in(below)
    if not steps:
        raise InputError(
            f"{path} holds no checkpoint: give the folder of a run, or of one of its checkpoints."
        )
    return [(below / str(step)).absolute() for step in sorted(steps, reverse=True)]


def check_path(folder: Path) -> None:
    """Refuses a folder below whose name a checkpoint could be written, but never be read."""
    path = folder.absolute()
    for part in path.parts[1:]:
        if part in _REMOTE or _UNFINISHED in part or set(part) & set(_PATTERN):
            raise InputError(
                f"{path} cannot hold checkpoints, because of the name {part!r}: use names without "
                f"{' '.join(_PATTERN)}, {', '.join(_REMOTE)} and {_UNFINISHED}. Write to another "
                "folder, or reach this one by a symbolic link."
            )


def sealed(about: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """``about`` with a digest of every array, and one of itself."""
    about = {**about, "digests": {name: digest_arrays(tree) for name, tree in arrays.items()}}
    about = json.loads(json.dumps(about))  # tuples become lists now, not on the way back
    return {**about, "digest": digest_json(about)}


def steps_in(folder: Path) -> list[int]:
    """Steps that a run's folder holds checkpoints of.

    A name like 055 is not one that was written here.
    """
    try:
        found = list(folder.iterdir()) if os.path.isdir(folder) else []
        return [int(path.name) for path in found if _STEP.fullmatch(path.name) and path.is_dir()]
    except PermissionError as error:
        raise InputError(
            f"{folder} cannot be looked into: {error.strerror}. Change its permissions."
        ) from None


def is_unfinished(folder: Path) -> bool:
    """Whether it is what Orbax was writing when it was killed."""
    return _UNFINISHED in folder.name


def remove_unfinished(folder: Path) -> None:
    """Removes what a process left that was killed while it wrote the checkpoint ``folder``."""
    for path in folder.parent.iterdir():
        if (
            path.name.startswith(folder.name + _UNFINISHED)
            and path.is_dir()
            and not path.is_symlink()
        ):
            shutil.rmtree(path)


def drop_unreadable_metrics(folder: Path) -> bool:
    """Removes validation metrics that are not numbers in JSON.

    Orbax would refuse to open the whole folder otherwise.
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
    """Takes a checkpoint out of the way of the run, and says where to."""
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
    """Packages whose version is not the one that wrote a checkpoint.

    The same bits are promised with the same versions only.
    """
    now = package_versions()
    return [
        f"{name} {old} -> {now.get(name)}"
        for name, old in about["versions"].items()
        if now.get(name) != old
    ]
