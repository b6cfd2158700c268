"""Two networks of a finished comparison as the sets of a study, applied to its test photographs."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from train.assembly import open_photographs
from train.checkpoints.checkpoint import load_network
from train.checkpoints.digests import digest_weights
from train.data.images import to_float, to_uint8
from train.data.sources import Source
from train.data.splits import check_unchanged
from train.errors import InputError, list_some
from train.experiments.compare_config import CompareConfig, canonical_loss
from train.experiments.earlier_settings import load_picked
from train.experiments.networks.members import NOISE_SEED, Member
from train.files.json_files import UnreadableError, read_json
from train.files.typed_fields import from_tree
from train.inference.predict import Predictor
from train.inference.predictors import predictor_for
from train.inference.scoring.protocols import add_fixed_noise
from train.study.pictures import PictureSet

_SETTINGS = "settings.json"


def open_comparison(
    folder: Path, losses: Sequence[str]
) -> tuple[list[PictureSet], list[PictureSet]]:
    """The networks of a comparison's first seed, at its middle noise level.

    Args:
      folder: folder of a finished comparison.
      losses: two losses or more; () for the first two of the comparison.

    Returns:
      A set for each loss, and the clean and the degraded photographs.

    Raises:
      InputError: if the comparison is not finished, or does not have these losses.
    """
    config = _read_config(folder)
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
    splits = open_photographs(config.fit)
    check_unchanged(splits, folder, instead="make a study of folders with --a and --b")
    source = splits.test
    names = [PurePosixPath(name).with_suffix("").as_posix() for name in source.names]
    sigma = sorted(config.levels)[len(config.levels) // 2]
    sets = []
    for loss in chosen:
        member = Member(loss, config.fit.seed, *picked[loss])
        network = load_network(folder / "members" / member.name)
        predictor = predictor_for(network.model, network.params, network.batch_stats)
        told = (sigma if source.inputs is None else config.fit.data.sigma) / 255

        sets.append(
            PictureSet(
                "--comparison",
                loss,
                {
                    name: functools.partial(_result, predictor, source, i, sigma, told)
                    for i, name in enumerate(names)
                },
                digest=digest_weights(network.params, network.batch_stats),
            )
        )
    clean = {name: functools.partial(source.images.__getitem__, i) for i, name in enumerate(names)}
    degraded = {name: functools.partial(_input, source, i, sigma) for i, name in enumerate(names)}
    return sets, [PictureSet("--clean", "clean", clean), PictureSet("--input", "input", degraded)]


def _degraded(source: Source, i: int, sigma: float) -> np.ndarray:
    """A test photograph as the comparison gave it to the networks."""
    if source.inputs is not None:
        return to_float(source.inputs[i])
    return add_fixed_noise(
        to_float(source.images[i]), source.names[i], sigma=sigma, seed=NOISE_SEED
    )


def _input(source: Source, i: int, sigma: float) -> np.ndarray:
    return to_uint8(_degraded(source, i, sigma))


def _result(predictor: Predictor, source: Source, i: int, sigma: float, told: float) -> np.ndarray:
    return to_uint8(predictor.restore(_degraded(source, i, sigma), sigma=told))


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
