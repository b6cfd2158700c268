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
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from train.data.images import to_float
from train.data.sources import Source
from train.errors import InputError
from train.files.json_files import UnreadableError, read_bounded
from train.files.outputs import read_cell
from train.inference.scoring.metrics_table import score as measure
from train.inference.scoring.protocols import add_fixed_noise

_LONGEST = 64_000_000  # bytes of a table; a row has about a hundred
_ADVICE = "Rename or delete it, then repeat the command, which scores the trained network again."
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
    psnr: float  # dB
    psnr_y: float  # dB, studio range
    ssim: float  # at most 1; higher is better
    ciede2000: float  # mean colour difference, 0 or more; lower is better
    brightness_error: float  # mean |delta L*|, 0 or more
    chroma_error: float  # mean |delta C*|, 0 or more


class Metric(NamedTuple):
    """How a column is shown."""

    label: str
    unit: str  # "" if there is none
    higher_is_better: bool
    digits: int  # decimals to show


METRICS = {
    "psnr": Metric("PSNR", "dB", True, 2),
    "psnr_y": Metric("PSNR-Y", "dB", True, 2),
    "ssim": Metric("SSIM", "", True, 4),
    "ciede2000": Metric("CIEDE2000", "", False, 3),
    "brightness_error": Metric("brightness error |ΔL*|", "", False, 3),
    "chroma_error": Metric("chroma error |ΔC*|", "", False, 3),
}


def score_network(
    restore: Restore,
    source: Source,
    *,
    loss: str,
    seed: int,
    sigmas: Sequence[float],
    noise_seed: int,
    draws: int,
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
            measured = []
            for image in noisy:
                measured.append(measure(restore(image, known), clean, names=tuple(METRICS)))
            values = np.mean(measured, axis=0)
            yield ComparisonRow(loss, seed, sigma, name, *map(float, values))


def read_scores(path: Path) -> list[ComparisonRow]:
    """Reads back what :func:`~train.files.outputs.write_rows` wrote."""
    fields = get_type_hints(ComparisonRow)  # str, int or float, which read what was written
    line = 1
    try:
        content = read_bounded(path, longest=_LONGEST).decode("utf-8")
        reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
        if set(reader.fieldnames or ()) != set(fields):
            raise ValueError(f"its columns must be {', '.join(fields)}")
        rows = []
        for row in reader:
            line = reader.line_num
            rows.append(_parse_row(row, fields))
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


def _parse_row(row: dict[str, str], fields: Mapping[str, type]) -> ComparisonRow:
    # csv marks cells in excess, and those that are missing, with None.
    if None in row or None in row.values():
        raise ValueError(f"it does not have {len(fields)} cells")
    values: dict[str, Any] = {
        name: read_cell(row[name]) if kind is str else kind(row[name])
        for name, kind in fields.items()
    }
    # A network that diverged has no PSNR, and its other metrics are never used.
    for name in METRICS if not math.isnan(values["psnr"]) else ():
        if not abs(values[name]) <= _LARGEST:
            raise ValueError(
                f"{name} must be a number from -{_LARGEST:,.0f} to {_LARGEST:,.0f}; got "
                f"{values[name]}"
            )
    return ComparisonRow(**values)


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
      ``[photographs, seeds]``, both axes sorted.

    Raises:
      InputError: if a photograph, seed or level is missing.
    """
    chosen = [row for row in scores if row.loss == loss and row.sigma in sigmas]
    photographs = sorted({row.photograph for row in chosen})
    seeds = sorted({row.seed for row in chosen})
    row_of = {name: i for i, name in enumerate(photographs)}
    column_of = {seed: j for j, seed in enumerate(seeds)}
    table = np.zeros((len(photographs), len(seeds)))
    count = np.zeros((len(photographs), len(seeds)), int)
    for row in chosen:
        at = row_of[row.photograph], column_of[row.seed]
        table[at] += getattr(row, metric)
        count[at] += 1
    if not chosen or (count != len(sigmas)).any():
        raise InputError(
            f"The scores of {loss!r} are incomplete: each photograph, seed and sigma is needed "
            "exactly once."
        )
    return table / count
