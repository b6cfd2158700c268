"""What a comparison says about the networks that it fine-tunes, apart from their losses."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from train.data.sources import Source
from train.experiments.compare_config import CompareConfig
from train.experiments.networks.members import NOISE_SEED
from train.experiments.networks.starts import Start, score_start
from train.experiments.picking import mean_score
from train.experiments.statistics.comparison_table import ComparisonRow
from train.experiments.statistics.conclusions import FineTuned

_FOLDER = "starts"


def fine_tuned_from(starts: Sequence[Start]) -> FineTuned | None:
    """What conclusions need to know about the starts; None if there are none."""
    if not starts:
        return None
    losses = [start.origin.loss for start in starts if start.origin.loss is not None]
    return FineTuned(len({start.digest for start in starts}), tuple(dict.fromkeys(losses)))


def describe_fine_tuning(starts: Sequence[Start]) -> str:
    """Says where the networks of a comparison started, and what that means for its verdicts."""
    if len({start.digest for start in starts}) > 1:
        named = ", ".join(f"{start.name} ({start.digest[:8]})" for start in starts)
        return f"the networks of each seed were fine-tuned from a different network: {named}."
    return (
        f"all networks were fine-tuned from {starts[0].name} ({starts[0].digest[:8]}). Seeds "
        "differ only in patches and their noise, so verdicts hold for this network, and nothing "
        "is claimed about the losses in general."
    )


def score_starts(
    config: CompareConfig,
    starts: Sequence[Start],
    folder: Path,
    source: Source,
    split: str,
    console: Console,
) -> list[ComparisonRow]:
    """Scores the unchanged starts as the networks that were trained from them are scored.

    Args:
      config: the comparison.
      starts: its starts.
      folder: its folder.
      source: the photographs.
      split: ``test``, or ``validation``, where only the metrics that decide are computed.
      console: for progress.

    Returns:
      A row for each start, photograph and noise level.
    """
    deciding = tuple(dict.fromkeys(["psnr", config.primary]))
    rows = []
    for start in starts:
        rows += score_start(
            start,
            folder / _FOLDER,
            source,
            split,
            trained_sigma=config.fit.data.sigma,
            sigmas=config.levels,
            noise_seed=NOISE_SEED,
            draws=config.draws,
            metrics=config.columns if split == "test" else deciding,
            say=lambda line: console.print(line, soft_wrap=True),
        )
    return rows


def score_on_validation(
    config: CompareConfig,
    starts: Sequence[Start],
    folder: Path,
    validation: Source,
    console: Console,
) -> float | None:
    """Scores the first start as the settings that are tried on validation photographs.

    Args:
      config: the comparison.
      starts: its starts.
      folder: its folder.
      validation: the photographs.
      console: for progress.

    Returns:
      The mean of the primary metric; None if there are no starts, or no setting was tried here.
    """
    if not starts or config.settings_from is not None:
        return None
    rows = score_starts(config, starts[:1], folder, validation, "validation", console)
    return mean_score(config, rows, validation)
