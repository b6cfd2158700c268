"""Networks of runs as the sets of a study. They restore the photographs when a study is made."""

import os
from collections.abc import Mapping
from pathlib import Path

from train.assembly import open_photographs
from train.checkpoints.bundled import is_bundled
from train.checkpoints.checkpoint import load_network
from train.checkpoints.run_folder import CONFIG_NAME
from train.config import load_config
from train.data.sources import Source
from train.data.splits import check_unchanged, describe_entry
from train.errors import InputError
from train.inference.choice import holds_network
from train.study.given import Given, level_of, open_given
from train.study.pictures import PictureSet, open_folder

_NAME_PHOTOGRAPHS = (
    "Name the photographs to restore: --clean FOLDER, to which noise is added, or --input FOLDER "
    "with degraded ones."
)


def is_network(path: Path) -> bool:
    """Whether a path is a run, a checkpoint, or the name of a bundled network."""
    return is_bundled(path) or holds_network(path)


def open_networks(
    named: Mapping[str, Path],
    *,
    clean: Path | None,
    degraded: Path | None,
    sigma: float | None,
) -> tuple[list[PictureSet], list[PictureSet], list[str]]:
    """Opens sets of which at least one is a network.

    Networks restore the photographs in the folders. Without folders, they restore the photographs
    that the runs themselves are tested on.

    Args:
      named: folders of results, runs or checkpoints, by option.
      clean: folder of clean photographs.
      degraded: folder of degraded photographs.
      sigma: noise level (0 to 255) to add, or to pass to networks that need one. None: the one that
        the runs were trained with.

    Returns:
      A set for each option, the clean and the degraded photographs, and warnings.

    Raises:
      InputError: if the photographs or the noise level cannot be found, or if a network cannot be
        used.
    """
    networks = {flag: path for flag, path in named.items() if is_network(path)}
    given = _given(networks, clean, degraded, sigma)
    sets: list[PictureSet] = []
    warnings: list[str] = []
    for flag, path in named.items():
        if flag not in networks:
            sets.append(open_folder(flag, path))
            continue
        name = path.name or path.resolve().name
        sets.append(given.results(flag, name, load_network(path, warn=warnings.append)))
        warnings += given.warnings_about(flag, path)
    return sets, given.references(), warnings


def _given(
    networks: Mapping[str, Path], clean: Path | None, degraded: Path | None, sigma: float | None
) -> Given:
    """The photographs that all networks restore."""
    if degraded is not None:
        return open_given(clean, degraded, sigma)
    runs = {flag: path for flag, path in networks.items() if os.path.isfile(path / CONFIG_NAME)}
    if not runs and clean is None:
        flag, path = next(iter(networks.items()))
        raise InputError(
            f"{flag} {path} does not say which photographs it is tested on. {_NAME_PHOTOGRAPHS}"
        )
    if clean is not None:
        return open_given(clean, None, _level(runs) if sigma is None else sigma)
    (first, (source, level)), *others = [(flag, _tested(flag, path)) for flag, path in runs.items()]
    for flag, (other, level_of_other) in others:
        if _contents(other) != _contents(source) or (sigma is None and level_of_other != level):
            raise InputError(
                f"{first} {runs[first]} and {flag} {runs[flag]} are tested on different "
                f"photographs, or at different noise levels. {_NAME_PHOTOGRAPHS}"
            )
    return Given(source, level if sigma is None else sigma)


def _level(runs: Mapping[str, Path]) -> float:
    """The noise level that all runs were trained with, to add to clean photographs."""
    levels = {}
    for flag, path in runs.items():
        name = f"{flag} {path}"
        levels[name] = level_of(name, load_config(path / CONFIG_NAME).data)
    if not levels:
        raise InputError(
            "--clean: no noise level is known for these networks. Give the level to add with "
            "--sigma, or degraded photographs with --input."
        )
    if len(set(levels.values())) > 1:
        listed = ", ".join(f"{path} at {level:g}" for path, level in levels.items())
        raise InputError(
            f"The runs were trained at different noise levels: {listed}. Choose one with --sigma."
        )
    return next(iter(levels.values()))


def _tested(flag: str, run: Path) -> tuple[Source, float]:
    """The photographs that a run is tested on, and the noise level that it was trained with."""
    config = load_config(run / CONFIG_NAME)
    try:
        splits = open_photographs(config)
        check_unchanged(splits, run, instead="give photographs with --clean or --input")
    except InputError as error:
        raise InputError(
            f"{flag}: the photographs that {run} is tested on cannot be used: {error} "
            f"{_NAME_PHOTOGRAPHS}"
        ) from None
    return splits.test, config.data.sigma


def _contents(source: Source) -> list[tuple[str, str]]:
    return [(entry.name, describe_entry(entry)) for entry in source.entries]
