"""What the report of a comparison says about a viewing study of its networks."""

import shlex
import shutil

import numpy as np
import pytest

from tests.train.study.conftest import Robots, side_of
from tests.train.study.untrained import untrained, write_photographs
from train.__main__ import main
from train.checkpoints.checkpoint import load_network, save_network
from train.checkpoints.digests import digest_weights
from train.checkpoints.origin import recorded_digest
from train.data.images import write_image
from train.experiments.people import ask_people
from train.study.create_config import CreateConfig
from train.study.score import PAGE
from train.study.serve import ServeConfig
from train.study.study_file import FILE_NAME


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A folder with three networks, and a study of the first two on ten photographs."""
    root = tmp_path_factory.mktemp("comparison")
    names = [f"p{number}" for number in range(10)]
    write_photographs(root / "clean", names, np.random.default_rng(0))
    for number in range(3):
        folder = root / "members" / f"m{number}" / "checkpoints" / "30"
        save_network(folder, untrained(number), {})
    named = ["--a", str(root / "members" / "m0"), "--b", str(root / "members" / "m1")]
    more = ["--clean", str(root / "clean"), "--sigma", "25", "--seed", "3"]
    assert main(["study", "create", str(root / "made"), *named, *more]) == 0
    return root


@pytest.fixture
def folder(comparison, tmp_path):
    """The comparison with its study in place."""
    (tmp_path / "study").mkdir()
    shutil.copy(comparison / "made" / FILE_NAME, tmp_path / "study")
    return tmp_path


def people(comparison, folder, *numbers):
    networks = [comparison / "members" / f"m{number}" for number in numbers]
    return ask_people(folder, networks, photographs=10)


def test_the_digest_is_read_without_the_weights(comparison, tmp_path):
    run = comparison / "members" / "m1"
    network = load_network(run)
    assert recorded_digest(run) == digest_weights(network.params, network.batch_stats)
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "30" / "about" / "metadata").write_text("{}")
    assert recorded_digest(tmp_path / "run") == ""


@pytest.mark.parametrize("photographs", [8, 10])
def test_without_a_study_two_commands_make_one(comparison, tmp_path, photographs, monkeypatch):
    folder = tmp_path / "a comparison"
    folder.mkdir()
    found = ask_people(folder, [], photographs=photographs)
    create, serve = (shlex.split(command) for command in found.commands)
    configs = []
    monkeypatch.setattr("train.study.create.create", configs.append)
    monkeypatch.setattr("train.study.serve.serve", configs.append)
    for command in (create, serve):
        assert command[:3] == ["python", "-m", "train"]
        assert main(command[3:]) == 0
    study = folder / "study"
    assert configs == [CreateConfig(study, comparison=folder), ServeConfig(study)]
    assert not found.verdicts and "study score" in found.then
    assert ("too few for a verdict" in found.then) == (photographs < 10)


def test_the_answers_of_its_networks_are_shown(comparison, folder):
    robots = Robots(folder / "study")
    robots.observe(lambda kind, left, right, photograph: side_of("b", left))
    robots.votes.close()
    found = people(comparison, folder, 0, 1, 2)
    ((verdict, measurement),) = found.verdicts
    assert verdict == "B (m1) is preferred to A (m0)."
    # Ten photographs, and three of them again
    assert "0 for A, 0 for no difference, 13 for B" in measurement
    assert found.question == "Which picture do you prefer?" and not found.commands
    assert found.page == ""  # nobody has scored it yet
    assert main(["study", "score", str(folder / "study")]) == 0
    assert people(comparison, folder, 0, 1).page == f"study/{PAGE}"


def test_three_sets_are_shown_on_one_scale(comparison, tmp_path):
    named = [f"--{letter}={comparison / 'members' / f'm{i}'}" for i, letter in enumerate("abc")]
    more = ["--clean", str(comparison / "clean"), "--sigma", "25", "--seed", "3"]
    assert main(["study", "create", str(tmp_path / "study"), *named, *more]) == 0
    robots = Robots(tmp_path / "study")
    robots.observe(lambda kind, left, right, photograph: side_of(max(left, right), left))
    robots.votes.close()
    found = people(comparison, tmp_path, 0, 1, 2)
    assert [row[0] for row in found.scale] == ["C (m2)", "B (m1)", "A (m0)"]
    assert [row[3] for row in found.scale] == ["100 %", "50 %", "0 %"]
    assert found.scale[0][1].startswith("+") and found.scale[1][1] == "0.00"
    assert len(found.verdicts) == 3
    verdict, measurement = found.verdicts[0]
    assert verdict == "B (m1) is preferred to A (m0)."
    assert measurement.startswith("Score of A: 0 %, ") and "0 for A, 0 for no" in measurement
    said = " ".join(found.said)
    assert said.count("means that neither") == 1 and "1 JOD apart score 75 %" in said
    assert "No vote prefers B to C" in said


def test_a_study_of_other_networks_is_not_reported(comparison, folder):
    robots = Robots(folder / "study")
    robots.observe(lambda kind, left, right, photograph: side_of("b", left))
    robots.votes.close()
    found = people(comparison, folder, 0, 2)
    assert not found.verdicts and "not from these networks" in found.said[0]


def test_a_study_of_folders_is_not_reported(comparison, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in (0, 1):
            image = np.full((70, 80, 3), 90 + 9 * number + ord(name), np.uint8)
            write_image(tmp_path / name / f"p{number}.png", image)
    named = ["--a", str(tmp_path / "a"), "--b", str(tmp_path / "b")]
    assert main(["study", "create", str(tmp_path / "study"), *named]) == 0
    assert "not from these networks" in people(comparison, tmp_path, 0, 1).said[0]


def test_without_votes_it_says_how_to_collect_them(comparison, folder):
    found = people(comparison, folder, 0, 1)
    assert not found.verdicts and "no votes that count yet" in found.said[0]
    assert found.commands == (f"python -m train study serve {folder / 'study'}",)


def test_a_damaged_study_does_not_stop_the_report(comparison, folder):
    whole = (folder / "study" / FILE_NAME).read_bytes()
    (folder / "study" / FILE_NAME).write_bytes(whole[: len(whole) // 2])
    found = people(comparison, folder, 0, 1)
    assert not found.verdicts and FILE_NAME in found.said[0]
