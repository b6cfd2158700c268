"""A file that the user may not read is not damaged."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from train.checkpoints import checkpoint_files
from train.checkpoints.checkpoint_files import Damaged, drop_unreadable_metrics, steps_in
from train.errors import InputError


def test_an_unreadable_folder_is_not_a_damaged_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "about").mkdir()
    missing = FileNotFoundError("File about/metadata not found.")
    assert isinstance(checkpoint_files._failed(tmp_path, "about", missing), Damaged)
    # Root may read anything
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "about")
    assert isinstance(checkpoint_files._failed(tmp_path, "about", missing), InputError)


def test_a_folder_without_permissions_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(
        InputError, match="cannot be read: Permission denied. Change its permissions"
    ):
        steps_in(tmp_path)


def test_only_late_answers_of_threads_are_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed: list[BaseException] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda unraisable: printed.append(unraisable.exc_value)
    )
    checkpoint_files.ignore_late_answers.__wrapped__()
    other = RuntimeError("something else")
    for error in (RuntimeError("Event loop is closed"), other):
        sys.unraisablehook(SimpleNamespace(exc_value=error))
    assert printed == [other]


@pytest.mark.parametrize("metrics", ["empty", "file", "linked"])
def test_metrics_that_are_not_there_are_dropped_and_nothing_else(
    metrics: str, tmp_path: Path
) -> None:
    """Orbax would refuse to open the run because of them. The target of a link is left alone."""
    checkpoint, elsewhere = tmp_path / "checkpoints" / "4", tmp_path / "elsewhere"
    checkpoint.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("years of work")
    if metrics == "empty":
        (checkpoint / "metrics").mkdir()
    elif metrics == "file":
        (checkpoint / "metrics").write_text("a file")
    else:
        (checkpoint / "metrics").symlink_to(elsewhere, target_is_directory=True)
    assert drop_unreadable_metrics(checkpoint)
    assert list(checkpoint.iterdir()) == []
    assert (elsewhere / "thesis.tex").read_text() == "years of work"
