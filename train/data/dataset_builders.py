"""Finds the builders of data sets: those of tensorflow-datasets, our own, and prepared folders.

Only array_record files can be read by index without TensorFlow. For data sets in other formats, the
error gives the command that prepares them as array_record.
"""

import contextlib
import importlib
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.data import descriptions
from train.data.folders import expand_folder
from train.errors import InputError, first_line

# Our own builders, each in its own package. Importing the package registers the builder with TFDS.
BUILDERS = ("bsds500", "lol", "restoration_folder")

FORMAT = "array_record"

# A name of a TFDS data set, without a namespace before it and without arguments after it
_BUILDER = re.compile(
    r"(?P<plain>[A-Za-z]\w*)(?:/(?P<config>\w[\w+.\-]*))?(?::(?P<version>\d+\.\d+\.\d+))?", re.ASCII
)
_VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)


def import_tfds() -> Any:
    """Imports tensorflow-datasets, which the extra "tfds" installs."""
    try:
        with _quiet():
            import tensorflow_datasets
    except ImportError as error:
        raise InputError(
            f"tfds: needs tensorflow-datasets ({error.name} is missing): "
            'pip install -e ".[tfds]". TensorFlow itself is not needed.'
        ) from None
    return tensorflow_datasets


def make_builder(name: str, **options: Any) -> Any:
    """Finds a builder of TFDS or of our own, whether its data set is prepared or not.

    If there is no builder of that name, the folders are searched in which TFDS keeps prepared data
    sets. No other code is imported: TFDS's ``namespace:name`` would load code of the community or
    of Hugging Face.

    Args:
      name: "NAME[/CONFIG][:VERSION]".
      **options: passed on to the builder.

    Returns:
      The builder.

    Raises:
      InputError: if there is no such data set, or it cannot be opened.
    """
    tfds = import_tfds()
    match = _BUILDER.fullmatch(name)
    if match is None:
        raise _unknown(name)
    plain, config, version = match["plain"], match["config"], match["version"]
    if plain in BUILDERS:
        importlib.import_module(f"train.data.builders.{plain}")
    try:
        with _quiet():
            made = tfds.builder_cls(plain)
    except tfds.core.DatasetNotFoundError:
        made = None
    # The module of a builder may raise anything when it is imported.
    except Exception as error:
        raise InputError(f"tfds: {name!r} cannot be opened: {first_line(error)}.") from None
    places = _kept(plain, config, version, options.get("data_dir"), made)
    # A prepared data set may be older than its builder, with a configuration that is gone by now.
    older = version is not None or (
        made is not None and config is not None and config not in made.builder_configs
    )
    if places and (made is None or older):
        return open_folder(places[-1])
    if made is None:
        raise _unknown(plain)
    for place in places:
        # The builder reads splits and sizes from this folder, and knows its features itself.
        if place.name == str(made.VERSION):
            descriptions.check_info(place)
    given = {
        key: value for key, value in (("config", config), ("version", version)) if value is not None
    }
    try:
        with _quiet():
            return made(**given, **options)
    # For example, the builder lacks the configuration or the version, or the folder does not fit.
    except Exception as error:
        raise InputError(f"tfds: {name!r} cannot be opened: {first_line(error)}.") from None


def _kept(
    plain: str, config: str | None, version: str | None, data_dir: Any, made: Any
) -> list[Path]:
    """Folders of a data set's prepared versions where TFDS keeps them, oldest first.

    Args:
      plain: name of the data set.
      config: name of its configuration, or None for the default one.
      version: the version, or None for all.
      data_dir: the folder of all data sets, or None for TFDS's own.
      made: the class of the builder, or None if there is none.

    Returns:
      The folders.
    """
    from tensorflow_datasets.core.utils import file_utils

    found = []
    for kept in file_utils.list_data_dirs(given_data_dir=data_dir):
        above = Path(kept) / plain
        usual = config or (
            made.default_builder_config.name if made and made.BUILDER_CONFIGS else None
        )
        common = above / ".config" / "metadata.json"
        if usual is None and made is None and common.exists():
            usual = descriptions.usual_config(common)
        above = above / usual if usual else above
        found += [path.parent for path in above.glob(f"*/{descriptions.INFO}")]
    versions = [
        path
        for path in found
        if path.name == version or (version is None and _VERSION.fullmatch(path.name))
    ]
    return sorted(versions, key=lambda path: [int(part) for part in path.name.split(".")])


def _unknown(name: str) -> InputError:
    return InputError(
        f"tfds: there is no data set {name[:200]!r}. Choose one of ours ({', '.join(BUILDERS)}) or "
        "of TFDS (https://www.tensorflow.org/datasets/catalog), or give the path of a prepared "
        "data set's folder."
    )


def open_folder(folder: Path) -> Any:
    """Checks the description of a prepared data set in a folder, and returns its builder."""
    tfds = import_tfds()
    descriptions.check_description(folder)
    try:
        return tfds.builder_from_directory(folder)
    # TFDS may raise anything for a description that it would never have written.
    except Exception as error:
        raise InputError(f"tfds: {folder} cannot be opened: {first_line(error)}.") from None


def open_builder(name: str) -> Any:
    """Opens the builder of a prepared data set.

    If the data set is not prepared, the error gives the command that prepares it.
    """
    if os.path.isfile(expand_folder(name) / descriptions.INFO):
        builder = open_folder(expand_folder(name))
        how = (
            f"Write it as {FORMAT} with its builder's download_and_prepare and "
            f"file_format={FORMAT!r}"
        )
    else:
        builder = make_builder(name)
        how = f"To prepare it, run: python -m train data tfds:{name}:train --prepare"
    if not builder.info.splits:
        raise InputError(f"tfds: {name!r} is not prepared in {builder.data_dir}. {how}")
    kind = builder.info.as_proto.file_format
    if kind != FORMAT:
        # The data set that is there stays as it is
        elsewhere = " --data-dir FOLDER" if how.endswith("--prepare") else ""
        raise InputError(
            f"tfds: {name!r} is prepared as {kind}, which cannot be read by index without "
            f"TensorFlow. {how}{elsewhere}"
        )
    return builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the warnings of TFDS's imports, since only its authors can act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
