"""Two processes never write to the same folder, and a killed one does not lock others out."""

import builtins
import contextlib
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from train.checkpoints.run_folder import clear, new_folder
from train.errors import InputError
from train.files import locks


@pytest.fixture
def holder(
    hold_elsewhere: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> subprocess.Popen[str]:
    """Another process, which locks ``tmp_path`` until its input ends."""
    return hold_elsewhere(tmp_path)


def test_a_folder_that_another_process_holds_is_refused(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"is used by another process \(process {holder.pid} on "):
        with locks.hold(tmp_path):
            pytest.fail("two processes hold one folder")
    holder.communicate(timeout=60)
    with locks.hold(tmp_path):
        assert (tmp_path / locks.FILE_NAME).read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_keeps_nobody_out(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=60)
    assert locks.is_marked(tmp_path)
    with locks.hold(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_process_may_hold_a_folder_several_times(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with locks.hold(tmp_path):
        with locks.hold(tmp_path / "link"):
            pass
        assert locks.is_marked(tmp_path)
        clear(tmp_path)  # removes everything else
        assert [path.name for path in tmp_path.iterdir()] == [locks.FILE_NAME]
    assert not locks.is_marked(tmp_path)


def test_out_that_another_process_holds_is_refused_for_that(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").touch()  # that the folder is not empty is not worth a word now
    with contextlib.ExitStack() as held:
        with pytest.raises(InputError, match="is used by another process"):
            new_folder(str(tmp_path), "default", held)


def test_a_folder_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="cannot be written to: Read-only file system"):
        with locks.hold(tmp_path):
            pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / locks.FILE_NAME).symlink_to("mine")
    with pytest.raises(InputError, match="cannot be written to"):
        with locks.hold(tmp_path):
            pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_hard_link_in_the_place_of_the_lock_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    os.link(tmp_path / "thesis", tmp_path / locks.FILE_NAME)
    with pytest.raises(
        InputError, match=r"\.in_use, .* is a hard link to a file .* Rename or delete it"
    ):
        with locks.hold(tmp_path):
            pass
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / locks.FILE_NAME)
    with pytest.raises(InputError, match=r"\.in_use, .* is not a regular file"):
        with locks.hold(tmp_path):
            pass


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks, "lock", refuse)
    with locks.hold(tmp_path):
        pass


@pytest.mark.parametrize("module", ["train.files.locks", "train.monitoring.meters"])
def test_no_module_that_windows_lacks_is_needed_to_import(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(name=name)
        if name == "msvcrt":
            return None
        return found(name, *args, **kwargs)

    # For what it imports; without these two it is imported once more
    importlib.import_module(module)
    spec = importlib.util.find_spec(module)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(builtins, "__import__", without)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
