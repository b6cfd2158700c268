"""Reads data sets of tensorflow-datasets from array_record files, without TensorFlow.

Stored images are decoded by :mod:`train.data.images`, which keeps 16 bits and turns photographs
upright.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.data import array_records
from train.data.dataset_builders import import_tfds, open_builder
from train.data.example_records import MalformedError, read_feature
from train.data.folders import Listing, parse_settings
from train.data.stored import StoredPhotograph
from train.errors import InputError, first_line

# The usual names of (degraded, clean) features, and then of clean ones alone. The first ones that a
# data set has are read.
_PAIRS = (("input", "target"), ("low", "high"), ("noisy", "clean"))
_CLEAN = ("image", "target", "hr")
_LONGEST_NAME = 1000  # characters
_MOST_NAMED = 20  # splits or features in an error
_NAMES = ("name", "filename", "file_name")

# The last colon outside brackets separates the split from the name, which may be a path with
# colons.
_SLICE = r"[^?:/\[\]]+(?:\[[^?/\[\]]*\])?"  # "train" or "train[:80%]"
_SPEC = re.compile(rf"(?P<name>[^?]+):(?P<split>{_SLICE}(?:\+{_SLICE})*)(?:\?(?P<query>.*))?")


@dataclass(frozen=True)
class StoredRecord(StoredPhotograph):
    """A photograph in a record of a data set."""

    read: Any  # TFDS's data source, which gives records by index
    index: int
    feature: str  # name of the feature that holds the photograph

    def content(self) -> bytes:
        """The feature's bytes."""
        return _content(self.read, self.index, self.feature, self.name)


def list_dataset(text: str) -> Listing:
    """Lists the photographs of "NAME[/CONFIG][:VERSION]:SPLIT" or "FOLDER:SPLIT".

    FOLDER is the folder of a prepared data set. SPLIT may be a slice such as "train[:80%]".
    "?target=FEATURE" or "?input=FEATURE&target=FEATURE" at the end chooses features by name.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        wrong = "is not accepted" if ":" in text else "lacks a split"
        raise InputError(
            f'tfds:{text} {wrong}. Write "tfds:NAME[/CONFIG]:SPLIT", such as "tfds:lol:train".'
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
        # Records are read raw. So no decoder of TFDS runs, which would use Pillow and reduce 16
        # bits to 8.
        read = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except InputError:
        raise
    except Exception as error:  # TFDS's parser of splits may raise anything
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
    """The photographs' names if the data set keeps them, and otherwise their places in the split.

    Args:
      read: TFDS's data source.
      builder: the data set's builder.
      split: the name of the split.

    Returns:
      A name for each photograph, all different.
    """
    places = tuple(f"{split}-{i:06d}" for i in range(len(read)))
    feature = next((name for name in _NAMES if name in builder.info.features), None)
    if feature is None:
        return places
    names = []
    for i, place in enumerate(places):
        try:
            name = _content(read, i, feature, place).decode(errors="replace")
            names.append(name if 0 < len(name) <= _LONGEST_NAME else place)
        except InputError:  # raised again when the photograph is decoded
            names.append(place)
    return tuple(names) if len(set(names)) == len(names) else places


def pick_features(builder: Any, query: str | None, text: str) -> dict[str, str]:
    """Picks the features of a data set that hold photographs.

    Args:
      builder: the data set's builder.
      query: the text after "?" in the spec, or None.
      text: the whole spec, for errors.

    Returns:
      The name of the feature "target" and, for pairs, of "input".

    Raises:
      InputError: if a feature is missing, or it is unclear which ones hold photographs.
    """
    held = builder.info.features
    if query is not None:
        asked = parse_settings(query, ("input", "target"))
        if asked is not None and "target" in asked and set(asked.values()) <= set(held):
            return asked
        raise InputError(
            f'tfds:{text}: write "target=FEATURE" or "input=FEATURE&target=FEATURE" after "?". The '
            f"features are {_listed(held)}."
        )
    for degraded, clean in _PAIRS:
        if degraded in held and clean in held:
            return {"input": degraded, "target": clean}
    for clean in _CLEAN:
        if clean in held:
            return {"target": clean}
    raise InputError(
        f"tfds:{text}: which of {_listed(held)} are the photographs? Add ?target=FEATURE or "
        "?input=FEATURE&target=FEATURE at the end."
    )


def _listed(names: Iterable[str]) -> str:
    """The first names in a line, and how many more there are."""
    shown = list(names)
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    return ", ".join(shown[:_MOST_NAMED]) + more


def _content(read: Any, index: int, feature: str, name: str) -> bytes:
    """Reads the bytes of a feature, an encoded photograph or a name, from a record.

    Args:
      read: TFDS's data source.
      index: the record's place in it.
      feature: name of the feature.
      name: the record's name, for errors.

    Returns:
      The bytes.

    Raises:
      InputError: if the record cannot be read, or does not have exactly one such value.
    """
    try:
        kind, values = read_feature(_record(read, index, name), feature)
    except MalformedError as error:
        raise InputError(f"{name} cannot be read as a record: {error}.") from None
    if len(values) != 1:
        raise InputError(
            f"{name}: {feature} must be one encoded photograph; it is "
            f"{kind or 'nothing'}{f', {len(values)} times' if values else ''}."
        )
    return values[0]


def _record(read: Any, index: int, name: str) -> Any:
    try:
        return read[index]
    # The bindings of array_record raise different exceptions for broken or missing files.
    except Exception as error:
        raise InputError(f"{name} cannot be read: {first_line(error)}.") from None
