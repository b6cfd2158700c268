"""The folder of an experiment, with its settings and the record of its photographs."""

import contextlib
import dataclasses
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from train.assembly import open_photographs
from train.checkpoints.checkpoint_files import check_path
from train.checkpoints.checkpoint_writer import advising_resume
from train.checkpoints.run_folder import hold_run, new_folder
from train.config import FitConfig
from train.data.sources import Source
from train.data.splits import Splits, check_scorable, check_unchanged, save_splits
from train.devices import sharding
from train.errors import InputError
from train.experiments.scored_weights import keep_weights
from train.experiments.statistics.stats import FEWEST_IMAGES
from train.files import locks
from train.files.json_files import UnreadableError, read_json
from train.files.outputs import write_json
from train.inference.scoring.sizes import check_large_enough

_SETTINGS = "settings.json"
_FEWEST_TESTED = 2  # photographs: a single one has no spread, and so no interval
# Settings that say how much of an experiment is done, and how. Changing them does not change the
# results of what is done already.
_GROW_WITH_SEEDS = ("starts", "start_digests")  # lists with a value for each seed
_MAY_CHANGE = (
    "plan",
    "seeds",
    "population",
    "crops",
    "trials",
    "batch",
    "metrics",
    "baselines",
)


def open_with_validation(
    fit: FitConfig, verb: str, *, flag: str, metrics: Sequence[str]
) -> tuple[Splits, Source]:
    """Opens the photographs, and checks that they suffice for an experiment.

    Args:
      fit: how networks are trained, which names the photographs.
      verb: ``compare`` or ``tune``, for errors.
      flag: the option that names the metrics that decide, for errors.
      metrics: these metrics.

    Returns:
      All photographs, and those for validation.

    Raises:
      InputError: if there are none to pick settings on, too few to test on, or some that cannot be
        scored.
    """
    splits = open_photographs(fit)
    check_scorable(splits)
    for metric in metrics:
        check_large_enough(flag, metric, splits, of=("validation", "test"))
    if splits.validation is None:
        raise InputError(
            f"{verb} picks settings on validation photographs, but there are none. Use "
            "--validation-data, or give more photographs in --data."
        )
    if (found := len(splits.test.names)) < _FEWEST_TESTED:
        raise InputError(
            f"{verb} needs at least {_FEWEST_TESTED} test photographs, and {FEWEST_IMAGES} for a "
            "verdict; "
            f"{splits.test.spec} has {found}. Choose others with --test-data."
        )
    return splits, splits.validation


def advise_repeating(folder: Path) -> str:
    """A line for the console: where results go, and how to resume the experiment."""
    return (
        f"Results go to {folder}. If this is interrupted, resume it by repeating the command with "
        f"--out {shlex.quote(str(folder))}."
    )


def open_folder(
    config: Any,
    splits: Splits,
    verb: str,
    held: contextlib.ExitStack,
    *,
    also: Mapping[str, Any] | None = None,
) -> Path:
    """Opens the folder of the experiment and locks it.

    The folder is new, or holds a part of this experiment, with the same settings, photographs, and
    weights of metrics.

    Args:
      config: the configuration of the experiment.
      splits: its photographs.
      verb: ``compare`` or ``tune``, which names a new folder.
      held: keeps the lock. Without it, another process could mistake a network that is being
        trained for an abandoned one, and remove it.
      also: more facts to write among the settings, which must not have changed either.

    Returns:
      The folder.

    Raises:
      InputError: if it holds a different experiment, or cannot be written.
    """
    _check_divides(config)
    check_path(Path(config.fit.run.out or "runs"))
    settings = json.loads(json.dumps({**config.settings(), **(also or {})}))
    out = config.fit.run.out
    if out is not None and os.path.exists(saved := Path(out) / _SETTINGS):
        folder = Path(out)
        held.enter_context(hold_run(folder))
        held.enter_context(advising_resume(folder))
        before = _read_settings(saved, config)
        now = _fixed(settings)
        different = [name for name in now if not _agree(name, _fixed(before).get(name), now[name])]
        if different:
            named = ", ".join(name.replace("_", "-") for name in different)
            raise InputError(
                f"--out {out} holds an experiment with different settings ({named}). Write to a "
                "new folder, or use the flags that it was started with."
            )
        if set(os.listdir(folder)) <= {_SETTINGS, locks.FILE_NAME}:  # killed at the very start
            save_splits(splits, folder)
        check_unchanged(splits, folder, instead="write to a new folder")
        write_json(settings, saved)
    else:
        folder = new_folder(out, verb, held)
        held.enter_context(advising_resume(folder))
        write_json(settings, folder / _SETTINGS)
        save_splits(splits, folder)
    keep_weights(folder, config.columns)
    return folder


def _read_settings(path: Path, config: Any) -> dict[str, Any]:
    """The settings in the folder; options that a later version added have their defaults."""
    try:
        saved = read_json(path)
    except UnreadableError as error:
        raise InputError(
            f"{path} cannot be read as the settings of an experiment: {error}. Write to a new "
            "folder."
        ) from None
    defaults = json.loads(json.dumps(dataclasses.asdict(type(config)())))
    filled = _filled(saved, defaults)
    if not isinstance(filled, dict) or not isinstance(filled.get("fit"), dict):
        raise InputError(
            f"{path} does not hold the settings of an experiment. Write to a new folder."
        )
    return filled


def _check_divides(config: Any) -> None:
    """Refuses a batch that devices cannot share; once the folder exists it could not be changed."""
    run = config.fit.run
    mesh = sharding.make_mesh(run.devices, run=run)
    if config.population != "loop":  # each network has its whole batch on one device
        mesh = sharding.mesh_of(jax.devices()[:1])
    sharding.check_divides(config.fit.data.batch_size, mesh, parts=config.fit.optimizer.accumulate)


def _fixed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that may change when an experiment is resumed.

    In ``fit`` these are where and how it runs.
    """
    kept = {name: None if name in _MAY_CHANGE else value for name, value in settings.items()}
    return {
        **kept,
        "fit": {name: value for name, value in settings["fit"].items() if name != "run"},
    }


def _agree(name: str, before: Any, now: Any) -> bool:
    """Whether a setting is the same as when the experiment was started.

    A list with a value for each seed may have become longer or shorter, as the number of seeds may.
    """
    if name not in _GROW_WITH_SEEDS or before == now:
        return before == now
    if before is None:  # an earlier version did not record it
        return True
    if not before or not now:
        return False
    common = min(len(before), len(now))
    return before[:common] == now[:common]


def _filled(saved: Any, defaults: Any) -> Any:
    """Settings that an earlier version saved, with defaults for options that it did not have."""
    if not isinstance(saved, dict) or not isinstance(defaults, dict):
        return saved
    return {
        **defaults,
        **{name: _filled(value, defaults.get(name)) for name, value in saved.items()},
    }
