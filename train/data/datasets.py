"""Data sets of tensorflow-datasets, read without TensorFlow: random access to array_record files, decoded by us.

Files of other formats can only be read in sequence, and with TensorFlow; the error names the command that prepares a
data set as array_record. Stored images are decoded by :mod:`train.data.images`, so that 16 bits and orientation stay.
"""

import contextlib
import functools
import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from train.data.folders import Listing, folder_of
from train.data.images import decode_image
from train.errors import InputError, first_line

# Builders of our own, each in a package of its own; importing it registers it with TFDS.
BUILDERS = ("bsds500", "lol", "restoration_folder")

FORMAT = "array_record"

# (degraded, clean) features by their usual names; then clean ones alone. The first that a data set has are read.
_PAIRS = (("input", "target"), ("low", "high"), ("noisy", "clean"))
_CLEAN = ("image", "target", "hr")
_NAMES = ("name", "filename", "file_name")

_SPEC = re.compile(
    r"(?P<name>[^:?]+(?::\d+\.\d+\.\d+)?):(?P<split>[^?]+)(?:\?(?P<query>.*))?",
)


def list_dataset(text: str) -> Listing:
    """Photographs of "NAME[/CONFIG][:VERSION]:SPLIT", or of "FOLDER:SPLIT" for a prepared data set's folder.

    SPLIT may be a slice, "train[:80%]". "?target=FEATURE" or "?input=FEATURE&target=FEATURE" picks features by name.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise InputError(f'tfds: takes "NAME[/CONFIG]:SPLIT", such as "tfds:lol:train"; got {text!r}.')
    tfds = import_tfds()
    builder = open_builder(match["name"])
    split = match["split"]
    features = pick_features(builder, match["query"], text)
    try:
        count = builder.info.splits[split].num_examples
        read = builder.as_data_source(split, decoders=_undecoded(tfds, builder))
    except (ValueError, KeyError, AssertionError) as error:
        raise InputError(f"tfds:{text}: {first_line(error)}. Splits: {', '.join(builder.info.splits)}.") from None
    if count == 0:
        raise InputError(f"tfds:{text} holds no photographs.")
    names = _names(read, builder, split)
    decoders = {
        role: [
            functools.partial(_decode, read, i, feature, f"{builder.info.full_name} {name}")
            for i, name in enumerate(names)
        ]
        for role, feature in features.items()
    }
    folder = Path(builder.data_dir)
    return Listing(
        names,
        decoders["target"],
        decoders.get("input"),
        shards=tuple(sorted(folder.glob(f"*.{FORMAT}*"))),
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
            names.append(_text(_record(read, i, place)[feature]))
        except InputError:  # said of each when it is decoded
            names.append(place)
    return tuple(names) if len(set(names)) == len(names) else places


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def import_tfds() -> Any:
    """tensorflow-datasets, which an extra of its own installs."""
    try:
        with _quiet():
            import tensorflow_datasets
    except ImportError as error:
        raise InputError(
            f'tfds: needs tensorflow-datasets ({error.name} is missing): pip install -e ".[tfds]". TensorFlow itself '
            "is not needed."
        ) from None
    return tensorflow_datasets


def make_builder(name: str, **options: Any) -> Any:
    """TFDS's builder of that name, or ours, prepared or not."""
    tfds = import_tfds()
    plain = re.split("[/:]", name)[0]
    if plain in BUILDERS:
        importlib.import_module(f"train.data.builders.{plain}")
    try:
        with _quiet():
            return tfds.builder(name, try_gcs=False, **options)
    except tfds.core.DatasetNotFoundError:
        raise InputError(
            f"tfds: there is no data set {plain!r}. Our own are {', '.join(BUILDERS)}; those of TFDS are listed at "
            "https://www.tensorflow.org/datasets/catalog; for a prepared data set's folder give its path."
        ) from None
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"tfds: {name!r} cannot be opened: {first_line(error)}.") from None


def open_builder(name: str) -> Any:
    """The builder of a prepared data set, or an error with the command that prepares it."""
    if (folder_of(name) / "dataset_info.json").is_file():
        builder = import_tfds().builder_from_directory(folder_of(name))
        how = f"write it as {FORMAT}: its builder's download_and_prepare with file_format={FORMAT!r}"
    else:
        builder = make_builder(name)
        how = f"prepare it by: python -m train data tfds:{name}:train --prepare"
    if not builder.info.splits:
        raise InputError(f"tfds: {name!r} is not prepared in {builder.data_dir}; {how}")
    kind = builder.info.file_format.value
    if kind != FORMAT:
        elsewhere = " --data-dir FOLDER" if how.endswith("--prepare") else ""  # what is there stays as it is
        raise InputError(
            f"tfds: {name!r} is prepared as {kind}, which cannot be read by index without TensorFlow; {how}{elsewhere}"
        )
    return builder


def pick_features(builder: Any, query: str | None, text: str) -> dict[str, str]:
    """Which feature is the target, and which the input, where there is one."""
    held = builder.info.features
    if query is not None:
        asked = dict(part.partition("=")[::2] for part in query.split("&"))
        if "target" in asked and set(asked) <= {"input", "target"} and set(asked.values()) <= set(held):
            return asked
        raise InputError(
            f'tfds:{text}: "?" takes "target=FEATURE" or "input=FEATURE&target=FEATURE" of {", ".join(held)}.'
        )
    for degraded, clean in _PAIRS:
        if degraded in held and clean in held:
            return {"input": degraded, "target": clean}
    for clean in _CLEAN:
        if clean in held:
            return {"target": clean}
    raise InputError(
        f"tfds:{text}: which of {', '.join(held)} are the photographs? Say it by ?target=FEATURE or "
        "?input=FEATURE&target=FEATURE at the end."
    )


def _undecoded(tfds: Any, builder: Any) -> Mapping[str, Any]:
    """Keeps TFDS from decoding images itself: Pillow would cut 16 bits to 8."""
    images = (name for name, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image))
    return {name: tfds.decode.SkipDecoding() for name in images}


def _decode(read: Any, index: int, feature: str, name: str) -> Any:
    content = _record(read, index, name)[feature]
    if not isinstance(content, bytes):
        raise InputError(f"{name}: {feature} is no encoded photograph but {type(content).__name__}.")
    return decode_image(content, name)


def _record(read: Any, index: int, name: str) -> Any:
    try:
        return read[index]
    except Exception as error:  # array_record raises whatever its bindings make of a broken or vanished file
        raise InputError(f"{name} cannot be read: {first_line(error)}.") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS's imports warn about what only its authors can mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
