"""Checks the description of a prepared data set before tensorflow-datasets uses it.

``features.json`` names Python classes. TFDS imports the module of each class, so a folder from
somebody else could run code. ``dataset_info.json`` states the number of records, and the names of
their files through a Python format string. Both are read here first, bounded in size, with the same
parser that TFDS uses. TFDS gets only descriptions that pass.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.errors import InputError, first_line

INFO = "dataset_info.json"
FEATURES = "features.json"

MAX_BYTES = 500_000  # size of a description; one with a thousand shards takes 20 kilobytes
MAX_NAME = 200  # characters
_MOST_SPLITS = 1000
_MAX_RECORDS = 2**40  # records in one split

# Classes that only store their settings when they are made. Their names include their package.
_CLASSES = (
    "bounding_boxes.BBoxFeature",
    "class_label_feature.ClassLabel",
    "features_dict.FeaturesDict",
    "image_feature.Image",
    "labeled_image.LabeledImage",
    "scalar.Scalar",
    "sequence_feature.Sequence",
    "tensor_feature.Tensor",
    "text_feature.Text",
)
_PACKAGE = "tensorflow_datasets.core.features."
_NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES = ("", "string", "bool", "float16", "float32", "float64", *_NUMBERS)

_DATA_SET = re.compile(r"[A-Za-z]\w*", re.ASCII)
_CONFIG = re.compile(r"\w[\w+.\-]*")
_VERSION = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)
_SPLIT = re.compile(r"\w[\w\-]*")
_FEATURE = re.compile(r"[^*?\[\]\\\x00-\x1f]+")  # TFDS uses such a name as a pattern for files
_PLACES = "DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y"
_TEMPLATE = re.compile(rf"(?:[\w.\-/]|\{{(?:{_PLACES})\}})*")


def check_description(folder: Path) -> None:
    """Refuses a prepared data set whose description makes no sense, or names other classes."""
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import feature_pb2

    info = check_info(folder)
    if info.HasField("features"):
        _check_feature(info.features, folder / INFO)

    path = folder / FEATURES
    if not path.exists():
        if info.HasField("features"):
            return
        raise _unusable(path, "it is missing, and the records cannot be read without it")
    try:
        content = json.loads(read_bounded(path))
        if not isinstance(content, dict):
            raise _unusable(path, f"it holds {type(content).__name__} instead of an object")
        if "type" in content:
            raise _unusable(path, "it is from a TFDS before 4.5, so prepare the data set again")
        feature = json_format.ParseDict(content, feature_pb2.Feature())
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(path, f"it does not describe features: {first_line(error)}") from None
    _check_feature(feature, path)
    if feature.python_class_name != f"{_PACKAGE}features_dict.FeaturesDict":
        raise _unusable(path, "it must describe a FeaturesDict, and describes a single feature")
    for labels in folder.glob("*.labels.txt"):  # TFDS reads them whole
        read_bounded(labels)


def check_info(folder: Path) -> Any:
    """Reads and checks the names and numbers in ``dataset_info.json``, as a message of TFDS's."""
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import dataset_info_pb2

    path = folder / INFO
    text = read_bounded(path)
    try:
        info = json_format.Parse(text, dataset_info_pb2.DatasetInfo())
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise _unusable(path, f"it does not describe a data set: {first_line(error)}") from None
    for complaint in _of_info(info, folder):
        raise _unusable(path, complaint)
    return info


def usual_config(path: Path) -> str | None:
    """The name of the default configuration, from the file that TFDS keeps for it."""
    try:
        content = json.loads(read_bounded(path))
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"it is not JSON: {first_line(error)}") from None
    name = content.get("default_config_name") if isinstance(content, dict) else None
    if name is not None and not (isinstance(name, str) and _is_config(name)):
        raise _unusable(path, f"it names a configuration {shown(str(name))}")
    return name


def read_bounded(path: Path) -> str:
    """Reads a small text file. Anything that is not a file, or is too large, is refused."""
    try:
        if not path.is_file():  # reading a pipe would block, and reading a device may never end
            raise _unusable(path, "it is missing, or is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from None
    if len(content) > MAX_BYTES:
        raise _unusable(path, f"it has more than {MAX_BYTES // 1000} kB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _unusable(path, "it is not text") from None


def shown(text: str) -> str:
    """A text from a file, shortened, and with its control characters escaped."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")


def _of_info(info: Any, folder: Path) -> Iterator[str]:
    """Yields what is wrong with a data set's names and numbers, in words."""
    if len(info.name) > MAX_NAME or not _DATA_SET.fullmatch(info.name):
        yield (
            f"its name is {shown(info.name)}, and must consist of letters, digits and underscores"
        )
    if info.config_name and not _is_config(info.config_name):
        yield f"its configuration has the name {shown(info.config_name)}"
    if not _VERSION.fullmatch(info.version):
        yield f"its version is {shown(info.version)}, and must look like 1.0.0"
    if len(info.splits) > _MOST_SPLITS:
        yield f"it has {len(info.splits)} splits, and at most {_MOST_SPLITS} are read"
    files = sum(1 for _ in folder.rglob("*")) if info.splits else 0
    for split in info.splits:
        if len(split.name) > MAX_NAME or not _SPLIT.fullmatch(split.name):
            yield f"one of its splits has the name {shown(split.name)}"
        template = split.filepath_template
        beyond = template.startswith("/") or ".." in template.split("/")
        if len(template) > MAX_NAME or beyond or not _TEMPLATE.fullmatch(template):
            yield f"the files of {split.name} have names of the form {shown(template)}"
        if len(split.shard_lengths) > files:
            yield (
                f"it states {len(split.shard_lengths)} shards for {split.name}, and its folder "
                f"holds only {files} files"
            )
        if any(length < 0 for length in split.shard_lengths):
            shortest = min(split.shard_lengths)
            yield f"a shard of {split.name} has {shortest} records, which is below 0"
        if sum(split.shard_lengths) > _MAX_RECORDS:
            yield (
                f"{split.name} has {sum(split.shard_lengths)} records, more than a disk can hold"
            )


def _is_config(name: str) -> bool:
    return len(name) <= MAX_NAME and _CONFIG.fullmatch(name) is not None


def _check_feature(feature: Any, path: Path) -> None:
    """Refuses a feature, or features within it, whose classes may do more than hold settings.

    The parser limits how deeply features are nested: it refuses a hundred levels.
    """
    name = feature.python_class_name
    if not name.startswith(_PACKAGE) or name.removeprefix(_PACKAGE) not in _CLASSES:
        plain = ", ".join(each.rpartition(".")[2] for each in _CLASSES)
        raise _unusable(
            path,
            f"it names the class {shown(name)}. Only these classes of tensorflow-datasets are "
            f"read: {plain}",
        )
    content = feature.WhichOneof("content")
    if content in (None, "json_feature"):
        raise _unusable(
            path,
            f"it does not describe {shown(name)} in the form that TFDS uses now, so prepare the "
            "data set again",
        )
    held = getattr(feature, content)
    fields = held.DESCRIPTOR.fields_by_name
    if "dtype" in fields and held.dtype not in _DTYPES:
        raise _unusable(
            path,
            f"it has values of the type {shown(held.dtype)}. The known types are "
            f"{', '.join(_DTYPES[1:])}",
        )
    if content == "sequence":
        _check_feature(held.feature, path)
    if content == "features_dict":
        for inner, described in held.features.items():
            if len(inner) > MAX_NAME or not _FEATURE.fullmatch(inner) or ".." in inner.split("/"):
                raise _unusable(path, f"it names a feature {shown(inner)}")
            _check_feature(described, path)


def _unusable(path: Path, why: str) -> InputError:
    return InputError(f"tfds: {path} cannot be used: {why}.")
