import errno
import os
import subprocess
import sys
from pathlib import Path

from tests.train.inference.stored_images import SPEC, Make, pixels, save
from train.__main__ import main
from train.inference.files import image_files

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
