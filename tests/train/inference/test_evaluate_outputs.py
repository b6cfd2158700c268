"""Files that evaluate writes, and files that it leaves alone."""

import os
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.train.inference.stored_images import SPEC
from train.__main__ import main
from train.data.images import is_made_by, write_image
from train.errors import InputError
from train.files import outputs
from train.inference.exports import existing


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        write_image(folder / name, rng.integers(0, 256, (24, 30, 3), dtype=np.uint8))
    return folder


def test_a_full_disk_leaves_no_half_table(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    """The size of files is limited instead."""
    command = [
        "evaluate",
        str(checkpoint(SPEC)),
        f"--data=folder:{photographs}",
        "--protocol=float",
    ]
    # This compiles, which writes to a cache.
    assert main([*command, f"--output={tmp_path / 'before'}"]) == 0
    capsys.readouterr()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        assert main([*command, f"--output={tmp_path / 'out'}"]) == 2
        assert "cannot be written to: File too large" in capsys.readouterr().err  # before any work
        monkeypatch.setattr(outputs, "_PROBE", b"")  # the disk fills up only afterwards
        status = main([*command, f"--output={tmp_path / 'out'}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 2
    printed = capsys.readouterr()
    assert "scores.csv could not be written: File too large. Free some space" in printed.err
    assert "restored" in printed.out  # the means are not lost
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["scores.csv", "summary.json", "figures-sigma15.png"])
def test_foreign_files_are_replaced_only_if_asked(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys, name: str
) -> None:
    out = tmp_path / "out"
    command = [
        "evaluate",
        str(checkpoint(SPEC)),
        f"--data=folder:{photographs}",
        "--protocol=float",
        "--figures",
    ]
    command += ["--sigmas=15", f"--output={out}"]
    out.mkdir()
    (out / name).write_text("photograph,taken\n")
    assert main(command) == 2
    assert f"{out / name} exists and was not written by this command" in capsys.readouterr().err
    assert os.listdir(out) == [name] and (out / name).read_text() == "photograph,taken\n"
    assert main([*command, "--overwrite"]) == 0
    assert main(command) == 0  # the files are ours now


@pytest.mark.parametrize(
    "name", ["model.stablehlo", "model.safetensors", "model.onnx", "model.dtmodel"]
)
def test_recognizing_an_export_does_not_read_gigabytes(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff" * 7 + b"\x00")  # for safetensors, a header of 2^56 bytes
    os.truncate(path, 3_000_000_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="exists and was not written by this command"):
        outputs.check_replaceable(path, existing.is_ours, option="--output", overwrite=False)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_recognizing_a_sheet_does_not_read_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    path.touch()
    os.truncate(path, 3_000_000_000)
    with pytest.raises(InputError, match="sheet.png is 3000 MB long"):
        is_made_by(path, "lumloss_jax data")
