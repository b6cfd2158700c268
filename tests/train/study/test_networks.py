"""Sets of a study that networks of a finished comparison restore."""

import dataclasses
import shutil
import sqlite3

import numpy as np
import pytest

from tests.train.study.untrained import SPEC, restored_by, shown, untrained, write_photographs
from train.__main__ import main
from train.assembly import open_photographs
from train.checkpoints.checkpoint import save_network
from train.data.images import read_image, to_float, to_uint8
from train.data.splits import save_splits
from train.experiments.compare_config import CompareConfig
from train.experiments.networks.members import NOISE_SEED, Member
from train.experiments.statistics.comparison_table import ComparisonRow
from train.files.outputs import write_json, write_rows
from train.inference.scoring import protocols
from train.inference.scoring.protocols import add_fixed_noise
from train.presets import find_compare_preset
from train.study.study_file import FILE_NAME


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A finished comparison of two untrained networks, on three photographs."""
    folder = tmp_path_factory.mktemp("comparison")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        write_photographs(folder / split, ("p0", "p1", "p2"), random)
    start = find_compare_preset("smoke")
    data = dataclasses.replace(
        start.fit.data,
        source=f"folder:{folder / 'train'}",
        validation_source=f"folder:{folder / 'train'}",
        test_source=f"folder:{folder / 'test'}",
    )
    model = dataclasses.replace(start.fit.model, model=SPEC)
    config = dataclasses.replace(start, fit=dataclasses.replace(start.fit, data=data, model=model))
    assert isinstance(config, CompareConfig)
    # compare adds what it found out at the start.
    write_json({**config.settings(), "start_digests": []}, folder / "settings.json")
    save_splits(open_photographs(config.fit), folder)
    picked = {"learning_rate": 0.002, "clip_norm": None}
    write_json(
        {"model": SPEC, "losses": {loss: picked for loss in config.losses}}, folder / "picked.json"
    )
    networks = {}
    for number, loss in enumerate(config.losses):
        member = Member(loss, config.fit.seed, 0.002, None)
        networks[loss] = untrained(number)
        save_network(folder / "members" / member.name / "checkpoints" / "30", networks[loss], {})
    return folder, config, networks


def test_the_networks_restore_the_test_photographs(comparison, tmp_path, capsys):
    folder, config, networks = comparison
    flags = ["--comparison", str(folder), "--crop", "None", "--task", "fidelity"]
    assert main(["study", "create", str(tmp_path / "study"), *flags]) == 0
    said = capsys.readouterr().out
    assert "3 photographs are too few for a verdict" in said and "--clean FOLDER" in said
    with sqlite3.connect(tmp_path / "study" / FILE_NAME) as file:
        content = file.execute("SELECT content FROM about").fetchone()[0]
    assert '"names": ["luminance_l1", "l1"]' in content
    seen = set()
    for name, left, pixels in shown(tmp_path / "study"):
        clean = read_image(folder / "test" / f"{name}.png")
        noisy = add_fixed_noise(
            to_float(clean), f"{name}.png", sigma=config.fit.data.sigma, seed=NOISE_SEED
        )
        if left in ("a", "b"):
            wanted = restored_by(networks[config.losses["ab".index(left)]], noisy)
        else:
            wanted = clean if left == "clean" else to_uint8(noisy)
        np.testing.assert_array_equal(pixels, wanted)
        seen.add(left)
    assert {"a", "b"} <= seen


def test_the_networks_restore_other_photographs(comparison, tmp_path, capsys):
    folder, config, networks = comparison
    names = [f"new{number}" for number in range(10)]
    write_photographs(tmp_path / "clean", names, np.random.default_rng(1))
    flags = ["--comparison", str(folder), "--crop", "None", "--clean", str(tmp_path / "clean")]
    assert main(["study", "create", str(tmp_path / "study"), *flags]) == 0
    assert "too few" not in capsys.readouterr().out
    name, _, pixels = next(row for row in shown(tmp_path / "study") if row[1] == "b")
    noisy = add_fixed_noise(
        to_float(read_image(tmp_path / "clean" / f"{name}.png")),
        f"{name}.png",
        sigma=config.fit.data.sigma,
        seed=protocols.NOISE_SEED,
    )
    np.testing.assert_array_equal(pixels, restored_by(networks[config.losses[1]], noisy))


def test_of_several_lengths_the_longest_is_used(comparison, tmp_path):
    folder, config, _ = comparison
    shutil.copytree(folder / "members", tmp_path / "c" / "members-60")
    for name in ("picked.json", "split.json"):
        shutil.copy(folder / name, tmp_path / "c")
    write_json(
        {**config.settings(), "lengths": [30, 60], "start_digests": []},
        tmp_path / "c" / "settings.json",
    )
    flags = ["--comparison", str(tmp_path / "c")]
    assert main(["study", "create", str(tmp_path / "study"), *flags]) == 0


def scored(config, *, sigma):
    """A table of scores: PSNR is 30 for the first loss, 31 for the second."""
    return [
        ComparisonRow(loss, seed, level, f"p{number}.png", {"psnr": 30.0 + i + (level != sigma)})
        for i, loss in enumerate(config.losses)
        for seed in (config.fit.seed, config.fit.seed + 1)
        for level in (sigma, sigma + 10)
        for number in range(3)
    ]


def test_the_scores_of_the_comparison_are_kept(comparison, tmp_path, capsys):
    folder, config, _ = comparison
    shutil.copytree(folder, tmp_path / "runs")
    middle = sorted(config.levels)[len(config.levels) // 2]
    write_rows(scored(config, sigma=middle), tmp_path / "runs" / "scores.csv")
    flags = ["--comparison", str(tmp_path / "runs")]
    assert main(["study", "create", str(tmp_path / "study"), *flags]) == 0
    wanted = [(n, "ab"[i], "psnr", 30.0 + i) for i in range(2) for n in range(3)]
    assert scores_in(tmp_path / "study") == wanted
    # They are about the test photographs at the middle level, and about nothing else.
    assert main(["study", "create", str(tmp_path / "other"), *flags, "--sigma", "5"]) == 0
    assert scores_in(tmp_path / "other") == []
    capsys.readouterr()
    (tmp_path / "runs" / "scores.csv").write_text("damaged")
    assert main(["study", "create", str(tmp_path / "third"), *flags]) == 0
    assert "The scores of the comparison are not used." in capsys.readouterr().out
    assert scores_in(tmp_path / "third") == []


def scores_in(study):
    with sqlite3.connect(study / FILE_NAME) as file:
        return file.execute("SELECT * FROM scores").fetchall()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--losses", "mse", "l1"], "did not compare mse"),
        (["--losses", "l1", "l1"], "2 to 6 different losses"),
        (["--a", "a"], "Leave --a out"),
    ],
)
def test_what_a_comparison_does_not_have_is_said(comparison, tmp_path, flags, message, capsys):
    folder, *_ = comparison
    given = ["--comparison", str(folder), *flags]
    assert main(["study", "create", str(tmp_path / "study"), *given]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_comparison_is_said(comparison, tmp_path, capsys):
    assert main(["study", "create", str(tmp_path / "s"), "--comparison", str(tmp_path)]) == 2
    assert "is not the folder of a comparison" in capsys.readouterr().err
    folder, *_ = comparison
    (tmp_path / "settings.json").write_text((folder / "settings.json").read_text())
    assert main(["study", "create", str(tmp_path / "s"), "--comparison", str(tmp_path)]) == 2
    assert "--comparison" in capsys.readouterr().err
    assert main(["study", "create", str(tmp_path / "s"), "--losses", "l1", "mse"]) == 2
    assert "which is not given" in capsys.readouterr().err
