"""Shows what a search found out about its settings: a figure for each, and whether it matters."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import optuna
import plotly.graph_objects as go
import scipy.stats
from optuna.trial import FrozenTrial, TrialState
from plotly.subplots import make_subplots

from train.experiments.report.page import COLOURS, QUIET, SYMBOLS, Figure, as_json
from train.inference.scoring.registry import METRICS

_FEWEST = 8  # complete trials that are needed to say whether a setting matters
_THIRDS = ("the low third", "the middle third", "the high third")
_ALPHA = 0.05


def setting_figures(
    study: optuna.Study, importances: Mapping[str, float], objectives: Sequence[str], chosen: str
) -> list[Figure]:
    """Draws a figure for each setting; with two objectives, their Pareto front comes first.

    Args:
      study: the search.
      importances: importance of each setting, by name.
      objectives: names of the metrics; each has a row in every figure.
      chosen: the setting that was compared with the default.

    Returns:
      The figures.
    """
    trials = [
        t for t in study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED]) if _values(t)
    ]
    figures = [_front(study, objectives, chosen)] if len(objectives) > 1 else []
    return figures + [_setting(name, trials, importances, objectives) for name in trials[0].params]


def describe_effect(
    name: str, trials: Sequence[FrozenTrial], importances: Mapping[str, float], objective: int
) -> str:
    """Says whether a setting matters, as far as complete trials show it.

    The search prefers values that did well before, and may try the same settings again, with the
    same score. Each combination therefore counts once, and p describes what was found; it does not
    test anything.

    Args:
      name: the setting.
      trials: the trials of the search.
      importances: importance of each setting, by name.
      objective: index of the trial's value that counts.

    Returns:
      A sentence or two.
    """
    complete = _each_once(trial for trial in trials if trial.state is TrialState.COMPLETE)
    levels: dict[str, list[float]] = defaultdict(list)
    rows = [
        (t.params[name], level, t.values)
        for t, level in zip(complete, _levels(name, complete), strict=True)
    ]
    for _, level, values in sorted(rows):
        levels[level].append(values[objective])
    if len(complete) < _FEWEST or len(levels) < 2:
        only = "Only " if len(complete) < _FEWEST else ""
        return (
            f"There are too few trials to say whether {name} matters. {only}{len(complete)} "
            "different combinations of settings were trained to the end. At least "
            f"{_FEWEST} are needed, with two or more values of {name}."
        )
    means = {level: float(np.mean(values)) for level, values in levels.items()}
    spread = max(means.values()) - min(means.values())
    tied = len(set(itertools.chain(*levels.values()))) == 1
    p = 1.0 if tied else float(scipy.stats.kruskal(*levels.values()).pvalue)
    listed = [f"{mean:.4g} for {level} (n = {len(levels[level])})" for level, mean in means.items()]
    matters = "It seems to matter here" if p < _ALPHA else "There is no sign that it matters here"
    sentences = [
        f"{matters} (Kruskal-Wallis p = {p:.2g}, which is only descriptive, since the search chose "
        "what to try).",
        f"The means differ by up to {spread:.2g}: they are {', '.join(listed)}.",
    ]
    if name in importances:
        share = 100 * importances[name]
        sentences.append(f"PED-ANOVA gives it {share:.0f} % of the importance.")
    return " ".join(sentences)


def _each_once(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """One trial for each combination of settings."""
    return list({tuple(sorted(trial.params.items())): trial for trial in trials}.values())


def _setting(
    name: str,
    trials: Sequence[FrozenTrial],
    importances: Mapping[str, float],
    objectives: Sequence[str],
) -> Figure:
    figure = make_subplots(rows=len(objectives), shared_xaxes=True)
    for row, objective in enumerate(objectives, 1):
        for which, (state, label) in enumerate(
            {TrialState.COMPLETE: "trained to the end", TrialState.PRUNED: "stopped early"}.items()
        ):
            shown = [t for t in trials if t.state is state]
            figure.add_scatter(
                x=[_shown(t.params[name]) for t in shown],
                y=[_values(t)[row - 1] for t in shown],
                name=label,
                legendgroup=label,
                showlegend=row == 1,
                mode="markers",
                hovertext=list(map(_describe_settings, shown)),
                marker={
                    "size": 9,
                    "color": (COLOURS[0], QUIET)[which],
                    "symbol": (SYMBOLS[0], "x-thin-open")[which],
                },
                row=row,
                col=1,
            )
        figure.update_yaxes(title_text=METRICS[objective].title, row=row, col=1)
    choices = {trial.params[name] for trial in trials}
    if not any(isinstance(choice, float) for choice in choices):
        order = [str(choice) for choice in sorted(choices)]
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_xaxes(title_text=name, row=len(objectives), col=1)
    words = " ".join(
        f"{METRICS[objective].label}: {describe_effect(name, trials, importances, i)}"
        for i, objective in enumerate(objectives)
    )
    return Figure(
        name.replace("_", "-"), name, words, as_json(figure), height=120 + 240 * len(objectives)
    )


def _front(study: optuna.Study, objectives: Sequence[str], chosen: str) -> Figure:
    """Draws all settings by both errors, with a line through the Pareto front."""
    figure = go.Figure()
    best = sorted(study.best_trials, key=lambda trial: trial.values)
    others = [
        trial for trial in study.get_trials(states=[TrialState.COMPLETE]) if trial not in best
    ]
    for name, trials, style in (
        (
            "others",
            others,
            {"mode": "markers", "marker": {"color": QUIET, "symbol": SYMBOLS[4], "size": 7}},
        ),
        (
            "Pareto front",
            best,
            {"mode": "lines+markers", "marker": {"color": COLOURS[0], "size": 9}},
        ),
    ):
        figure.add_scatter(
            x=[trial.values[0] for trial in trials],
            y=[trial.values[1] for trial in trials],
            name=name,
            hovertext=list(map(_describe_settings, trials)),
            line={"color": COLOURS[0], "shape": "hv"},
            **style,
        )
    compared = f"The setting that was compared with the default on test photographs is {chosen}."
    if not chosen:
        compared = "No setting was compared with the default on test photographs."
    labels = [METRICS[objective].label for objective in objectives]
    words = (
        f"Each point is a setting, with its {labels[0]} and {labels[1]} on validation "
        "photographs. Points nearer the lower left are better in both. No setting that was "
        f"tried is better in both errors than any of the {len(best)} on the line. {compared}"
    )
    titles = [METRICS[objective].title for objective in objectives]
    axes = {"xaxis_title": titles[0], "yaxis_title": titles[1]}
    return Figure("front", "Brightness and colour", words, as_json(figure, **axes))


def _levels(name: str, trials: Sequence[FrozenTrial]) -> list[str]:
    """Each trial's value of a setting as a level.

    Continuous values are grouped into thirds of the range that was searched.
    """
    values = [trial.params[name] for trial in trials]
    if not any(isinstance(value, float) for value in values):
        return list(map(str, values))
    space = trials[0].distributions[name]
    cuts = np.linspace(space.low, space.high, len(_THIRDS) + 1)[1:-1]
    return [_THIRDS[int(i)] for i in np.searchsorted(cuts, values)]


def _describe_settings(trial: FrozenTrial) -> str:
    return ", ".join(f"{key}={value}" for key, value in trial.params.items())


def _values(trial: FrozenTrial) -> Sequence[float]:
    if trial.state is TrialState.COMPLETE:
        return trial.values
    reported = trial.intermediate_values
    return [reported[max(reported)]] if reported else []


def _shown(value: object) -> object:
    """A value for the axis: discrete numbers become names, so that they are equally spaced."""
    return value if isinstance(value, float) else str(value)
