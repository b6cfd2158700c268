import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from train.__main__ import main
from train.data import datasets
from train.data.dataset_builders import make_builder
from train.data.sources import list_source, open_source
from train.errors import InputError

pytest.importorskip("tensorflow_datasets")

CLASSES = "tensorflow_datasets.core.features"
EVIL = {"pythonClassName": "canary.evil.Feature", "text": {}}


@pytest.fixture
def prepared(lol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared data set, and in the working directory a module that reports its import."""
    copied = tmp_path / "tfds" / "pictures" / "1.0.0"
    shutil.copytree(lol / "tfds" / "lol" / "1.0.0", copied)
    for path in copied.glob("lol-*"):
        path.rename(path.with_name(path.name.replace("lol", "pictures")))
    edit(copied / "dataset_info.json", lambda content: content.update(name="pictures"))
    package = tmp_path / "canary"
    package.mkdir()
    for name in ("__init__", "evil", "builder", "canary_dataset_builder"):
        (package / f"{name}.py").write_text("from pathlib import Path\nPath('sang').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path / "tfds"))
    return copied


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def silent(folder: Path) -> bool:
    """Whether the canary was not imported."""
    imported = [name for name in sys.modules if name.split(".")[0] == "canary"]
    return not imported and not (folder / "sang").exists()


def features_of(inner: dict[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": f"{CLASSES}.features_dict.FeaturesDict",
        "featuresDict": {"features": inner},
    }


HOSTILE_FEATURES = {
    "the whole": EVIL,
    "one of them": features_of({"high": EVIL}),
    "with an underscore": features_of(
        {"high": {"python_class_name": "canary.evil.Feature", "text": {}}}
    ),
    "deeper": features_of({"a": features_of({"high": EVIL})}),
    "in a sequence": features_of(
        {
            "a": {
                "pythonClassName": f"{CLASSES}.sequence_feature.Sequence",
                "sequence": {"feature": EVIL},
            }
        }
    ),
    "of an old TFDS": {"type": "canary.evil.Feature", "content": {}},
    "in JSON of its own": {
        "pythonClassName": f"{CLASSES}.features_dict.FeaturesDict",
        "jsonFeature": {
            "json": json.dumps({"high": {"type": "canary.evil.Feature", "content": {}}})
        },
    },
    "a builder of TFDS": features_of(
        {"high": {"pythonClassName": "tensorflow_datasets.video.x.Y", "text": {}}}
    ),
    "reads any file": {
        "type": f"{CLASSES}.class_label_feature.ClassLabel",
        "content": {"names_file": "/etc/hosts"},
    },
}


@pytest.mark.parametrize("where", HOSTILE_FEATURES)
def test_no_module_that_a_data_set_names_is_imported(
    where: str, prepared: Path, tmp_path: Path
) -> None:
    (prepared / "features.json").write_text(json.dumps(HOSTILE_FEATURES[where]))
    for spec in (f"tfds:{prepared}:train", "tfds:pictures:train", "tfds:pictures:1.0.0:train"):
        with pytest.raises(InputError, match=r"features\.json cannot be used: it "):
            open_source(spec, "train")
    assert silent(tmp_path)


def test_nor_one_that_its_other_file_names(prepared: Path, tmp_path: Path) -> None:
    edit(
        prepared / "dataset_info.json",
        lambda content: content.update(features=features_of({"high": EVIL})),
    )
    for spec in (f"tfds:{prepared}:train", "tfds:pictures:train"):
        with pytest.raises(
            InputError, match=r"dataset_info\.json cannot be used: it names the class 'canary"
        ):
            open_source(spec, "train")
    (prepared / "features.json").unlink()
    with pytest.raises(InputError, match="names the class"):
        open_source(f"tfds:{prepared}:train", "train")
    assert silent(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "canary",
        "canary.evil",
        "canary.builder:1.0.0",
        "canary:evil",
        "huggingface:canary",
        "kaggle:canary/x",
        "canary/a=b",
    ],
)
def test_a_name_imports_nothing_from_the_working_directory(
    name: str, prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="there is no data set"):
        make_builder(name)
    assert main(["data", f"tfds:{name}:train", "--prepare", f"--data-dir={tmp_path}/new"]) == 2
    assert silent(tmp_path)


def test_the_usual_configuration_is_a_plain_name(prepared: Path, tmp_path: Path) -> None:
    common = prepared.parent / ".config" / "metadata.json"
    common.parent.mkdir()
    for content in (
        '{"default_config_name": "../../x"}',
        '{"default_config_name": [1]}',
        "{",
        '"' * 3,
    ):
        common.write_text(content)
        with pytest.raises(InputError, match=r"metadata\.json cannot be used"):
            open_source("tfds:pictures:train", "train")
    (prepared.parent / "small").mkdir()
    prepared.rename(prepared.parent / "small" / "1.0.0")
    edit(
        prepared.parent / "small" / "1.0.0" / "dataset_info.json",
        lambda content: content.update(configName="small"),
    )
    common.write_text('{"default_config_name": "small"}')
    assert len(open_source("tfds:pictures:train", "train").names) == 3
    assert len(open_source("tfds:pictures/small:1.0.0:train", "train").names) == 3


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"a": 1}',
        b'{"splits": 3}',
        b"9" * 9999,
    ],
    ids=range(12),
)
def test_a_malformed_description_is_one_sentence(file: str, content: bytes, prepared: Path) -> None:
    (prepared / file).write_bytes(content)
    with pytest.raises(InputError, match=rf"^tfds: .*{file} cannot be used: [^\n]*\.$"):
        open_source(f"tfds:{prepared}:train", "train")


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "label.labels.txt"])
def test_a_description_without_an_end_is_not_read(file: str, prepared: Path) -> None:
    path = prepared / file
    path.unlink(missing_ok=True)
    path.write_bytes(b" " * 17_000_000)
    with pytest.raises(InputError, match=rf"{file} cannot be used: it has more than 500 kB"):
        open_source(f"tfds:{prepared}:train", "train")
    path.unlink()
    if (
        file == "dataset_info.json"
    ):  # without it the folder is not a data set, which is another error
        return
    os.mkfifo(path)
    with pytest.raises(
        InputError, match=rf"{file} cannot be used: it is missing, or is not a file"
    ):
        open_source(f"tfds:{prepared}:train", "train")


def first_split(**changes: Any) -> Callable[[Any], None]:
    return lambda content: content["splits"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            first_split(shardLengths=["9000000000000000000"]),
            "9000000000000000000 records, more than a disk can hold",
        ),
        (first_split(shardLengths=["900000000"]), r"cannot hold the 900000000 records"),
        (first_split(shardLengths=["4"]), r"holds 3 records, but dataset_info\.json states 4"),
        (first_split(shardLengths=["2"]), r"holds 3 records, but dataset_info\.json states 2"),
        (first_split(shardLengths=["-3"]), "has -3 records, which is below 0"),
        (first_split(shardLengths=["-3", "6"]), "has -3 records, which is below 0"),
        (first_split(shardLengths=["three"]), "does not describe a data set"),
        (first_split(shardLengths=[3.5]), "does not describe a data set"),
        (
            first_split(shardLengths=["1"] * 1000),
            "1000 shards for train, and its folder holds only 4 files",
        ),
        (
            first_split(shardLengths=["2", "1"]),
            "00000-of-00002, a file of the data set, is missing",
        ),
        (first_split(shardLengths=[]), "holds no photographs"),
        (first_split(filepathTemplate="{DATASET:>99999999999}"), "files of train have names"),
        (first_split(filepathTemplate="{DATASET.__class__}"), "files of train have names"),
        (first_split(filepathTemplate="/etc/{SPLIT}"), "files of train have names"),
        (first_split(filepathTemplate="../../{SPLIT}"), "files of train have names"),
        (first_split(name="../x"), "one of its splits has the name"),
        (lambda content: content.update(name="../../x"), "its name is"),
        (lambda content: content.update(name="a\x1b[2J"), r"its name is 'a\\x1b\[2J'"),
        (lambda content: content.update(version="1"), "its version is '1'"),
        (lambda content: content.update(configName="../x"), "its configuration has the name"),
        (lambda content: content.update(fileFormat="pickle"), "'pickle' is not a valid FileFormat"),
        (lambda content: content.pop("fileFormat"), "is prepared as tfrecord"),
        (lambda content: content.pop("splits"), "is not prepared in"),
        (
            lambda content: content["splits"].extend({"name": f"s{i}"} for i in range(1000)),
            "has 1002 splits",
        ),
    ],
)
def test_numbers_and_names_of_a_description_are_not_believed(
    change: Callable[[Any], Any], message: str, prepared: Path
) -> None:
    edit(prepared / "dataset_info.json", change)
    with pytest.raises(InputError, match=message) as caught:
        open_source(f"tfds:{prepared}:train", "train")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"pythonClassName": f"{CLASSES}.image_feature.Image"}, "in the form that TFDS uses now"),
        ({"pythonClassName": f"{CLASSES}.image_feature.Image", "text": {}}, "cannot be opened"),
        (
            {
                "pythonClassName": f"{CLASSES}.tensor_feature.Tensor",
                "tensor": {"dtype": "canary.evil"},
            },
            "values of the type 'canary.evil'",
        ),
    ],
)
def test_features_that_make_no_sense_are_refused(
    feature: dict[str, Any], message: str, prepared: Path
) -> None:
    (prepared / "features.json").write_text(json.dumps(features_of({"high": feature})))
    with pytest.raises(InputError, match=message):
        open_source(f"tfds:{prepared}:train", "train")
    (prepared / "features.json").write_text(json.dumps(features_of({"**/../high": feature})))
    with pytest.raises(InputError, match="it names a feature"):
        open_source(f"tfds:{prepared}:train", "train")


def test_features_in_each_other_without_end_are_refused(prepared: Path) -> None:
    deep: dict[str, Any] = features_of({})
    for _ in range(300):
        deep = features_of({"a": deep})
    (prepared / "features.json").write_text(json.dumps(deep))
    with pytest.raises(
        InputError, match=r"features\.json cannot be used: it does not describe features"
    ):
        open_source(f"tfds:{prepared}:train", "train")


def test_a_builder_of_ours_does_not_believe_a_description_either(
    lol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "lol" / "1.0.0"
    shutil.copytree(lol / "tfds" / "lol" / "1.0.0", kept)
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    (kept / "features.json").write_text(json.dumps({"type": "canary.evil.Feature", "content": {}}))
    assert (
        len(open_source("tfds:lol:train", "train").names) == 3
    )  # the builder knows its features itself
    for content in ("{", "[]", '{"name": "../x"}'):
        (kept / "dataset_info.json").write_text(content)
        with pytest.raises(InputError, match=r"dataset_info\.json cannot be used"):
            open_source("tfds:lol:train", "train")


def test_a_name_without_end_is_not_used(lol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_LONGEST_NAME", 1)
    assert list_source(f"tfds:{lol}/tfds/lol/1.0.0:train", "train").names == (
        "train-000000",
        "2",
        "5",
    )
