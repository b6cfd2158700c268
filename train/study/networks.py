"""Two networks of a finished comparison as the sets of a study, applied to its test photographs."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from train.assembly import open_photographs
from train.checkpoints.checkpoint import load_network
from train.data.splits import check_unchanged
from train.errors import InputError, list_some
from train.experiments.compare_config import CompareConfig, canonical_loss
from train.experiments.earlier_settings import load_picked
from train.experiments.networks.members import NOISE_SEED, Member
from train.experiments.statistics.comparison_table import read_scores
from train.files.json_files import UnreadableError, read_json
from train.files.typed_fields import from_tree
from train.study.given import Given, level_of, open_given
from train.study.pictures import PictureSet

_SETTINGS, _SCORES = "settings.json", "scores.csv"


def open_comparison(
    folder: Path,
    losses: Sequence[str],
    *,
    clean: Path | None = None,
    degraded: Path | None = None,
    sigma: float | None = None,
) -> tuple[list[PictureSet], list[PictureSet], list[str]]:
    """The networks of a comparison's first seed.

    Args:
      folder: folder of a finished comparison. If it has several lengths, the longest training is
        used.
      losses: two losses or more; () for the first two of the comparison.
      clean: folder of clean photographs. None: the comparison's test photographs.
      degraded: folder of degraded photographs. None: noise is added.
      sigma: noise level (0 to 255). None: the middle one of the comparison.

    Returns:
      A set for each loss, the clean and the degraded photographs, and warnings.

    Raises:
      InputError: if the comparison is not finished, or does not have these losses, or if the
        photographs cannot be used.
    """
    *_, config = _read_config(folder).each_length()  # with the longest training
    chosen = tuple(map(canonical_loss, losses)) or config.losses[:2]
    if unknown := [loss for loss in chosen if loss not in config.losses]:
        raise InputError(
            f"--losses: {folder} did not compare {list_some(unknown)}. It compared "
            f"{list_some(config.losses)}."
        )
    try:
        picked = load_picked(folder, chosen, config)
    except InputError as error:
        raise InputError(str(error).replace("--settings-from", "--comparison", 1)) from None
    as_compared = clean is None and degraded is None and sigma is None
    if clean is None and degraded is None:
        given = _tested(folder, config, sigma)
    else:
        if sigma is None and degraded is None:
            level_of(f"--comparison {folder}", config.fit.data)
            sigma = _middle(config)
        given = open_given(clean, degraded, sigma)
    sets: list[PictureSet] = []
    # The table is about these photographs at this level, and about no others.
    scores, note = _read_scores(folder, config, given) if as_compared else ({}, "")
    warnings: list[str] = []
    for loss in chosen:
        member = Member(loss, config.fit.seed, *picked[loss])
        path = folder / f"members{config.ending}" / member.name
        network = load_network(path, warn=warnings.append)
        made = given.results("--comparison", loss, network)
        sets.append(replace(made, scores=scores.get(loss), note="" if sets else note))
        warnings += given.warnings_about("--comparison", path)
    return sets, given.references(), warnings


def _tested(folder: Path, config: CompareConfig, sigma: float | None) -> Given:
    """The test photographs, as the comparison gives them to the networks."""
    splits = open_photographs(config.fit)
    check_unchanged(splits, folder, instead="give others with --clean or --input")
    if splits.test.inputs is not None:
        level = config.fit.data.sigma
    else:
        level = _middle(config)
    return Given(splits.test, level if sigma is None else sigma, NOISE_SEED)


def _read_scores(
    folder: Path, config: CompareConfig, given: Given
) -> tuple[dict[str, dict[str, Mapping[str, float]]], str]:
    """Scores by loss, photograph and metric, and a note if they are there but cannot be used."""
    path = folder / _SCORES
    if not path.exists():
        return {}, ""
    try:
        rows = read_scores(path)
    except InputError as error:
        return {}, f"The scores of the comparison are not used. {error}"
    level = _middle(config) if given.source.inputs is None else 0.0
    names = dict(zip(given.source.names, given.names, strict=True))
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for row in rows:
        if (row.seed, row.sigma) == (config.fit.seed, level) and row.photograph in names:
            found.setdefault(row.loss, {})[names[row.photograph]] = row.scores
    return found, ""


def _middle(config: CompareConfig) -> float:
    """The middle noise level."""
    return sorted(config.levels)[len(config.levels) // 2]


def _read_config(folder: Path) -> CompareConfig:
    path = folder / _SETTINGS
    try:
        tree = read_json(path)
    except FileNotFoundError:
        raise InputError(
            f"--comparison {folder} is not the folder of a comparison: it has no {_SETTINGS}."
        ) from None
    except UnreadableError as error:
        raise InputError(f"--comparison: {path} cannot be read: {error}.") from None
    if isinstance(tree, dict):
        # The file also holds what was found out at the start, such as digests. The settings of an
        # earlier comparison were copied, so its folder is not needed.
        known = {field.name for field in dataclasses.fields(CompareConfig)}
        tree = {name: value for name, value in tree.items() if name in known}
        tree["settings_from"] = None
    config: CompareConfig = from_tree(CompareConfig, tree, str(path))
    return config
