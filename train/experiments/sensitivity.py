"""What a search found out about its settings, as a page: each setting against the score, and which of them matters."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna.trial import TrialState
from plotly.subplots import make_subplots

_COMPLETE, _PRUNED = "#0072b2", "#999999"


def write_sensitivity(
    study: optuna.Study, importances: Mapping[str, float], objectives: Sequence[str], path: Path
) -> None:
    """Writes a page that opens from disk, Plotly's script within.

    A row for each objective, a column for each setting; stopped trials are grey, at the last score they had. Settings
    carry their share of importance where there were trials enough to tell.
    """
    trials = [t for t in study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED]) if _values(t)]
    names = list(trials[0].params)
    titles = [f"{name}<br>importance {importances[name]:.0%}" if name in importances else name for name in names]
    figure = make_subplots(
        rows=len(objectives), cols=len(names), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03
    )
    for row, objective in enumerate(objectives):
        for column, name in enumerate(names):
            figure.add_trace(
                go.Scatter(
                    x=[_shown(t.params[name]) for t in trials],
                    y=[_values(t)[row] for t in trials],
                    mode="markers",
                    showlegend=False,
                    hovertext=[", ".join(f"{key}={value}" for key, value in t.params.items()) for t in trials],
                    marker={
                        "size": 9,
                        "opacity": 0.8,
                        "color": [_COMPLETE if t.state is TrialState.COMPLETE else _PRUNED for t in trials],
                    },
                ),
                row=row + 1,
                col=column + 1,
            )
            choices = {t.params[name] for t in trials}
            if not any(isinstance(choice, float) for choice in choices):
                order = [str(choice) for choice in sorted(choices)]
                figure.update_xaxes(
                    type="category", categoryorder="array", categoryarray=order, row=row + 1, col=column + 1
                )
        figure.update_yaxes(title_text=f"{objective} on validation photographs", row=row + 1, col=1)
    figure.update_layout(
        template="plotly_white",
        title=f"{len(trials)} trials; blue: trained to the end, grey: stopped early",
        height=200 + 320 * len(objectives),
    )
    temporary = path.with_suffix(".tmp")
    figure.write_html(temporary, include_plotlyjs=True)
    os.replace(temporary, path)


def _values(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    if trial.state is TrialState.COMPLETE:
        return trial.values
    reported = trial.intermediate_values
    return [reported[max(reported)]] if reported else []


def _shown(value: object) -> object:
    """Numbers to choose from stand side by side as names, not apart by their size."""
    return value if isinstance(value, float) else str(value)
