"""Which weight and window suit these photographs: a search with Optuna, then one honest look at what it found.

Each trial is a run of ``fit`` under one luminance loss, judged on validation photographs; one that falls behind the
median of the others at the same step is stopped. The best setting is then trained again from several seeds beside the
default one, and the two are compared on the test photographs as ``compare`` would: the search's own best score is the
luckiest of many and says nothing about the next photograph.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from lumloss_jax import losses as library
from train.data.sources import Source
from train.data.splits import Splits
from train.experiments.conclusions import conclude
from train.experiments.folders import open_folder, open_with_validation, write_json
from train.experiments.members import Member, Members
from train.experiments.scores import write_scores
from train.experiments.sensitivity import write_sensitivity
from train.experiments.tune_config import TuneConfig

DEFAULT = "luminance_l1"
_FRONT = ("brightness_error", "chroma_error")
_FEWEST_FOR_IMPORTANCE = 8
_SETTINGS = ("luminance_weight", "window_size", "penalty", "brightness")


def tune(config: TuneConfig) -> Path:
    """Searches, takes the best setting, compares it with the default on test photographs; gives the folder."""
    console = Console()
    began = time.monotonic()

    # --- all that can be wrong with the input is found before anything is written or trained
    splits, validation = open_with_validation(config.fit, "tune")
    folder = open_folder(config, config.fit.run.out, "tune")
    console.print(f"{folder}: stopped, it goes on with the same flags and --out {folder}", soft_wrap=True)

    # --- search
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _open_study(config, folder)
    members = Members(folder / "members", config.fit, console, config.population)
    while (done := len(_finished(study))) < config.trials:
        asked = [study.ask() for _ in range(min(config.batch, config.trials - done))]
        specs = [suggest(trial, config) for trial in asked]
        if config.population != "loop":
            members.train_all([_member(spec, config) for spec in specs])
        for number, (trial, spec) in enumerate(zip(asked, specs, strict=True), done + 1):
            console.print(f"trial {number} of {config.trials}: {spec}", soft_wrap=True)
            values = _run(trial, spec, config, members, validation)
            study.tell(trial, values, state=TrialState.PRUNED if values is None else TrialState.COMPLETE)
            console.print("  behind the median: stopped" if values is None else f"  {_words(values, config)}")

    # --- what it found
    best = [_spec_of(trial) for trial in study.best_trials]
    shares = importances(study, config)
    write_sensitivity(study, shares, _names(config), folder / "sensitivity.html")
    found: dict[str, Any] = {"best": best, "importances": shares, "settings": dataclasses.asdict(config)}
    for trial, spec in zip(study.best_trials, best, strict=True):
        console.print(f"best on validation photographs: {spec}: {_words(trial.values, config)}", soft_wrap=True)
    if not config.pareto and best[0] != str(library.parse_loss(DEFAULT)):
        found["against_default"] = _against_default(best[0], config, members, splits, folder)
        console.print(f"on test photographs, once: {found['against_default']}", soft_wrap=True)
    write_json(found, folder / "found.json")
    console.print(f"{len(_finished(study))} trials, {time.monotonic() - began:.0f} s")
    for what, name in {"found": "found.json", "sensitivity": "sensitivity.html"}.items():
        console.print(f"{what:>11}  {folder / name}", soft_wrap=True)
    return folder


def _open_study(config: TuneConfig, folder: Path) -> optuna.Study:
    """The search so far; a trial that was being run when it was stopped does not count."""
    directions = ["minimize"] * 2 if config.pareto else ["minimize" if config.objective == "ciede2000" else "maximize"]
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "trials.log")))
    study = optuna.create_study(
        storage=storage,
        study_name="tune",
        directions=directions,
        load_if_exists=True,
        pruner=optuna.pruners.NopPruner() if config.pareto else optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    # What a seed draws goes on from the number of trials: a search that was stopped does not try the same again.
    study.sampler = optuna.samplers.TPESampler(
        seed=config.fit.seed + len(study.trials), multivariate=True, constant_liar=config.batch > 1
    )
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        if len(trial.params) == len(_SETTINGS):  # asked for again: what it had trained is gone on with
            study.enqueue_trial(trial.params)
    return study


def suggest(trial: optuna.Trial, config: TuneConfig) -> str:
    """Draws a trial's setting; gives it as a loss spec."""
    trial.suggest_float("luminance_weight", *config.luminance_weights, step=0.05)
    trial.suggest_categorical("window_size", config.window_sizes)
    trial.suggest_categorical("penalty", config.penalties)
    trial.suggest_categorical("brightness", config.brightness)
    return _spec_of(trial)


def _spec_of(trial: optuna.Trial | FrozenTrial) -> str:
    """A trial's setting as a loss spec, ready for --loss."""
    options = dict(trial.params)
    weight = round(options.pop("luminance_weight"), 4)
    written = {"luminance_weight": weight, "color_weight": round(1 - weight, 4), **options}
    return str(library.parse_loss(f"luminance_l1({', '.join(f'{name}={value!r}' for name, value in written.items())})"))


def _run(
    trial: optuna.Trial, spec: str, config: TuneConfig, members: Members, validation: Source
) -> list[float] | None:
    """The trial's values, or None where it was stopped for falling behind."""

    def falls_behind(step: int, scores: dict[str, float]) -> bool:
        trial.report(scores[config.objective], step)
        return step < config.fit.optimizer.steps and trial.should_prune()

    member = _member(spec, config)
    if not members.train(member, None if config.pareto else falls_behind):
        return None
    rows = members.score(member, validation, "validation", (config.fit.data.sigma,), draws=1)
    names = _FRONT if config.pareto else (config.objective,)
    return [math.fsum(getattr(row, name) for row in rows) / len(rows) for name in names]


def _member(spec: str, config: TuneConfig, index: int = 0) -> Member:
    """The network of a setting, from the search's seed or the ``index``-th after it."""
    optimizer = config.fit.optimizer
    return Member(spec, config.fit.seed + index, optimizer.learning_rate, optimizer.clip_norm)


def _against_default(spec: str, config: TuneConfig, members: Members, splits: Splits, folder: Path) -> str:
    """The best setting against the default one on the test photographs, in words."""
    sigmas = (config.fit.data.sigma,)
    default = str(library.parse_loss(DEFAULT))
    plan = [_member(loss, config, i) for i in range(config.seeds) for loss in (spec, default)]
    members.train_all(plan)
    scores = [row for member in plan for row in members.score(member, splits.test, "test", sigmas, draws=1)]
    write_scores(scores, folder / "scores.csv")
    return conclude(scores, (spec, default), primary=config.objective)[0].sentence


def importances(study: optuna.Study, config: TuneConfig) -> dict[str, float]:
    """Which setting matters, by PED-ANOVA (Watanabe et al. 2023); empty where trials are too few to say."""
    complete = [trial for trial in _finished(study) if trial.state is TrialState.COMPLETE]
    if len(complete) < _FEWEST_FOR_IMPORTANCE:
        return {}
    target: Callable[[FrozenTrial], float] | None = None
    if config.pareto:
        target = _sum_of_values
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)


def _sum_of_values(trial: FrozenTrial) -> float:
    return math.fsum(trial.values)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])


def _names(config: TuneConfig) -> tuple[str, ...]:
    return _FRONT if config.pareto else (config.objective,)


def _words(values: Any, config: TuneConfig) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in zip(_names(config), values, strict=True))
