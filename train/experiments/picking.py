"""Picks the learning rate and the gradient clipping for each loss on validation photographs.

Settings with which a network diverged are never picked.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from train.data.sources import Source
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.networks.members import Member, Members
from train.experiments.statistics.comparison_table import ComparisonRow
from train.inference.scoring.registry import METRICS

Setting = tuple[float, float | None]  # learning rate, norm to clip at
# Score of each setting on validation photographs: higher is better, -inf if a network diverged.
Tried = dict[Setting, float]


def try_settings(config: CompareConfig, members: Members, validation: Source) -> dict[str, Tried]:
    """Tries learning rates for every loss, then clipping at the best rate.

    Args:
      config: the rates and norms to try, and the metric to judge by.
      members: trains and scores networks.
      validation: the photographs to judge on.

    Returns:
      For each loss the settings that were tried, with their scores.
    """
    rates: dict[str, list[Setting]] = {}
    for loss in config.losses:
        rates[loss] = [(rate, None) for rate in config.rates]
    tried = _try(config, members, validation, rates)

    clipped: dict[str, list[Setting]] = {}
    for loss, values in tried.items():
        # If every rate diverged, clipping may help: it is then tried at the lowest rate.
        rate, _ = min(values) if _all_diverged(values) else _best(values)
        clipped[loss] = [(rate, norm) for norm in config.clip_norms]
    with_clipping = _try(config, members, validation, clipped)
    return {loss: tried[loss] | with_clipping[loss] for loss in config.losses}


def _try(
    config: CompareConfig,
    members: Members,
    validation: Source,
    settings: Mapping[str, Sequence[Setting]],
) -> dict[str, Tried]:
    """Trains one network with each setting, and returns each one's mean of the primary metric."""
    sign = 1 if METRICS[config.primary].higher_is_better else -1
    trials = []
    for loss, of_loss in settings.items():
        trials += [Member(loss, config.fit.seed, *setting) for setting in of_loss]
    members.ensure_all_trained(trials)
    tried: dict[str, Tried] = {loss: {} for loss in settings}
    for member in trials:
        rows = members.train_and_score(
            member,
            validation,
            "validation",
            sigmas=config.levels,
            draws=config.draws,
            metrics=tuple(dict.fromkeys(["psnr", config.primary])),  # no other metric decides
        )
        value = sign * mean_score(config, rows, validation) if rows else -math.inf
        tried[member.loss][member.learning_rate, member.clip_norm] = value
    return tried


def mean_score(config: CompareConfig, rows: Sequence[ComparisonRow], validation: Source) -> float:
    """Averages the primary metric over validation photographs, at the levels that decide.

    Args:
      config: the comparison.
      rows: scores of one network.
      validation: the photographs.

    Returns:
      The mean.
    """
    levels = config.primary_sigmas if validation.inputs is None else ()
    chosen = [row for row in rows if not levels or row.sigma in levels]
    return math.fsum(row.scores[config.primary] for row in chosen) / len(chosen)


def score_seeds(
    config: CompareConfig, members: Members, tried: Mapping[str, Tried], test: Source
) -> tuple[dict[Member, list[ComparisonRow]], dict[str, Tried]]:
    """Trains and scores every seed of every loss at the best setting that was tried.

    If any seed diverges at that setting, all seeds of the loss use the next best one.

    Args:
      config: the losses and seeds.
      members: trains and scores networks.
      tried: what :func:`try_settings` returned.
      test: the photographs to score.

    Returns:
      Scores of each network, and ``tried`` with -inf for settings that diverged here.

    Raises:
      InputError: if every setting of a loss diverged.
    """
    tried = {loss: dict(values) for loss, values in tried.items()}
    while True:
        picked = {loss: pick(loss, values) for loss, values in tried.items()}
        seeds = range(config.fit.seed, config.fit.seed + config.seeds)
        plan = []
        for seed, (loss, setting) in itertools.product(seeds, picked.items()):
            plan.append(Member(loss, seed, *setting))
        members.ensure_all_trained(plan)
        scored = {}
        for member in plan:
            scored[member] = members.train_and_score(
                member,
                test,
                "test",
                sigmas=config.levels,
                draws=config.draws,
                metrics=config.columns,
            )
        diverged = [member for member, rows in scored.items() if not rows]
        if not diverged:
            return scored, tried
        for member in diverged:
            tried[member.loss][member.learning_rate, member.clip_norm] = -math.inf


def pick(loss: str, tried: Tried) -> Setting:
    """Returns the best setting that was tried; raises an InputError if all diverged."""
    if _all_diverged(tried):
        rates = sorted({rate for rate, _ in tried})
        listed = ", ".join(f"{rate:g}" for rate in rates)
        raise InputError(
            f"{loss} diverged at every learning rate that was tried ({listed}). Use lower "
            "--learning-rates and a new folder."
        )
    return _best(tried)


def choice_rows(loss: str, tried: Tried, metric: str) -> list[dict[str, Any]]:
    """Makes the rows of one loss for the report's table of settings that were tried.

    Args:
      loss: the loss.
      tried: its settings with their scores.
      metric: the metric of the scores.

    Returns:
      A row for each setting: its cells by the headings of their columns.
    """
    sign = 1 if METRICS[metric].higher_is_better else -1
    rows = []
    for (rate, clip), value in tried.items():
        score = "diverged" if value == -math.inf else _describe_score(sign * value, metric)
        clipping = "none" if clip is None else f"{clip:g}"
        picked = (rate, clip) == _best(tried)
        rows.append(_choice_row(loss, f"{rate:g}", clipping, score, metric, picked=picked))
    return rows


def start_row(name: str, score: float, metric: str) -> dict[str, Any]:
    """Makes the row of a network before it is fine-tuned, for the same table.

    Args:
      name: what stands instead of a loss.
      score: its score.
      metric: the metric of the score.

    Returns:
      Its cells, as in :func:`choice_rows`.
    """
    return _choice_row(name, "", "", _describe_score(score, metric), metric, picked=False)


def _describe_score(score: float, metric: str) -> str:
    about = METRICS[metric]
    if math.isnan(score):
        return "tried in an earlier comparison"
    return f"{score:.{about.digits + 1}f}{f' {about.unit}' if about.unit else ''}"


def _choice_row(
    loss: str, rate: str, clipping: str, score: str, metric: str, *, picked: bool
) -> dict[str, Any]:
    return {
        "loss": loss,
        "learning rate": rate,
        "clip norm": clipping,
        f"{METRICS[metric].label} on validation photographs": score,
        "picked": "yes" if picked else "",
    }


def edge_warnings(config: CompareConfig, tried: Mapping[str, Tried]) -> list[str]:
    """Makes a sentence for each rate at the edge of the grid that was picked for some losses."""
    if config.settings_from is not None:
        return []
    grid = sorted(set(config.rates))
    if len(grid) == 1:
        return []
    where = dict.fromkeys((grid[0], grid[-1]), "lies at the edge of the grid")
    if len(grid) == 2:  # then any rate is at an edge
        where = {grid[0]: "is the lower of only two", grid[1]: "is the higher of only two"}
    losses: dict[float, list[str]] = {}
    for loss, values in tried.items():
        rate, _ = pick(loss, values)
        if rate in where:
            losses.setdefault(rate, []).append(loss)
    return [
        f"{', '.join(of_rate)}: the learning rate that was picked, {rate:g}, "
        f"{where[rate]}. A wider range of --learning-rates may contain a better one."
        for rate, of_rate in losses.items()
    ]


def seed_warnings(config: CompareConfig) -> list[str]:
    """Makes a sentence if settings were picked with a seed that is also compared, or elsewhere."""
    if config.settings_from is not None:
        return [
            "the learning rates and the gradient clipping are those that were picked in "
            f"{config.settings_from}."
        ]
    if len(config.rates) + len(config.clip_norms) < 2:
        return []
    return [
        f"settings were picked with seed {config.fit.seed}, which is also one of the seeds "
        "compared. With every loss, this seed may do a little better than a seed that was not used "
        "for picking."
    ]


def _all_diverged(tried: Tried) -> bool:
    return max(tried.values()) == -math.inf


def _best(tried: Tried) -> Setting:
    return max(tried, key=lambda setting: tried[setting])
