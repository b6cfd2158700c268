"""The folder of an experiment: what may change when it is resumed, and what may not."""

import contextlib
import dataclasses
import json

import pytest

import tests.lumloss_jax.models.narrow_weights as narrow_weights
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.folders import open_folder
from train.experiments.tune_config import TuneConfig
from train.files import locks
from train.inference.scoring.metric_weights import path_of, save_weights


@pytest.fixture
def held():
    with contextlib.ExitStack() as stack:
        yield stack


def configured(out, kind=CompareConfig, **fields):
    fit = kind().fit
    return kind(
        **fields, fit=dataclasses.replace(fit, run=dataclasses.replace(fit.run, out=str(out)))
    )


def test_options_that_are_not_saved_have_their_defaults(splits, held, tmp_path):
    """An earlier version did not have them."""
    config = configured(tmp_path / "run")
    folder = open_folder(config, splits, "compare", held)
    saved = json.loads((folder / "settings.json").read_text())
    del saved["primary"], saved["fit"]["run"]["workers"]
    (folder / "settings.json").write_text(json.dumps(saved))
    assert open_folder(config, splits, "compare", held) == folder
    with pytest.raises(InputError, match=r"different settings \(primary\)"):
        open_folder(configured(folder, primary="ssim"), splits, "compare", held)


def test_how_much_is_done_and_by_what_means_may_change(splits, held, tmp_path):
    folder = open_folder(configured(tmp_path / "run"), splits, "compare", held)
    more = configured(folder, seeds=8, population="vmap", crops=0, metrics=("all",))
    assert open_folder(more, splits, "compare", held) == folder
    assert json.loads((folder / "settings.json").read_text())["seeds"] == 8


def test_the_weights_of_a_metric_may_not_change(splits, held, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path_of("dists").parent.mkdir(parents=True)
    save_weights("dists", narrow_weights.dists(), {})
    for kind, verb in ((CompareConfig, "compare"), (TuneConfig, "tune")):
        config = configured(tmp_path / verb, kind, metrics=("dists",))
        folder = open_folder(config, splits, verb, held)
        save_weights("dists", narrow_weights.dists(), {"made": verb})
        with pytest.raises(InputError, match="The weights of DISTS in .* are not those that"):
            open_folder(config, splits, verb, held)
        without = dataclasses.replace(config, metrics=())
        assert open_folder(without, splits, verb, held) == folder


@pytest.mark.parametrize(
    ("population", "fields", "words"),
    [
        ("vmap", {"accumulate": 3}, "--batch-size 16 .* 3 parts .* on 1 device. Use"),
        ("mesh", {"accumulate": 3}, "--batch-size 16 .* 3 parts .* on 1 device. Use"),
        ("loop", {"accumulate": 8}, "--batch-size 16 .* 8 parts .* on 4 devices. Use"),
        ("mesh", {"devices": 9}, "--devices 9 is too many, because there are 4"),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused_at_the_start(
    population, fields, words, splits, held, tmp_path
):
    """Nothing is written before."""
    config = configured(tmp_path / "run", population=population)
    data = dataclasses.replace(config.fit.data, batch_size=16)
    optimizer = dataclasses.replace(config.fit.optimizer, accumulate=fields.get("accumulate", 1))
    run = dataclasses.replace(config.fit.run, devices=fields.get("devices"))
    fit = dataclasses.replace(config.fit, data=data, optimizer=optimizer, run=run)
    with pytest.raises(InputError, match=words):
        open_folder(dataclasses.replace(config, fit=fit), splits, "compare", held)
    assert not (tmp_path / "run").exists()


def test_an_experiment_in_a_numbered_folder_can_resume(splits, held, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = open_folder(CompareConfig(), splits, "compare", held)
    assert open_folder(configured(folder), splits, "compare", held) == folder


def test_photographs_must_be_those_it_was_started_with(splits, held, tmp_path):
    folder = open_folder(configured(tmp_path / "run"), splits, "compare", held)
    fewer = splits._replace(test=splits.test.take(range(9)))
    with pytest.raises(InputError, match=r"test: 1 removed \(9.png\). .*write to a new folder."):
        open_folder(configured(folder), fewer, "compare", held)


def test_a_folder_that_another_process_works_in_is_refused(splits, tmp_path, hold_elsewhere):
    config = configured(tmp_path / "run", population="vmap")
    with contextlib.ExitStack() as held:
        open_folder(config, splits, "compare", held)
        # The same process may open it as often as it likes.
        assert open_folder(config, splits, "compare", held)
    other = hold_elsewhere(tmp_path / "run")
    with (
        contextlib.ExitStack() as held,
        pytest.raises(InputError, match=rf"is used by another process \(process {other.pid} on "),
    ):
        open_folder(configured(tmp_path / "run"), splits, "compare", held)
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["population"] == "vmap"
    other.communicate(timeout=60)
    assert not locks.is_marked(tmp_path / "run")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "3",
        '{"fit": 3}',
        '{"fit": []}',
        "\\xff",
        "[" * 100_000,
        '{"losses": 3, "fit": {"data": 3}}',
    ],
)
def test_settings_that_cannot_be_read_are_one_sentence(content, splits, held, tmp_path):
    folder = open_folder(configured(tmp_path / "run"), splits, "compare", held)
    (folder / "settings.json").write_text(content)
    with pytest.raises(
        InputError,
        match=r"settings.json (cannot be read|does not hold)|holds an experiment with different",
    ):
        open_folder(configured(folder), splits, "compare", held)
    assert (folder / "settings.json").read_text() == content


@pytest.mark.parametrize(("kind", "verb"), [(CompareConfig, "compare"), (TuneConfig, "tune")])
@pytest.mark.parametrize("part", ["members", "members/l1-0", "members/l1-0/checkpoints/4"])
def test_an_experiment_whose_parts_lead_out_of_it_is_refused(
    part, kind, verb, splits, held, tmp_path
):
    """That holds for networks that are trained already too, because their scores are written."""
    config = configured(tmp_path / "run", kind)
    folder = open_folder(config, splits, verb, held)
    (tmp_path / "elsewhere").mkdir()
    (folder / part).parent.mkdir(parents=True, exist_ok=True)
    (folder / part).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(InputError, match=f"{part} is a link to .*elsewhere, outside the run"):
        open_folder(config, splits, verb, held)
    (folder / part).unlink()
    (folder / "members").mkdir(exist_ok=True)
    (folder / "here").symlink_to("members")
    assert open_folder(config, splits, verb, held) == folder


def test_an_experiment_that_was_killed_at_its_start_can_resume(splits, held, tmp_path):
    folder = open_folder(configured(tmp_path / "run"), splits, "compare", held)
    (folder / "split.json").unlink()
    assert open_folder(configured(folder), splits, "compare", held) == folder
    (folder / "members").mkdir()
    (folder / "split.json").unlink()
    with pytest.raises(InputError, match="the record of its photographs, is missing"):
        open_folder(configured(folder), splits, "compare", held)
