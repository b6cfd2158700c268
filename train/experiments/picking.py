"""Picks learning rate and clipping for each loss on validation photographs.

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
        rates[loss] = [(rate, None) for rate in config.learning_rates]
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
    levels = config.primary_sigmas if validation.inputs is None else ()
    sign = 1 if METRICS[config.primary].higher_is_better else -1
    trials = []
    for loss, of_loss in settings.items():
        trials += [Member(loss, config.fit.seed, *setting) for setting in of_loss]
    members.ensure_all_trained(trials)
    tried: dict[str, Tried] = {loss: {} for loss in settings}
    for member in trials:
        scored = members.train_and_score(
            member,
            validation,
            "validation",
            sigmas=config.levels,
            draws=config.draws,
            metrics=tuple(dict.fromkeys(["psnr", config.primary])),  # no other metric decides
        )
        rows = [row for row in scored if not levels or row.sigma in levels]
        values = [row.scores[config.primary] for row in rows]
        value = sign * math.fsum(values) / len(values) if values else -math.inf
        tried[member.loss][member.learning_rate, member.clip_norm] = value
    return tried


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
    about = METRICS[metric]
    sign, unit = (1 if about.higher_is_better else -1), f" {about.unit}" if about.unit else ""
    rows = []
    for (rate, clip), value in tried.items():
        score = f"{sign * value:.{about.digits + 1}f}{unit}"
        if math.isnan(value):
            score = "tried in an earlier comparison"
        rows.append(
            {
                "loss": loss,
                "learning rate": f"{rate:g}",
                "clip norm": "none" if clip is None else f"{clip:g}",
                f"{about.label} on validation photographs": "diverged"
                if value == -math.inf
                else score,
                "picked": "yes" if (rate, clip) == _best(tried) else "",
            }
        )
    return rows


def edge_warnings(config: CompareConfig, tried: Mapping[str, Tried]) -> list[str]:
    """Makes a sentence for each loss whose best learning rate lies at the edge of the grid."""
    if config.settings_from is not None:
        return []
    lowest, highest = min(config.learning_rates), max(config.learning_rates)
    if lowest == highest:
        return []
    warnings = []
    for loss, values in tried.items():
        rate, _ = pick(loss, values)
        if rate in (lowest, highest):
            warnings.append(
                f"{loss}: the learning rate that was picked, {rate:g}, lies at the edge of the "
                "grid. A wider range of --learning-rates may contain a better one."
            )
    return warnings


def seed_warnings(config: CompareConfig) -> list[str]:
    """Makes a sentence if settings were picked with a seed that is also compared, or elsewhere."""
    if config.settings_from is not None:
        return [
            f"learning rates and clipping are those that were picked in {config.settings_from}."
        ]
    if len(config.learning_rates) + len(config.clip_norms) < 2:
        return []
    return [
        f"settings were picked with seed {config.fit.seed}, which is also one of the seeds "
        "compared. Under every loss it may do a little better than a seed that was not used for "
        "picking."
    ]


def _all_diverged(tried: Tried) -> bool:
    return max(tried.values()) == -math.inf


def _best(tried: Tried) -> Setting:
    return max(tried, key=lambda setting: tried[setting])
