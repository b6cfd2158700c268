"""The settings that a comparison picked for each loss, for a later comparison to use.

A longer comparison need not try learning rates and clipping again: ``--settings-from FOLDER`` reads
``picked.json`` of an earlier one.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.errors import InputError, list_some
from train.experiments.compare_config import CompareConfig
from train.experiments.picking import Setting, Tried, pick
from train.files.json_files import UnreadableError, is_number, read_json
from train.files.outputs import write_json

_NAME = "picked.json"


def save_picked(folder: Path, tried: Mapping[str, Tried], config: CompareConfig) -> None:
    """Writes the setting that was picked for each loss.

    Args:
      folder: folder of the comparison.
      tried: the settings that were tried for each loss, with their scores.
      config: the comparison, with the network that they were picked for.
    """
    losses = {}
    for loss, values in tried.items():
        rate, norm = pick(loss, values)
        losses[loss] = {"learning_rate": rate, "clip_norm": norm}
    about = {"model": config.fit.model.model, "fine_tuning": bool(config.start_of_seed)}
    write_json({**about, "losses": losses}, folder / _NAME)


def earlier_settings(config: CompareConfig) -> dict[str, Tried]:
    """Returns the settings of --settings-from in the form of settings that were tried.

    Their scores are NaN, because they were not tried here. Without the flag, the result is {}.
    """
    if config.settings_from is None:
        return {}
    picked = load_picked(config.settings_from, config.losses, config)
    return {loss: {setting: math.nan} for loss, setting in picked.items()}


def keep_picked(folder: Path, tried: Mapping[str, Tried], config: CompareConfig) -> None:
    """Writes the settings of --settings-from to the folder of the comparison that uses them.

    If the comparison was started before, they must still be the same.

    Args:
      folder: folder of the comparison.
      tried: what :func:`earlier_settings` returned.
      config: the comparison.

    Raises:
      InputError: the settings have changed since the comparison was started.
    """
    if not (folder / _NAME).exists():
        save_picked(folder, tried, config)
        return
    before = load_picked(folder, list(tried), config)
    changed = [loss for loss in tried if before[loss] != pick(loss, tried[loss])]
    if changed:
        raise InputError(
            f"--settings-from: the settings of {list_some(changed)} are no longer those that "
            f"{folder} was started with. Write to a new folder."
        )


def load_picked(folder: Path, losses: Sequence[str], config: CompareConfig) -> dict[str, Setting]:
    """Reads the settings that an earlier comparison picked.

    Args:
      folder: folder of the earlier comparison.
      losses: the losses that need a setting.
      config: the comparison, with the network to train.

    Returns:
      Learning rate and norm to clip at, by loss.

    Raises:
      InputError: the file is missing or damaged, it lacks a loss, or it is about another network.
    """
    path = folder / _NAME
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise InputError(
            f"--settings-from: {folder} has no {_NAME}, so it is not the folder of a finished "
            "comparison. If an earlier version made it, repeat its command, which writes the file."
        ) from None
    except UnreadableError as error:
        raise InputError(f"--settings-from: {path} cannot be read: {error}.") from None
    picked = _picked_in(found)
    if picked is None:
        raise InputError(f"--settings-from: {path} is not a file that compare wrote.")
    model, fine_tuning = config.fit.model.model, bool(config.start_of_seed)
    if found["model"] != model:
        raise InputError(
            f"--settings-from: the settings in {folder} were picked for {found['model']}, but "
            f"--model is {model}. Leave --settings-from out, so that they are picked again."
        )
    # Earlier versions did not record it.
    if found.get("fine_tuning", fine_tuning) is not fine_tuning:
        there, here = "fine-tuning", "training from random weights"
        if fine_tuning:
            there, here = here, there
        raise InputError(
            f"--settings-from: the settings in {folder} were picked for {there}, and do not suit "
            f"{here}. Leave --settings-from out, so that they are picked again."
        )
    missing = [loss for loss in losses if loss not in picked]
    if missing:
        raise InputError(
            f"--settings-from: {folder} did not compare {list_some(missing)}. It has settings for "
            f"{list_some(sorted(picked))}."
        )
    return {loss: picked[loss] for loss in losses}


def _picked_in(found: Any) -> dict[str, Setting] | None:
    """The settings in the content of the file, or None if it is something else."""
    if not isinstance(found, dict) or not isinstance(found.get("model"), str):
        return None
    losses = found.get("losses")
    if not isinstance(losses, dict) or not losses:
        return None
    picked: dict[str, Setting] = {}
    for loss, setting in losses.items():
        if not isinstance(setting, dict):
            return None
        rate: Any = setting.get("learning_rate")
        norm: Any = setting.get("clip_norm")
        if not _is_positive(rate) or not (norm is None or _is_positive(norm)):
            return None
        picked[loss] = (float(rate), None if norm is None else float(norm))
    return picked


def _is_positive(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf
