"""Opens the sets of a study: folders of results, networks of runs, or those of a comparison."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from train.errors import InputError
from train.study.create_config import CreateConfig
from train.study.pictures import PictureSet, open_folder
from train.study.score_tables import with_scores


@dataclass(frozen=True)
class Sets:
    """What a study compares.

    Attributes:
      results: the sets.
      references: what else is shown: the clean photographs and the inputs, if they are known.
      warnings: sentences that the user should read before the study is used.
    """

    results: list[PictureSet]
    references: list[PictureSet]
    warnings: list[str]


def open_sets(config: CreateConfig) -> Sets:
    """Opens the sets that the options name. Networks restore nothing yet.

    Raises:
      InputError: if the options do not fit what they name.
    """
    sets = _open(config)
    flags = {each.flag for each in sets.references}
    if config.task == "fidelity" and "--clean" not in flags:
        raise InputError(
            "--task fidelity asks which result is closer to the clean photograph. Give the "
            "folder of the clean photographs with --clean."
        )
    if "--input" in flags and "--clean" not in flags:
        raise InputError(
            "--input is shown next to the clean photograph, in the obvious pair. Give the "
            "clean photographs with --clean, or leave --input out."
        )
    digests = [each.digest for each in sets.results if each.digest]
    if len(set(digests)) < len(digests):
        raise InputError("Two of the networks have the same weights. Choose different ones.")
    return sets


def _open(config: CreateConfig) -> Sets:
    if config.comparison is not None:
        # It loads jax, which takes seconds.
        from train.study.networks import open_comparison

        return Sets(
            *open_comparison(
                config.comparison,
                config.losses,
                clean=config.clean,
                degraded=config.input,
                sigma=config.sigma,
            )
        )
    named = {f"--{letter}": path for letter, path in config.folders.items()}
    if any(map(_may_be_a_network, named.values())):
        from train.study.runs import is_network, open_networks

        if any(map(is_network, named.values())):
            results, references, warnings = open_networks(
                named, clean=config.clean, degraded=config.input, sigma=config.sigma
            )
            return Sets(_told_apart(results, named), references, warnings)
    if config.sigma is not None:
        raise InputError("--sigma is for networks, and none is named. Leave it out.")
    references = [
        open_folder(flag, folder)
        for flag, folder in (("--clean", config.clean), ("--input", config.input))
        if folder is not None
    ]
    results = [with_scores(open_folder(flag, folder), folder) for flag, folder in named.items()]
    return Sets(_told_apart(results, named), references, [])


def _may_be_a_network(path: Path) -> bool:
    """Whether it is worth loading jax to find out whether a path is a network.

    Folders with files alone are photographs.
    """
    try:
        return any(entry.is_dir() for entry in path.iterdir())
    except OSError:
        return True


def _told_apart(sets: list[PictureSet], named: dict[str, Path]) -> list[PictureSet]:
    """Calls sets of the same name by their whole paths."""
    count = Counter(each.name for each in sets)
    return [
        replace(each, name=os.path.abspath(named[each.flag])) if count[each.name] > 1 else each
        for each in sets
    ]
