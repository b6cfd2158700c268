"""The plots of a comparison."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from train.experiments.report.page import COLOURS, DASHES, SYMBOLS, Figure, as_json
from train.experiments.statistics.comparison_table import ComparisonRow, score_table
from train.experiments.statistics.conclusions import START, Comparison
from train.experiments.statistics.convergence import Curve
from train.experiments.statistics.stats import Difference
from train.inference.scoring.registry import METRICS

_DODGE = 0.012  # share of the axis between intervals that would otherwise overlap


def comparison_figures(
    losses: Sequence[str],
    comparisons: Sequence[Comparison],
    scores: Sequence[ComparisonRow],
    curves: Sequence[Curve],
    metric: str,
) -> list[Figure]:
    """Draws the figures of a comparison.

    Args:
      losses: the losses, the candidate first.
      comparisons: the conclusions.
      scores: scores of all networks.
      curves: validation curves of the networks.
      metric: the primary metric.

    Returns:
      Those figures for which there are data.
    """
    sigmas = tuple(sorted({row.sigma for row in scores}))
    figures = []
    if len(sigmas) > 1:
        figures.append(_by_sigma(losses, comparisons, sigmas, metric))
    if curves:
        figures.append(_learning(losses, curves))
    started = [START] if any(row.loss == START for row in scores) else []
    return [*figures, _trade_off([*losses, *started], scores, sigmas)]


def by_length(
    losses: Sequence[str], at_lengths: Mapping[int, Sequence[Comparison]], metric: str
) -> list[Figure]:
    """Draws how the difference changes with the length of the training.

    Args:
      losses: the losses, the candidate first.
      at_lengths: for each number of updates the comparison with each of the other losses.
      metric: the primary metric.

    Returns:
      The figure; none if there is only one length.
    """
    if len(at_lengths) < 2:
        return []
    figure = go.Figure()
    label, unit = METRICS[metric].label, METRICS[metric].unit
    lengths = sorted(at_lengths)
    for which, other in enumerate(losses[1:], 1):
        points = [
            next(each.difference for each in at_lengths[steps] if each.other == other)
            for steps in lengths
        ]
        # The axis is logarithmic, so a factor shifts the points sideways.
        shifted = [steps * (1 + _DODGE * (which - len(losses) / 2)) for steps in lengths]
        at = [f"{steps:,} updates" for steps in lengths]
        _add_gains(figure, shifted, points, which=which, other=other, at=at)
    figure.add_hline(y=0, line_width=1, line_dash="dot")
    texts = [f"{steps:,}" for steps in lengths]
    figure.update_xaxes(type="log", tickvals=lengths, ticktext=texts)
    words = (
        f"Gain of {losses[0]} in {label} over each of the other losses, after training for several "
        "numbers of updates, each with a full schedule. The intervals are 95 % intervals over "
        "photographs and seeds. Only the longest training gets verdicts. Values above 0 favour "
        f"{losses[0]}."
    )
    drawn = as_json(
        figure,
        xaxis_title="number of updates",
        yaxis_title=f"gain in {label}{', ' + unit if unit else ''}",
    )
    return [Figure("by-length", "When does the difference vanish?", words, drawn)]


def _add_gains(
    figure: go.Figure,
    x: Sequence[float],
    differences: Sequence[Difference],
    *,
    which: int,
    other: str,
    at: Sequence[str],
) -> None:
    """Adds a line of differences from another loss, with their intervals."""
    figure.add_scatter(
        x=x,
        y=[d.mean for d in differences],
        name=f"against {other}",
        mode="lines+markers",
        **_style(which),
        hovertext=[
            f"{where}: {d.mean:+.3g} [{d.low:+.3g}, {d.high:+.3g}]"
            for where, d in zip(at, differences, strict=True)
        ],
        hoverinfo="text+name",
        error_y={"type": "data", "array": [d.high - d.mean for d in differences]},
    )


def _by_sigma(
    losses: Sequence[str], comparisons: Sequence[Comparison], sigmas: tuple[float, ...], metric: str
) -> Figure:
    figure = go.Figure()
    label, unit = METRICS[metric].label, METRICS[metric].unit
    apart = _DODGE * (sigmas[-1] - sigmas[0])
    for which, other in enumerate(losses[1:], 1):
        found = {
            c.sigmas: c.difference for c in comparisons if (c.other, c.metric) == (other, metric)
        }
        points = [found[sigma,] for sigma in sigmas]
        shifted = [sigma + apart * (which - len(losses) / 2) for sigma in sigmas]
        at = [f"sigma {sigma:g}" for sigma in sigmas]
        _add_gains(figure, shifted, points, which=which, other=other, at=at)
    figure.add_hline(y=0, line_width=1, line_dash="dot")
    figure.update_xaxes(tickvals=list(sigmas))
    return Figure(
        "by-sigma",
        "By noise level",
        f"Gain of {losses[0]} in {label} over each of the other losses at each noise level, with "
        "95 % intervals over photographs and seeds. The points are shifted sideways a little, so "
        f"that they do not hide each other. Values above 0 favour {losses[0]}.",
        as_json(
            figure,
            xaxis_title="noise level sigma (0 to 255)",
            yaxis_title=f"gain in {label}{', ' + unit if unit else ''}",
        ),
    )


def _learning(losses: Sequence[str], curves: Sequence[Curve]) -> Figure:
    figure = go.Figure()
    for which, loss in enumerate(losses):
        of_loss = [curve for curve in curves if curve.loss == loss]
        style = _style(which)
        for curve in of_loss:
            figure.add_scatter(
                x=list(curve.steps),
                y=list(curve.psnr),
                legendgroup=loss,
                showlegend=False,
                mode="lines",
                line={**style["line"], "width": 0.8},
                hovertext=f"{loss}, seed {curve.seed}",
            )
        steps = (
            sorted(set.intersection(*(set(curve.steps) for curve in of_loss))) if of_loss else []
        )
        by_step: dict[int, list[float]] = {step: [] for step in steps}
        for curve in of_loss:
            for step, psnr in zip(curve.steps, curve.psnr, strict=True):
                if step in by_step:
                    by_step[step].append(psnr)
        figure.add_scatter(
            x=steps,
            y=[float(np.mean(by_step[step])) for step in steps],
            name=loss,
            legendgroup=loss,
            mode="lines+markers",
            **style,
        )
    return Figure(
        "learning",
        "Learning curves",
        "PSNR on the validation photographs during training: a thin line for each seed, and a line "
        "with symbols for their mean. If the curves still rise at the end, the ranking may reflect "
        "when training was stopped, not the losses.",
        as_json(figure, xaxis_title="step", yaxis_title="PSNR on validation photographs, dB"),
    )


def _trade_off(
    losses: Sequence[str], scores: Sequence[ComparisonRow], sigmas: tuple[float, ...]
) -> Figure:
    figure = go.Figure()
    for which, loss in enumerate(losses):
        x, y = (
            score_table(scores, m, loss, sigmas).mean(axis=0)
            for m in ("brightness_error", "chroma_error")
        )
        marker = _style(which)["marker"]
        figure.add_scatter(x=x.tolist(), y=y.tolist(), name=loss, mode="markers", marker=marker)
        figure.add_scatter(
            x=[float(x.mean())],
            y=[float(y.mean())],
            mode="markers",
            showlegend=False,
            hovertext=f"{loss}, mean",
            marker={
                **marker,
                "size": 16,
                "symbol": f"{marker['symbol']}-open",
                "line": {"width": 2},
            },
        )
    return Figure(
        "trade-off",
        "Brightness and colour",
        "Mean brightness error (across) and mean chroma error (up): a point for each seed, and a "
        "large hollow one for their mean. Points nearer the lower left are better in both "
        "brightness and colour. Points further up and to the left are more accurate in "
        "brightness, but less accurate in colour.",
        as_json(
            figure,
            xaxis_title=METRICS["brightness_error"].label,
            yaxis_title=METRICS["chroma_error"].label,
        ),
    )


def _style(which: int) -> dict[str, dict[str, object]]:
    """Line and marker of a series: no two of the first six share a colour, a dash or a symbol."""
    colour = COLOURS[which % len(COLOURS)]
    return {
        "line": {"color": colour, "dash": DASHES[which % len(DASHES)], "width": 2},
        "marker": {"color": colour, "symbol": SYMBOLS[which % len(SYMBOLS)], "size": 8},
    }
