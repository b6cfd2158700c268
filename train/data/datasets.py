"""Data sets of tensorflow-datasets, read without TensorFlow: array_record files, decoded by us.

Files of other formats can only be read in sequence, and with TensorFlow; the error names the
command that prepares a data set as array_record. Stored images are decoded by
:mod:`train.data.images`, so that 16 bits and orientation stay.
"""

import contextlib
import importlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.data import array_records, descriptions
from train.data.folders import Listing, expand_folder, parse_settings
from train.data.stored import StoredPhotograph
from train.errors import InputError, first_line

# Builders of our own, each in a package of its own; importing it registers it with TFDS.
BUILDERS = ("bsds500", "lol", "restoration_folder")

FORMAT = "array_record"

# (degraded, clean) features by their usual names; then clean ones alone. The first that a data set
# has are read.
_PAIRS = (("input", "target"), ("low", "high"), ("noisy", "clean"))
_CLEAN = ("image", "target", "hr")
_LONGEST_NAME = 1000  # letters
_MOST_NAMED = 20  # splits or features in an error
_NAMES = ("name", "filename", "file_name")

# A name of TFDS's: no namespace before it, and no arguments after it.
_BUILDER = re.compile(
    r"(?P<plain>[A-Za-z]\w*)(?:/(?P<config>\w[\w+.\-]*))?(?::(?P<version>\d+\.\d+\.\d+))?", re.ASCII
)
_VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)
# The last colon outside of brackets parts the name, which may be a path with colons, from the
# split.
_SLICE = r"[^?:/\[\]]+(?:\[[^?/\[\]]*\])?"  # "train" or "train[:80%]"
_SPEC = re.compile(rf"(?P<name>[^?]+):(?P<split>{_SLICE}(?:\+{_SLICE})*)(?:\?(?P<query>.*))?")


@dataclass(frozen=True)
class StoredRecord(StoredPhotograph):
    """A photograph in a record of a data set."""

    read: Any  # TFDS's data source: records by their place
    index: int
    feature: str

    def content(self) -> bytes:
        """The feature's bytes."""
        return _content(self.read, self.index, self.feature, self.name)


def list_dataset(text: str) -> Listing:
    """Lists photographs of "NAME[/CONFIG][:VERSION]:SPLIT", or of "FOLDER:SPLIT".

    FOLDER is that of a prepared data set.

    SPLIT may be a slice, "train[:80%]". "?target=FEATURE" or "?input=FEATURE&target=FEATURE" picks
    features by name.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise InputError(
            f'tfds: takes "NAME[/CONFIG]:SPLIT", such as "tfds:lol:train"; got {text!r}.'
        )
    tfds = import_tfds()
    builder = open_builder(match["name"])
    split = match["split"]
    features = pick_features(builder, match["query"], text)
    try:
        chosen = builder.info.splits[split]
        count = chosen.num_examples
        files = {Path(part.filename): part.examples_in_shard for part in chosen.file_instructions}
        if count == 0:
            raise InputError(f"tfds:{text} holds no photographs.")
        array_records.check_files(files.items())
        # Raw records: what TFDS would decode them with is never run, and Pillow would cut 16 bits
        # to 8.
        read = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except InputError:
        raise
    except Exception as error:  # whatever TFDS's parser of splits meets
        raise InputError(
            f"tfds:{text}: {first_line(error)}. Splits: {_listed(builder.info.splits)}."
        ) from None
    names = _names(read, builder, split)
    decoders: dict[str, list[StoredRecord]] = {}
    for role, feature in features.items():
        decoders[role] = [
            StoredRecord(f"{builder.info.full_name} {name}", read, i, feature)
            for i, name in enumerate(names)
        ]
    folder = Path(builder.data_dir)
    return Listing(
        names,
        decoders["target"],
        decoders.get("input"),
        shards=tuple(sorted(files)),
        record=f"{folder} {split} {features}",
    )


def _names(read: Any, builder: Any, split: str) -> tuple[str, ...]:
    """The photographs' own names where the data set keeps them, else their places in the split."""
    places = tuple(f"{split}-{i:06d}" for i in range(len(read)))
    feature = next((name for name in _NAMES if name in builder.info.features), None)
    if feature is None:
        return places
    names = []
    for i, place in enumerate(places):
        try:
            name = _content(read, i, feature, place).decode(errors="replace")
            names.append(name if 0 < len(name) <= _LONGEST_NAME else place)
        except InputError:  # said of each when it is decoded
            names.append(place)
    return tuple(names) if len(set(names)) == len(names) else places


def import_tfds() -> Any:
    """tensorflow-datasets, which an extra of its own installs."""
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
    """TFDS's builder of that name, or ours, prepared or not.

    It is looked for among TFDS's own and ours, then among the folders that TFDS keeps prepared data
    sets in. No other code is imported: TFDS's ``namespace:name`` would load that of the community
    or of Hugging Face.
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
    # Whatever the module of one of its builders raises when it is imported
    except Exception as error:
        raise InputError(f"tfds: {name!r} cannot be opened: {first_line(error)}.") from None
    places = _kept(plain, config, version, options.get("data_dir"), made)
    # What is prepared may be older than the builder, and of a configuration that it no longer has.
    older = version is not None or (
        made is not None and config is not None and config not in made.builder_configs
    )
    if places and (made is None or older):
        return open_folder(places[-1])
    if made is None:
        raise _unknown(plain)
    for place in places:
        # The one that it reads: splits and sizes, while it has its own features
        if place.name == str(made.VERSION):
            descriptions.check_info(place)
    given = {
        key: value for key, value in (("config", config), ("version", version)) if value is not None
    }
    try:
        with _quiet():
            return made(**given, **options)
    # A configuration or a version that it does not have, a folder that does not fit it
    except Exception as error:
        raise InputError(f"tfds: {name!r} cannot be opened: {first_line(error)}.") from None


def _kept(
    plain: str, config: str | None, version: str | None, data_dir: Any, made: Any
) -> list[Path]:
    """Folders of a data set's prepared versions, the oldest first, where TFDS keeps them."""
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
        f"tfds: there is no data set {name[:200]!r}. Our own are {', '.join(BUILDERS)}; those of "
        "TFDS are listed at https://www.tensorflow.org/datasets/catalog; for a prepared data "
        "set's folder give its path."
    )


def open_folder(folder: Path) -> Any:
    """The builder of a prepared data set in a folder, once its description has been checked."""
    tfds = import_tfds()
    descriptions.check_description(folder)
    try:
        return tfds.builder_from_directory(folder)
    # Whatever TFDS makes of a description that says what it never writes
    except Exception as error:
        raise InputError(f"tfds: {folder} cannot be opened: {first_line(error)}.") from None


def open_builder(name: str) -> Any:
    """The builder of a prepared data set, or an error with the command that prepares it."""
    if os.path.isfile(expand_folder(name) / descriptions.INFO):
        builder = open_folder(expand_folder(name))
        how = (
            f"write it as {FORMAT}: its builder's download_and_prepare with file_format={FORMAT!r}"
        )
    else:
        builder = make_builder(name)
        how = f"prepare it by: python -m train data tfds:{name}:train --prepare"
    if not builder.info.splits:
        raise InputError(f"tfds: {name!r} is not prepared in {builder.data_dir}; {how}")
    kind = builder.info.as_proto.file_format
    if kind != FORMAT:
        # What is there stays as it is
        elsewhere = " --data-dir FOLDER" if how.endswith("--prepare") else ""
        raise InputError(
            f"tfds: {name!r} is prepared as {kind}, which cannot be read by index without "
            f"TensorFlow; {how}{elsewhere}"
        )
    return builder


def pick_features(builder: Any, query: str | None, text: str) -> dict[str, str]:
    """Picks the features of a data set that hold photographs.

    Args:
      builder: of the data set.
      query: what the user wrote after "?", or None.
      text: the whole spec, for errors.

    Returns:
      The names of the features "target" and, in pairs, "input".

    Raises:
      InputError: if a feature is missing, or cannot be told from the others.
    """
    held = builder.info.features
    if query is not None:
        asked = parse_settings(query, ("input", "target"))
        if asked is not None and "target" in asked and set(asked.values()) <= set(held):
            return asked
        raise InputError(
            f'tfds:{text}: "?" takes "target=FEATURE" or "input=FEATURE&target=FEATURE" of '
            f"{_listed(held)}."
        )
    for degraded, clean in _PAIRS:
        if degraded in held and clean in held:
            return {"input": degraded, "target": clean}
    for clean in _CLEAN:
        if clean in held:
            return {"target": clean}
    raise InputError(
        f"tfds:{text}: which of {_listed(held)} are the photographs? Say it by ?target=FEATURE or "
        "?input=FEATURE&target=FEATURE at the end."
    )


def _listed(names: Iterable[str]) -> str:
    """Some names in a line, and how many more there are."""
    shown = list(names)
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return ", ".join(shown[:_MOST_NAMED]) + more


def _content(read: Any, index: int, feature: str, name: str) -> bytes:
    """The bytes of one feature of one record: an encoded photograph, or a name."""
    from tensorflow_datasets.proto import tf_example_pb2

    record = _record(read, index, name)
    try:
        held = tf_example_pb2.Example.FromString(record).features.feature
    except Exception as error:  # the parser's own class of error depends on how protobuf was built
        raise InputError(f"{name} cannot be read: {first_line(error)}.") from None
    values: Sequence[bytes] = held[feature].bytes_list.value if feature in held else []
    if len(values) != 1:
        kind = (held[feature].WhichOneof("kind") if feature in held else None) or "nothing"
        raise InputError(
            f"{name}: {feature} is not one encoded photograph but {kind.removesuffix('_list')}"
            f"{f', {len(values)} times' if values else ''}."
        )
    return bytes(values[0])


def _record(read: Any, index: int, name: str) -> Any:
    try:
        return read[index]
    # Array_record raises whatever its bindings make of a broken or vanished file
    except Exception as error:
        raise InputError(f"{name} cannot be read: {first_line(error)}.") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back the warnings of TFDS's imports, which only its authors can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
