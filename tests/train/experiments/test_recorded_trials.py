"""Trials that somebody else wrote down are those of a search with these settings, or refused."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from train.errors import InputError
from train.experiments import search, tune
from train.experiments.tune_config import TuneConfig

CONFIG = TuneConfig(trials=6, seeds=1, window_sizes=(1, 3))
_DRAWN = "tpe:relative_params:0"
Lines = list[dict[str, Any]]


def _try(folder: Path, config: TuneConfig, trials: int) -> None:
    """Tries some settings, and leaves the one after them running."""
    study = search.open_study(config, folder)
    for number in range(trials + 1):
        (trial,) = search.next_batch(study, config)
        tune.suggest(trial, config)
        if number < trials:
            search.is_behind(trial, {1: 20.0}, {}, 2)
            study.tell(trial, [20.0 + number])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _try(tmp_path, CONFIG, 3)
    return tmp_path


def _set(op: int, trial: int | None = None, **changes: Any) -> Callable[[Lines], Lines]:
    """Changes every line of a kind."""

    def change(lines: Lines) -> Lines:
        for line in lines:
            if line["op_code"] == op and (trial is None or line.get("trial_id") == trial):
                line.update(changes)
        return lines

    return change


def _draw(name: str, value: Any, distribution: str = "") -> Callable[[Lines], Lines]:
    def change(lines: Lines) -> Lines:
        for line in lines:
            if line.get("param_name") == name:
                line["param_value_internal"] = value
                line["distribution"] = distribution or line["distribution"]
        return lines

    return change


def _choices(*choices: Any) -> str:
    described = {"name": "CategoricalDistribution", "attributes": {"choices": choices}}
    return json.dumps(described)


def _without_settings(lines: Lines) -> Lines:
    return [line for line in lines if not (line["op_code"] == 5 and line["trial_id"] == 1)]


def _with_another_setting(lines: Lines) -> Lines:
    drawn = next(line for line in lines if line.get("param_name") == "brightness")
    return [*lines[:8], {**drawn, "param_name": "evil"}, *lines[8:]]


def _with_many_running(lines: Lines) -> Lines:
    begun = next(line for line in lines if line["op_code"] == 4)
    return lines + [begun] * 50


def _attribute(trial: int, **attributes: Any) -> Callable[[Lines], Lines]:
    """Gives a trial attributes of Optuna's own when it begins."""
    added = {"op_code": 9, "worker_id": "x", "trial_id": trial, "system_attr": attributes}

    def change(lines: Lines) -> Lines:
        begun = [number for number, line in enumerate(lines, 1) if line["op_code"] == 4][trial]
        return [*lines[:begun], added, *lines[begun:]]

    return change


def _change(folder: Path, change: Callable[[Lines], Lines]) -> bytes:
    path = folder / "trials.log"
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set(0, directions=[2, 2]), "must maximize its values, not maximize and maximize"),
        (_set(0, directions=[1]), "must maximize its values, not minimize"),
        (_set(2, user_attr={"batch": [0, 10**9]}), r"two integers, .* it is \[0, 1000000000\]"),
        (_set(2, user_attr={"batch": [5, 1]}), "the first from 0 to 4 and the second from 0 to"),
        (_set(2, user_attr={"batch": [-1, 1]}), "must be two integers"),
        (_set(2, user_attr={"batch": [0, 2.5]}), "must be two integers"),
        (_set(2, user_attr={"batch": [1]}), "must be two integers"),
        (_set(2, user_attr={"batch": "xyz"}), "must be two integers"),
        (_with_many_running, "trial 4 is running, but is not part of the last batch"),
        (_set(6, 1, state=3), "trial 1 is fail"),
        (_set(6, 1, state=4), "trial 1 is waiting"),
        (_without_settings, "trial 1 must have the settings luminance_weight, .* it has "),
        (_with_another_setting, "trial 0 must have the settings .*, evil"),
        (_draw("window_size", 0, _choices(9, 7)), "window_size that was drawn from something"),
        (_draw("penalty", 0, _choices("evil) + mse(", "l1")), "penalty that was drawn from some"),
        (_draw("luminance_weight", 0, _choices("a")), "luminance_weight that was drawn from some"),
        (_draw("luminance_weight", -7e300), "luminance_weight -7e.300, outside 0.0 to 0.95"),
        (_draw("luminance_weight", "abc"), "trials.log is not the record of a search"),
        (_draw("window_size", 9), "trials.log is not the record of a search"),
        (_set(6, 1, values=None), "trial 1 must have 1 finite values; it has None"),
        (_set(6, 1, values=[1.0, 2.0]), r"trial 1 must have 1 finite values; it has \[1.0, 2.0\]"),
        (_set(6, 1, values=["abc"]), "trial 1 must have 1 finite values"),
        (_set(6, 1, values=[float("nan")]), "trial 1 must have 1 finite values"),
        (_set(6, 1, values=[1e400]), "trial 1 must have 1 finite values"),
        (_set(6, 1, values=[10**400]), "trial 1 must have 1 finite values"),
        (_set(7, 1, intermediate_value="abc"), "trial 1 has reported something that is not a n"),
        (_set(7, 1, step="zz"), "trial 1 has reported something that is not a number"),
        (_attribute(1, constraints=["abc"]), "trial 1 has the attribute constraints, which no se"),
        (_attribute(1, **{"constraints:0": 1.0}), "trial 1 has the attribute constraints:0"),
        (_attribute(3, fixed_params={"penalty": "l1"}), "trial 3 has the attribute fixed_params"),
        (_attribute(3, **{_DRAWN: 7}), "trial 3 has the attribute tpe:relative_params:0"),
        (_attribute(3, **{_DRAWN: "[1]"}), "trial 3 has attributes that are not settings"),
        (_attribute(3, **{_DRAWN: '{"evil": 1}'}), "trial 3 has attributes that are not settings"),
        (_attribute(3, **{_DRAWN: '{"penalty": []}'}), "has a penalty among its attributes"),
        (_attribute(3, **{_DRAWN: '{"luminance_weight": 7}'}), "has a luminance_weight among its"),
    ],
)
def test_what_these_settings_cannot_have_led_to_is_refused(
    change: Callable[[Lines], Lines], why: str, folder: Path
) -> None:
    content = _change(folder, change)
    with pytest.raises(InputError, match=why):
        search.open_study(CONFIG, folder)
    # Optuna adds a line whenever a search is opened
    assert (folder / "trials.log").read_bytes().startswith(content)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        TuneConfig(trials=3, objective="ciede2000"),
        TuneConfig(trials=3, luminance_weights=(0.1, 0.97), window_sizes=(1,)),
    ],
)
def test_what_a_search_wrote_is_read_again(config: TuneConfig, tmp_path: Path) -> None:
    with warnings.catch_warnings():  # about a range that is not divisible by the step
        warnings.simplefilter("ignore")
        _try(tmp_path, config, 2)
    study = search.open_study(config, tmp_path)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]


def test_settings_that_optuna_keeps_for_running_trials_are_read_again(folder: Path) -> None:
    whole = json.dumps({"luminance_weight": 0.35, "penalty": CONFIG.penalties[0]})
    drawn = {_DRAWN: whole[:30], "tpe:relative_params:1": whole[30:]}
    for name, part in drawn.items():
        _change(folder, _attribute(3, **{name: part}))
    assert search.open_study(CONFIG, folder).trials[3].system_attrs == drawn


def test_a_lock_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials.log.lock").mkdir()
    with pytest.raises(InputError, match=r"trials\.log\.lock is a folder, .* Rename or delete it"):
        search.open_study(CONFIG, tmp_path)


@pytest.mark.parametrize("dangling", [True, False])
def test_trials_are_never_written_to_a_file_elsewhere(dangling: bool, tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    if dangling:
        (tmp_path / "search" / "trials.log").symlink_to(tmp_path / "thesis")
    else:
        (tmp_path / "thesis").touch()
        os.link(tmp_path / "thesis", tmp_path / "search" / "trials.log")
    with pytest.raises(
        InputError, match=r"trials\.log cannot be read: it is .*Rename or delete it"
    ):
        search.open_study(CONFIG, tmp_path / "search")
    assert dangling or (tmp_path / "thesis").read_bytes() == b""
    assert dangling != (tmp_path / "thesis").exists()
