"""`make test-newest` takes the newest Python that works, and says so if there is none."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("python3.14", "python3.13", "python3.12")
MISSING = "do not work: the newest versions are not tested"


def make(tmp_path: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.pathsep.join([str(tmp_path / "shims"), "/usr/bin", "/bin"]),
        "PYENV_ROOT": str(tmp_path / "pyenv"),
    }
    command = ["make", "--no-print-directory", *arguments]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def chosen(tmp_path: Path) -> str:
    return make(tmp_path, "--eval=show: ; @echo '$(NEWEST_PYTHON)'", "show")


@pytest.fixture
def shims(tmp_path: Path) -> Path:
    """A folder in which each candidate is there, and fails as a shim of pyenv does."""
    folder = tmp_path / "shims"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text("#!/bin/sh\nexit 127\n")
        (folder / name).chmod(stat.S_IRWXU)
    return folder


def test_without_any_it_says_so_and_tests_nothing(shims: Path, tmp_path: Path) -> None:
    assert chosen(tmp_path) == ""
    assert make(tmp_path, "test-newest").endswith(MISSING)


def test_the_first_that_works_is_taken(shims: Path, tmp_path: Path) -> None:
    for name in NAMES[1:]:
        (shims / name).unlink()
        (shims / name).symlink_to(sys.executable)
    assert chosen(tmp_path) == str(shims / "python3.13")


def test_versions_below_pyenvs_root_are_found_behind_shims_that_fail(
    shims: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "pyenv" / "versions" / "3.12.1" / "bin" / "python3.12"
    installed.parent.mkdir(parents=True)
    installed.symlink_to(sys.executable)
    assert chosen(tmp_path) == str(installed)
