"""Data sets are written whole or not at all, under names that can be read again."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from train.data.images import write_image
from train.data.prepare import prepare
from train.data.sources import open_source
from train.errors import InputError

pytest.importorskip("tensorflow_datasets")


def photographs(folder: Path, *, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_image(folder / f"{i}.png", pixels)
    return folder


@pytest.mark.parametrize(
    "name", ["a b[1]é", "...", "-x", ".hidden", "x" * 250, "²", "50%:x", "[a]", "{DATASET}"]
)
def test_a_folder_of_any_name_is_written_and_read_again(name: str, tmp_path: Path) -> None:
    folder = photographs(tmp_path / name)
    spec = prepare(f"folder:{folder}", data_dir=tmp_path / "tfds")
    assert open_source(spec, "train").names == ("0.png", "1.png")


def test_a_path_may_hold_colons_and_slices_still_work(tmp_path: Path) -> None:
    spec = prepare(f"folder:{photographs(tmp_path / 'p', count=3)}", data_dir=tmp_path / "a:b")
    assert len(open_source(spec, "train").names) == 3
    for split, count in (("train[1:]", 2), ("train[:1]+train[2:]", 2), ("train[:34%]", 1)):
        assert len(open_source(f"{spec.removesuffix('train')}{split}", "train").names) == count
    with pytest.raises(InputError, match="a spec cannot name a folder with a question mark"):
        prepare(f"folder:{tmp_path}/p", data_dir=tmp_path / "what?")
    assert not (tmp_path / "what?").exists()


def test_a_folder_that_is_in_the_way_is_not_taken_for_a_data_set(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p")
    there = tmp_path / "tfds" / "restoration_folder" / "p" / "1.0.0"
    there.mkdir(parents=True)
    (there / "mine.txt").write_text("keep")
    with pytest.raises(
        InputError, match="exists already and does not hold a data set. Rename or delete it"
    ):
        prepare(f"folder:{folder}", data_dir=tmp_path / "tfds")
    assert (there / "mine.txt").read_text() == "keep"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p", count=30)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # This acts like a full disk, for each file
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        with pytest.raises(InputError, match="p cannot be prepared: .*File too large"):
            prepare(f"folder:{folder}", data_dir=tmp_path / "tfds")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not [path for path in (tmp_path / "tfds").rglob("*.array_record*")]
    assert (
        len(open_source(prepare(f"folder:{folder}", data_dir=tmp_path / "tfds"), "train").names)
        == 30
    )
