from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data.sources import open_source
from train.errors import InputError


def _write(path: Path, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_the_packaged_splits_share_no_photograph() -> None:
    train, test = open_source("photos", "train"), open_source("photos", "test")
    assert train.names == ("astronaut", "rocket", "motorcycle_left", "motorcycle_right")
    assert test.names == ("chelsea", "coffee")
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in (*train.images, *test.images))


def test_a_folder_is_read_below_too_and_in_order(tmp_path: Path) -> None:
    second = _write(tmp_path / "b" / "züri.PNG", 1)
    first = _write(tmp_path / "a.bmp", 2)
    (tmp_path / "notes.txt").write_text("no photograph")
    source = open_source(f"folder:{tmp_path}", "train")
    assert source.names == ("a.bmp", "b/züri.PNG")
    np.testing.assert_array_equal(source.images[0], first)
    np.testing.assert_array_equal(source.images[1], second)


@pytest.mark.parametrize("spec", ["photo", "photos:x", "folder:", "folder", "tfds:x"])
@pytest.mark.parametrize(("split", "flag"), [("train", "--data"), ("test", "--test-data")])
def test_an_unknown_spec_names_the_flag(spec: str, split: str, flag: str) -> None:
    with pytest.raises(InputError, match=f'{flag} takes "photos" or "folder:PATH"; got {spec!r}'):
        open_source(spec, split)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"There is no folder {tmp_path}/none"):
        open_source(f"folder:{tmp_path}/none", "train")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} holds no photographs: looked"):
        open_source(f"folder:{tmp_path}", "train")


def test_every_unreadable_file_is_named_at_once(tmp_path: Path) -> None:
    _write(tmp_path / "good.png")
    for i in range(3):
        (tmp_path / f"bad{i}.png").write_bytes(b"nothing")
    with pytest.raises(InputError) as caught:
        open_source(f"folder:{tmp_path}", "train")
    assert "3 of 4 files are unreadable" in str(caught.value)
    assert all(f"bad{i}.png" in str(caught.value) for i in range(3))
    assert "good.png" not in str(caught.value)
