"""The table of scores of one network, which is read if it is there and made if it is not."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from train.data.sources import Source
from train.experiments.statistics.comparison_table import (
    ComparisonRow,
    Restore,
    check_complete,
    read_scores,
    score_network,
)
from train.files.outputs import write_rows
from train.inference.scoring.registry import METRICS, too_small


def read_or_score(
    path: Path,
    load: Callable[[], Restore],
    source: Source,
    *,
    loss: str,
    seed: int,
    sigmas: tuple[float, ...],
    noise_seed: int,
    draws: int,
    metrics: tuple[str, ...],
    say: Callable[[str], None],
) -> list[ComparisonRow]:
    """Reads the scores of a network, or scores it and writes them.

    If a table lacks a metric, as one of an earlier version may, the network is scored again in all
    of them, so that no table mixes scores of two versions.

    Args:
      path: the table.
      load: loads the network, if it must be scored.
      source: the photographs.
      loss: the loss that the network was trained with.
      seed: the seed of its training.
      sigmas: noise levels to score at, from 0 to 255.
      noise_seed: seed of the noise that is added.
      draws: number of noise draws that each score is averaged over.
      metrics: names of the metrics; psnr must be one of them.
      say: prints a sentence if the network is scored again.

    Returns:
      A row for each photograph and noise level. If the network diverged, some have no PSNR.

    Raises:
      InputError: if the table cannot be read, or does not fit the photographs.
    """
    levels = sigmas if source.inputs is None else (0.0,)
    expected = [(loss, seed, sigma, name) for name in source.names for sigma in levels]
    if path.exists():
        rows = read_scores(path)
        check_complete(path, rows, expected)
        sides = {entry.name: min(entry.height, entry.width) for entry in source.entries}
        missing = lacking(rows, metrics, sides)
        if has_diverged(rows) or not missing:
            return rows
        labels = ", ".join(METRICS[name].label for name in missing)
        say(f"{path} does not have {labels}, so the network is scored again.")
    scored = score_network(
        load(),
        source,
        loss=loss,
        seed=seed,
        sigmas=sigmas,
        noise_seed=noise_seed,
        draws=draws,
        metrics=metrics,
    )
    write_rows(list(scored), path)
    return read_scores(path)


def has_diverged(rows: Iterable[ComparisonRow]) -> bool:
    """Whether the output for any photograph contained NaN or infinity."""
    return any(math.isnan(row.scores["psnr"]) for row in rows)


def lacking(
    rows: Sequence[ComparisonRow], metrics: Iterable[str], sides: Mapping[str, int]
) -> list[str]:
    """Names the metrics for which a table does not have every score that it could have.

    Args:
      rows: the table.
      metrics: the metrics that are needed.
      sides: the shorter side of each photograph, in pixels, by name.

    Returns:
      Their names, in the same order.
    """
    found = []
    for metric in metrics:
        for row in rows:
            is_empty = math.isnan(row.scores.get(metric, math.nan))
            if is_empty and not too_small((metric,), sides[row.photograph]):
                found.append(metric)
                break
    return found
