"""The comparison as one page that opens from disk: sentences, tables, curves and crops.

The file contains everything: Plotly's script from its package, and pictures as lossless WebP. The
page fetches nothing.
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
from train.experiments.report.figures import by_length, comparison_figures
from train.experiments.report.page import script, write_page
from train.experiments.report.wording import (
    better,
    describe_comparison,
    describe_measurement,
    describe_other_metrics,
    difference_and_interval,
    suggests_seeds,
)
from train.experiments.statistics.comparison_table import (
    ComparisonRow,
    metrics_of,
    score_table,
)
from train.experiments.statistics.conclusions import START, Comparison
from train.experiments.statistics.convergence import Curve
from train.experiments.statistics.stats import MUST_AGREE
from train.inference.scoring.classical import NOTE
from train.inference.scoring.error_maps import FLIP_IN_WORDS, LARGEST_FLIP, RAMP, heat
from train.inference.scoring.registry import LEGEND, METRICS

_LARGEST = 10e6  # bytes of a page
_REST = 1e6  # bytes kept free for what is neither Plotly's script nor pictures


@dataclass(frozen=True)
class Crop:
    """One place of one photograph, as restored by the network of each loss.

    All pictures are float arrays ``[h, w, 3]`` in [0, 1], of the same size.
    """

    title: str
    clean: np.ndarray
    noisy: np.ndarray
    restored: Mapping[str, np.ndarray]  # by loss
    flip: Mapping[str, np.ndarray]  # by loss: FLIP of each pixel, [h, w]


@dataclass(frozen=True)
class People:
    """What the page says about a viewing study of the networks."""

    question: str = ""  # what observers were asked
    verdicts: Sequence[tuple[str, str]] = ()  # each with what was measured
    # Three sets or more on one scale: set, JOD, its interval, score against others, its interval
    scale: Sequence[tuple[str, str, str, str, str]] = ()
    said: Sequence[str] = ()  # sentences after the verdicts, or why there are none
    commands: Sequence[str] = ()  # what to type next
    then: str = ""  # what to do after the commands
    page: str = ""  # address of the study's own page


@dataclass(frozen=True)
class Report:
    """Everything that the page says."""

    title: str
    headline: str
    notes: Sequence[str]  # what a reader should know before believing it
    losses: Sequence[str]
    comparisons: Sequence[Comparison]
    changes: Sequence[Comparison]  # each loss against the start, if networks were fine-tuned
    # By number of updates, in the primary metric, if networks were trained for several lengths
    at_lengths: Mapping[int, Sequence[Comparison]]
    scores: Sequence[ComparisonRow]  # including those of the starts
    curves: Sequence[Curve]
    crops: Sequence[Crop]
    # Rows of the settings that were tried for each loss on validation images
    choices: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    cost: str  # how long the training took, in words
    # Scores of classical methods, which stand in the column of losses
    baselines: Sequence[ComparisonRow] = ()
    # Seconds per megapixel of these methods and of the network, which is called ""; {}: not shown
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    people: People = People()


def write_report(report: Report, path: Path) -> None:
    """Writes the page; the file appears whole or not at all."""
    sigmas = tuple(sorted({row.sigma for row in report.scores}))
    primary, exploratory = [], []
    for comparison in report.comparisons:
        if comparison.adjusted_p is None:
            exploratory.append((comparison, describe_measurement(comparison)))
        else:
            others = describe_other_metrics(comparison, report.comparisons)
            primary.append((comparison, describe_comparison(comparison), others))
    first, *_ = primary[0]
    shown = [*report.losses, *([START] if report.changes else [])]
    metrics = {name: METRICS[name] for name in metrics_of(report.scores)}
    crops = _within(map(_crop_pictures, report.crops), _LARGEST - _REST - len(script()))
    write_page(
        "report.html.jinja",
        path,
        report=report,
        primary=primary,
        first=first,
        suggests_seeds=any(suggests_seeds(comparison) for comparison, _, _ in primary),
        exploratory=exploratory,
        metrics=metrics,
        better=better,
        legend=LEGEND,
        means=[_means(report.scores, row, sigmas, metrics) for row in shown],
        changes=_by_loss(report.changes, metrics),
        classical=[
            _means(report.baselines, name, sigmas, metrics)
            for name in dict.fromkeys(row.loss for row in report.baselines)
        ],
        about_classical=NOTE,
        figures=[
            *by_length(report.losses, report.at_lengths, first.metric),
            *comparison_figures(
                report.losses, report.comparisons, report.scores, report.curves, first.metric
            ),
        ],
        at_lengths=_by_steps(report.at_lengths),
        crops=crops,
        flip_in_words=FLIP_IN_WORDS,
        flip_colours=_flip_colours(),
        largest_flip=LARGEST_FLIP,
        left_out=len(report.crops) - len(crops),
        levels=lambda sigmas: ", ".join(f"{sigma:g}" for sigma in sigmas),
        settings=json.dumps(report.settings, indent=2),
        must_agree=MUST_AGREE,
    )


def _by_steps(at_lengths: Mapping[int, Sequence[Comparison]]) -> list[tuple[int, str]]:
    """Number of updates and difference, in words, for all lengths except the longest."""
    found = []
    for steps in sorted(at_lengths)[:-1]:
        found += [(steps, describe_measurement(each)) for each in at_lengths[steps]]
    return found


def _by_loss(
    changes: Sequence[Comparison], metrics: Iterable[str]
) -> dict[str, list[tuple[str, str]]]:
    """Each loss with its change from the start in each metric, and the interval."""
    found: dict[str, list[tuple[str, str]]] = {}
    for change in changes:
        if change.metric in metrics:
            found.setdefault(change.candidate, []).append(difference_and_interval(change))
    return found


def _means(
    scores: Sequence[ComparisonRow], loss: str, sigmas: tuple[float, ...], metrics: Iterable[str]
) -> dict[str, Any]:
    """A row of the page's table: the mean of each metric over all seeds, and for each seed."""
    mean: dict[str, float] = {}
    by_seed: dict[str, list[float]] = {}
    for metric in metrics:
        table = score_table(scores, metric, loss, sigmas)
        mean[metric] = float(table.mean())
        by_seed[metric] = table.mean(axis=0).tolist()
    return {"loss": loss, "mean": mean, "by_seed": by_seed}


def _crop_pictures(crop: Crop) -> dict[str, Any]:
    """The pictures of a crop as data URLs."""
    return {
        "title": crop.title,
        "noisy": _address(crop.noisy),
        "clean": _address(crop.clean),
        "restored": {loss: _address(image) for loss, image in crop.restored.items()},
        "flip": {
            loss: _address(heat(errors, largest=LARGEST_FLIP)) for loss, errors in crop.flip.items()
        },
        "mean_flip": {loss: float(errors.mean()) for loss, errors in crop.flip.items()},
    }


def _flip_colours() -> str:
    """The colours of the maps, from 0 to the largest error, as CSS."""
    return ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in to_uint8(RAMP))


def _within(crops: Iterable[dict[str, Any]], limit: float) -> list[dict[str, Any]]:
    """The first crops, as many as fit into ``limit`` bytes."""
    kept = []
    for crop in crops:
        candidate, *others = map(len, crop["restored"].values())
        # The page repeats the candidate's picture for each of the others.
        limit -= len(crop["noisy"]) + len(crop["clean"]) + sum(others) + candidate * len(others)
        limit -= sum(map(len, crop["flip"].values()))
        if limit < 0:
            break
        kept.append(crop)
    return kept


def _address(image: np.ndarray) -> str:
    picture: Any = pyvips.Image.new_from_array(np.ascontiguousarray(to_uint8(image)))
    encoded = picture.write_to_buffer(".webp", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()


def as_record(comparison: Comparison) -> dict[str, Any]:
    """A comparison in the form of the JSON file, for other programs."""
    record = dataclasses.asdict(comparison)
    record["sentence"] = describe_comparison(comparison)
    record["seeds_that_would_tell"] = comparison.seeds_needed
    # JSON has no NaN. With a single seed, the spread over seeds is NaN.
    for name, value in record["difference"].items():
        if isinstance(value, float) and not math.isfinite(value):
            record["difference"][name] = None
    return record
