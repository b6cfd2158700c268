"""A run is resumed with the configuration that its checkpoints were trained with."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from train.__main__ import main
from train.checkpoints.checkpoint_files import sealed
from train.checkpoints.resumed_config import check_sealed, load_resumed
from train.config import DataConfig, FitConfig, OptimizerConfig, RunConfig
from train.devices.cpu_programs import CpuStep
from train.errors import InputError

CONFIG = FitConfig(optimizer=OptimizerConfig(steps=60, learning_rate=0.002))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with one checkpoint, which has only the item about."""
    _save(tmp_path, dataclasses.asdict(CONFIG))
    _write(tmp_path, dataclasses.asdict(CONFIG))
    return tmp_path


def _write(run: Path, tree: Any) -> None:
    (run / "config.json").write_text(json.dumps(tree))


def _save(run: Path, config: Any, step: int = 40) -> None:
    about = run / "checkpoints" / str(step) / "about"
    about.mkdir(parents=True)
    content = sealed({"model": CONFIG.model.model, "versions": {}, "config": config}, {})
    (about / "metadata").write_text(json.dumps(content))


def _changed(key: str, value: Any) -> dict[str, Any]:
    tree = dataclasses.asdict(CONFIG)
    group, _, name = key.partition(".")
    if name:
        tree[group][name] = value
    else:
        tree[group] = value
    return tree


def test_the_same_configuration_is_resumed(run: Path) -> None:
    assert load_resumed(run) == CONFIG


@pytest.mark.parametrize(
    ("key", "value", "before"),
    [
        ("optimizer.learning_rate", 0.003, 0.002),
        ("optimizer.steps", 61, 60),
        ("data.low_light", [0.1, 0.2], None),
        ("data.source", "photo", "photos"),
        ("model.loss", "mse", "luminance_l1"),
        ("seed", 1, 0),
    ],
)
def test_another_value_is_refused_with_both(
    key: str, value: Any, before: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(run, _changed(key, value))
    assert main(["fit", "--resume", str(run)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"{key} is {json.dumps(value)}, but the checkpoints of this run were trained with "
        f"{json.dumps(before)}." in said
    )
    assert f"Restore that value, or start a new run with --init-from {run}." in said


def test_a_key_that_is_missing_comes_from_the_checkpoint(run: Path) -> None:
    tree = dataclasses.asdict(CONFIG)
    del tree["optimizer"]["steps"], tree["data"], tree["run"]["workers"]
    _write(run, tree)
    assert load_resumed(run) == CONFIG


def test_so_does_the_whole_configuration(run: Path) -> None:
    (run / "config.json").unlink()
    assert load_resumed(run) == CONFIG
    (run / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read .* Delete it and resume again"):
        load_resumed(run)


def test_a_field_that_the_checkpoint_lacks_has_its_default(tmp_path: Path) -> None:
    tree = dataclasses.asdict(CONFIG)
    del tree["optimizer"]["max_skips"]  # as by an earlier version
    _save(tmp_path, tree)
    _write(tmp_path, tree)
    assert load_resumed(tmp_path).optimizer.max_skips == OptimizerConfig().max_skips
    _write(tmp_path, _changed("optimizer.max_skips", 3))
    with pytest.raises(
        InputError,
        match="optimizer.max_skips is 3, but the checkpoints of this run were trained with 10",
    ):
        load_resumed(tmp_path)


def test_a_run_from_before_the_choice_keeps_the_way_its_step_was_compiled(tmp_path: Path) -> None:
    tree = dataclasses.asdict(CONFIG)
    del tree["run"]["cpu_step"]
    _save(tmp_path, tree)
    _write(tmp_path, tree)
    assert load_resumed(tmp_path).run.cpu_step == "plain"
    (tmp_path / "config.json").unlink()
    assert load_resumed(tmp_path).run.cpu_step == "plain"


@pytest.mark.parametrize("cpu_step", ["plain", "fast"])
def test_a_later_run_keeps_what_it_recorded(cpu_step: CpuStep, tmp_path: Path) -> None:
    _save(tmp_path, _changed("run", {"cpu_step": cpu_step}))
    _write(tmp_path, dataclasses.asdict(CONFIG) | {"run": {}})
    assert load_resumed(tmp_path).run.cpu_step == cpu_step


def test_where_and_how_it_runs_may_change(run: Path) -> None:
    _write(run, _changed("run", {"log_every": 7}))
    assert load_resumed(run).run.log_every == 7


def test_a_checkpoint_that_is_damaged_is_not_asked(run: Path) -> None:
    _save(run, _changed("optimizer.steps", 99), 50)
    about = run / "checkpoints" / "50" / "about" / "metadata"
    about.write_text(about.read_text().replace("99", "98"))
    assert load_resumed(run) == CONFIG


def test_without_a_checkpoint_the_file_is_all_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run's folder"):
        load_resumed(tmp_path)
    _write(tmp_path, {"seed": 3})
    assert load_resumed(tmp_path).seed == 3


@pytest.mark.parametrize("content", [[], {"optimizer": 3}, {"seed": "x"}, {"sed": 3}])
def test_a_checkpoint_of_wrong_types_is_one_sentence(content: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the configuration in a checkpoint of"):
        check_sealed(CONFIG, content, tmp_path)


def test_no_host_is_contacted_that_the_file_names(run: Path) -> None:
    _write(
        run,
        _changed(
            "run",
            {"distributed": True, "coordinator": "192.0.2.1:80", "processes": 2, "process": 1},
        ),
    )
    assert load_resumed(run).run == RunConfig()


@pytest.mark.parametrize(
    "name", ["checkpoints", "tensorboard", "broken_checkpoints", "profile", "checkpoints/40"]
)
def test_a_run_whose_parts_lead_out_of_it_is_not_resumed(
    name: str, run: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path.with_name(tmp_path.name + "-elsewhere")
    elsewhere.mkdir()
    if (run / name).exists():
        (run / name).rename(elsewhere / "part")
    (run / name).symlink_to(elsewhere / "part", target_is_directory=True)
    with pytest.raises(
        InputError,
        match=f"{name} is a link to .*, outside the run. Resuming would write and delete",
    ):
        load_resumed(run)


def test_a_run_that_is_reached_by_a_link_is_resumed(run: Path, tmp_path: Path) -> None:
    link = tmp_path.with_name(tmp_path.name + "-link")
    link.symlink_to(run, target_is_directory=True)
    assert load_resumed(link) == CONFIG


@pytest.mark.parametrize(("source", "relative"), [("folder:photos", True), ("folder:/none", False)])
def test_a_run_with_relative_paths_is_resumed_where_it_was_started(
    source: str, relative: bool, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(CONFIG, data=DataConfig(source=source))
    _save(tmp_path / "run", dataclasses.asdict(config))
    _write(tmp_path / "run", dataclasses.asdict(config))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["fit", "--resume", "../run"]) == 2
    said = capsys.readouterr().err
    assert "There is no folder" in said
    assert ("photos is relative to the folder in which the run was started" in said) == relative
