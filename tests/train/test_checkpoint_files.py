"""What may not be read is not damaged."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from train import checkpoint_files
from train.checkpoint_files import Damaged, steps_in
from train.errors import InputError


def test_what_is_missing_in_a_folder_without_rights_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "about").mkdir()
    missing = FileNotFoundError("File about/metadata not found.")
    assert isinstance(checkpoint_files._failed(tmp_path, "about", missing), Damaged)
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "about")  # root may read anything
    assert isinstance(checkpoint_files._failed(tmp_path, "about", missing), InputError)


def test_a_folder_that_may_not_be_looked_into_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match="cannot be looked into: Permission denied. Change its permissions"):
        steps_in(tmp_path)


def test_an_answer_that_comes_late_is_not_printed_but_any_other_error_is(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: printed.append(unraisable.exc_value))
    checkpoint_files.ignore_late_answers.__wrapped__()
    other = RuntimeError("something else")
    for error in (RuntimeError("Event loop is closed"), other):
        sys.unraisablehook(SimpleNamespace(exc_value=error))
    assert printed == [other]
