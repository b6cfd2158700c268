"""The command line from start to report: tiny runs, resumed runs, and wrong input."""

import csv
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from train import assembly, loop
from train.__main__ import main
from train.checkpoints.checkpoint_writer import open_checkpoints
from train.data.images import read_image, write_image
from train.monitoring.metric_writer import SPEED
from train.monitoring.tensorboard import records


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small photographs, which runs are trained and evaluated on."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, shape in (("one.png", (24, 30, 3)), ("two.png", (20, 16, 3))):
        write_image(folder / name, rng.integers(0, 256, shape, dtype=np.uint8))
    return folder


@pytest.fixture
def flags(tiny_flags: tuple[str, ...], photographs: Path) -> list[str]:
    return [*tiny_flags, f"--data=folder:{photographs}", f"--test-data=folder:{photographs}"]


def _metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _learned(folder: Path) -> list[dict[str, float]]:
    """The metrics without the speed."""
    return [
        {name: value for name, value in line.items() if name not in SPEED}
        for line in _metrics(folder)
    ]


def _arrays(folder: Path, step: int) -> dict[str, bytes]:
    """Reads every array of a checkpoint without the application's own code."""
    checkpoint = folder.absolute() / "checkpoints" / str(step)
    restored = {
        item: ocp.PyTreeCheckpointer().restore(checkpoint / item)
        for item in ("weights", "training")
    }
    return {
        jax.tree_util.keystr(k): np.asarray(v).tobytes()
        for k, v in jax.tree_util.tree_leaves_with_path(restored)
    }


def test_a_run_leaves_everything_that_it_names(
    flags: list[str], photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    seeing = [
        f"--validation-data=folder:{photographs}",
        "--validate-every=3",
        "--profile=2",
        "3",
        "--keep-last=1",
    ]
    assert (
        main(["fit", "smoke", *flags, *seeing, "--steps=6", f"--out={out}", "--checkpoint-every=4"])
        == 0
    )
    printed = capsys.readouterr().out
    for name in (
        "comparison.png",
        "evaluation.csv",
        "metrics.jsonl",
        "config.json",
        "checkpoints/6",
        "profile",
    ):
        assert (out / name).exists()
        assert str(out / name) in printed
    for word in (
        "one.png",
        "two.png",
        "noisy",
        "blur",
        "restored",
        "PSNR dB",
        "images/s",
        "waited for data",
    ):
        assert word in printed
    logged = _metrics(out)
    assert [line["step"] for line in logged] == [2, 3, 4, 6]
    learned = ["step", "loss", "color", "luminance", "gradient_norm", "learning_rate", "skipped"]
    scores = [f"validation/{name}" for name in ("psnr", "ssim", "ciede2000")]
    for line in logged:
        assert list(line) == [*learned, *SPEED, *(scores if line["step"] in (3, 6) else [])]
        assert line["loss"] == pytest.approx(
            0.5 * line["luminance"] + 0.5 * line["color"], rel=1e-5
        )
    assert any(path.suffix == ".pb" for path in (out / "profile").rglob("*"))
    # The newest is kept, and the best of those that were validated.
    psnr = {line["step"]: line["validation/psnr"] for line in logged if "validation/psnr" in line}
    kept = {int(path.name) for path in (out / "checkpoints").iterdir()}
    assert kept == {6, max(psnr, key=lambda step: psnr[step])}
    events = [event for path in (out / "tensorboard").iterdir() for _, event in records(path)]
    curves = {(value.tag, event.step) for event in events for value in event.summary.value}
    assert {
        ("loss", 2),
        ("validation/psnr", 3),
        ("validation/psnr", 6),
        ("validation", 6),
    } <= curves
    with (out / "evaluation.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    assert read_image(out / "comparison.png").shape[2] == 3
    config = json.loads((out / "config.json").read_text())
    assert config["optimizer"]["steps"] == 6


# Only this test reads a checkpoint without a target
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_stopped_and_resumed_a_run_ends_with_the_same_bits(
    flags: list[str], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # The schedule looks ahead to the last step, so the interrupted run is stopped, not configured
    # shorter.
    common = [*flags, "--steps=7", "--checkpoint-every=3", "--log-every=1"]
    assert main(["fit", *common, f"--out={whole}"]) == 0
    assert main(["fit", *common, f"--out={parts}"]) == 0
    for path in (parts / "checkpoints").glob("7*"):
        _remove(path)
    with open_checkpoints(parts / "checkpoints", {}) as checkpoints:
        assert checkpoints.newest().name == "6"
    assert main(["fit", "--resume", str(parts)]) == 0
    assert _arrays(parts, 7) == _arrays(whole, 7)
    assert _learned(parts) == _learned(whole)
    assert (parts / "evaluation.csv").read_text() == (whole / "evaluation.csv").read_text()


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_without_out_every_run_gets_a_new_folder(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["fit", "smoke", *flags, "--steps=1"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["001-smoke", "002-smoke"]


def test_a_diverging_run_stops_with_the_step_and_the_mend(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = [
        "--learning-rate=1e38",
        "--steps=40",
        "--checkpoint-every=1",
        f"--out={tmp_path / 'run'}",
    ]
    assert main(["fit", *flags, *wild, "--max-skips=4"]) == 2
    said = capsys.readouterr().err
    assert (
        "Steps 2 to 5 were all skipped. In the last of them these were not finite: loss, color, "
        "luminance, gradient" in said
    )
    assert "lower --learning-rate than 1e+38" in said
    # The steps that were skipped before the run stopped have checkpoints; what they hold is what
    # step 1 left.
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["3", "4"]


def _fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        status = main(arguments)
    except SystemExit as exit_:  # tyro ends the process by itself
        status = exit_.code
    captured = capsys.readouterr()
    assert status == 2
    assert "Traceback" not in captured.err
    return captured.out + captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fti"], ["There is no verb 'fti'", "Did you mean 'fit'", "Verbs: fit"]),
        (
            ["fit", "smoek"],
            ["There is no preset 'smoek'", "Did you mean 'smoke'", "Presets: default, smoke"],
        ),
        (["fit", "--stepz", "5"], ["--stepz", "--steps"]),
        (["fit", "--steps", "many"], ["--steps"]),
        (["fit", "--model", "dncn"], ["--model", "'dncn'", "did you mean 'dncnn'"]),
        (["fit", "--model", "dncnn(dept=3)"], ["--model", "dept", "did you mean 'depth'"]),
        (["fit", "--loss", "luminance_l2"], ["--loss", "luminance_l1"]),
        (
            ["fit", "--batch-size", "6"],
            ["--batch-size 6 does not divide over 4 devices. Use 4 or 8"],
        ),
        (["fit", "--devices", "9"], ["--devices 9 is too many, because there are 4"]),
        (
            ["fit", "--patch-size", "4000"],
            ["--patch-size 4000 is larger than 4 of 4", "astronaut (512x512)"],
        ),
        (["fit", "--data", "folder:nowhere"], ["There is no folder nowhere"]),
        (["fit", "--resume", "nowhere"], ["nowhere is not a run's folder"]),
        (
            ["fit", "--out", "run[1]"],
            ["Checkpoints cannot be stored in", "because of the name 'run[1]'", "symbolic link"],
        ),
        (
            ["fit", "--out", "a*/run"],
            ["Checkpoints cannot be stored in", "because of the name 'a*'", "symbolic link"],
        ),
    ],
)
def test_wrong_input_gets_one_clear_sentence(
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = " ".join(_fails(arguments, capsys).split())
    for word in words:
        assert word in said
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize(
    ("checkpoint", "way_out"),
    [
        (
            "",
            "{} is not empty, and does not contain a run to resume. Move or delete it, or choose "
            "another --out",
        ),
        (
            "7",
            "{} contains a run. Resume it with python -m train fit --resume {}, or choose another "
            "--out",
        ),
    ],
)
def test_out_that_holds_a_run_is_not_touched(
    checkpoint: str,
    way_out: str,
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "checkpoints" / checkpoint).mkdir(parents=True)
    (tmp_path / "config.json").write_text("mine")
    said = _fails(["fit", *flags, f"--out={tmp_path}"], capsys)
    assert f"--out {way_out.replace('{}', str(tmp_path))}" in said
    assert (tmp_path / "config.json").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_out_that_is_a_file_is_said_to_be_no_folder(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "photo.jpg").write_text("mine")
    said = _fails(["fit", *flags, f"--out={file}"], capsys)
    assert f"--out {file} is not a folder. Move or delete it, or choose another --out" in said
    assert file.read_text() == "mine"


def test_a_resume_does_not_change_what_is_learned(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *flags, "--steps=2", f"--out={tmp_path / 'run'}"]) == 0
    resume = ["fit", "--resume", str(tmp_path / "run")]
    said = " ".join(_fails([*resume, "--seed=5"], capsys).split())
    assert "--seed cannot change when a run is resumed" in said and "Leave it out" in said
    said = " ".join(_fails([*resume, "--loss=mse", "--data=photos", "--ema=0.9"], capsys).split())
    assert "--data, --loss, --ema cannot change" in said and "Leave them out" in said


def test_an_unreadable_photograph_is_named(
    flags: list[str], photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (photographs / "one.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert "cut.png cannot be read" in _fails(["fit", *flags, f"--data=folder:{tmp_path}"], capsys)


def test_help_explains_every_flag_and_names_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for word in (
        "--data",
        "--patch-size",
        "--loss",
        "--learning-rate",
        "--resume",
        "smoke",
        "dncnn",
    ):
        assert word in text
    assert main(["--help"]) == 0
    assert "fit" in capsys.readouterr().out


def test_a_step_is_compiled_once_and_only_batches_are_moved(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, schedule and guard change from step to step, but by no number from the host."""
    traced = []
    make_step = assembly.make_step

    def made(*args: Any, **kwargs: Any) -> Any:
        step = make_step(*args, **kwargs)

        def noted(*arguments: Any) -> Any:
            traced.append(step)
            return step(*arguments)

        return noted

    monkeypatch.setattr(assembly, "make_step", made)
    assembly._programs.cache_clear()  # so that no other test has compiled it
    assert main(["fit", *flags, "--steps=5", f"--out={tmp_path / 'run'}"]) == 0
    assert len(traced) == 1
    # A batch that is not on the devices yet, for the guard to find.
    monkeypatch.setattr(loop.sharding, "to_devices", lambda batches, mesh: batches)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        main(["fit", *flags, "--steps=5", f"--out={tmp_path / 'moving'}"])
