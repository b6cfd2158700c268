"""What others could have written is not run and not believed."""

import os
import sys
from pathlib import Path

import jax
import pytest

from train.__main__ import main
from train.files import trust
from train.files.trust import why_untrusted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has other permissions")


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the program, which only the user may change."""
    folder = tmp_path / "program"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(trust, "_PROGRAM", folder)
    return folder


def _made(folder: Path, mode: int) -> Path:
    folder.mkdir()
    folder.chmod(mode)
    return folder


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o775])
def test_folders_of_the_user_are_trusted(tmp_path: Path, mode: int) -> None:
    folder = _made(tmp_path / "cache", mode)
    assert why_untrusted(folder) == why_untrusted(folder / "jax" / "new") == ""
    assert why_untrusted(tmp_path / ("a" * 300)) == ""


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_folders_that_everybody_can_write_to_are_not(tmp_path: Path, mode: int) -> None:
    assert why_untrusted(_made(tmp_path / "cache", mode)) == "can be written to by other users"


def test_folders_below_them_are_trusted_if_nobody_else_can_rename_them(tmp_path: Path) -> None:
    free, sticky = _made(tmp_path / "free", 0o777), _made(tmp_path / "sticky", 0o1777)
    for folder in (free / "new", _made(free / "cache", 0o755)):
        assert why_untrusted(folder) == "is in a folder that other users can write to"
    link = tmp_path / "link"
    link.symlink_to(free / "cache")
    assert why_untrusted(link) == "is in a folder that other users can write to"
    assert why_untrusted(_made(sticky / "cache", 0o755)) == ""


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root can give folders away")
def test_folders_of_others_are_not_trusted_unless_the_program_is_theirs(
    tmp_path: Path, program: Path
) -> None:
    folder = _made(tmp_path / "cache", 0o755)
    os.chown(folder, 4321, 4321)
    assert why_untrusted(folder) == "belongs to a different user, with the number 4321"
    os.chown(program, 4321, 4321)
    assert why_untrusted(folder) == ""
    os.chown(folder, 0, 4321)
    folder.chmod(0o775)
    assert why_untrusted(folder) == "can be written to by other users"


def test_a_program_that_everybody_can_change_has_no_safer_cache(
    tmp_path: Path, program: Path
) -> None:
    program.chmod(0o777)
    assert why_untrusted(_made(tmp_path / "cache", 0o777)) == ""


def test_compiled_programs_of_others_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("jax_enable_compilation_cache", "jax_compilation_cache_dir")
    before = {name: getattr(jax.config, name) for name in names}
    try:
        for mode, used in ((0o777, False), (0o755, True)):
            folder = _made(tmp_path / f"cache{mode}", mode)
            monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
            jax.config.update("jax_enable_compilation_cache", True)
            assert main(["--help"]) == 0
            assert jax.config.jax_enable_compilation_cache == used
            said = f"{folder}, the folder of compiled programs, can be written to by other users"
            assert (said in capsys.readouterr().err) != used
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
