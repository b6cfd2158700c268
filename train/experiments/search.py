"""Keeps the trials of a search on disk, and chooses what is tried next.

The choice depends only on the seed and on the trials before it.

A search may be killed at any moment. When it is resumed, it tries the same settings in the same
order as an undisturbed search: each trial draws from its own random numbers, and a trial that was
interrupted runs again as the same trial.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from train.errors import InputError
from train.experiments.recorded_trials import BATCH, check_trials
from train.experiments.tune_config import TuneConfig
from train.files.json_files import UnreadableError, parse_json, read_bounded
from train.files.locks import why_not_ours
from train.files.outputs import write_bytes
from train.inference.scoring.registry import METRICS

FILE_NAME = "trials.log"
_LONGEST = 64_000_000  # bytes: a few thousand for each trial


class TrialSampler(optuna.samplers.BaseSampler):
    """Optuna's TPE, with draws that depend only on the seed, the number and earlier trials.

    TPE itself draws from one stream of random numbers, and the position in that stream is lost when
    a process ends.
    """

    def __init__(self, seed: int, *, several_at_once: bool) -> None:
        """Makes a sampler; nothing is drawn yet.

        Args:
          seed: seed of the search.
          several_at_once: whether new trials start while others run. TPE then treats the running
            ones as bad, so that it does not choose the same settings again.
        """
        self._seed, self._several_at_once = seed, several_at_once

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Settings that are drawn together."""
        return self._tpe(trial, "").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draws these settings together.

        Args:
          study: the search.
          trial: the trial to draw for.
          search_space: the settings, with the values that they may have.

        Returns:
          The drawn values by name.
        """
        return self._tpe(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draws one setting, in the first trials.

        The result does not depend on whether the trial's other settings were drawn before a kill
        or after it.

        Args:
          study: the search.
          trial: the trial to draw for.
          param_name: the setting.
          param_distribution: the values that it may have.

        Returns:
          The drawn value.
        """
        tpe = self._tpe(trial, param_name)
        return tpe.sample_independent(study, trial, param_name, param_distribution)

    def _tpe(self, trial: FrozenTrial, purpose: str) -> optuna.samplers.TPESampler:
        text = json.dumps([self._seed, trial.number, purpose])
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=self._several_at_once
        )


def open_study(config: TuneConfig, folder: Path) -> optuna.Study:
    """Opens the search in a folder that no other process works in; it continues if there is one."""
    directions = [
        "maximize" if METRICS[name].higher_is_better else "minimize" for name in config.decisive
    ]
    pruner: optuna.pruners.BasePruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    if config.pareto:
        pruner = optuna.pruners.NopPruner()
    path = (folder / FILE_NAME).absolute()
    _clean(path)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(
            storage=storage,
            study_name="tune",
            directions=directions,
            load_if_exists=True,
            pruner=pruner,
            sampler=TrialSampler(config.fit.seed, several_at_once=config.batch > 1),
        )
        check_trials(study, config, directions)
        return study
    except OSError as error:
        raise InputError(f"{path} cannot be read or written: {error.strerror or error}.") from None
    # Optuna raises all kinds of errors for lines that are JSON, but not part of a search.
    except Exception as error:
        raise InputError(_damaged(path, f"{type(error).__name__}: {error}")) from error


def next_batch(study: optuna.Study, config: TuneConfig) -> list[Trial]:
    """Chooses the trials to run next: those of an interrupted batch, or new ones.

    A batch is written down before its first trial is drawn. After a kill it is therefore known
    which trials belong to it, and no trial is drawn when results of its own batch are known.
    """
    trials = study.get_trials(deepcopy=False)
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    first, size = study.user_attrs.get(BATCH, (0, 0))
    missing = first + size - max(len(trials), first)
    if not running and missing <= 0:
        done = len(finished(study))
        first, size = len(trials), min(config.batch, config.trials - done)
        study.set_user_attr(BATCH, [first, size])
        missing = size
    again = [Trial(study, trial._trial_id) for trial in running]
    return again + [study.ask() for _ in range(missing)]


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: those that were completed or stopped early."""
    return study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])


def is_behind(
    trial: Trial, values: Mapping[int, float], reported: dict[int, float], last: int
) -> bool:
    """Reports values of a trial, and compares them with the median of the other trials.

    Args:
      trial: the trial.
      values: its values by step, in order.
      reported: the values that were reported before, to which the new ones are added.
      last: last step of the training, at which stopping would save nothing.

    Returns:
      Whether the trial should be stopped.
    """
    for step, value in values.items():
        if step not in reported:
            trial.report(value, step)
            reported[step] = value
    return bool(reported) and max(reported) < last and trial.should_prune()


def _clean(path: Path) -> None:
    """Removes what a kill left behind: Optuna's lock, and a last line that is incomplete."""
    for left in path.parent.glob(f"{FILE_NAME}.lock*"):
        if left.is_dir() and not left.is_symlink():
            raise InputError(
                f"{left} is a folder, but the lock of a search is a file. Rename or delete it, "
                "then repeat the command."
            )
        left.unlink(missing_ok=True)
    if not os.path.lexists(path):
        return
    if why := why_not_ours(os.lstat(path)):
        raise InputError(
            f"{path} cannot be read: it {why}. Rename or delete it, then repeat the command, which "
            "starts a new search."
        )
    try:
        content = read_bounded(path, longest=_LONGEST)
    except UnreadableError as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    lines = content.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        del lines[-1]
        write_bytes(b"".join(lines), path)
    for number, line in enumerate(lines, 1):
        if not _is_object(line):
            raise InputError(_damaged(path, f"line {number} is not a JSON object"))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except UnreadableError:
        return False


def _damaged(path: Path, why: str) -> str:
    return (
        f"{path} is not the record of a search, or it is damaged ({why}). Restore it from a copy, "
        "or write to a new folder. The trained networks stay where they are."
    )
