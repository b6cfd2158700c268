"""Single cells of the notebooks, run with stand-ins for what the cells before them leave."""

import contextlib
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import begin
import drive_archives
import jupytext
import numpy as np
import pytest
from PIL import Image

COLAB = Path(__file__).resolve().parents[1] / "colab"


def cell_with(script: str, text: str) -> str:
    """The one cell of code that holds a text."""
    (found,) = (
        cell.source
        for cell in jupytext.read(COLAB / script).cells
        if cell.cell_type == "code" and text in cell.source
    )
    return found


@pytest.fixture
def said(tmp_path, monkeypatch) -> list[list[str]]:
    """The commands that cells run; none is run here."""
    commands: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(begin, "SMOKE", True)
    monkeypatch.setattr(begin, "run", lambda command: commands.append(shlex.split(command)))
    monkeypatch.setattr(drive_archives, "copied", lambda *_, **__: contextlib.nullcontext())
    return commands


def train(mount: Path, data: str = "photos") -> Path:
    """Runs the cell that trains; gives the run's folder."""
    names = {"begin": begin, "Path": Path, "KIND": "cpu", "DEVICES": 1, "MOUNT": mount}
    exec(
        cell_with("02_train_on_tpu.py", "copied(").replace('DATA = "photos"', f"DATA = {data!r}"),
        names,
    )
    return names["RUN"]


def save(run: Path, *steps: int) -> None:
    for step in steps:
        (run / "checkpoints" / str(step)).mkdir(parents=True)
    (run / "config.json").write_text("{}")


def test_the_same_cell_again_goes_on(said, tmp_path):
    run = train(tmp_path / "drive")
    save(run, 10)
    assert train(tmp_path / "drive") == run
    assert [command[1] for command in said] == ["smoke", "--resume"]


def test_other_data_are_another_run_also_where_archives_are_on_drive(said, tmp_path):
    first = train(tmp_path / "drive")
    save(first, 10)
    drive_archives.copy_new(first, tmp_path / "drive")
    second = train(tmp_path / "drive", "folder:my photographs")
    assert second != first and second.parent == first.parent
    assert said[1][:4] == ["fit", "smoke", "--data", "folder:my photographs"]
    assert said[1][-2:] == ["--out", str(second)]


def test_a_crash_before_the_first_checkpoint_is_begun_anew(said, tmp_path):
    run = train(tmp_path / "drive")
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    train(tmp_path / "drive")
    assert said[1] == said[0]
    assert not run.exists()


def test_other_losses_are_another_comparison(said):
    cell = cell_with("03_compare_losses.py", "LOSSES = ")
    for text in (cell, cell.replace('"l1"', '"mse"')):
        exec(text, {"begin": begin})
    assert said[0][-3:-1] == ["l1", "--out"] and said[1][-3:-1] == ["mse", "--out"]
    assert said[0][-1] != said[1][-1]


def test_on_colab_a_file_is_asked_for_and_none_need_be_given(monkeypatch):
    assert begin.uploaded() == ""  # not on Colab
    for given, expected in (({"mine": b""}, "mine"), ({}, "")):
        colab = SimpleNamespace(files=SimpleNamespace(upload=lambda given=given: given))
        monkeypatch.setitem(sys.modules, "google.colab", colab)
        for smoke in (False, True):
            monkeypatch.setattr(begin, "SMOKE", smoke)
            assert begin.uploaded() == ("" if smoke else expected)
    for script in ("02_train_on_tpu.py", "04_from_pytorch.py"):
        assert cell_with(script, "begin.uploaded()")


def test_a_photograph_taken_upright_is_shown_upright(tmp_path, monkeypatch):
    """Its sensor lay on its side: the top is stored as the left, and orientation 6 says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "restored").mkdir()
    stored = np.zeros((300, 400, 3), np.uint8)
    stored[:, :200] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in (tmp_path, tmp_path / "restored"):
        Image.fromarray(stored).save(folder / "mine.png", exif=exif)
    shown: list[Image.Image] = []
    cell = cell_with("02_train_on_tpu.py", "exif_transpose")
    exec(cell, {"PHOTOGRAPH": "mine.png", "Path": Path, "Image": Image, "display": shown.append})
    picture = np.asarray(shown[0])
    assert picture.shape == (480 * 400 // 300 + 8 + 480, 968, 3)
    for column in (100, 700):
        assert picture[200, column].tolist() == [255] * 3
        assert picture[600, column].tolist() == [0] * 3
