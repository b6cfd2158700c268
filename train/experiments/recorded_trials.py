"""Checks the trials that are read from disk: they must be what a search of these settings writes.

The record of a search may come from somebody else. Optuna accepts any settings and results in it,
and they would be drawn, trained and compared.
"""

import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from train.bounds import MOST_SEEDS
from train.experiments.tune_config import TuneConfig
from train.files.json_files import is_finite, is_number

BATCH = "batch"  # attribute of the study: the batch's first trial, and its number of trials
_ROUNDING = 1e-9
_STATES = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


def check_trials(study: optuna.Study, config: TuneConfig, directions: Sequence[str]) -> None:
    """Refuses a search that these settings cannot have led to.

    Args:
      study: the search, as it was read.
      config: its settings.
      directions: "minimize" or "maximize" for each value of a trial.

    Raises:
      ValueError: if something is wrong. The text says what.
    """
    found = [direction.name.lower() for direction in study.directions]
    if found != list(directions):
        raise ValueError(
            f"it must {' and '.join(directions)} its values, not {' and '.join(found)}"
        )
    trials = study.get_trials(deepcopy=False)
    first, size = _batch(study, len(trials))
    space = _search_space(config)
    for number, trial in enumerate(trials):
        if trial.number != number or trial.state not in _STATES:
            raise ValueError(f"trial {number} is {trial.state.name.lower()}")
        if trial.state is TrialState.RUNNING and not first <= number < first + size:
            raise ValueError(f"trial {number} is running, but is not part of the last batch")
        if why := _wrong(trial, space, len(directions)):
            raise ValueError(f"trial {number} {why}")


def _batch(study: optuna.Study, trials: int) -> tuple[int, int]:
    """The number of the last batch's first trial, and its number of trials."""
    batch = study.user_attrs.get(BATCH, [0, 0])
    if (
        not isinstance(batch, list)
        or len(batch) != 2
        or not all(type(number) is int for number in batch)
        or not 0 <= batch[0] <= trials
        or not 0 <= batch[1] <= MOST_SEEDS
    ):
        raise ValueError(
            f"its last batch must be two integers, the first from 0 to {trials} and the second "
            f"from 0 to {MOST_SEEDS}; it is {str(batch)[:100]}"
        )
    return batch[0], batch[1]


def _search_space(config: TuneConfig) -> dict[str, BaseDistribution]:
    """What each setting may be."""
    low, high = config.luminance_weights
    with warnings.catch_warnings():  # about a range that is not divisible by the step
        warnings.simplefilter("ignore")
        weights = FloatDistribution(low, high, step=0.05)
    return {
        "luminance_weight": weights,
        "window_size": CategoricalDistribution(config.window_sizes),
        "penalty": CategoricalDistribution(config.penalties),
        "brightness": CategoricalDistribution(config.brightness),
    }


def _wrong(trial: FrozenTrial, space: dict[str, BaseDistribution], values: int) -> str:
    """What is wrong with a trial; "" if nothing is."""
    is_running = trial.state is TrialState.RUNNING
    if not trial.params.keys() <= space.keys() or (
        trial.params.keys() != space.keys() and not is_running
    ):
        return f"must have the settings {', '.join(space)}; it has {', '.join(trial.params)[:200]}"
    for name, drawn in trial.distributions.items():
        value, allowed = trial.params[name], space[name]
        if drawn != allowed:
            return f"has a {name} that was drawn from something other than these settings"
        if isinstance(allowed, FloatDistribution) and not (
            is_number(value) and allowed.low - _ROUNDING <= value <= allowed.high + _ROUNDING
        ):
            return f"has the {name} {str(value)[:50]}, outside {allowed.low} to {allowed.high}"
    reported = trial.intermediate_values
    if not all(type(step) is int and is_number(value) for step, value in reported.items()):
        return "has reported something that is not a number"
    if trial.state is TrialState.COMPLETE:
        found = trial.values if isinstance(trial.values, list) else []
        if len(found) != values or not all(is_finite(one) for one in found):
            return f"must have {values} finite values; it has {str(trial.values)[:100]}"
    return ""
