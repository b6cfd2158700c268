"""What a prepared data set says of itself, checked before tensorflow-datasets believes it.

``features.json`` names Python classes. TFDS imports the module of each one, so a folder that
somebody was given could run code. ``dataset_info.json`` says how many records there are, and how
their files are called, through a Python format string. Both are read here first, bounded in size,
and by the same parser that TFDS uses; only descriptions that pass are handed on.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.errors import InputError, first_line

INFO = "dataset_info.json"
FEATURES = "features.json"

MAX_BYTES = 500_000  # of one description; that of a thousand shards takes 20 kilobytes
MAX_NAME = 200  # letters
_MOST_SPLITS = 1000
_MAX_RECORDS = 2**40  # of one split

# Classes that do nothing but hold their settings when they are made. The package that they are in
# is part of the name.
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
_FEATURE = re.compile(r"[^*?\[\]\\\x00-\x1f]+")  # TFDS looks for files by this name as a pattern
_PLACES = "DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y"
_TEMPLATE = re.compile(rf"(?:[\w.\-/]|\{{(?:{_PLACES})\}})*")


def check_description(folder: Path) -> None:
    """Refuses a prepared data set whose description names what it may not, or makes no sense."""
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import feature_pb2

    info = check_info(folder)
    if info.HasField("features"):
        _check_feature(info.features, folder / INFO)

    path = folder / FEATURES
    if not path.exists():
        if info.HasField("features"):
            return
        raise _unusable(path, "it is missing, and without it nobody knows what the records hold")
    try:
        content = json.loads(read_bounded(path))
        if not isinstance(content, dict):
            raise _unusable(path, f"it holds {type(content).__name__} instead of an object")
        if "type" in content:
            raise _unusable(path, "it is of TFDS before 4.5: prepare the data set again")
        feature = json_format.ParseDict(content, feature_pb2.Feature())
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(path, f"it does not describe features: {first_line(error)}") from None
    _check_feature(feature, path)
    if feature.python_class_name != f"{_PACKAGE}features_dict.FeaturesDict":
        raise _unusable(path, "it describes one feature, where a FeaturesDict has to be")
    for labels in folder.glob("*.labels.txt"):  # TFDS reads them whole
        read_bounded(labels)


def check_info(folder: Path) -> Any:
    """The names and numbers in ``dataset_info.json``, checked, in TFDS's own form."""
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import dataset_info_pb2

    path = folder / INFO
    text = read_bounded(path)
    try:
        info = json_format.Parse(text, dataset_info_pb2.DatasetInfo())
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise _unusable(path, f"it is not a data set's description: {first_line(error)}") from None
    for complaint in _of_info(info, folder):
        raise _unusable(path, complaint)
    return info


def usual_config(path: Path) -> str | None:
    """The configuration that TFDS reads if none is named; TFDS keeps it beside all of them."""
    try:
        content = json.loads(read_bounded(path))
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"it is not JSON: {first_line(error)}") from None
    name = content.get("default_config_name") if isinstance(content, dict) else None
    if name is not None and not (isinstance(name, str) and _is_config(name)):
        raise _unusable(path, f"it calls a configuration {shown(str(name))}")
    return name


def read_bounded(path: Path) -> str:
    """A small file's text; what is no file, or too large to be a description, is refused."""
    try:
        if not path.is_file():  # a pipe would be waited for, and a device never ends
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
    """What a file says, short and with its control characters written out."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")


def _of_info(info: Any, folder: Path) -> Iterator[str]:
    """What is wrong with a data set's names and numbers, in words."""
    if len(info.name) > MAX_NAME or not _DATA_SET.fullmatch(info.name):
        yield f"its name is {shown(info.name)}, where letters, digits and underscores have to be"
    if info.config_name and not _is_config(info.config_name):
        yield f"its configuration is called {shown(info.config_name)}"
    if not _VERSION.fullmatch(info.version):
        yield f"its version is {shown(info.version)}, where 1.0.0 or the like has to be"
    if len(info.splits) > _MOST_SPLITS:
        yield f"it has {len(info.splits)} splits, and at most {_MOST_SPLITS} are read"
    files = sum(1 for _ in folder.rglob("*")) if info.splits else 0
    for split in info.splits:
        if len(split.name) > MAX_NAME or not _SPLIT.fullmatch(split.name):
            yield f"one of its splits is called {shown(split.name)}"
        template = split.filepath_template
        beyond = template.startswith("/") or ".." in template.split("/")
        if len(template) > MAX_NAME or beyond or not _TEMPLATE.fullmatch(template):
            yield f"the files of {split.name} are called {shown(template)}"
        if len(split.shard_lengths) > files:
            yield (
                f"it has {len(split.shard_lengths)} shards for {split.name}, where its folder "
                f"holds {files} files"
            )
        if any(length < 0 for length in split.shard_lengths):
            shortest = min(split.shard_lengths)
            yield f"the shard lengths of {split.name} hold {shortest}, which is below 0"
        if sum(split.shard_lengths) > _MAX_RECORDS:
            yield f"{split.name} has {sum(split.shard_lengths)} records, more than any disk holds"


def _is_config(name: str) -> bool:
    return len(name) <= MAX_NAME and _CONFIG.fullmatch(name) is not None


def _check_feature(feature: Any, path: Path) -> None:
    """Refuses a feature, and those within it, unless making them does nothing else.

    How deep they lie in each other is bounded by the parser, which refuses a hundred levels.
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
            path, f"it describes {shown(name)} in JSON of its own or not at all: prepare it again"
        )
    held = getattr(feature, content)
    fields = held.DESCRIPTOR.fields_by_name
    if "dtype" in fields and held.dtype not in _DTYPES:
        raise _unusable(
            path,
            f"it has values of the type {shown(held.dtype)}; known are {', '.join(_DTYPES[1:])}",
        )
    if content == "sequence":
        _check_feature(held.feature, path)
    if content == "features_dict":
        for inner, described in held.features.items():
            if len(inner) > MAX_NAME or not _FEATURE.fullmatch(inner) or ".." in inner.split("/"):
                raise _unusable(path, f"it calls a feature {shown(inner)}")
            _check_feature(described, path)


def _unusable(path: Path, why: str) -> InputError:
    return InputError(f"tfds: {path} cannot be used: {why}.")
