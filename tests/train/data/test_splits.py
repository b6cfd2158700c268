import functools
import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from train.data.images import read_image, write_image
from train.data.photographs import Memory
from train.data.sources import open_source
from train.data.splits import (
    Splits,
    check_scorable,
    check_unchanged,
    data_warnings,
    describe,
    describe_seen,
    fingerprint,
    leaked,
    open_splits,
    save_splits,
    seen_in,
    trained_on,
)
from train.errors import InputError


@functools.cache
def _encoded(number: int, kind: str) -> bytes:
    """A photograph of one row of random pixels, the same ones for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (1, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _write(folder: Path, names: list[str], *, first: int = 0) -> str:
    """Photographs of which the n-th one always has the same pixels."""
    for i, name in enumerate(names, first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encoded(i, "TIFF" if path.suffix == ".tif" else "PNG"))
    return f"folder:{folder}"


def _names(count: int) -> list[str]:
    return [f"{i:03d}.png" for i in range(count)]


def _members(splits: Splits) -> dict[str, set[str]]:
    assert splits.validation is not None
    return {split: set(source.names) for split, source in zip(Splits._fields, splits, strict=True)}


def test_one_folder_is_split_in_eight_tenths_and_twice_one(tmp_path: Path) -> None:
    members = _members(open_splits(_write(tmp_path, _names(300))))
    sizes = {split: len(names) for split, names in members.items()}
    assert sum(sizes.values()) == 300
    assert len(set.union(*members.values())) == 300  # no photograph is in two splits
    # Of 300, a tenth is 30 with a standard deviation of 5.2: five of these either way.
    assert all(4 <= sizes[split] <= 56 for split in ("validation", "test"))


def test_a_new_photograph_moves_no_other(tmp_path: Path) -> None:
    before = _members(open_splits(_write(tmp_path, _names(60))))
    after = _members(open_splits(_write(tmp_path, ["000a.png", "new/b.png"], first=60)))
    assert all(before[split] <= after[split] for split in before)


def test_copies_stay_together_whatever_their_name_and_format(tmp_path: Path) -> None:
    _write(tmp_path, _names(40))
    _write(tmp_path, [f"copies/{i:03d}.tif" for i in range(40)])
    members = _members(open_splits(f"folder:{tmp_path}"))
    for names in members.values():
        copied = {Path(name).stem for name in names if name.startswith("copies/")}
        assert copied == {Path(name).stem for name in names if not name.startswith("copies/")}


def test_copies_in_sixteen_bits_stay_with_those_in_eight(tmp_path: Path) -> None:
    _write(tmp_path, _names(20))
    for name in _names(20):
        write_image(tmp_path / f"deep {name}", read_image(tmp_path / name).astype(np.uint16) * 257)
    write_image(
        tmp_path / "another.png", read_image(tmp_path / "000.png").astype(np.uint16) * 257 + 1
    )
    source = open_source(f"folder:{tmp_path}", "train")
    assert {entry.bits for entry in source.entries} == {8, 16}
    digests = {entry.name: entry.digest for entry in source.entries}
    assert all(digests[name] == digests[f"deep {name}"] for name in _names(20))
    assert len(set(digests.values())) == 21


def test_folders_stay_whole_where_asked_for(tmp_path: Path) -> None:
    spec = _write(tmp_path, [f"burst{i % 40}/{i}.png" for i in range(120)])
    by_folder = _members(open_splits(spec, group_by="folder"))
    folders = [{name.split("/")[0] for name in names} for names in by_folder.values()]
    assert sum(map(len, folders)) == len(set.union(*folders)) == 40
    by_pixels = [
        {name.split("/")[0] for name in names} for names in _members(open_splits(spec)).values()
    ]
    assert sum(map(len, by_pixels)) > 40  # otherwise the flag would do nothing


def test_what_a_flag_names_is_taken_whole(tmp_path: Path) -> None:
    data, other = (
        _write(tmp_path / "data", _names(60)),
        _write(tmp_path / "other", ["a.png", "b.png"], first=60),
    )
    all_three = _members(open_splits(data))
    splits = open_splits(data, test=other)
    assert splits.test.names == ("a.png", "b.png")
    assert _members(splits)["validation"] == all_three["validation"]
    assert set(splits.train.names) == all_three["train"] | all_three["test"]
    without = open_splits(data, validation="none", test=other)
    assert without.validation is None
    assert len(without.train.names) == 60
    assert leaked(without) == []


def test_packaged_photographs_come_with_all_three() -> None:
    splits = open_splits("photos")
    assert splits.validation is not None and splits.validation.names == ("camera", "coins")
    assert splits.test.names == ("chelsea", "coffee")
    assert leaked(splits) == []


def test_too_few_photographs_to_set_any_aside_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="It has 1 photograph, and none .*name others with --test-data"
    ):
        open_splits(_write(tmp_path, _names(1)))


def test_nothing_left_to_train_on_is_an_error(tmp_path: Path) -> None:
    tenths = []
    for first in range(30):
        data = _write(tmp_path / str(first), _names(1), first=first)
        with pytest.raises(InputError) as error:
            open_splits(data, validation="none")
        tenths.append("none is left to train on" in str(error.value))
    assert any(tenths) and not all(tenths)  # the one photograph is tested on, or trained on


def test_a_tested_photograph_that_is_trained_on_is_noticed(
    tmp_path: Path,
) -> None:
    data = _write(tmp_path / "data", _names(30))
    test = _write(tmp_path / "test", ["same.tif"], first=4)
    splits = open_splits(data, validation="none", test=test)
    assert leaked(splits) == ["same.tif (test)"]


def test_a_run_is_told_of_leaks_and_of_too_little_memory(tmp_path: Path) -> None:
    data = _write(tmp_path, _names(30))
    assert list(data_warnings(open_splits(data))) == []
    leak, memory = data_warnings(
        open_splits(data, validation="none", test=data, memory=Memory(10 * 8 * 3 / 1e6))
    )
    assert "were also used for training" in leak and "000.png (test)" in leak
    assert "20 of 30 photographs do not fit into --memory-mb" in memory


def test_training_photographs_get_the_memory_first(tmp_path: Path) -> None:
    data, test = (
        _write(tmp_path / "data", _names(10)),
        _write(tmp_path / "test", _names(30), first=10),
    )
    splits = open_splits(data, validation="none", test=test, memory=Memory(15 * 8 * 3 / 1e6))
    assert list(data_warnings(splits)) == []
    assert (splits.train.images.kept, splits.test.images.kept) == (10, 5)


def test_a_run_is_told_once_of_files_that_are_passed_over(tmp_path: Path) -> None:
    data = _write(tmp_path, _names(30))
    for name in ("a.txt", "b.heic", "c.heic"):
        (tmp_path / name).touch()
    assert list(data_warnings(open_splits(data))) == [
        f"{data}: 2 .heic files and 1 .txt file were skipped"
    ]


def test_pairs_whose_halves_are_equal_are_reported_once(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a", _names(30)).removeprefix("folder:")
    spec = f"pairs:{folder},{folder}"
    same = "input and target are the same photograph in"
    assert list(data_warnings(open_splits(spec))) == [
        f"{spec}: {same} all 30 pairs. Is one folder named twice?"
    ]
    _write(tmp_path / "b", _names(30), first=1)
    _write(tmp_path / "b", ["007.png"], first=7)
    spec = f"pairs:{folder},{tmp_path / 'b'}"
    assert list(data_warnings(open_splits(spec))) == [f"{spec}: {same} 1 of 30 pairs: 007."]


def test_the_record_names_every_photograph(tmp_path: Path) -> None:
    spec = _write(tmp_path / "data", _names(40))
    splits = open_splits(spec)
    save_splits(splits, tmp_path)
    record = json.loads((tmp_path / "split.json").read_text())
    assert {split: set(part["photographs"]) for split, part in record.items()} == _members(splits)
    assert record["train"]["spec"] == spec
    assert (
        record["test"]["photographs"][splits.test.names[0]]
        == f"8x1 8 bit {splits.test.entries[0].digest}"
    )
    again = open_splits(spec, memory=Memory(0))
    check_unchanged(again, tmp_path)
    assert fingerprint(again) == fingerprint(splits)


def test_a_resume_with_other_photographs_says_which(tmp_path: Path) -> None:
    data = tmp_path / "data"
    splits = open_splits(_write(data, _names(30)), validation="none", test="photos")
    save_splits(splits, tmp_path)
    (data / "003.png").unlink()
    _write(data, ["004.png", "new.png"], first=50)
    changed = open_splits(f"folder:{data}", validation="none", test="photos")
    assert fingerprint(changed)["train"] != fingerprint(splits)["train"]
    assert fingerprint(changed)["test"] == fingerprint(splits)["test"]
    with pytest.raises(InputError) as caught:
        check_unchanged(changed, tmp_path)
    assert (
        "train: 1 added (new.png); train: 1 removed (003.png); train: 1 changed (004.png)."
        in str(caught.value)
    )


def test_photographs_too_small_to_be_scored_are_refused_early(tmp_path: Path) -> None:
    data, test = _write(tmp_path / "data", _names(3)), tmp_path / "test"
    test.mkdir()
    write_image(test / "enough.png", np.zeros((11, 11, 3), np.uint8))
    # Photographs that are only trained on may be small
    check_scorable(open_splits(data, validation="none", test=f"folder:{test}"))
    write_image(test / "tiny.png", np.zeros((11, 10, 3), np.uint8))
    with pytest.raises(
        InputError,
        match=r"1 of 2 photographs of test are too small .* 11 pixels on .*: tiny.png \(10x11\)",
    ):
        check_scorable(open_splits(data, validation="none", test=f"folder:{test}"))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"train": 1}'])
def test_a_run_without_its_record_is_not_resumed(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match=r"split\.json"):
        check_unchanged(open_splits("photos"), tmp_path)


def test_pairs_are_split_by_their_clean_halves(tmp_path: Path) -> None:
    names = _names(40)
    _write(tmp_path / "high", names)
    _write(tmp_path / "low", names, first=1000)
    pairs = _members(open_splits(f"pairs:{tmp_path}/low,{tmp_path}/high"))
    alone = _members(open_splits(f"folder:{tmp_path}/high"))
    assert pairs == {split: {Path(name).stem for name in found} for split, found in alone.items()}
    record = describe(open_splits(f"pairs:{tmp_path}/low,{tmp_path}/high"))["train"]["photographs"]
    assert all(" from " in text for text in record.values())


def test_photographs_that_a_run_was_trained_on_are_named(tmp_path: Path) -> None:
    splits = open_splits(_write(tmp_path / "photographs", _names(20)))
    run = tmp_path / "run"
    (run / "checkpoints" / "4").mkdir(parents=True)
    assert trained_on(run) is None  # an imported network does not have a record
    save_splits(splits, run)
    for checkpoint in (run, run / "checkpoints" / "4"):
        trained = trained_on(checkpoint)
        assert trained is not None and len(trained) == len(splits.train.names)
        assert seen_in(trained, splits.test) == []
        assert seen_in(trained, splits.train) == list(splits.train.names)
    assert describe_seen([]) == ""
    assert describe_seen(["a.png"]) == (
        "these photographs were also used for training, so their scores mean little: a.png"
    )
    (run / "split.json").write_text("{")
    assert trained_on(run) is None
