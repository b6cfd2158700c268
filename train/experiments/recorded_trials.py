"""Checks the trials that are read from disk: they must be what a search of these settings writes.

The record of a search may come from somebody else. Optuna accepts any settings and results in it,
and they would be drawn, trained and compared.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from train.bounds import MOST_SEEDS
from train.experiments.tune_config import TuneConfig
from train.files.json_files import UnreadableError, is_finite, is_number, parse_json

BATCH = "batch"  # attribute of the study: the batch's first trial, and its number of trials
_ROUNDING = 1e-9
# The attributes in which TPE keeps the settings of a trial that runs. Others, such as constraints,
# decide which trials Optuna regards as the best.
_DRAWN = re.compile(r"tpe:relative_params:\d{1,3}", re.ASCII)
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
        if isinstance(allowed, FloatDistribution) and not _is_allowed(value, allowed):
            return f"has the {name} {str(value)[:50]}, outside {allowed.low} to {allowed.high}"
    if why := _wrong_attributes(trial.system_attrs, space):
        return why
    reported = trial.intermediate_values
    if not all(type(step) is int and is_number(value) for step, value in reported.items()):
        return "has reported something that is not a number"
    if trial.state is TrialState.COMPLETE:
        found = trial.values if isinstance(trial.values, list) else []
        if len(found) != values or not all(is_finite(one) for one in found):
            return f"must have {values} finite values; it has {str(trial.values)[:100]}"
    return ""


def _wrong_attributes(attributes: Mapping[str, Any], space: dict[str, BaseDistribution]) -> str:
    """What is wrong with the attributes of a trial, which only Optuna writes; "" if nothing is."""
    parts = {}
    for name, value in attributes.items():
        if not _DRAWN.fullmatch(name) or not isinstance(value, str):
            return f"has the attribute {name[:50]}, which no search writes"
        parts[int(name.rpartition(":")[2])] = value
    whole = "".join(parts[number] for number in sorted(parts))
    try:
        drawn = parse_json(whole.encode(errors="replace")) if parts else {}
    except UnreadableError:
        drawn = None
    if not isinstance(drawn, dict) or not drawn.keys() <= space.keys():
        return "has attributes that are not settings"
    if wrong := [name for name, value in drawn.items() if not _is_allowed(value, space[name])]:
        return f"has a {wrong[0]} among its attributes that these settings do not allow"
    return ""


def _is_allowed(value: Any, allowed: BaseDistribution) -> bool:
    if isinstance(allowed, FloatDistribution):
        return is_number(value) and allowed.low - _ROUNDING <= value <= allowed.high + _ROUNDING
    return isinstance(allowed, CategoricalDistribution) and value in allowed.choices
