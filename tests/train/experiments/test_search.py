"""A search that is killed at any moment tries the same settings as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

from tests.train.conftest import ROOT
from train import loop
from train.checkpoints.checkpoint_files import steps_in
from train.config import FitConfig, OptimizerConfig
from train.errors import InputError
from train.experiments import search, tune
from train.experiments.networks.members import Members
from train.experiments.tune_config import TuneConfig


class Killed(BaseException):
    """Stands for a process that ends at once."""


def record(study):
    """Everything about the trials, except when they ran."""
    return [
        (trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values)
        for trial in study.trials
    ]


def run_search(folder: Path, config: TuneConfig) -> optuna.Study:
    folder.mkdir(exist_ok=True)
    study = search.open_study(config, folder)
    members = Members(
        folder / "members", config.fit, Console(quiet=True), population=config.population
    )
    tune.search(study, config, members, None, Console(quiet=True))
    return study


@pytest.fixture
def judged(monkeypatch):
    """Gives trials their scores without any training; some are stopped halfway."""

    def run(trial, spec, config, *_):
        value = -((trial.params["luminance_weight"] - 0.4) ** 2) - trial.params["window_size"] / 100
        if config.pareto:
            return [-value, trial.params["luminance_weight"]]
        reported = dict(trial.study.trials[trial.number].intermediate_values)
        for step in (1, 2):
            if search.is_behind(trial, {step: value * step}, reported, last=3):
                return None
        return [value]

    monkeypatch.setattr(tune, "_run", run)


@pytest.mark.parametrize(
    "config",
    [
        TuneConfig(trials=14),
        pytest.param(TuneConfig(trials=26, batch=4), marks=pytest.mark.slow),
        TuneConfig(trials=20, batch=2, pareto=True),
    ],
    ids=["one at a time", "batches", "front"],
)
def test_kills_change_no_trial(config, judged, tmp_path, monkeypatch):
    """The search is killed after every fifth line: before, after or while it is written."""
    undisturbed = run_search(tmp_path / "undisturbed", config)
    assert config.pareto or {trial.state.name for trial in undisturbed.trials} == {
        "COMPLETE",
        "PRUNED",
    }
    append, left, kills = JournalFileBackend.append_logs, 0, 0

    def killed(self, logs):
        nonlocal left
        left -= 1
        if left > 0:
            return append(self, logs)
        if kills % 3 == 1:
            append(self, logs)
        if kills % 3 == 2:
            with open(self._file_path, "ab") as file:
                file.write(b'{"op_code":')
        os.symlink("nowhere", f"{self._file_path}.lock")
        raise Killed

    monkeypatch.setattr(JournalFileBackend, "append_logs", killed)
    while True:
        left, kills = 6, kills + 1
        try:
            study = run_search(tmp_path / "killed", config)
            break
        except Killed:
            assert kills < 200
    assert kills > 10
    assert record(study) == record(undisturbed)
    assert tune.choose(study, config) == tune.choose(undisturbed, config)


def test_draws_differ_between_seeds_trials_and_settings(judged, tmp_path):
    """The first ten trials are drawn at random, the others by what was found.

    Different draws do not come from the same random number.
    """
    config = TuneConfig(trials=12, window_sizes=tuple(range(1, 99, 2)))
    trials = run_search(tmp_path / "search", config).trials
    weights = [trial.params["luminance_weight"] / 0.95 for trial in trials[:10]]
    windows = [trial.params["window_size"] / 99 for trial in trials[:10]]
    assert len(set(weights)) > 5 and len(set(windows)) > 5
    assert max(abs(x - y) for x, y in zip(weights, windows, strict=True)) > 0.1
    other = TuneConfig(trials=12, window_sizes=config.window_sizes, fit=FitConfig(seed=1))
    again = run_search(tmp_path / "other", other).trials
    assert [trial.params for trial in again] != [trial.params for trial in trials]


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON\n",
        b"[1]\n",
        b"\xff\n",
        b'{"op_code": 99}\n',
        b'{"a": 1}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_record_is_named_and_left_alone(content, tmp_path):
    path = tmp_path / "trials.log"
    path.write_bytes(content)
    with pytest.raises(InputError, match="trials.log is not the record of a search, or it is dam"):
        search.open_study(TuneConfig(), tmp_path)
    assert path.read_bytes() == content


def test_a_record_without_end_is_not_read(tmp_path):
    path = tmp_path / "trials.log"
    path.touch()
    os.truncate(path, 3_000_000_000)
    with pytest.raises(
        InputError, match="trials.log cannot be read: it has more than 64,000,000 bytes"
    ):
        search.open_study(TuneConfig(), tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="trials.log cannot be read: it is not a regular file"):
        search.open_study(TuneConfig(), tmp_path)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by something that takes no time.

    Returns a function that sets after how many moments of it the process ends.
    """
    left = 0

    def moment():
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    def score_of(name, step):
        return 20 + zlib.crc32(f"{name} {step}".encode()) % 1000 / 100

    def fit(config, *, watch, **options):
        folder = Path(config.run.out or config.run.resume)
        start = max(steps_in(folder / "checkpoints"), default=0)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        path.write_text("".join(line for line in lines if json.loads(line)["step"] <= start))
        for step in range(start + 1, config.optimizer.steps + 1):
            score = score_of(folder.name, step)
            moment()
            with path.open("a") as file:
                file.write(json.dumps({"step": step, "validation/psnr": score}) + "\n")
            moment()
            (folder / "checkpoints" / str(step)).mkdir(parents=True)
            moment()
            behind = watch(step, {"psnr": score})
            moment()
            if behind:
                return

    def finished(self, *arguments):
        if not isinstance(sys.exception(), Killed):  # a killed process does not run "finally"
            finish(self, *arguments)

    def train_and_score(self, member, *arguments, **options):
        return [SimpleNamespace(scores={"psnr": score_of(member.name, "end")})]

    finish = Members._record_cost
    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setattr(Members, "_record_cost", finished)
    monkeypatch.setattr(Members, "train_and_score", train_and_score)

    def killed_after(moments):
        nonlocal left
        left = moments

    return killed_after


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_kill_in_the_middle_of_a_training_changes_no_trial(batch, trained, tmp_path):
    """Kills come before and after each validation, its line, its checkpoint and its report."""
    fit = FitConfig(optimizer=OptimizerConfig(steps=4))
    config = TuneConfig(
        trials=12, batch=batch, fit=fit, luminance_weights=(0.0, 0.1), window_sizes=(1, 3)
    )
    undisturbed = run_search(tmp_path / "undisturbed", config)
    assert {trial.state.name for trial in undisturbed.trials} == {"COMPLETE", "PRUNED"}
    # Some settings are tried twice
    assert len({str(trial.params) for trial in undisturbed.trials}) < 12
    for kills in range(1, 200):
        trained(2 + kills % 5)
        try:
            study = run_search(tmp_path / "killed", config)
            break
        except Killed:
            continue
    assert kills > 20
    assert record(study) == record(undisturbed)


def found_in(folder):
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "trials.log")))
    study = optuna.load_study(study_name="tune", storage=storage)
    return record(study), (folder / "scores.csv").read_text()


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_finds_the_same(small_run, tmp_path):
    """It runs in separate processes, which the kernel ends."""
    more = (
        "--trials=5",
        "--window-sizes=1",
        "3",
        "--penalties=l1",
        "--brightness=luma",
        "--seeds=1",
    )
    command = [sys.executable, "-m", "train", "tune", *small_run, *more, "--out"]
    subprocess.run(
        [*command, str(tmp_path / "undisturbed")], cwd=ROOT, stdout=subprocess.DEVNULL, check=True
    )
    kills, record, log = 0, tmp_path / "killed" / "trials.log", tmp_path / "output"
    while True:
        size = record.stat().st_size if kills else 0
        with (
            log.open("w") as output,
            subprocess.Popen(
                [*command, str(tmp_path / "killed")],
                cwd=ROOT,
                stdout=output,
                start_new_session=True,
            ) as program,
        ):
            # On a machine of any speed, this is about half a trial after the record has grown, or
            # after a training has begun.
            while program.poll() is None and not (
                record.exists() and record.stat().st_size > size + 900 * kills
            ):
                time.sleep(0.02)
            while program.poll() is None and kills % 2 and "training" not in log.read_text():
                time.sleep(0.02)
            time.sleep(0.3 * (kills % 3))
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
        if program.returncode == 0:
            break
        kills += 1
        assert program.returncode == -signal.SIGKILL and kills < 20
    assert kills > 1
    assert found_in(tmp_path / "killed") == found_in(tmp_path / "undisturbed")
