import errno
import glob
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.inference.stored_images import SPEC, Make, pixels, save
from train.__main__ import main
from train.data.libvips import pyvips
from train.inference.files import image_files
from train.inference.files.image_files import open_stored, written

ROOT = Path(__file__).resolve().parents[3]


def test_a_full_disk_stops_the_run_and_leaves_no_half_file(
    checkpoint: Make, tmp_path: Path
) -> None:
    """The size of files is limited instead: the first photograph fits, the second does not."""
    save(tmp_path / "in" / "a.png", pixels((8, 8, 3)))
    save(tmp_path / "in" / "b.png", pixels((200, 200, 3)))
    save(tmp_path / "in" / "c.png", pixels((8, 8, 3)))
    code = (
        "import resource, sys; from train.__main__ import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [
        "restore",
        str(checkpoint(SPEC)),
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    ]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PLATFORMS": "cpu",
    }
    run = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2, run.stderr
    assert "b.png could not be written: File too large" in run.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a.png.lumloss.json"]


def test_a_disk_that_fills_up_while_encoding_leaves_nothing(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    def fill_up(pixels: Path, path: Path, like: object) -> None:
        path.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = save(tmp_path / "a.png", pixels((8, 8, 3)))
    monkeypatch.setattr(image_files, "_encode", fill_up)
    assert (
        main(["restore", str(checkpoint(SPEC)), str(source), "--output", str(tmp_path / "out")])
        == 2
    )
    assert "a.png could not be written: No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == []


def test_a_disk_that_is_full_for_libvips_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(pixels: Path, path: Path, like: object) -> None:
        reason = os.strerror(errno.ENOSPC)
        raise pyvips.Error(
            f"unable to write\nwrite failed: {reason}\nsystem error: Unknown error -1"
        )

    image = pixels((8, 8, 3))
    stored = open_stored(save(tmp_path / "a.png", image))
    monkeypatch.setattr(image_files, "_encode_by_libvips", fill_up)
    with pytest.raises(OSError) as found, written(tmp_path / "b.png", stored, [image]):
        pass
    assert (found.value.errno, found.value.strerror) == (errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs a list of open files")
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_no_deleted_file_stays_open(tmp_path: Path, ending: str) -> None:
    """The space of a deleted file is free only when nobody has the file open."""
    image = pixels((8, 8, 3))
    stored = open_stored(save(tmp_path / f"a.{ending}", image))
    with written(tmp_path / f"b.{ending}", stored, [image]):
        pass
    opened = map(Path, glob.glob("/proc/self/fd/*"))
    names = [os.readlink(file) for file in opened if os.path.lexists(file)]
    assert [name for name in names if name.startswith(str(tmp_path))] == []
