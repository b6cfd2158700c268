import importlib.abc
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from train.data import dataset_builders, datasets
from train.data.entries import decode_entries
from train.data.images import read_image
from train.data.photographs import Memory
from train.data.sources import list_source, make_photographs, open_source
from train.errors import InputError

pytest.importorskip("tensorflow_datasets")


def test_a_data_set_is_read_by_folder_by_name_and_in_slices(
    lol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(lol / "tfds"))
    whole = open_source("tfds:lol:train", "train")
    assert whole.names == ("10", "2", "5")
    assert whole.inputs is not None
    np.testing.assert_array_equal(whole.images[2], read_image(lol / "our485" / "high" / "5.png"))
    np.testing.assert_array_equal(whole.inputs[2], read_image(lol / "our485" / "low" / "5.png"))
    assert open_source(f"tfds:{lol}/tfds/lol/1.0.0:train[1:]", "train").entries == whole.entries[1:]
    assert open_source("tfds:lol:1.0.0:train", "train").entries == whole.entries
    clean = open_source("tfds:lol:train?target=low", "train")
    assert clean.inputs is None
    np.testing.assert_array_equal(clean.images[0], whole.inputs[0])


@pytest.mark.parametrize(
    ("held", "read"),
    [
        # div2k: its halves have different sizes, so its clean photographs are used alone
        (
            ("lr", "hr"),
            {"target": "hr"},
        ),
        (("image", "label"), {"target": "image"}),
        (("input", "target", "name"), {"input": "input", "target": "target"}),
        (("noisy", "clean"), {"input": "noisy", "target": "clean"}),
    ],
)
def test_usual_names_of_features_are_known(held: tuple[str, ...], read: dict[str, str]) -> None:
    builder = SimpleNamespace(info=SimpleNamespace(features=dict.fromkeys(held)))
    assert datasets.pick_features(builder, None, "x:train") == read
    with pytest.raises(
        InputError, match=r"which of a, b are the photographs\? Add \?target=FEATURE"
    ):
        datasets.pick_features(
            SimpleNamespace(info=SimpleNamespace(features={"a": 0, "b": 0})), None, "x:train"
        )


def test_tensorflow_is_never_imported(lol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    class Finder(importlib.abc.MetaPathFinder):
        """Records imports of TensorFlow, which no extra installs, and finds nothing."""

        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name.partition(".")[0] == "tensorflow":
                attempts.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    open_source(f"tfds:{lol}/tfds/lol/1.0.0:train", "train")
    assert attempts == []
    assert importlib.util.find_spec("tensorflow") is None and attempts == ["tensorflow"]


def test_other_formats_give_the_command_that_prepares_them(
    lol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "1.0.0"
    shutil.copytree(lol / "tfds" / "lol" / "1.0.0", copied)
    info = json.loads((copied / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (copied / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="is prepared as tfrecord, .* Write it as array_record"):
        open_source(f"tfds:{copied}:train", "train")
    kept = tmp_path / "kept" / "lol"
    kept.mkdir(parents=True)
    copied.rename(kept / "1.0.0")
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(kept.parent))
    command = "To prepare it, run: python -m train data tfds:lol:train --prepare --data-dir FOLDER"
    with pytest.raises(InputError, match=f"'lol' is prepared as tfrecord, .* {command}"):
        open_source("tfds:lol:train", "train")


def test_an_unprepared_data_set_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    for name in ("lol", "div2k/bicubic_x2"):
        with pytest.raises(
            InputError,
            match=f"'{name}' is not prepared .* python -m train data tfds:{name}:train --pr",
        ):
            open_source(f"tfds:{name}:train", "train")


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("{}:validation", "Splits: train, test"),
        ("{}:train[9:]", "incompatible with 3 examples. Splits: train, test"),
        ("{}:train[:0]", "holds no photographs"),
        ("{}:train?target=hihg", 'write "target=FEATURE" .*features are .*high'),
        ("{}", '.* lacks a split. Write "tfds:NAME'),
        (
            "nothing_like_it:train",
            "there is no data set 'nothing_like_it'. Choose one of ours .bsds500, lol",
        ),
        ("lol/none:train", "'lol/none' cannot be opened"),
        (
            "restoration_folder:train",
            "needs a folder. Run: python -m train data folder:PATH --prepare",
        ),
    ],
)
def test_a_wrong_spec_says_what_there_is(rest: str, message: str, lol: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_source("tfds:" + rest.format(lol / "tfds" / "lol" / "1.0.0"), "train")


def test_a_broken_file_of_records_is_an_error_by_name(lol: Path, tmp_path: Path) -> None:
    copied = tmp_path / "1.0.0"
    shutil.copytree(lol / "tfds" / "lol" / "1.0.0", copied)
    (records,) = copied.glob("lol-train*")
    records.write_bytes(records.read_bytes()[:200])
    with pytest.raises(
        InputError, match=r"lol-train.array_record-00000-of-00001 cannot be read: it has 200 bytes"
    ):
        open_source(f"tfds:{copied}:train", "train")


def test_an_unreadable_record_does_not_hide_the_others(
    lol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = datasets._record

    def broken(records: object, index: int, name: str) -> object:
        if index == 1:
            raise InputError(f"{name} cannot be read: it is broken")
        return read(records, index, name)

    monkeypatch.setattr(datasets, "_record", broken)
    listing = list_source(f"tfds:{lol}/tfds/lol/1.0.0:train", "train")
    assert listing.names == ("10", "train-000001", "5")
    found = decode_entries(listing.names, *make_photographs(listing, Memory(0)))
    assert [isinstance(each, InputError) for each in found] == [False, True, False]


def test_without_the_extra_the_error_names_it(lol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r'pip install -e "\.\[tfds\]"'):
        open_source(f"tfds:{lol}/tfds/lol/1.0.0:train", "train")


def test_an_error_without_a_message_is_named_by_its_kind(
    lol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        """Records whose bindings raise an error without a message."""

        def __getitem__(self, index: int) -> object:
            raise KeyError

    with pytest.raises(InputError, match=r"^one cannot be read: KeyError\.$"):
        datasets._record(Broken(), 0, "one")

    def silent(*args: object, **options: object) -> None:
        raise ValueError

    monkeypatch.setattr("tensorflow_datasets.builder_cls", silent)
    with pytest.raises(InputError, match=r"'lol' cannot be opened: ValueError\."):
        dataset_builders.make_builder("lol")
    builder = datasets.open_builder(f"{lol}/tfds/lol/1.0.0")
    monkeypatch.setattr(builder, "as_data_source", silent)
    monkeypatch.setattr(datasets, "open_builder", lambda name: builder)
    with pytest.raises(InputError, match=r"tfds:lol:train: ValueError\. Splits: train, test\."):
        datasets.list_dataset("lol:train")
