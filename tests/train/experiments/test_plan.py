"""How many seeds and photographs a comparison needs."""

import json
import math

import numpy as np
import pytest

from train.__main__ import main
from train.experiments import plan
from train.experiments.plan import Spreads, fewest_images
from train.experiments.statistics import stats


def test_four_of_five_comparisons_of_the_planned_size_tell_the_difference() -> None:
    spreads = Spreads(0.1, 0.02, 0.05, "")
    seeds, size = 3, 0.1
    images = fewest_images(size, spreads, seeds, confidence=0.95)
    assert images is not None and images > stats.FEWEST_IMAGES
    draw = np.random.default_rng(0).normal
    told = []
    for _ in range(1000):
        table = size + spreads.image_sd * draw(size=(images, 1))
        table = table + spreads.seed_sd * draw(size=(1, seeds))
        table += spreads.residual_sd * draw(size=(images, seeds))
        told.append(stats.paired_difference(table).p_value < 0.05)
    assert stats.POWER - 0.05 <= np.mean(told) <= stats.POWER + 0.12


def test_more_seeds_need_fewer_photographs_and_some_spreads_too_many() -> None:
    spreads = Spreads(0.3, 0.02, 0.05, "")
    needed = [fewest_images(0.1, spreads, seeds, confidence=0.95) for seeds in (3, 5, 12)]
    assert None not in needed and needed == sorted(needed, reverse=True)
    # The seeds alone hide the difference, whatever the number of photographs.
    assert fewest_images(0.1, Spreads(0.1, 0.5, 0.1, ""), 3, confidence=0.95) is None


@pytest.fixture
def earlier(tmp_path):
    """The conclusions of an earlier comparison."""
    difference = {"image_sd": 0.1, "seed_sd": 0.02, "residual_sd": 0.05}
    wider = {"image_sd": 0.2, "seed_sd": 0.01, "residual_sd": 0.04}
    conclusions = [
        {"metric": "psnr", "adjusted_p": 0.0, "difference": difference},
        {"metric": "psnr", "adjusted_p": 0.5, "difference": wider},
        {"metric": "psnr", "adjusted_p": None, "difference": {"image_sd": 9.0}},
    ]
    (tmp_path / "conclusions.json").write_text(json.dumps(conclusions))
    return tmp_path


def test_the_plan_uses_the_spreads_of_an_earlier_comparison(small_run, earlier, capsys) -> None:
    more = ["--settings-from", str(earlier), "--losses", "luminance_l1", "l1"]
    assert main(["compare", "smoke", *small_run, *more, "--plan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "To detect a difference of 0.1 dB in PSNR" in said
    assert "Spreads: 0.2 over photographs, 0.02 over seeds, 0.05 otherwise, from" in said
    assert "There are 10 test photographs, which are too few with any number of seeds" in said
    assert [path.name for path in earlier.iterdir()] == ["conclusions.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "has no spreads of psnr"),
        ('[{"metric": "psnr", "adjusted_p": 0.1, "difference": {"image_sd": null}}]', "no spreads"),
    ],
)
def test_spreads_that_cannot_be_used_are_one_sentence(
    tmp_path, small_run, content, message, capsys
) -> None:
    if content is not None:
        (tmp_path / "conclusions.json").write_text(content)
    assert main(["compare", "smoke", *small_run, "--settings-from", str(tmp_path), "--plan"]) == 2
    assert message in capsys.readouterr().err


def test_measured_spreads_are_complete(small_run, capsys, monkeypatch, tmp_path) -> None:
    for entry in json.loads(plan._MEASURED.read_text()):
        assert entry["training"] in ("fine-tuning", "training from random weights")
        for name in ("image_sd", "seed_sd", "residual_sd"):
            assert entry[name] >= 0 and math.isfinite(entry[name])
        assert entry["source"] and entry["metric"]
    (tmp_path / "none.json").write_text("[]")
    monkeypatch.setattr(plan, "_MEASURED", tmp_path / "none.json")
    assert main(["compare", "smoke", *small_run, "--plan"]) == 2
    assert "no spreads of psnr were measured for training from" in capsys.readouterr().err
