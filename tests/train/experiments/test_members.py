"""Networks of an experiment: which one is scored, and what of a folder outlives a training that begins anew."""

import json
import shutil

import pytest
from rich.console import Console

from train.experiments.members import Member, Members

MEMBER = Member("l1", 0, 1e-3, None)


@pytest.fixture(scope="module")
def trained(small_fit, splits, tmp_path_factory):
    """A folder of one network, trained, and its scores."""
    folder = tmp_path_factory.mktemp("members")
    return folder, scores_of(Members(folder, small_fit(), Console(quiet=True)), splits)


@pytest.fixture
def folder(trained, tmp_path):
    """Of that network's run, to be harmed."""
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / MEMBER.name


@pytest.fixture
def members(small_fit, tmp_path):
    return Members(tmp_path, small_fit(), Console(quiet=True))


def scores_of(members, splits):
    return members.score(MEMBER, splits.test, "test", (25.0,), 1)


def test_no_network_is_scored_but_that_of_the_last_step(members, folder, splits, trained):
    """Where its checkpoint is damaged it is trained on from the one before, to the same bits."""
    (folder / "test.csv").unlink()
    (folder / "checkpoints" / "4" / "about" / "metadata").write_text("{}")
    assert scores_of(members, splits) == trained[1]
    assert (folder / "broken_checkpoints" / "4").is_dir()


def test_damaged_checkpoints_outlive_a_training_that_begins_anew(members, folder):
    (folder / "done").unlink()
    (folder / "checkpoints").rename(folder / "broken_checkpoints")
    assert members.train(MEMBER)
    assert {path.name for path in (folder / "broken_checkpoints").iterdir()} == {"2", "4"}
    assert (folder / "checkpoints" / "4").is_dir()


def test_a_validation_that_is_not_finite_is_no_point_of_the_curve(members, folder):
    lines = [{"step": 1, "validation/psnr": 20.0}, {"step": 2}, {"step": 3, "validation/psnr": None}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = members.curve(MEMBER)
    assert (curve.steps, curve.psnr) == ([1], [20.0])
