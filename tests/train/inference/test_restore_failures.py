import errno
import os
import sys
from pathlib import Path

import pytest
import pyvips

from tests.train.inference.stored_images import SPEC, Make, pixels, save
from train.__main__ import main
from train.inference import image_files, restore


@pytest.fixture
def command(checkpoint: Make, tmp_path: Path) -> list[str]:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    return ["restore", str(checkpoint(SPEC)), str(tmp_path / "in"), "--output", str(tmp_path / "out")]


def fail_for(name: str, code: int):
    """An encoder that fails for the file of that name."""
    encode = image_files._encode

    def failing(pixels: Path, path: Path, like: image_files.Stored) -> None:
        if like.path.name == name:
            raise OSError(code, os.strerror(code))
        encode(pixels, path, like)

    return failing


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES], ids=os.strerror
)
def test_what_the_next_file_would_meet_too_ends_the_run(
    command: list[str], tmp_path: Path, monkeypatch, capsys, code: int
) -> None:
    monkeypatch.setattr(image_files, "_encode", fail_for("b.png", code))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"b.png could not be written: {os.strerror(code)}. What was restored before it is whole" in said
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a.png.json"]


@pytest.mark.parametrize("code", [errno.ENAMETOOLONG, errno.EINVAL], ids=os.strerror)
def test_a_file_that_cannot_be_written_is_reported_and_the_rest_are_done(
    command: list[str], tmp_path: Path, monkeypatch, capsys, code: int
) -> None:
    monkeypatch.setattr(image_files, "_encode", fail_for("b.png", code))
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("2 of 3 photographs are in")
    assert lines[-1].startswith("not restored:") and lines[-1].endswith(f"not be written: {os.strerror(code)}.")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a.png.json", "c.png", "c.png.json"]


def test_a_name_that_is_too_long_is_reported(command: list[str], tmp_path: Path, capsys) -> None:
    save(tmp_path / "in" / "a.png", pixels((8, 8, 3))).rename(tmp_path / "in" / f"{'a' * 250}.png")
    assert main(command) == 1
    assert capsys.readouterr().out.splitlines()[-2].startswith("2 of 3 photographs are in")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are not bytes")
def test_a_name_that_is_no_utf_8_is_reported(command: list[str], tmp_path: Path, capfd) -> None:
    os.rename(tmp_path / "in" / "b.png", os.fsencode(tmp_path / "in") + b"/caf\xe9.png")
    assert main(command) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2].startswith("2 of 3 photographs are in")
    assert "caf\\xe9.png is no name in UTF-8" in lines[-1]


def test_a_file_that_goes_before_it_is_read_is_reported(
    command: list[str], tmp_path: Path, monkeypatch, capsys
) -> None:
    open_stored = restore.open_stored

    def gone(path: Path) -> image_files.Stored:
        stored = open_stored(path)
        if path.name == "b.png":
            path.unlink()
        return stored

    monkeypatch.setattr(restore, "open_stored", gone)
    assert main(command) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("b.png cannot be read: No such file or directory.")


@pytest.mark.parametrize(
    ("said", "status"), [("unix error: No space left on device", 2), ("TIFFAppendToStrip: broken", 1)]
)
def test_what_libvips_says_of_the_system_is_heard(
    command: list[str], monkeypatch, capsys, said: str, status: int
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise pyvips.Error("unable to call pngsave", said)

    monkeypatch.setattr(pyvips.Image, "write_to_file", fail)
    assert main(command) == status
    printed = capsys.readouterr()
    assert f"could not be written: libvips: {said}" in printed.out + printed.err
