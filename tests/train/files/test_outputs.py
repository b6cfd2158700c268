import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from train.data.images import write_image
from train.errors import InputError
from train.files import outputs
from train.files.outputs import (
    check_writable,
    open_hidden,
    temporary_beside,
    whole_or_none,
    write_bytes,
    write_json,
    write_rows,
    write_text,
)
from train.inference.files.image_files import open_stored, written
from train.inference.scoring.metrics_table import MetricsRow

ROOT = Path(__file__).resolve().parents[3]
PIXELS = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Acts like a full disk: only a part of the last write fits, and then nothing."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@pytest.mark.skipif(sys.platform == "win32", reason="has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_files_are_for_whom_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_json({}, tmp_path / "a.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == mode
    assert os.listdir(tmp_path) == ["a.json"]


def _rows(path: Path) -> None:
    scores = {f"metric {number}": 1.0 for number in range(7)}
    write_rows([MetricsRow("a.png", 25.0, 0, "input", scores)] * 300, path)


WRITERS = {
    "json": ("a.json", lambda path: write_json(list(range(5000)), path)),
    "text": ("a.html", lambda path: write_text("a" * 20_000, path)),
    "bytes": ("a.onnx", lambda path: write_bytes(bytes(20_000), path)),
    "rows": ("a.csv", _rows),
    "image": ("a.png", lambda path: write_image(path, PIXELS)),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("short", [1, 100, 5000])
def test_a_short_write_is_an_error_and_what_was_there_stays(
    tmp_path: Path, kind: str, short: int
) -> None:
    name, write = WRITERS[kind]
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / name)
    size = (tmp_path / "whole" / name).stat().st_size
    (tmp_path / name).write_bytes(b"before")
    with file_size_limit(size - short), pytest.raises(OSError, match="File too large"):
        write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == [name, "whole"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_in_the_way_is_one_sentence(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder, but a file of this name"):
        write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    "suffix", [".bmp", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp"]
)
@pytest.mark.parametrize("short", [1, 100])
def test_a_photograph_that_does_not_fit_is_an_error(
    tmp_path: Path, suffix: str, short: int
) -> None:
    # Larger than the pixels alone, which wait on the same disk.
    PIL.Image.fromarray(PIXELS).save(tmp_path / f"in{suffix}")
    like = open_stored(tmp_path / f"in{suffix}")
    with written(tmp_path / f"whole{suffix}", like, [PIXELS]):
        pass
    size = (tmp_path / f"whole{suffix}").stat().st_size
    with file_size_limit(size - short), pytest.raises(OSError, match="File too large"):
        with written(tmp_path / f"short{suffix}", like, [PIXELS]):
            pass
    assert sorted(os.listdir(tmp_path)) == [f"in{suffix}", f"whole{suffix}"]


def test_a_photograph_is_read_back_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PIL.Image.fromarray(PIXELS).save(tmp_path / "in.png")
    like = open_stored(tmp_path / "in.png")

    def lose_the_end(path: Path) -> None:
        os.truncate(path, path.stat().st_size - 100)

    monkeypatch.setattr("train.inference.files.image_files.sync", lose_the_end)
    with pytest.raises(OSError, match="it is damaged when it is read again"):
        with written(tmp_path / "out.png", like, [PIXELS]):
            pass
    assert os.listdir(tmp_path) == ["in.png"]


def test_leftovers_of_killed_processes_only_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from train.files.outputs import temporary_beside\n"
        "with temporary_beside(Path(sys.argv[1]), '.png') as path:\n"
        "    print(path, flush=True); sys.stdin.read()"
    )
    (tmp_path / ".lumloss-notes").mkdir()
    others = [".lumloss-0123456789abcde.png", ".lumloss-0123456789abcdef0", ".lumloss-my notes.txt"]
    for name in others:
        (tmp_path / name).write_text("years of work")
    (tmp_path / ".a-1234abcd.png").touch()
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdout is not None
        written_to = Path(living.stdout.readline().strip())
        write_json({}, tmp_path / "b.json")
        assert written_to.exists()
        living.kill()
        living.wait(60)
    assert written_to.exists()
    monkeypatch.setattr(outputs, "_cleared", set())  # as the next process has it
    write_json({}, tmp_path / "c.json")
    kept = [".a-1234abcd.png", ".lumloss-notes", "b.json", "c.json"]
    assert set(os.listdir(tmp_path)) == {*kept, *others}


def test_files_of_the_same_process_are_not_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with whole_or_none(tmp_path / "a.json") as first:
        monkeypatch.setattr(outputs, "_cleared", set())
        with temporary_beside(tmp_path / "a.json", ".pixels") as second:
            assert first != second and first.exists() and second.exists()
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_name_may_have_all_255_bytes(tmp_path: Path) -> None:
    name = "ü" * 125 + ".json"
    write_json({}, tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_disk_without_room_is_said_before_any_work(tmp_path: Path) -> None:
    with (
        file_size_limit(1000),
        pytest.raises(InputError, match="--output .* cannot be written to: File too large"),
    ):
        check_writable(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_link_in_the_place_of_a_hidden_file_is_not_written_through(tmp_path: Path, link) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    with pytest.raises(OSError), whole_or_none(tmp_path / "a.png") as hidden:
        hidden.unlink()
        link(theirs, hidden)
        open_hidden(hidden)
    assert theirs.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["theirs"]
