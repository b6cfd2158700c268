"""The comparison as one page that opens from disk: sentences first, then tables, curves, and crops to look at.

Everything is in the file: Plotly's script comes from its package, pictures are lossless WebP.
Nothing is fetched.
"""

import base64
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.data.images import to_uint8
from train.data.libvips import pyvips
from train.experiments.conclusions import Comparison, alongside
from train.experiments.convergence import Curve
from train.experiments.figures import comparison_figures
from train.experiments.page import script, write_page
from train.experiments.scores import METRICS, Score, score_table
from train.experiments.stats import MUST_AGREE

# Bytes: of the page, and kept free for what is neither Plotly's script nor pictures.
_LARGEST, _REST = 10e6, 1e6


@dataclass(frozen=True)
class Crop:
    """One place of one photograph, as each loss's network restored it: float arrays ``[h, w, 3]`` of one size."""

    title: str
    clean: np.ndarray
    noisy: np.ndarray
    restored: Mapping[str, np.ndarray]  # by loss


@dataclass(frozen=True)
class Report:
    """All that the page says."""

    title: str
    headline: str
    notes: Sequence[str]  # what a reader should know of before believing it
    losses: Sequence[str]
    comparisons: Sequence[Comparison]
    scores: Sequence[Score]
    curves: Sequence[Curve]
    crops: Sequence[Crop]
    # What was tried for each loss on validation images, and what was taken
    choices: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    cost: str  # of the training, as it was measured


def write_report(report: Report, path: Path) -> None:
    """Writes the page; the file appears whole or not at all."""
    sigmas = tuple(sorted({row.sigma for row in report.scores}))
    primary = [c for c in report.comparisons if c.adjusted_p is not None]
    crops = _that_fit(map(_crop_pictures, report.crops), _LARGEST - _REST - len(script()))
    write_page(
        "report.html.jinja",
        path,
        report=report,
        primary=[(c, alongside(c, report.comparisons)) for c in primary],
        first=primary[0],
        exploratory=[c for c in report.comparisons if c.adjusted_p is None],
        metrics=METRICS,
        means=[_means(report.scores, loss, sigmas) for loss in report.losses],
        figures=comparison_figures(
            report.losses, report.comparisons, report.scores, report.curves, primary[0].metric
        ),
        crops=crops,
        left_out=len(report.crops) - len(crops),
        levels=lambda sigmas: ", ".join(f"{sigma:g}" for sigma in sigmas),
        settings=json.dumps(report.settings, indent=2),
        must_agree=MUST_AGREE,
    )


def _means(scores: Sequence[Score], loss: str, sigmas: tuple[float, ...]) -> dict[str, Any]:
    """A row of the table: each metric's mean over photographs and seeds, and the means of the seeds."""
    tables = {metric: score_table(scores, metric, loss, sigmas) for metric in METRICS}
    return {
        "loss": loss,
        "mean": {metric: float(table.mean()) for metric, table in tables.items()},
        "by_seed": {
            metric: [float(v) for v in table.mean(axis=0)] for metric, table in tables.items()
        },
    }


def _crop_pictures(crop: Crop) -> dict[str, Any]:
    """A crop's pictures as data addresses."""
    return {
        "title": crop.title,
        "noisy": _address(crop.noisy),
        "clean": _address(crop.clean),
        "restored": {loss: _address(image) for loss, image in crop.restored.items()},
    }


def _that_fit(crops: Iterable[dict[str, Any]], room: float) -> list[dict[str, Any]]:
    """The first crops, as many as fit into so many bytes."""
    kept = []
    for crop in crops:
        candidate, *others = map(len, crop["restored"].values())
        # Once beside each
        room -= len(crop["noisy"]) + len(crop["clean"]) + sum(others) + candidate * len(others)
        if room < 0:
            break
        kept.append(crop)
    return kept


def _address(image: np.ndarray) -> str:
    picture: Any = pyvips.Image.new_from_array(np.ascontiguousarray(to_uint8(image)))
    encoded = picture.write_to_buffer(".webp", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()


def as_record(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON holds it, for whoever reads results by program."""
    record = dataclasses.asdict(comparison)
    record["sentence"] = comparison.sentence
    record["seeds_that_would_tell"] = comparison.seeds_needed
    # JSON has no NaN, which is the spread over seeds where there is one.
    for name, value in record["difference"].items():
        if isinstance(value, float) and not math.isfinite(value):
            record["difference"][name] = None
    return record
