"""Runs on each kind of source are trained, evaluated, stopped and resumed at the right batch."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.slow_cases import slow_for
from train.__main__ import main
from train.data import sources
from train.data.images import write_image
from train.data.pipeline import PatchBatches
from train.data.splits import open_splits, save_splits


@pytest.fixture(autouse=True)
def small_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """All photographs here have the same size, so that networks and metrics are compiled once."""
    packaged = sources._packaged
    monkeypatch.setattr(sources, "_packaged", lambda name: packaged(name)[100:120, 100:116].copy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough small photographs that each split has some."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(16):
        write_image(
            folder / f"{i}.png",
            np.random.default_rng(i).integers(0, 256, (20, 16, 3), dtype=np.uint8),
        )
    return folder


def _specs(kind: str, folder: Path, request: pytest.FixtureRequest) -> list[str]:
    if kind == "photos":
        return ["--data=photos"]
    if kind == "folder":
        return [f"--data=folder:{folder}"]
    lol = request.getfixturevalue("lol")
    if kind == "pairs":
        test = f"--test-data=pairs:{lol}?input=eval15/low/*.png&target=eval15/high/*.png"
        return [f"--data=pairs:{lol}/our485/low,{lol}/our485/high", test, "--validation-data=none"]
    tfds = f"tfds:{lol}/tfds/lol/1.0.0"
    return [
        f"--data={tfds}:train?target=high",
        f"--test-data={tfds}:test?target=high",
        "--validation-data=none",
    ]


def _losses(run: Path) -> dict[int, float]:
    return {
        line["step"]: line["loss"]
        for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    }


@slow_for("kind", ["photos", "folder", "pairs", "tfds"], ["photos", "folder"])  # as clean as tfds
def test_a_run_trains_evaluates_and_resumes_at_the_right_batch(
    kind: str,
    folder: Path,
    tiny_flags: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []
    cut = PatchBatches.global_batches
    monkeypatch.setattr(
        PatchBatches,
        "global_batches",
        lambda self, i, **how: asked.extend(i) or cut(self, i, **how),
    )
    specs = _specs(kind, folder, request)
    common = [*tiny_flags, *specs, "--steps=4", "--checkpoint-every=2", "--log-every=1"]
    assert main(["fit", *common, f"--out={tmp_path / 'run'}"]) == 0
    assert sorted(asked) == [0, 1, 2, 3]
    printed = capsys.readouterr().out
    assert ("degraded in reality" in printed) == (kind == "pairs")
    with (tmp_path / "run" / "evaluation.csv").open() as file:
        scores = list(csv.DictReader(file))
    record = json.loads((tmp_path / "run" / "split.json").read_text())
    assert {row["photograph"] for row in scores} == set(record["test"]["photographs"])
    assert not set(record["test"]["photographs"]) & set(record["train"]["photographs"])

    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "run", stopped)
    for path in (stopped / "checkpoints").glob("4*"):
        shutil.rmtree(path)
    asked.clear()
    assert main(["fit", "--resume", str(stopped)]) == 0
    assert sorted(asked) == [2, 3]
    assert _losses(stopped) == _losses(tmp_path / "run")  # to the last bit
    assert (stopped / "evaluation.csv").read_text() == (
        tmp_path / "run" / "evaluation.csv"
    ).read_text()


def test_a_run_whose_photographs_changed_is_not_resumed(
    folder: Path, tiny_flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(folder, data)
    flags = [
        *tiny_flags,
        f"--data=folder:{data}",
        "--validation-data=none",
        f"--test-data=folder:{folder}",
    ]
    assert main(["fit", *flags, "--steps=2", f"--out={run}"]) == 0
    assert (
        "these photographs were also used for training, so their scores mean little: 0.png (test)"
        in capsys.readouterr().out
    )
    # Smaller than a patch, which does not matter here
    write_image(data / "3.png", np.zeros((4, 4, 3), np.uint8))
    (data / "4.png").rename(data / "four.png")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["fit", "--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "train: 1 added (four.png); train: 1 removed (4.png); train: 1 changed (3.png)" in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    write_image(data / "3.png", np.zeros((20, 16, 3), np.uint8))
    # The record, but not the checkpoint
    save_splits(open_splits(f"folder:{data}", validation="none", test=f"folder:{folder}"), run)
    assert main(["fit", "--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"the checkpoint in {run} was trained with different photographs" in said
    assert "order (train)" in said


def test_a_run_resumes_once_a_vanished_source_is_back(
    folder: Path,
    tiny_flags: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Photographs may vanish while a run needs them: the checkpoints from before stay whole."""
    data, away, run = tmp_path / "data", tmp_path / "away", tmp_path / "run"
    shutil.copytree(folder, data)
    flags = [
        *tiny_flags,
        f"--data=folder:{data}",
        "--validation-data=none",
        f"--test-data=folder:{folder}",
    ]
    flags += ["--steps=6", "--checkpoint-every=2", "--log-every=1", "--memory-mb=0"]
    cut = PatchBatches.global_batches

    def vanish(self: PatchBatches, indices: range, **how: object) -> object:
        if 3 in indices:
            data.rename(away)
        return cut(self, indices, **how)

    with monkeypatch.context() as patched:
        patched.setattr(PatchBatches, "global_batches", vanish)
        assert main(["fit", *flags, f"--out={run}"]) == 2
    assert re.search(
        r"error: .*data/\d+\.png cannot be read: No such file", capsys.readouterr().err
    )
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["2"]
    away.rename(data)
    assert main(["fit", "--resume", str(run)]) == 0
    assert sorted(_losses(run)) == [1, 2, 3, 4, 5, 6]
