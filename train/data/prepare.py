"""Writes data sets as array_record, once, with TFDS.

A data set may come from a builder of TFDS, from one of our own, or from any folder.

Among TFDS's data sets, ``div2k`` is made for restoration. It is supported, but it could not be
downloaded for a complete test. Its builder was tested on files with the same layout and names.
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

from train.data.dataset_builders import FORMAT, import_tfds, make_builder, open_folder
from train.data.folders import expand_folder
from train.data.photographs import Memory
from train.data.sources import list_source, open_source
from train.errors import InputError
from train.files.locks import hold

_LONGEST_NAME = 100  # characters in the name of a configuration
_INCOMPLETE = "incomplete."  # TFDS's prefix for a folder that is not written completely yet


def prepare(spec: str, *, manual_dir: Path | None = None, data_dir: Path | None = None) -> str:
    """Writes the data set of ``spec``, unless it exists already.

    Args:
      spec: a folder, pairs, or "tfds:NAME[/CONFIG]:SPLIT", all splits of which are written.
      manual_dir: the folder with the files that the user had to download by hand.
      data_dir: the folder to keep data sets in; None: TFDS's own (~/tensorflow_datasets or
        TFDS_DATA_DIR).

    Returns:
      The spec that reads the data set.

    Raises:
      InputError: if the data set cannot be prepared, or something else is in its place.
    """
    tfds = import_tfds()
    # TFDS warns about configurations that a program makes, as this one does. Its progress bars are
    # for a terminal.
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
            f'--prepare needs a data set that begins with "tfds:", "folder:" or "pairs:"; got '
            f"{spec!r}."
        )
    _check_format(builder)
    _lend_files(builder)
    try:
        with _alone(builder):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
            )
    except AssertionError as error:  # TFDS raises this if --manual-dir is missing
        raise InputError(f"{name} needs --manual-dir. {' '.join(str(error).split())}") from None
    except InputError:
        raise
    # On a full disk, array_record raises RuntimeError. Builders may raise anything.
    except Exception as error:
        raise InputError(
            f"{name} cannot be prepared: {' '.join(str(error).split())[:500]}"
        ) from None
    where = builder.data_dir if data_dir or kind != "tfds" else name
    return f"tfds:{where}:{split}"


@contextlib.contextmanager
def _alone(builder: Any) -> Iterator[None]:
    """Keeps other processes from writing the same data set, and removes leftovers of killed ones.

    This is done only for our own builders, because other programs may write TFDS's data sets.
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
    """The name of a TFDS configuration for a folder: its own, in characters that paths may have."""
    folder = expand_folder(rest.partition("?")[0].partition(",")[0]).resolve()
    name = re.sub(r"[^\w.\-]", "_", folder.name)[:_LONGEST_NAME] or "root"
    return name if re.match(r"\w", name) else f"_{name}"


def _folder_builder(spec: str, name: str, data_dir: Path | None) -> Any:
    from train.data.builders.restoration_folder import FolderConfig, RestorationFolder

    # Opening the source refuses unreadable photographs, and photographs without a partner.
    open_source(spec, "train", memory=Memory(0))
    listing = list_source(spec, "train")
    return RestorationFolder(
        config=FolderConfig(name=name, listing=listing), data_dir=data_dir, file_format=FORMAT
    )


def _check_format(builder: Any) -> None:
    """Refuses to write if something else is in the data set's place.

    TFDS would not write anything if files in another format, or from another folder, are there.
    """
    there = Path(builder.data_dir)
    if any(letter in str(there) for letter in "?\0"):
        raise InputError(
            f"--data-dir leads to {there}, and a spec cannot name a folder with a question mark. "
            "Choose another folder."
        )
    if not os.path.lexists(there):
        return
    # TFDS would mistake it for a data set, and write nothing.
    if not (there / "dataset_info.json").is_file():
        raise InputError(
            f"{there} exists already and does not hold a data set. Rename or delete it, or choose "
            "another --data-dir."
        )
    kept = open_folder(there).info.as_proto.file_format
    if kept != FORMAT or builder.name == "restoration_folder":
        whose = (
            " of this folder, or of another folder with this name"
            if builder.name == "restoration_folder"
            else ""
        )
        reading = f" To read it, use tfds:{there}:SPLIT." if kept == FORMAT else ""
        raise InputError(
            f"{there} already holds a data set{whose}, as {kept}.{reading} Rename or delete it, or "
            "choose another --data-dir."
        )


def _lend_files(builder: Any) -> None:
    """Gives Python's file functions to builders that use TensorFlow's, such as div2k's."""
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
