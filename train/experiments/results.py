"""Trains and scores the networks of a comparison, at one length of the training."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from train.data.sources import Source
from train.experiments.compare_config import CompareConfig
from train.experiments.fine_tuning import score_on_validation, score_starts
from train.experiments.networks.members import Member, Members
from train.experiments.networks.starts import Start
from train.experiments.picking import Tried, score_seeds, try_settings
from train.experiments.statistics.comparison_table import ComparisonRow
from train.files.outputs import write_rows


@dataclass(frozen=True)
class Results:
    """What was trained and scored for a comparison, at one length of the training."""

    config: CompareConfig  # with this length
    members: Members
    tried: dict[str, Tried]  # by loss
    trained: Sequence[Member]  # all networks, including those that settings were picked with
    scored: Mapping[Member, Sequence[ComparisonRow]]  # on test photographs
    starts: Sequence[Start]
    of_starts: Sequence[ComparisonRow]  # their scores on test photographs
    validated: float | None  # the mean of the first start on validation photographs

    @property
    def rows(self) -> list[ComparisonRow]:
        """The scores of all networks, without the starts."""
        return list(itertools.chain(*self.scored.values()))


def train_and_score(
    config: CompareConfig,
    folder: Path,
    test: Source,
    validation: Source,
    tried: dict[str, Tried],
    starts: Sequence[Start],
    console: Console,
) -> Results:
    """Trains those networks that are still untrained, for one number of updates, and scores all.

    Args:
      config: the comparison with this length.
      folder: its folder.
      test: the photographs to test on.
      validation: the photographs to pick settings on.
      tried: the settings of an earlier or a shorter training run; {} to pick them here.
      starts: the networks that are fine-tuned, if there are any.
      console: for progress.

    Returns:
      The networks and their scores, which are also in a table in the folder.

    Raises:
      InputError: every setting of a loss diverged.
    """
    members = Members(
        folder / f"members{config.ending}",
        config.fit,
        console,
        population=config.population,
        starts=config.start_of_seed,
    )

    # --- learning rate and clipping for each loss, on validation photographs
    trials = []
    if not tried:
        tried = try_settings(config, members, validation)
        for loss, values in tried.items():
            trials += [Member(loss, config.fit.seed, *setting) for setting in values]

    # --- networks of every seed, on test photographs
    scored, tried = score_seeds(config, members, tried, test)
    of_starts = score_starts(config, starts, folder, test, "test", console)
    rows = [*itertools.chain(*scored.values()), *of_starts]
    longest = config.fit.optimizer.steps == max(config.lengths, default=config.fit.optimizer.steps)
    write_rows(rows, folder / ("scores.csv" if longest else f"scores{config.ending}.csv"))
    validated = score_on_validation(config, starts, folder, validation, console)
    trained = list(dict.fromkeys([*trials, *scored]))
    return Results(config, members, tried, trained, scored, starts, of_starts, validated)
