"""Sets of a study that networks of runs restore when the study is made."""

import dataclasses
import shutil

import numpy as np
import pytest

from tests.train.study.untrained import SPEC, restored_by, shown, untrained, write_photographs
from train.__main__ import main
from train.assembly import open_photographs
from train.checkpoints.checkpoint import load_network, save_network
from train.checkpoints.digests import digest_weights
from train.checkpoints.run_folder import describe_run
from train.config import save_config
from train.data.images import read_image, to_float, to_uint8
from train.data.splits import save_splits
from train.inference.scoring.protocols import NOISE_SEED, add_fixed_noise
from train.presets import find_preset
from train.study.study_file import FILE_NAME, read_about, reading

SIGMA = find_preset("smoke").data.sigma


def save_run(folder, number, data, spec=SPEC, **changes):
    """A run of an untrained network, which changes its input."""
    config = find_preset("smoke")
    source = dataclasses.replace(
        config.data,
        source=f"folder:{data / 'train'}",
        validation_source="none",
        test_source=f"folder:{data / 'test'}",
        **changes,
    )
    model = dataclasses.replace(config.model, model=spec)
    config = dataclasses.replace(config, data=source, model=model)
    splits = open_photographs(config)
    about = describe_run(config, splits)
    save_network(folder / "checkpoints" / "30", untrained(number, spec), about)
    save_config(config, folder / "config.json")
    save_splits(splits, folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with the same photographs, and one with a different noise level."""
    root = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        write_photographs(root / split, ("p0", "p1", "p2"), random)
    save_run(root / "one", 0, root)
    save_run(root / "two", 1, root)
    save_run(root / "loud", 2, root, sigma=40.0)
    return root


def create(folder, *flags):
    return main(["study", "create", str(folder), "--crop", "None", *map(str, flags)])


def result_of(run, noisy):
    return restored_by(load_network(run), noisy)


def noisy(path, sigma=SIGMA):
    clean = to_float(read_image(path))
    return add_fixed_noise(clean, path.name, sigma=sigma, seed=NOISE_SEED)


def test_runs_restore_the_photographs_that_they_are_tested_on(runs, tmp_path):
    named = ("--a", runs / "one", "--b", runs / "two")
    assert create(tmp_path / "study", *named, "--task", "fidelity") == 0
    found = set()
    for name, left, pixels in shown(tmp_path / "study"):
        given = noisy(runs / "test" / f"{name}.png")
        wanted = {
            "clean": lambda name=name: read_image(runs / "test" / f"{name}.png"),
            "input": lambda given=given: to_uint8(given),
            "a": lambda given=given: result_of(runs / "one", given),
            "b": lambda given=given: result_of(runs / "two", given),
        }[left]()
        np.testing.assert_array_equal(pixels, wanted)
        found.add(left)
    assert {"a", "b"} <= found
    with reading(tmp_path / "study") as file:
        about = read_about(file, tmp_path)
    assert about.names == ("one", "two") and about.obvious == ("clean", "input")
    network = load_network(runs / "two")
    assert about.digests[1] == digest_weights(network.params, network.batch_stats)


def test_other_photographs_get_the_noise_of_the_runs(runs, tmp_path, capsys):
    clean = tmp_path / "clean"
    shutil.copytree(runs / "train", clean)
    (clean / "p0.png").unlink()
    named = ("--a", runs / "one", "--b", runs / "two", "--clean", clean)
    assert create(tmp_path / "study", *named) == 0
    assert "was trained on p1.png, p2.png" in capsys.readouterr().out
    for name, left, pixels in shown(tmp_path / "study"):
        if left in ("a", "b"):
            run = runs / ("one" if left == "a" else "two")
            wanted = result_of(run, noisy(clean / f"{name}.png"))
            np.testing.assert_array_equal(pixels, wanted)
    assert create(tmp_path / "louder", *named, "--sigma", 40) == 0
    name, left, pixels = next(row for row in shown(tmp_path / "louder") if row[1] == "a")
    wanted = result_of(runs / "one", noisy(clean / f"{name}.png", 40))
    np.testing.assert_array_equal(pixels, wanted)


@pytest.mark.slow
def test_degraded_photographs_are_restored_as_they_are(runs, tmp_path):
    named = ("--a", runs / "one", "--b", runs / "two", "--input", runs / "test")
    assert create(tmp_path / "study", *named) == 0
    for name, left, pixels in shown(tmp_path / "study"):
        if left == "a":
            given = to_float(read_image(runs / "test" / f"{name}.png"))
            np.testing.assert_array_equal(pixels, result_of(runs / "one", given))
    with reading(tmp_path / "study") as file:
        assert read_about(file, tmp_path).obvious == ("a", "blurred")
    assert create(tmp_path / "both", *named, "--clean", runs / "train") == 0
    with reading(tmp_path / "both") as file:
        assert read_about(file, tmp_path).obvious == ("clean", "input")


@pytest.mark.slow
def test_a_run_against_a_folder_a_checkpoint_and_a_bundled_network(runs, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(runs / "test", results)
    assert create(tmp_path / "folder", "--a", runs / "one", "--b", results) == 0
    checkpoint = runs / "two" / "checkpoints" / "30"
    named = ("--a", checkpoint, "--b", "denoiser-2", "--clean", runs / "test", "--sigma", 15)
    assert create(tmp_path / "networks", *named) == 0
    with reading(tmp_path / "networks") as file:
        assert read_about(file, tmp_path).names == ("30", "denoiser-2")


@pytest.mark.slow
def test_networks_that_need_a_noise_level_get_an_estimate(runs, tmp_path, monkeypatch):
    save_run(tmp_path / "told", 0, runs, spec="drunet(features=(4, 4, 4, 4), blocks=1)")
    told = []

    def estimate(photograph, sigma):
        told.append(sigma)
        return 0.1

    monkeypatch.setattr("train.study.given.noise_in", estimate)
    named = ("--a", tmp_path / "told", "--b", runs / "one")
    assert create(tmp_path / "own", *named) == 0
    assert set(told) == {SIGMA}
    told.clear()
    assert create(tmp_path / "estimated", *named, "--input", runs / "test") == 0
    assert set(told) == {None}


def test_names_of_runs_are_told_apart(runs, tmp_path):
    shutil.copytree(runs / "two", tmp_path / "again" / "one")
    assert create(tmp_path / "study", "--a", runs / "one", "--b", tmp_path / "again" / "one") == 0
    with reading(tmp_path / "study") as file:
        names = read_about(file, tmp_path).names
    assert names == (str(runs / "one"), str(tmp_path / "again" / "one"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--a", "{0}/one", "--b", "{0}/loud"), "or at different noise levels"),
        (("--a", "{0}/one", "--b", "{0}/loud", "--clean", "{0}/test"), "loud at 40"),
        (("--a", "{0}/one", "--b", "{0}/one"), "have the same weights"),
        (("--a", "denoiser-2", "--b", "{0}/test"), "does not say which photographs"),
        (("--a", "denoiser-2", "--b", "{0}/test", "--clean", "{0}/test"), "no noise level is"),
        (
            ("--a", "denoiser-2", "--b", "{0}/one", "--input", "{0}/test", "--task", "fidelity"),
            "--task fidelity asks",
        ),
        (("--a", "{0}/test", "--b", "{0}/test", "--sigma", "9"), "--sigma is for networks"),
        (("--a", "{0}/one", "--b", "{0}/two", "--sigma", "-1"), "--sigma must be at least 0"),
        (("--a", "{0}/one", "--b", "{0}/nowhere"), "There is no folder"),
        (("--a", "{0}/dark", "--b", "{0}/one", "--clean", "{0}/test"), "noise that was added"),
        (("--a", "{0}/grey", "--b", "{0}/one"), "restores grey photographs"),
    ],
)
def test_what_is_missing_is_said(runs, tmp_path, flags, message, capsys):
    if "{0}/dark" in flags and not (runs / "dark").exists():
        save_run(runs / "dark", 3, runs, low_light=(0.02, 0.1))
    if "{0}/grey" in flags and not (runs / "grey").exists():
        save_run(runs / "grey", 4, runs, spec=SPEC.replace("dncnn(", "dncnn(channels=1, "))
    given = [flag.format(runs) for flag in flags]
    assert create(tmp_path / "study", *given) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "study" / FILE_NAME).exists()


def test_photographs_that_are_gone_are_said(runs, tmp_path, capsys):
    for name in ("train", "test"):
        shutil.copytree(runs / name, tmp_path / name)
    save_run(tmp_path / "run", 0, tmp_path)
    shutil.rmtree(tmp_path / "test")
    assert create(tmp_path / "study", "--a", tmp_path / "run", "--b", runs / "two") == 2
    said = capsys.readouterr().err
    assert "--a: the photographs that" in said and "--clean FOLDER" in said
    shutil.copytree(runs / "train", tmp_path / "test")
    assert create(tmp_path / "study", "--a", tmp_path / "run", "--b", runs / "two") == 2
    assert "photographs have changed" in capsys.readouterr().err


def test_results_in_plain_folders_need_no_jax(runs, tmp_path, monkeypatch):
    """Loading it takes seconds."""
    monkeypatch.setattr("train.study.runs.is_network", None)
    for name in ("a", "b"):
        shutil.copytree(runs / ("train" if name == "a" else "test"), tmp_path / name)
        (tmp_path / name / "p0.lumloss.json").write_text("{}")
    assert create(tmp_path / "study", "--a", tmp_path / "a", "--b", tmp_path / "b") == 0
