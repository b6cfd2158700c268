"""The long table of a comparison: one row for each loss, training seed, noise level and photograph.

Every number of a report can be computed from it again. Only draws of noise are averaged before it
is written.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.data.images import to_float
from train.data.sources import Source
from train.errors import InputError
from train.files.json_files import UnreadableError, read_bounded
from train.files.outputs import read_cell
from train.inference.scoring.measure import score
from train.inference.scoring.protocols import add_fixed_noise
from train.inference.scoring.registry import METRICS

_LONGEST = 64_000_000  # bytes of a table; a row has about a hundred
_ADVICE = "Rename or delete it, then repeat the command, which scores the trained network again."
_FEWEST_SCORED = 2  # photographs: a single one has no spread, and so no interval
_LARGEST = 1e6  # largest value of any metric, far above what restored photographs can have

# restore(noisy, sigma). For networks that need it, sigma is the level of the noise from 0 to 255.
# None: the noise was not added here.
Restore = Callable[[np.ndarray, float | None], np.ndarray]


@dataclass(frozen=True)
class ComparisonRow:
    """How well one trained network restored one photograph."""

    loss: str
    seed: int  # seed of the training: initial weights, patches, noise
    sigma: float  # noise level, 0 to 255; 0 for photographs with real degradations
    photograph: str
    scores: Mapping[str, float]  # by metric; NaN if the photograph is too small for it


_KEYS: dict[str, type] = {"loss": str, "seed": int, "sigma": float, "photograph": str}


def score_network(
    restore: Restore,
    source: Source,
    *,
    loss: str,
    seed: int,
    sigmas: Sequence[float],
    noise_seed: int,
    draws: int,
    metrics: tuple[str, ...],
) -> Iterator[ComparisonRow]:
    """Scores a network on every photograph at every noise level.

    The noise depends only on ``noise_seed``, the photograph's name, the level and the draw, so that
    every network meets the same noise. Scores are means over ``draws`` draws, since a single draw
    is of no interest. Photographs with real degradations are scored once, as they are.

    Args:
      restore: the network.
      source: the photographs.
      loss: the loss that the network was trained with.
      seed: the seed of its training.
      sigmas: noise levels, from 0 to 255.
      noise_seed: seed of the noise that is added.
      draws: number of noise draws to average over.
      metrics: names of the metrics.

    Returns:
      A row for each photograph and level.
    """
    real = source.inputs is not None
    for i, name in enumerate(source.names):
        clean = to_float(source.images[i])
        for sigma in (0.0,) if real else sigmas:
            known = None if real else sigma  # the level that the network is told
            if source.inputs is not None:
                noisy = [to_float(source.inputs[i])]
            else:
                noisy = [
                    add_fixed_noise(clean, name, sigma=sigma, seed=noise_seed + draw)
                    for draw in range(draws)
                ]
            drawn = [score(restore(image, known), clean, names=metrics) for image in noisy]
            means = {metric: float(np.mean([one[metric] for one in drawn])) for metric in metrics}
            yield ComparisonRow(loss, seed, sigma, name, means)


def read_scores(path: Path) -> list[ComparisonRow]:
    """Reads back what :func:`~train.files.outputs.write_rows` wrote.

    A table of an earlier version may have fewer metrics.
    """
    line = 1
    try:
        content = read_bounded(path, longest=_LONGEST).decode("utf-8")
        reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
        found = list(reader.fieldnames or ())
        metrics = [name for name in found if name in METRICS]
        if sorted(found) != sorted({*_KEYS, "psnr", *metrics}):
            raise ValueError(f"its columns must be {', '.join(_KEYS)}, psnr and other metrics")
        rows = []
        for row in reader:
            line = reader.line_num
            rows.append(_parse_row(row, metrics))
        return rows
    except (OSError, UnreadableError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is not a table of scores, or it is damaged (line {line}: {error}). {_ADVICE}"
        ) from None


def check_complete(
    path: Path, scores: Sequence[ComparisonRow], expected: Sequence[tuple[str, int, float, str]]
) -> None:
    """Checks that a table has lost no rows and is about the right photographs.

    Args:
      path: path of the table, for the error.
      scores: its rows.
      expected: loss, seed, sigma and photograph of each row that it must have, in any order.

    Raises:
      InputError: if rows are missing, or there are different ones.
    """
    found = sorted((row.loss, row.seed, row.sigma, row.photograph) for row in scores)
    if found != sorted(expected):
        raise InputError(
            f"{path} has {len(found)} rows, which are not the {len(expected)} rows for these "
            f"photographs and noise levels. {_ADVICE}"
        )


def metrics_of(rows: Sequence[ComparisonRow]) -> list[str]:
    """The metrics that every row has, if they could score two photographs or more."""
    found = []
    for metric in METRICS:
        if all(metric in row.scores for row in rows):
            scored = {row.photograph for row in rows if not math.isnan(row.scores[metric])}
            if len(scored) >= _FEWEST_SCORED:
                found.append(metric)
    return found


def _parse_row(row: dict[str, str], metrics: Sequence[str]) -> ComparisonRow:
    # csv marks cells in excess, and those that are missing, with None.
    if None in row or None in row.values():
        raise ValueError(f"it does not have {len(_KEYS) + len(metrics)} cells")
    keys: dict[str, Any] = {
        name: read_cell(row[name]) if kind is str else kind(row[name])
        for name, kind in _KEYS.items()
    }
    # A network that diverged has no PSNR, and its other metrics are never used. Earlier versions
    # wrote "nan" for it.
    diverged = row["psnr"] in ("", "nan")
    scores = {}
    for name in metrics:
        scores[name] = float(row[name]) if row[name] else math.nan
        if row[name] and not diverged and not abs(scores[name]) <= _LARGEST:
            raise ValueError(
                f"{name} must be a number from -{_LARGEST:,.0f} to {_LARGEST:,.0f}; got "
                f"{scores[name]}"
            )
    return ComparisonRow(**keys, scores=scores)


def score_table(
    scores: Iterable[ComparisonRow], metric: str, loss: str, sigmas: Sequence[float]
) -> np.ndarray:
    """One metric of one loss, averaged over ``sigmas``.

    Args:
      scores: rows of any losses.
      metric: name of the column.
      loss: the loss.
      sigmas: the noise levels (0 to 255) to average over.

    Returns:
      ``[photographs, seeds]``, both axes sorted. Photographs that are too small for the metric are
      left out.

    Raises:
      InputError: if a photograph, seed or level is missing.
    """
    chosen = []
    for row in scores:
        if row.loss == loss and row.sigma in sigmas and not math.isnan(row.scores[metric]):
            chosen.append(row)
    photographs = sorted({row.photograph for row in chosen})
    seeds = sorted({row.seed for row in chosen})
    row_of = {name: i for i, name in enumerate(photographs)}
    column_of = {seed: j for j, seed in enumerate(seeds)}
    table = np.zeros((len(photographs), len(seeds)))
    count = np.zeros((len(photographs), len(seeds)), int)
    for row in chosen:
        at = row_of[row.photograph], column_of[row.seed]
        table[at] += row.scores[metric]
        count[at] += 1
    if not chosen or (count != len(sigmas)).any():
        raise InputError(
            f"The scores of {loss!r} are incomplete: each photograph, seed and sigma is needed "
            "exactly once."
        )
    return table / count
