"""The comparison as one page that opens from disk: sentences first, then tables, curves, and crops to look at.

Everything is in the file: Plotly's script comes from its package, pictures are lossless WebP. Nothing is fetched.
"""

import base64
import dataclasses
import importlib.resources
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import plotly.graph_objects as go
import pyvips

from train.data.images import to_uint8
from train.experiments.conclusions import Comparison
from train.experiments.scores import METRICS, Score, table_of

# Okabe and Ito's colours, which tell apart for all kinds of colour vision, on white and on black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

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
class Curve:
    """How validation went while one network was trained."""

    loss: str
    seed: int
    steps: Sequence[int]
    psnr: Sequence[float]


@dataclass(frozen=True)
class Report:
    """All that the page says."""

    title: str
    headline: str
    losses: Sequence[str]
    comparisons: Sequence[Comparison]
    scores: Sequence[Score]
    curves: Sequence[Curve]
    crops: Sequence[Crop]
    choices: Sequence[Mapping[str, Any]]  # what was tried for each loss on validation images, and what was taken
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    cost: str  # of the training, as it was measured


def write_report(report: Report, path: Path) -> None:
    """Writes the page; the file appears whole or not at all."""
    sigmas = tuple(sorted({row.sigma for row in report.scores}))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("train.experiments", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plotly = (importlib.resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    crops = _that_fit(map(_crop_pictures, report.crops), _LARGEST - _REST - len(plotly))
    page = environment.get_template("report.html.jinja").render(
        report=report,
        primary=[c for c in report.comparisons if c.adjusted_p is not None],
        exploratory=[c for c in report.comparisons if c.adjusted_p is None],
        metrics=METRICS,
        means=[_means(report.scores, loss, sigmas) for loss in report.losses],
        sigmas=sigmas,
        figures=_figures(report, sigmas),
        crops=crops,
        left_out=len(report.crops) - len(crops),
        levels=lambda sigmas: ", ".join(f"{sigma:g}" for sigma in sigmas),
        settings=json.dumps(report.settings, indent=2),
        plotly=plotly,
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)


def _means(scores: Sequence[Score], loss: str, sigmas: tuple[float, ...]) -> dict[str, Any]:
    """A row of the table: each metric's mean over photographs and seeds, and the means of the seeds."""
    tables = {metric: table_of(scores, metric, loss, sigmas) for metric in METRICS}
    return {
        "loss": loss,
        "mean": {metric: float(table.mean()) for metric, table in tables.items()},
        "by_seed": {metric: [float(v) for v in table.mean(axis=0)] for metric, table in tables.items()},
    }


def _figures(report: Report, sigmas: tuple[float, ...]) -> list[dict[str, str]]:
    """Each plot: its heading, what it shows in words (also for who cannot see it), and its data as JSON."""
    figures = []
    if len(sigmas) > 1:
        figures.append(
            {
                "id": "by-sigma",
                "title": "By noise level",
                "words": f"Difference in PSNR between {report.losses[0]} and each other loss at each noise level, with "
                "95 % intervals over photographs and seeds. Above 0: in favour of the former.",
                "json": _by_sigma(report, sigmas),
            }
        )
    if report.curves:
        figures.append(
            {
                "id": "learning",
                "title": "Learning curves",
                "words": "PSNR on the validation photographs while training, a line for each seed. Curves that still "
                "rise at the end say little about losses and much about when training was stopped.",
                "json": _learning(report),
            }
        )
    figures.append(
        {
            "id": "trade-off",
            "title": "Brightness against colour",
            "words": "Mean error of lightness against mean error of chroma, a point for each seed, the mean ringed. "
            "Down and to the left is better in both; what moves to the left and up buys brightness with colour.",
            "json": _trade_off(report, sigmas),
        }
    )
    return figures


def _by_sigma(report: Report, sigmas: tuple[float, ...]) -> str:
    figure = go.Figure()
    for other, colour in zip(report.losses[1:], _COLOURS[1:] * len(report.losses), strict=False):
        points = [
            next(c for c in report.comparisons if (c.other, c.metric, c.sigmas) == (other, "psnr", (sigma,)))
            for sigma in sigmas
        ]
        means = [c.difference.mean for c in points]
        figure.add_scatter(
            x=sigmas,
            y=means,
            name=f"against {other}",
            mode="lines+markers",
            line={"color": colour},
            error_y={"type": "data", "array": [c.difference.high - c.difference.mean for c in points]},
        )
    figure.add_hline(y=0, line_width=1, line_dash="dot")
    return _json(figure, "sigma of the noise (0 to 255)", "difference in PSNR, dB")


def _learning(report: Report) -> str:
    figure = go.Figure()
    for curve in report.curves:
        which = list(report.losses).index(curve.loss)
        figure.add_scatter(
            x=list(curve.steps),
            y=list(curve.psnr),
            name=curve.loss,
            legendgroup=curve.loss,
            showlegend=curve.seed == min(c.seed for c in report.curves if c.loss == curve.loss),
            mode="lines+markers",
            line={"color": _COLOURS[which % len(_COLOURS)], "width": 1},
            marker={"size": 4},
            hovertext=f"{curve.loss}, seed {curve.seed}",
        )
    return _json(figure, "step", "PSNR on validation photographs, dB")


def _trade_off(report: Report, sigmas: tuple[float, ...]) -> str:
    figure = go.Figure()
    for which, loss in enumerate(report.losses):
        x, y = (table_of(report.scores, m, loss, sigmas).mean(axis=0) for m in ("brightness_error", "chroma_error"))
        colour = _COLOURS[which % len(_COLOURS)]
        figure.add_scatter(x=x.tolist(), y=y.tolist(), name=loss, mode="markers", marker={"color": colour, "size": 7})
        figure.add_scatter(
            x=[float(x.mean())],
            y=[float(y.mean())],
            mode="markers",
            showlegend=False,
            hovertext=f"{loss}, mean",
            marker={"color": colour, "size": 16, "symbol": "circle-open", "line": {"width": 2}},
        )
    return _json(figure, METRICS["brightness_error"].label, METRICS["chroma_error"].label)


def _json(figure: go.Figure, x: str, y: str) -> str:
    figure.update_layout(
        template="none",
        xaxis_title=x,
        yaxis_title=y,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.1},
    )
    return str(figure.to_json())  # in which Plotly escapes < and >: nothing in it can end the script element


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
        room -= len(crop["noisy"]) + len(crop["clean"]) + sum(others) + candidate * len(others)  # once beside each
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
    return record
