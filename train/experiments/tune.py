"""Searches with Optuna for the weight and window that suit these photographs best.

Each trial is a run of ``fit`` with one luminance loss, judged on validation photographs. A trial
that falls behind the median of the others at the same step is stopped. The best setting and the
default one are then trained again, from seeds that the search never used, and compared on the test
photographs as ``compare`` would. The best score of the search itself is the luckiest of many: it
says nothing about the next photograph, nor about the next seed.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from lumloss_jax import losses as library
from train.assembly import assemble
from train.console import make_console
from train.data.sources import Source
from train.data.splits import Splits, data_warnings, leak_warnings, pair_warnings
from train.errors import InputError
from train.experiments.folders import advise_repeating, open_folder, open_with_validation
from train.experiments.interim_looks import look_warnings, record_look
from train.experiments.networks.members import Member, Members
from train.experiments.report.page import describe_environment, write_page
from train.experiments.report.sensitivity import setting_figures
from train.experiments.report.wording import (
    describe_comparison,
    describe_other_metrics,
    explain_differences,
)
from train.experiments.search import finished, is_behind, next_batch, open_study
from train.experiments.statistics.conclusions import conclude
from train.experiments.tune_config import TuneConfig
from train.files.outputs import write_json, write_rows
from train.inference.scoring.metric_weights import check_weights
from train.inference.scoring.registry import METRICS
from train.inference.scoring.sizes import size_notes

DEFAULT = "luminance_l1"
_FEWEST_FOR_IMPORTANCE = 8


def tune(config: TuneConfig) -> Path:
    """Searches, compares the best setting with the default one, and returns the folder."""
    with contextlib.ExitStack() as held:
        return _tune(config, held)


def _tune(config: TuneConfig, held: contextlib.ExitStack) -> Path:
    console = make_console()
    began = time.monotonic()

    # --- errors in the input are found before anything is written or trained
    assemble(_member(DEFAULT, config).config(config.fit, Path()))
    check_weights(config.columns)
    splits, validation = open_with_validation(
        config.fit, "tune", flag="--objective", metrics=config.decisive
    )
    folder = open_folder(config, splits, "tune", held)
    console.print(advise_repeating(folder), soft_wrap=True)
    warnings = [*leak_warnings(splits), *pair_warnings(splits)]
    warnings += size_notes(config.columns, splits.test)
    for warning in data_warnings(splits, workers=config.fit.run.workers):
        console.print(f"warning: {warning}", soft_wrap=True)

    # --- search, on validation photographs
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(config, folder)
    fit = config.judged_fit
    members = Members(folder / "members", fit, console, population=config.population)
    search(study, config, members, validation, console)
    if not study.best_trials:
        raise InputError(
            f"All {config.trials} settings diverged at learning rate "
            f"{config.fit.optimizer.learning_rate:g}. Use a lower --learning-rate and a new folder."
        )
    best = best_settings(study)
    for setting, reached in best.items():
        scores = f"{setting}: {_describe_values(reached, config)}"
        console.print(f"best on validation photographs: {scores}", soft_wrap=True)

    # --- one look at the test photographs
    spec, against = choose(study, config)
    looks = []
    if spec:
        comparison = _against_default(spec, config, members, splits, folder)
        against = f"{against} {comparison}".strip()
        looks = record_look(folder, {"chosen": spec, "seeds": config.seeds})
    often = f"used {len(looks)} times so far" if len(looks) > 1 else "used once so far"
    console.print(f"on test photographs ({often}): {against}", soft_wrap=True)
    if spec:
        console.print(explain_differences(spec, "the default"), soft_wrap=True)
    described = []
    for look in looks:
        seeds = f"{look['seeds']} seed{'s' * (look['seeds'] > 1)}"
        described.append(f"{look['chosen']} and {seeds}")
    for note in look_warnings(described):
        console.print(f"note: {note}", soft_wrap=True)
        warnings.append(note)

    # --- the effect of each setting, as far as the search shows it
    shares = importances(study, config)
    figures = setting_figures(study, shares, config.decisive, spec)
    for figure in figures:
        console.print(f"{figure.title}: {figure.words}", soft_wrap=True)
    write_page(
        "sensitivity.html.jinja",
        folder / "sensitivity.html",
        against=against,
        chosen=spec,
        often=often,
        notes=warnings,
        trials=finished(study),
        figures=figures,
        best=list(best),
        versions=describe_environment(),
    )
    found = {
        "best": list(best),
        "importances": shares,
        "settings": config.settings(),
        "chosen": spec,
        "against_default": against,
        "looks": len(looks),
    }
    write_json(found, folder / "found.json")
    console.print(f"{len(finished(study))} trials in {time.monotonic() - began:.0f} s")
    for what, name in {"found": "found.json", "sensitivity": "sensitivity.html"}.items():
        console.print(f"{what:>11}  {folder / name}", soft_wrap=True)
    return folder


def search(
    study: optuna.Study, config: TuneConfig, members: Members, validation: Source, console: Console
) -> None:
    """Tries settings until there are as many trials as were asked for, including earlier ones.

    Args:
      study: the search so far, to which trials are added.
      config: what to search for.
      members: trains and scores networks.
      validation: the photographs to judge on.
      console: shows a line for each trial.
    """
    while (done := len(finished(study))) < config.trials:
        batch = next_batch(study, config)
        specs = [suggest(trial, config) for trial in batch]
        if config.population != "loop":
            members.ensure_all_trained([_member(spec, config) for spec in specs])
        for number, (trial, spec) in enumerate(zip(batch, specs, strict=True), done + 1):
            console.print(f"trial {number} of {config.trials}: {spec}", soft_wrap=True)
            values = _run(trial, spec, config, members, validation)
            state = TrialState.PRUNED if values is None else TrialState.COMPLETE
            study.tell(trial, values, state=state)
            if values is not None:
                console.print(f"  {_describe_values(values, config)}")
            elif members.diverged(_member(spec, config)):
                console.print("  diverged")
            else:
                console.print("  stopped early, because it fell behind the median")


def best_settings(study: optuna.Study) -> dict[str, Sequence[float]]:
    """The settings of the best trials with their values.

    Each setting is listed once, although the search may try it several times.
    """
    return {_loss_spec(trial): trial.values for trial in study.best_trials}


def choose(study: optuna.Study, config: TuneConfig) -> tuple[str, str]:
    """Chooses the setting to compare with the default on test photographs, and says how."""
    if config.pareto:
        best = best_settings(study)
        front = np.array(list(best.values()))
        ranges = np.maximum(np.ptp(front, axis=0), np.finfo(float).tiny)
        distances = np.linalg.norm((front - front.min(axis=0)) / ranges, axis=1)
        specs = [list(best)[i] for i in np.argsort(distances, kind="stable")]
        why = (
            f"This setting is the one of {len(specs)} on the Pareto front that is nearest to the "
            "point with the lowest value of each error. Each error is divided by its range on the "
            "front."
        )
        if len(specs) == 1:
            why = "This setting is the only one on the Pareto front."
    else:
        complete = study.get_trials(states=[TrialState.COMPLETE])
        highest_first = study.direction is StudyDirection.MAXIMIZE
        ranked = sorted(complete, key=lambda trial: trial.value, reverse=highest_first)
        specs, why = list(dict.fromkeys(map(_loss_spec, ranked))), ""
    default = str(library.parse_loss(DEFAULT))
    if specs == [default]:
        return "", "There is nothing to compare: the default setting is the best one."
    if specs[0] == default:
        why = "The default setting came first on validation photographs, and this one second."
        return specs[1], why
    return specs[0], why


def suggest(trial: optuna.Trial, config: TuneConfig) -> str:
    """Draws a trial's setting, and returns it as a loss spec."""
    trial.suggest_float("luminance_weight", *config.luminance_weights, step=0.05)
    trial.suggest_categorical("window_size", config.window_sizes)
    trial.suggest_categorical("penalty", config.penalties)
    trial.suggest_categorical("brightness", config.brightness)
    return _loss_spec(trial)


def _loss_spec(trial: optuna.Trial | FrozenTrial) -> str:
    """A trial's setting as a loss spec, ready for --loss."""
    options = dict(trial.params)
    weight = round(options.pop("luminance_weight"), 4)
    written = {"luminance_weight": weight, "color_weight": round(1 - weight, 4), **options}
    return str(
        library.parse_loss(
            f"luminance_l1({', '.join(f'{name}={value!r}' for name, value in written.items())})"
        )
    )


def _run(
    trial: optuna.Trial, spec: str, config: TuneConfig, members: Members, validation: Source
) -> list[float] | None:
    """Runs a trial; returns its values, or None if it diverged or was stopped early."""
    member, last = _member(spec, config), config.fit.optimizer.steps
    if config.pareto:
        is_trained = members.ensure_trained(member)
    else:
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        reported = dict(frozen.intermediate_values)

        def falls_behind(step: int, scores: Mapping[str, float]) -> bool:
            return is_behind(trial, {step: scores[config.objective]}, reported, last)

        # The network may have been validated already, before a kill or in an earlier trial of the
        # same setting.
        before = members.validations(member, config.objective)
        behind = is_behind(trial, before, reported, last)
        if behind and not members.is_trained(member):
            return None
        is_trained = members.ensure_trained(member, watch=falls_behind)
    if not is_trained:
        return None
    sigmas = (config.fit.data.sigma,)
    decisive = tuple(dict.fromkeys(["psnr", *config.decisive]))
    rows = members.train_and_score(
        member, validation, "validation", sigmas=sigmas, draws=1, metrics=decisive
    )
    if not rows:
        return None
    means = []
    for name in config.decisive:
        means.append(math.fsum(row.scores[name] for row in rows) / len(rows))
    return means


def _member(spec: str, config: TuneConfig, *, index: int = 0) -> Member:
    """The network of a setting, with the seed of the search or the ``index``-th one after it."""
    optimizer = config.fit.optimizer
    return Member(spec, config.fit.seed + index, optimizer.learning_rate, optimizer.clip_norm)


def _against_default(
    spec: str, config: TuneConfig, members: Members, splits: Splits, folder: Path
) -> str:
    """Compares a setting with the default one on the test photographs, in words.

    The search's own seed is not used: the setting was chosen because it did well with that seed.
    """
    sigmas = (config.fit.data.sigma,)
    default = str(library.parse_loss(DEFAULT))
    plan = []
    for i in range(1, config.seeds + 1):
        plan += [_member(loss, config, index=i) for loss in (spec, default)]
    members.ensure_all_trained(plan)
    scored = {}
    for member in plan:
        scored[member] = members.train_and_score(
            member, splits.test, "test", sigmas=sigmas, draws=1, metrics=config.columns
        )
    if diverged := [member for member, rows in scored.items() if not rows]:
        return (
            f"{diverged[0].loss} diverged with seed {diverged[0].seed}, so the two settings cannot "
            "be compared."
        )
    scores = list(itertools.chain(*scored.values()))
    write_rows(scores, folder / "scores.csv")
    comparisons = conclude(scores, (spec, default), primary=config.decisive[0])
    others = describe_other_metrics(comparisons[0], comparisons)
    return f"{describe_comparison(comparisons[0])} {others}"


def importances(study: optuna.Study, config: TuneConfig) -> dict[str, float]:
    """How much each setting matters, by PED-ANOVA (Watanabe et al. 2023).

    The shares add up to 1. With too few trials the result is {}.
    """
    complete = [trial for trial in finished(study) if trial.state is TrialState.COMPLETE]
    if len(complete) < _FEWEST_FOR_IMPORTANCE:
        return {}
    target: Callable[[FrozenTrial], float] | None = None
    if config.pareto:
        target = _sum_of_values
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)


def _sum_of_values(trial: FrozenTrial) -> float:
    return math.fsum(trial.values)


def _describe_values(values: Any, config: TuneConfig) -> str:
    described = []
    for name, value in zip(config.decisive, values, strict=True):
        metric = METRICS[name]
        described.append(f"{metric.label} {value:.4f}{' ' + metric.unit if metric.unit else ''}")
    return ", ".join(described)
