"""The metrics of each photograph as rows of a table, and their means for each noise level."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from train.inference.scoring.registry import METRICS


@dataclass(frozen=True)
class MetricsRow:
    """One photograph under one method."""

    photograph: str
    sigma: float  # noise level, 0 to 255; NaN if the noise was not added here
    seed: int  # seed of the noise
    method: str  # input, restored, or a classical method
    scores: Mapping[str, float]  # by metric; NaN if the photograph is too small for it


def means(rows: Iterable[MetricsRow]) -> dict[tuple[float, str], dict[str, float]]:
    """Means of every metric by noise level and method.

    The mean of a metric covers only photographs that are large enough for it.
    """
    groups: dict[tuple[float, str], list[MetricsRow]] = {}
    for one in rows:
        groups.setdefault((-1 if math.isnan(one.sigma) else one.sigma, one.method), []).append(one)
    return {
        group: {name: _mean([one.scores[name] for one in held]) for name in held[0].scores}
        for group, held in groups.items()
    }


def make_summary(rows: Sequence[MetricsRow], seconds: Mapping[str, float]) -> Table:
    """Makes a table of the means: a line for each noise level and metric, a column per method.

    Args:
      rows: the scores.
      seconds: seconds per megapixel by method, for the last line; {}: there is no such line.

    Returns:
      The table.
    """
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    found = means(rows)
    methods = list(dict.fromkeys(method for _, method in found))
    table.add_column("sigma", justify="right")
    table.add_column("metric")
    for method in methods:
        table.add_column(method, justify="right")
    for number, sigma in enumerate(dict.fromkeys(sigma for sigma, _ in found)):
        if number:
            table.add_section()
        level = "real" if sigma < 0 else f"{sigma:g}"
        for name in found[sigma, methods[0]]:
            cells = [_shown(found[sigma, method][name], METRICS[name].digits) for method in methods]
            table.add_row(level, METRICS[name].title, *cells)
            level = ""
    if seconds:
        table.add_section()
        cells = [_shown(seconds.get(method, math.nan), 3) for method in methods]
        table.add_row("all", "seconds per megapixel ↓", *cells)
    return table


def _shown(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
