import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data.images import write_image
from train.data.prepare import prepare
from train.data.sources import open_source
from train.errors import InputError

pytest.importorskip("tensorflow_datasets")


def _digests(spec: str) -> dict[str, tuple[str, str | None]]:
    return {
        Path(e.name).stem: (e.digest, e.input_digest) for e in open_source(spec, "train").entries
    }


def _smooth(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def bsds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layout of BSDS500: the 68 photographs, two others, and unrelated files."""
    from train.data.builders.bsds500 import CBSD68

    folder = tmp_path_factory.mktemp("bsds")
    for split in ("train", "val"):
        (folder / "data" / "images" / split).mkdir(parents=True)
    for name in sorted(CBSD68):
        _smooth(int(name)).save(folder / "data" / "images" / "val" / f"{name}.jpg")
    for name in ("100007", "8143"):
        _smooth(int(name)).save(folder / "data" / "images" / "train" / f"{name}.jpg")
    _smooth(1).save(folder / "cover.jpg")
    return folder


def test_bsds500_never_trains_on_cbsd68(bsds: Path, tmp_path: Path) -> None:
    from train.data.builders.bsds500 import CBSD68

    spec = prepare("tfds:bsds500:train", manual_dir=bsds, data_dir=tmp_path)
    train, test = _digests(spec), _digests(spec.removesuffix("train") + "test")
    assert set(train) == {"100007", "8143"}
    assert set(test) == CBSD68 and len(CBSD68) == 68
    kept = _digests(f"folder:{bsds}/data")  # exactly the pixels of the files
    assert train | test == kept


def test_bsds500_without_its_test_photographs_is_refused(bsds: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lacks 68 of the 68 photographs of CBSD68: 3096"):
        prepare(
            "tfds:bsds500:train", manual_dir=bsds / "data" / "images" / "train", data_dir=tmp_path
        )
    assert not list(tmp_path.rglob("*.array_record*"))  # nothing is half-written


@pytest.mark.slow
def test_bsds500_is_built_from_the_real_files(shared: Path, tmp_path: Path) -> None:
    for folder in ("CBSD432", "CBSD68"):
        (tmp_path / "real" / folder).mkdir(parents=True)
        for path in (shared / "data" / folder).iterdir():
            (tmp_path / "real" / folder / path.name).symlink_to(path)
    spec = prepare("tfds:bsds500:train", manual_dir=tmp_path / "real", data_dir=tmp_path / "tfds")
    assert _digests(spec) == _digests(f"folder:{shared}/data/CBSD432")
    assert _digests(spec.removesuffix("train") + "test") == _digests(f"folder:{shared}/data/CBSD68")


def test_lol_has_its_two_splits(lol: Path) -> None:
    for split, folder in (("train", "our485"), ("test", "eval15")):
        found = _digests(f"tfds:{lol}/tfds/lol/1.0.0:{split}")
        assert found == _digests(f"pairs:{lol}/{folder}/low,{lol}/{folder}/high")


def test_lol_is_built_from_the_real_files(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "LOL_pairs"
    spec = prepare("tfds:lol:train", manual_dir=folder, data_dir=tmp_path)
    assert _digests(spec) == _digests(f"pairs:{folder}/low,{folder}/high")


def test_lol_says_what_folder_it_takes(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="has neither our485/ and eval15/ nor low/ and high/"):
        prepare("tfds:lol:train", manual_dir=tmp_path, data_dir=tmp_path / "tfds")
    with pytest.raises(InputError, match=r"needs --manual-dir.*Download LOL version 1"):
        prepare("tfds:lol:train", data_dir=tmp_path / "tfds")


def test_a_folder_is_stored_byte_for_byte(tmp_path: Path) -> None:
    photographs = tmp_path / "my photos"
    photographs.mkdir()
    deep = np.random.default_rng(0).integers(0, 65536, (6, 4, 3), dtype=np.uint16)
    write_image(photographs / "deep.png", deep)
    exif = Image.Exif()
    exif[0x0112] = 6  # held a quarter turn
    _smooth(2).save(photographs / "turned.jpg", exif=exif)
    _smooth(3).save(photographs / "old.bmp")
    spec = prepare(f"folder:{photographs}", data_dir=tmp_path / "tfds")
    assert spec == f"tfds:{tmp_path}/tfds/restoration_folder/my_photos/1.0.0:train"
    read, kept = open_source(spec, "train"), open_source(f"folder:{photographs}", "train")
    assert read.names == kept.names
    assert read.entries == kept.entries
    assert [image.dtype for image in read.images] == [np.uint16, np.uint8, np.uint8]
    with pytest.raises(InputError, match=r"already holds .* use tfds:.*:SPLIT\. .*--data-dir"):
        prepare(f"folder:{photographs}", data_dir=tmp_path / "tfds")


def test_what_a_killed_process_left_of_a_data_set_is_removed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    _smooth(1).save(tmp_path / "photos" / "a.png")
    place = tmp_path / "tfds" / "restoration_folder" / "photos"
    left = ("incomplete.A1B2C3_1.0.0", "incomplete.A1B2C3_2.0.0")
    for name in left:
        (place / name).mkdir(parents=True)
        (place / name / "shard").touch()
    prepare(f"folder:{tmp_path}/photos", data_dir=tmp_path / "tfds")
    assert sorted(path.name for path in place.iterdir()) == ["1.0.0", left[1]]


def test_pairs_are_stored_as_pairs_and_none_that_is_broken(lol: Path, tmp_path: Path) -> None:
    pairs = f"pairs:{lol}/our485/low,{lol}/our485/high"
    read = open_source(prepare(pairs, data_dir=tmp_path), "train")
    assert read.inputs is not None
    assert read.entries == open_source(pairs, "train").entries
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.png cannot be read"):
        prepare(f"folder:{tmp_path}/photos", data_dir=tmp_path)


def test_what_is_no_data_set_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="--prepare needs a data set that begins with .*; got 'photos'"
    ):
        prepare("photos", data_dir=tmp_path)


def test_div2k_of_tfds_is_prepared_and_read_without_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything except the download, on photographs with the names of its own."""
    from train.data.dataset_builders import make_builder

    for side, suffix, shape in (("lr", "x2", (4, 5, 3)), ("hr", "", (8, 10, 3))):
        (tmp_path / side).mkdir()
        for i in (1, 2):
            pixels = np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)
            write_image(tmp_path / side / f"000{i}{suffix}.png", pixels)
    builder = type(make_builder("div2k/bicubic_x2"))
    halves = tmp_path / "lr", tmp_path / "hr"
    monkeypatch.setattr(
        builder,
        "_split_generators",
        lambda self, _: {"train": self._generate_examples(*map(str, halves))},
    )
    spec = prepare("tfds:div2k/bicubic_x2:train", data_dir=tmp_path / "tfds")
    source = open_source(spec, "train")
    clean = {entry.digest for entry in open_source(f"folder:{tmp_path}/hr", "train").entries}
    # lr is half as large, so it cannot be half of a pair
    assert {entry.digest for entry in source.entries} == clean
    assert source.inputs is None and "tensorflow" not in sys.modules
