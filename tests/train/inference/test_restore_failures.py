import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pyvips

from tests.train.inference.stored_images import SPEC, Make, pixels, save
from train.__main__ import main
from train.files import outputs
from train.inference import restore
from train.inference.files import image_files

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def command(checkpoint: Make, tmp_path: Path) -> list[str]:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, pixels((8, 8, 3)))
    return [
        "restore",
        str(checkpoint(SPEC)),
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    ]


def fail_for(name: str, code: int):
    """Makes an encoder that fails for the file of that name."""
    encode = image_files._encode

    def failing(pixels: Path, path: Path, like: image_files.Stored) -> None:
        if like.path.name == name:
            raise OSError(code, os.strerror(code))
        encode(pixels, path, like)

    return failing


@pytest.mark.parametrize(
    "code",
    [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES],
    ids=os.strerror,
)
def test_an_error_that_would_hit_the_next_file_too_ends_the_run(
    command: list[str], tmp_path: Path, monkeypatch, capsys, code: int
) -> None:
    monkeypatch.setattr(image_files, "_encode", fail_for("b.png", code))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert (
        f"b.png could not be written: {os.strerror(code)}. The photographs before it are complete"
        in said
    )
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a.png.lumloss.json"]


@pytest.mark.parametrize("code", [errno.ENAMETOOLONG, errno.EINVAL], ids=os.strerror)
def test_a_file_that_cannot_be_written_does_not_stop_the_rest(
    command: list[str], tmp_path: Path, monkeypatch, capsys, code: int
) -> None:
    monkeypatch.setattr(image_files, "_encode", fail_for("b.png", code))
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("2 of 3 photographs are in")
    assert lines[-1].startswith("not restored:") and lines[-1].endswith(
        f"not be written: {os.strerror(code)}."
    )
    assert sorted(os.listdir(tmp_path / "out")) == [
        "a.png",
        "a.png.lumloss.json",
        "c.png",
        "c.png.lumloss.json",
    ]


def test_a_name_of_255_bytes_is_restored(command: list[str], tmp_path: Path, capsys) -> None:
    """There are two such names, which differ only in their ends."""
    for end in ("1", "2"):
        save(tmp_path / "in" / "d.png", pixels((8, 8, 3))).rename(
            tmp_path / "in" / f"{'ü' * 125}{end}.png"
        )
    for said in ("restored", "already done"):
        assert main(command) == 0
        assert capsys.readouterr().out.count(f".png: {said}\n") == 5
    assert len(os.listdir(tmp_path / "out")) == 10


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            TypeError("no\nnumber"),
            "b.png triggered a bug in this program, TypeError: no. Please report it",
        ),
        (MemoryError(), "b.png needs more memory than is available"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
            "b.png needs more memory than is available",
        ),
    ],
)
def test_an_error_of_any_kind_does_not_stop_the_rest(
    command: list[str], tmp_path: Path, monkeypatch, capsys, error: Exception, said: str
) -> None:
    open_stored = restore.open_stored

    def fail(path: Path) -> image_files.Stored:
        if path.name == "b.png":
            raise error
        return open_stored(path)

    monkeypatch.setattr(restore, "open_stored", fail)
    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-2].startswith("2 of 3 photographs are in")
    assert said in printed.out.splitlines()[-1]
    assert "Traceback" not in printed.out + printed.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]
    monkeypatch.setenv("LUMLOSS_TRACEBACK", "1")
    assert main(command) == 1
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, TypeError)


def test_a_photograph_with_a_wrong_ending_does_not_stop_the_rest(
    command: list[str], tmp_path: Path, capsys
) -> None:
    save(tmp_path / "in" / "deep.png", pixels((8, 8, 3), np.uint16)).rename(
        tmp_path / "in" / "aa.bmp"
    )
    assert main(command) in (0, 1)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "a.png",
        "b.png",
        "c.png",
    ]


def test_a_folder_that_another_process_writes_to_is_refused(
    command: list[str], tmp_path: Path, capsys
) -> None:
    (tmp_path / "out").mkdir()
    code = (
        "import sys; from pathlib import Path; from train.files.locks import hold\n"
        "with hold(Path(sys.argv[1])):\n    print(flush=True); sys.stdin.read()"
    )
    other = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(
        other, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert main(command) == 2
        assert "is used by another process" in capsys.readouterr().err
        assert os.listdir(tmp_path / "out") == [".in_use"]
        process.kill()
        process.wait(60)
    assert main(command) == 0
    assert ".in_use" not in os.listdir(tmp_path / "out")


def test_what_a_killed_run_left_is_removed(command: list[str], tmp_path: Path, monkeypatch) -> None:
    assert main(command) == 0
    (tmp_path / "out" / ".lumloss-0123456789abcdef.pixels").touch()
    (tmp_path / "out" / ".in_use").touch()
    monkeypatch.setattr(outputs, "_cleared", set())
    assert main(command) == 0  # nothing is written, because everything is done already
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux are names any bytes")
def test_a_name_that_is_not_utf_8_is_reported(command: list[str], tmp_path: Path, capfd) -> None:
    os.rename(tmp_path / "in" / "b.png", os.fsencode(tmp_path / "in") + b"/caf\xe9.png")
    assert main(command) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2].startswith("2 of 3 photographs are in")
    assert "caf\\xe9.png has a name that is not valid UTF-8" in lines[-1]


def test_a_file_that_vanishes_before_it_is_read_is_reported(
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
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("b.png cannot be read: No such file or directory.")
    )


@pytest.mark.parametrize(
    ("said", "shown", "status"),
    [
        ("unix error: No space left on device", "No space left on device", 2),
        ("TIFFAppendToStrip: broken", "libvips: TIFFAppendToStrip: broken", 1),
    ],
)
def test_a_full_disk_is_recognized_in_errors_of_libvips(
    command: list[str], monkeypatch, capsys, said: str, shown: str, status: int
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise pyvips.Error("unable to call pngsave", said)

    monkeypatch.setattr(pyvips.Image, "write_to_file", fail)
    assert main(command) == status
    printed = capsys.readouterr()
    assert f"could not be written: {shown}" in printed.out + printed.err


@pytest.mark.parametrize("given", [["--output", ""], ["--output="]])
def test_an_empty_name_of_the_output_is_refused(
    command: list[str], capsys, given: list[str]
) -> None:
    assert main([*command[:3], *given]) == 2
    assert "--output is empty. Give a file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "below"])
def test_an_output_that_is_a_file_is_refused_as_one(
    command: list[str], tmp_path: Path, capsys, below: str
) -> None:
    (tmp_path / "out").write_text("years of work")
    assert main([*command[:4], str(tmp_path / "out" / below)]) == 2
    said = f"--output must be a folder, and {tmp_path / 'out'} is a file. Choose a different folder"
    assert said in capsys.readouterr().err
    (tmp_path / "out").unlink()
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    assert main([*command[:4], str(tmp_path / "out" / below)]) == 2
    assert f"{tmp_path / 'out'} is a link to {tmp_path / 'gone'}, which" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_folder_in_the_way_stays_and_gets_no_record(
    command: list[str], tmp_path: Path, capsys, more: list[str]
) -> None:
    (tmp_path / "out" / "b.png").mkdir(parents=True)
    status = main([*command, *more])
    printed = capsys.readouterr()
    assert status == (1 if more else 2)
    assert f"{tmp_path / 'out' / 'b.png'} " in printed.out + printed.err
    if more:
        assert "b.png is a folder. Rename it, or choose a different --output." in printed.out
        assert (tmp_path / "out" / "c.png").is_file()
    assert not (tmp_path / "out" / "b.png.lumloss.json").exists()
    assert not list((tmp_path / "out" / "b.png").iterdir())


def test_files_elsewhere_are_not_written_through_links_that_appear_meanwhile(
    command: list[str], tmp_path: Path, monkeypatch, capsys
) -> None:
    theirs, encode = tmp_path / "theirs", image_files._encode
    theirs.write_text("theirs")

    def after_a_swap(pixels: Path, path: Path, like: image_files.Stored) -> None:
        if like.path.name == "b.png":
            path.unlink()
            path.symlink_to(theirs)
        encode(pixels, path, like)

    monkeypatch.setattr(image_files, "_encode", after_a_swap)
    assert main(command) == 1
    assert "2 of 3 photographs are in" in capsys.readouterr().out
    assert theirs.read_text() == "theirs"
    assert not os.path.lexists(tmp_path / "out" / "b.png")


def test_a_folder_that_becomes_a_link_is_not_written_through(
    command: list[str], tmp_path: Path, monkeypatch, capsys
) -> None:
    save(tmp_path / "in" / "below" / "d.png", pixels((8, 8, 3)))
    theirs, restore_file = tmp_path / "theirs", restore.restore_file
    theirs.mkdir()

    def before_a_swap(predictor, job, *arguments, **options) -> str:
        said = restore_file(predictor, job, *arguments, **options)
        below = tmp_path / "out" / "below"
        if not os.path.lexists(below):
            below.symlink_to(theirs)
        return said

    monkeypatch.setattr(restore, "restore_file", before_a_swap)
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "leads out of --output" in out and "3 of 4 photographs are in" in out
    assert os.listdir(theirs) == []
