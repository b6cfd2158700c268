"""Learning rate and clipping for each loss, picked on validation photographs; what diverges is passed over."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from train.data.sources import Source
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.members import Member, Members
from train.experiments.scores import METRICS, Score

Setting = tuple[float, float | None]  # learning rate, norm to clip at
# Score on validation photographs, higher being better; of what diverged -inf
Tried = dict[Setting, float]


def try_settings(config: CompareConfig, members: Members, validation: Source) -> dict[str, Tried]:
    """Learning rates for every loss, then clipping at the best of them: the primary metric's mean under each."""
    tried: dict[str, Tried] = {loss: {} for loss in config.losses}
    levels = config.primary_sigmas if validation.inputs is None else ()
    sign = 1 if METRICS[config.primary].higher_is_better else -1

    def add(settings: Mapping[str, Sequence[Setting]]) -> None:
        trials = [
            Member(loss, config.fit.seed, *setting)
            for loss, held in settings.items()
            for setting in held
        ]
        members.train_all(trials)
        for member in trials:
            scored = members.score(member, validation, "validation", config.levels, config.draws)
            rows = [row for row in scored if not levels or row.sigma in levels]
            values = [getattr(row, config.primary) for row in rows]
            value = sign * math.fsum(values) / len(values) if values else -math.inf
            tried[member.loss][member.learning_rate, member.clip_norm] = value

    add({loss: [(rate, None) for rate in config.learning_rates] for loss in config.losses})
    # Where no rate does without it, clipping may be what is missing: at the lowest.
    rates = {
        loss: min(values)[0] if _all_diverged(values) else _best(values)[0]
        for loss, values in tried.items()
    }
    add({loss: [(rates[loss], clip) for clip in config.clip_norms] for loss in config.losses})
    return tried


def score_seeds(
    config: CompareConfig, members: Members, tried: Mapping[str, Tried], test: Source
) -> dict[Member, list[Score]]:
    """Every seed of every loss at the best that was tried, with its scores on the test photographs.

    Where another seed diverges at that setting, all seeds of the loss take the next best, and
    ``tried`` says so.
    """
    while True:
        picked = {loss: pick(loss, values) for loss, values in tried.items()}
        seeds = range(config.fit.seed, config.fit.seed + config.seeds)
        plan = [
            Member(loss, seed, *setting)
            for seed, (loss, setting) in itertools.product(seeds, picked.items())
        ]
        members.train_all(plan)
        scored = {m: members.score(m, test, "test", config.levels, config.draws) for m in plan}
        diverged = [member for member, rows in scored.items() if not rows]
        if not diverged:
            return scored
        for member in diverged:
            tried[member.loss][member.learning_rate, member.clip_norm] = -math.inf


def pick(loss: str, tried: Tried) -> Setting:
    """The best of what was tried."""
    if _all_diverged(tried):
        rates = ", ".join(f"{rate:g}" for rate in sorted({rate for rate, _ in tried}))
        raise InputError(
            f"{loss} diverged at every learning rate that was tried, {rates}: write to a new "
            "folder with lower --learning-rates."
        )
    return _best(tried)


def choice_rows(loss: str, tried: Tried, metric: str) -> list[dict[str, Any]]:
    """What was tried, for the report."""
    about = METRICS[metric]
    sign, unit = (1 if about.higher_is_better else -1), f" {about.unit}" if about.unit else ""
    return [
        {
            "loss": loss,
            "learning rate": f"{rate:g}",
            "clip norm": "none" if clip is None else f"{clip:g}",
            f"{about.label} on validation photographs": "diverged"
            if value == -math.inf
            else f"{sign * value:.{about.digits + 1}f}{unit}",
            "taken": "yes" if (rate, clip) == _best(tried) else "",
        }
        for (rate, clip), value in tried.items()
    ]


def edge_warnings(config: CompareConfig, tried: Mapping[str, Tried]) -> list[str]:
    """One sentence for each loss whose best learning rate lies at an end of the grid."""
    ends = (min(config.learning_rates), max(config.learning_rates))
    return [
        f"{loss}: learning rate {rate:g} was picked at the edge of the grid: a wider "
        "--learning-rates may find better."
        for loss, values in tried.items()
        if (rate := pick(loss, values)[0]) in ends and ends[0] < ends[1]
    ]


def seed_warnings(config: CompareConfig) -> list[str]:
    """One sentence if settings were picked with a seed that is also compared; else none."""
    if len(config.learning_rates) + len(config.clip_norms) < 2:
        return []
    return [
        f"settings were picked with seed {config.fit.seed}, which is also one of those compared: "
        "it may do a little better, under every loss, than a seed that nothing was picked with."
    ]


def _all_diverged(tried: Tried) -> bool:
    return max(tried.values()) == -math.inf


def _best(tried: Tried) -> Setting:
    return max(tried, key=lambda setting: tried[setting])
