import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data.images import write_image
from train.data.photographs import Memory
from train.data.sources import list_source, open_source
from train.errors import InputError, list_below, list_some


def _pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)


def _write(path: Path, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels(seed)).save(path)
    return _pixels(seed)


def test_the_packaged_splits_share_no_photograph() -> None:
    train, validation, test = (
        open_source("photos", split) for split in ("train", "validation", "test")
    )
    assert train.names == ("astronaut", "rocket", "motorcycle_left", "motorcycle_right")
    assert validation.names == ("camera", "coins")
    assert test.names == ("chelsea", "coffee")
    every = [image for source in (train, validation, test) for image in source.images]
    assert len({image.tobytes() for image in every}) == 8
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in every)
    # The entries agree with the decoded photographs.
    for image, entry in zip(train.images, train.entries, strict=True):
        assert (entry.height, entry.width, entry.bits) == (*image.shape[:2], 8)


def test_the_samples_are_tested_on_eight_pictures_and_trained_on_none_of_them() -> None:
    train, test = open_source("samples", "train"), open_source("samples", "test")
    assert train.names == open_source("photos", "train").names
    sizes = {entry.name: (entry.width, entry.height) for entry in test.entries}
    assert len(sizes) == 8 and sizes["china"] == (640, 427)
    assert sizes["hubble_deep_field"] == (1000, 872)
    assert not {entry.digest for entry in train.entries} & {entry.digest for entry in test.entries}
    assert len({entry.digest for entry in test.entries}) == 8


def test_a_package_that_is_missing_is_named(monkeypatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else find_spec(name)
    )
    with pytest.raises(InputError, match=r"picture of sklearn, which is not installed.*compare"):
        open_source("samples", "test")


def test_a_folder_is_read_below_too_and_in_order(tmp_path: Path) -> None:
    second = _write(tmp_path / "b" / "züri.PNG", 1)
    first = _write(tmp_path / "a.bmp", 2)
    (tmp_path / "notes.txt").write_text("no photograph")
    (tmp_path / "._a.bmp").write_bytes(b"what a system leaves beside a photograph")
    source = open_source(f"folder:{tmp_path}", "train")
    assert source.names == ("a.bmp", "b/züri.PNG")
    np.testing.assert_array_equal(source.images[0], first)
    np.testing.assert_array_equal(source.images[1], second)


def test_copies_in_hidden_folders_are_no_photographs_of_it(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden itself"
    _write(folder / "b" / "one.png", 1)
    for copy in (".thumbnails/one.png", "b/.ipynb_checkpoints/one.png", "b/.trash/deeper/one.png"):
        _write(folder / copy, 1)
    (folder / "b" / ".trash" / "deeper" / "two.txt").touch()
    listing = list_source(f"folder:{folder}", "train")
    assert listing.names == ("b/one.png",) and not listing.others


@pytest.mark.parametrize("spec", ["photo", "photos:x", "folder:", "folder", "pairs:", "tfds:"])
def test_an_unknown_spec_is_refused_with_all_kinds_of_specs(spec: str) -> None:
    with pytest.raises(InputError) as error:
        open_source(spec, "test")
    said = str(error.value)
    assert said.startswith(f"{spec!r} is not a data set.") and '"photos", ' in said
    assert ("For a folder, write" in said) == (":" not in spec)


def test_a_folder_without_its_prefix_is_told_how_to_write_it() -> None:
    with pytest.raises(InputError, match="For a folder, write 'folder:my photographs'"):
        open_source("my photographs", "train")


def test_a_tilde_stands_for_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("low/a.png", "high/a.png"):
        _write(tmp_path / name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("folder:~/low", "train").names == ("a.png",)
    for spec in ("pairs:~/low,~/high", "pairs:~?input=low/*&target=high/*"):
        assert len(open_source(spec, "train").names) == 1


def test_a_link_to_nothing_is_named_and_other_files_are_counted(tmp_path: Path) -> None:
    for name in ("a.heic", "b.HEIC", ".hidden", "notes"):
        (tmp_path / name).touch()
    with pytest.raises(
        InputError,
        match=r"holds no photographs: .*; 2 \.heic files and 1 file without an ending were skip",
    ):
        open_source(f"folder:{tmp_path}", "train")
    _write(tmp_path / "good.png")
    assert list_source(f"folder:{tmp_path}", "train").others == {".heic": 2, "": 1}
    (tmp_path / "away.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(
        InputError,
        match=r"1 of 2 photographs .*\n.*away\.jpg is a link to .*gone\.jpg, which cannot be",
    ):
        open_source(f"folder:{tmp_path}", "train")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"There is no folder {tmp_path}/none"):
        open_source(f"folder:{tmp_path}/none", "train")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} holds no photographs: no file in"):
        open_source(f"folder:{tmp_path}", "train")


def test_every_unreadable_file_is_named_at_once(tmp_path: Path) -> None:
    _write(tmp_path / "good.png")
    for i in range(3):
        (tmp_path / f"bad{i}.png").write_bytes(b"nothing")
    with pytest.raises(InputError) as caught:
        open_source(f"folder:{tmp_path}", "train")
    assert "3 of 4 photographs" in str(caught.value)
    assert all(f"bad{i}.png" in str(caught.value) for i in range(3))
    assert "good.png" not in str(caught.value)


def test_of_many_the_first_are_named_and_the_others_counted() -> None:
    names = [str(i) for i in range(12)]
    assert list_some(names) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more"
    assert list_some(names[:10]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert list_below(names).endswith("\n  9\n  and 2 more")


def test_a_name_that_is_no_utf_8_can_be_printed_and_hashed(tmp_path: Path) -> None:
    _write(tmp_path / "z.png").tobytes()
    (tmp_path / "z.png").rename(tmp_path / "latin1-\udcfc.png")
    source = open_source(f"folder:{tmp_path}", "train")
    assert source.names == (r"latin1-\udcfc.png",)
    assert source.names[0].encode()


def test_pairs_are_matched_by_path_without_the_ending(tmp_path: Path) -> None:
    for name, seed in (("b/two.png", 1), ("one.bmp", 2)):
        _write(tmp_path / "low, dark" / name, seed)
    targets = [
        _write(tmp_path / "high" / "b" / "two.bmp", 11),
        _write(tmp_path / "high" / "one.bmp", 12),
    ]
    # A comma may be part of a name
    source = open_source(f"pairs:{tmp_path}/low, dark,{tmp_path}/high", "train")
    assert source.names == ("b/two", "one")
    np.testing.assert_array_equal(list(source.images), targets)
    np.testing.assert_array_equal(source.inputs[0], _pixels(1))
    assert all(
        entry.input_digest and entry.input_digest != entry.digest for entry in source.entries
    )


@pytest.mark.parametrize(
    ("low", "high", "query"),
    [
        ("s/1_real.png", "s/1_mean.BMP", "input=*_real.*&target=*_mean.*"),
        ("s/low/1.png", "s/high/1.png", "input=s/low/*.png&target=s/high/*.png"),
        ("1_iso_9.png", "1_gt_9.png", "target=*_g?_*.[p]ng&input=*_iso_*.png"),
    ],
)
def test_pairs_in_one_folder_are_matched_by_wildcards(
    low: str, high: str, query: str, tmp_path: Path
) -> None:
    degraded, clean = _write(tmp_path / low, 1), _write(tmp_path / high, 2)
    _write(tmp_path / "other.png", 3)  # matches neither glob, so it is not part of the data set
    source = open_source(f"pairs:{tmp_path}?{query}", "train")
    assert len(source.names) == 1
    np.testing.assert_array_equal(source.images[0], clean)
    np.testing.assert_array_equal(source.inputs[0], degraded)


def test_every_photograph_without_a_partner_is_listed(tmp_path: Path) -> None:
    for name in (
        "low/a.png",
        "high/a.png",
        "low/b.png",
        "high/c.png",
        "low/d.png",
        "low/d.bmp",
        "high/d.png",
    ):
        _write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        open_source(f"pairs:{tmp_path}/low,{tmp_path}/high", "train")
    said = str(caught.value)
    for sentence in (
        f"low/b.png has no partner: b is missing from {tmp_path}",
        f"high/c.png has no partner: c is missing from {tmp_path}",
        f"{tmp_path}/low/d.bmp and {tmp_path}/low/d.png would belong to the same pair. Keep one",
    ):
        assert sentence in said
    assert "a.png" not in said


def test_pairs_of_different_sizes_are_named_with_their_sizes(tmp_path: Path) -> None:
    _write(tmp_path / "low" / "a.png")
    write_image(tmp_path / "low" / "b.png", np.zeros((8, 7, 3), np.uint8))
    for name in ("a", "b"):
        _write(tmp_path / "high" / f"{name}.png")
    with pytest.raises(
        InputError, match=r"1 of 2 .*\n  b: the input has 7x8 pixels, and the target has 9x8"
    ):
        open_source(f"pairs:{tmp_path}/low,{tmp_path}/high", "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("only", 'must be "LOW_DIR,HIGH_DIR"'),
        ("{}?input=*.png", 'with a "\\*" before'),
        ("{}?input=*.png&target=b.png", 'with a "\\*" before'),
        ("{}?input=*_low.*&target=*.png", r"none of the 1 photographs in .* matches input=\*_low"),
        (
            "{}?input=*&target=*.png",
            "'b.png' in an input and 'b' in a target. .* end both globs with",
        ),
        ("{}/none,{}", "There is no folder .*none"),
        ("{}/what?,{}", r'If the "\?" belongs to the name of a folder, rename the folder'),
    ],
)
def test_a_wrong_pairs_spec_says_what_it_takes(text: str, message: str, tmp_path: Path) -> None:
    _write(tmp_path / "b.png")
    with pytest.raises(InputError, match=message):
        open_source("pairs:" + text.format(tmp_path, tmp_path), "train")


def test_photographs_beyond_the_memory_are_decoded_each_time(tmp_path: Path) -> None:
    pixels = [_write(tmp_path / f"{i}.png", i) for i in range(3)]
    source = open_source(f"folder:{tmp_path}", "train", memory=Memory(2 * 8 * 9 * 3 / 1e6))
    assert source.images.kept == 2
    np.testing.assert_array_equal(list(source.images), pixels)
    assert not any(image.flags.writeable for image in source.images)
    part = source.take([2, 0])
    np.testing.assert_array_equal(list(part.images), [pixels[2], pixels[0]])
    assert [entry.name for entry in part.entries] == ["2.png", "0.png"]


def test_a_photograph_that_vanishes_is_named_on_access(tmp_path: Path) -> None:
    _write(tmp_path / "a.png")
    source = open_source(f"folder:{tmp_path}", "train", memory=Memory(0))
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png cannot be read: No such file"):
        source.images[0]


@pytest.mark.parametrize("count", [10, 11])
def test_many_unusable_photographs_are_listed_by_another_command(
    tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(b"no photograph")
    with pytest.raises(
        InputError, match=f"{count} of {count} photographs .* cannot be used"
    ) as error:
        open_source(f"folder:{folder}", "train")
    listed = f"To list all of them, run: python -m train data 'folder:{folder}' --all"
    assert (listed in str(error.value)) == (count > 10)
