"""Writes data sets as array_record, once, through TFDS.

They may be TFDS's own, those of our builders, or any folder.

Of those of TFDS itself ``div2k`` is made for restoration. It is supported and was not run here
whole: there was no way to download it. Its builder was run on files laid out and named like those.
"""

import contextlib
import glob
import importlib.util
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from train.data.datasets import FORMAT, import_tfds, make_builder, open_folder
from train.data.folders import expand_folder
from train.data.photographs import Memory
from train.data.sources import list_source, open_source
from train.errors import InputError
from train.files.locks import hold

_LONGEST_NAME = 100  # letters of a configuration
_INCOMPLETE = "incomplete."  # how TFDS names the folder that it writes to, until that is whole


def prepare(spec: str, *, manual_dir: Path | None = None, data_dir: Path | None = None) -> str:
    """Writes the data set of ``spec``, unless it is there already.

    Args:
      spec: "tfds:NAME[/CONFIG]:SPLIT", all of whose splits are written, or a folder or pairs.
      manual_dir: where the user has put what TFDS does not download by itself.
      data_dir: where data sets are kept; TFDS's own choice (~/tensorflow_datasets or TFDS_DATA_DIR)
        where not given.

    Returns:
      The spec that reads the data set.

    Raises:
      InputError: if it cannot be prepared, or something else is in its place.
    """
    tfds = import_tfds()
    # TFDS warns of configurations that are made by the program, which ours are; its bars are for a
    # terminal.
    logging.getLogger("absl").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    kind, _, rest = spec.partition(":")
    if kind == "tfds":
        name, _, split = rest.rpartition(":")
        builder = make_builder(name, data_dir=data_dir, file_format=FORMAT)
    elif kind in ("folder", "pairs"):
        name, split = _folder_name(rest), "train"
        builder = _folder_builder(spec, name, data_dir)
    else:
        raise InputError(
            f'--prepare writes what "tfds:", "folder:" or "pairs:" names; got {spec!r}.'
        )
    _check_format(builder)
    _lend_files(builder)
    try:
        with _alone(builder):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
            )
    except AssertionError as error:  # TFDS's way to say that --manual-dir is missing
        raise InputError(f"{name}: pass --manual-dir. {' '.join(str(error).split())}") from None
    except InputError:
        raise
    # Of a full disk array_record says RuntimeError; builders raise what they meet
    except Exception as error:
        raise InputError(
            f"{name} cannot be prepared: {' '.join(str(error).split())[:500]}"
        ) from None
    where = builder.data_dir if data_dir or kind != "tfds" else name
    return f"tfds:{where}:{split}"


@contextlib.contextmanager
def _alone(builder: Any) -> Iterator[None]:
    """Keeps other processes from writing the same data set, and removes what killed ones have left.

    Only for our own builders: other programs may be writing what TFDS's own make.
    """
    target = Path(builder.data_dir)
    if (
        not type(builder).__module__.startswith("train.")
        or (target / "dataset_info.json").is_file()
    ):
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with hold(target.parent):
        for left in target.parent.glob(f"{_INCOMPLETE}??????_{target.name}"):
            shutil.rmtree(left)
        yield


def _folder_name(rest: str) -> str:
    """A TFDS configuration's name for a folder: its own, in letters that a path may have."""
    folder = expand_folder(rest.partition("?")[0].partition(",")[0]).resolve()
    name = re.sub(r"[^\w.\-]", "_", folder.name)[:_LONGEST_NAME] or "root"
    return name if re.match(r"\w", name) else f"_{name}"


def _folder_builder(spec: str, name: str, data_dir: Path | None) -> Any:
    from train.data.builders.restoration_folder import FolderConfig, RestorationFolder

    # Nothing unreadable and nobody without a partner is written
    open_source(spec, "train", memory=Memory(0))
    listing = list_source(spec, "train")
    return RestorationFolder(
        config=FolderConfig(name=name, listing=listing), data_dir=data_dir, file_format=FORMAT
    )


def _check_format(builder: Any) -> None:
    """Refuses to write over what is there.

    TFDS would leave files of another format or of another folder untouched.
    """
    there = Path(builder.data_dir)
    if any(letter in str(there) for letter in "?\0"):
        raise InputError(
            f"--data-dir leads to {there}, and no spec can name a folder with a question mark: "
            "choose another."
        )
    if not os.path.lexists(there):
        return
    # TFDS would take it for a data set, and write nothing
    if not (there / "dataset_info.json").is_file():
        raise InputError(
            f"{there} is there already and holds no data set: move it away, or pass another "
            "--data-dir."
        )
    kept = open_folder(there).info.as_proto.file_format
    if kept != FORMAT or builder.name == "restoration_folder":
        whose = (
            " of this folder, or of another of its name"
            if builder.name == "restoration_folder"
            else ""
        )
        raise InputError(
            f"{there} holds a data set already{whose}, as {kept}: move it away, or pass another "
            "--data-dir."
        )


def _lend_files(builder: Any) -> None:
    """Lends Python's file functions to builders that walk through folders by TensorFlow.

    div2k's is among them.
    """
    module = sys.modules[type(builder).__module__]
    if importlib.util.find_spec("tensorflow") or not hasattr(module, "tf"):
        return
    files = SimpleNamespace(
        GFile=open,
        exists=os.path.exists,
        glob=glob.glob,
        isdir=os.path.isdir,
        listdir=os.listdir,
        walk=os.walk,
    )
    module.__dict__["tf"] = SimpleNamespace(io=SimpleNamespace(gfile=files))
