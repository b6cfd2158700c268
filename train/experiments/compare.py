"""Which loss is better on these photographs: train the same network under each, from the same seeds, and compare.

Paired by construction: a seed fixes initial weights, patches, their noise and the number of steps, whatever the loss.
What a loss's scale acts on, learning rate and clipping, is picked for each loss on validation photographs, with the
first seed; the test photographs are looked at once, at the end. Stopped, a comparison goes on where it was.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from train.assembly import assemble
from train.data.sources import Source
from train.experiments.compare_config import CompareConfig
from train.experiments.conclusions import Comparison, conclude, still_learning
from train.experiments.crops import find_crops
from train.experiments.folders import open_folder, open_with_validation, write_json
from train.experiments.members import NOISE_SEED, Member, Members
from train.experiments.report import Curve, Report, as_record, write_report
from train.experiments.scores import write_scores

_Setting = tuple[float, float | None]  # learning rate, norm to clip at
_Tried = dict[_Setting, float]  # PSNR on validation photographs

_VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy", "lumloss-jax")


def compare(config: CompareConfig, command: str) -> Path:
    """Trains what is not trained yet, scores, concludes, writes the report; gives the comparison's folder."""
    console = Console()
    began = time.monotonic()

    # --- all that can be wrong with the input is found before anything is written or trained
    for loss in config.losses:
        assemble(Member(loss, config.fit.seed, config.learning_rates[0], None).config(config.fit, Path()))
    splits, validation = open_with_validation(config.fit, "compare")
    folder = open_folder(config, config.fit.run.out, "compare")
    console.print(f"{folder}: stopped, it goes on with the same flags and --out {folder}", soft_wrap=True)
    members = Members(folder / "members", config.fit, console, config.population)

    # --- learning rate and clipping for each loss, on validation photographs
    tried = _try(config, members, validation)
    picked = {loss: _best(values) for loss, values in tried.items()}
    choices = [row for loss, values in tried.items() for row in _rows(loss, values)]

    # --- every seed of every loss, scored on the test photographs
    plan = [Member(loss, config.fit.seed + i, *picked[loss]) for i in range(config.seeds) for loss in config.losses]
    members.train_all(plan)
    scores = [row for m in plan for row in members.score(m, splits.test, "test", config.sigmas, config.draws)]
    write_scores(scores, folder / "scores.csv")

    # --- what may be said of it
    conclusions = conclude(scores, config.losses)
    curves = [members.curve(member) for member in plan]
    headline = _headline(conclusions, [_gain_of_last_quarter(curve) for curve in curves])
    write_json([as_record(comparison) for comparison in conclusions], folder / "conclusions.json")
    first = {member.loss: members.predictor(member) for member in plan if member.seed == config.fit.seed}
    trials = [Member(loss, config.fit.seed, *setting) for loss, values in tried.items() for setting in values]
    cost = _cost(config, members, list(dict.fromkeys([*trials, *plan])))
    middle = sorted(config.sigmas)[len(config.sigmas) // 2]
    report = Report(
        title=f"{config.losses[0]} against {', '.join(config.losses[1:])}",
        headline=headline,
        losses=config.losses,
        comparisons=conclusions,
        scores=scores,
        curves=[curve for curve in curves if curve.steps],
        crops=find_crops(first, scores, splits.test, sigma=middle, noise_seed=NOISE_SEED, count=config.crops),
        choices=choices,
        settings=dataclasses.asdict(config),
        versions={name: metadata.version(name) for name in _VERSIONED},
        command=command,
        cost=cost,
    )
    write_report(report, folder / "report.html")
    console.print(headline, soft_wrap=True)
    for comparison in conclusions[: len(config.losses) - 1]:
        console.print(f"- {comparison.sentence}", soft_wrap=True)
    console.print(cost, soft_wrap=True)
    console.print(f"{len(plan)} networks compared, {time.monotonic() - began:.0f} s")
    for what, name in {"report": "report.html", "scores": "scores.csv", "conclusions": "conclusions.json"}.items():
        console.print(f"{what:>11}  {folder / name}", soft_wrap=True)
    return folder


def _try(config: CompareConfig, members: Members, validation: Source) -> dict[str, _Tried]:
    """Learning rates for every loss, then clipping at the best of them: mean PSNR on validation photographs of each."""
    tried: dict[str, _Tried] = {loss: {} for loss in config.losses}

    def add(settings: Mapping[str, Sequence[_Setting]]) -> None:
        trials = [Member(loss, config.fit.seed, *setting) for loss, held in settings.items() for setting in held]
        members.train_all(trials)
        for member in trials:
            rows = members.score(member, validation, "validation", config.sigmas, config.draws)
            value = sum(row.psnr for row in rows) / len(rows)
            tried[member.loss][member.learning_rate, member.clip_norm] = value

    add({loss: [(rate, None) for rate in config.learning_rates] for loss in config.losses})
    add({loss: [(_best(values)[0], clip) for clip in config.clip_norms] for loss, values in tried.items()})
    return tried


def _best(tried: _Tried) -> _Setting:
    return max(tried, key=lambda setting: tried[setting])


def _rows(loss: str, tried: _Tried) -> list[dict[str, Any]]:
    """What was tried, for the report."""
    return [
        {
            "loss": loss,
            "learning rate": f"{rate:g}",
            "clip norm": "none" if clip is None else f"{clip:g}",
            "PSNR on validation photographs": f"{value:.3f} dB",
            "taken": "yes" if (rate, clip) == _best(tried) else "",
        }
        for (rate, clip), value in tried.items()
    ]


def _cost(config: CompareConfig, members: Members, all_members: Sequence[Member]) -> str:
    """What was measured of the training, in a sentence; it is compared with nothing."""
    seconds, steps = members.cost(all_members)
    ways = {
        "loop": "one after the other (loop)",
        "vmap": "at once on one device (vmap)",
        "mesh": "at once, divided over devices (mesh)",
    }
    trained = f"{len(all_members)} networks were trained {ways[config.population]}"
    if not steps:  # by an earlier version
        return f"{trained}; what it took was not measured."
    took = f"{seconds:.0f} s in all, {1000 * seconds / steps:.1f} ms for each step of each network"
    return f"{trained}: {took}, compilation, validation and saving included."


def _headline(conclusions: Sequence[Comparison], gains: Sequence[float]) -> str:
    """The page's first sentence; networks that were still learning are not judged as if they had learned."""
    if any(map(still_learning, gains)):
        early = "Early training only: the networks were still learning. "
    elif any(map(math.isnan, gains)):
        early = "Early training, as far as is known: nobody validated before the last quarter of it. "
    else:
        early = ""
    primary = [comparison for comparison in conclusions if comparison.adjusted_p is not None]
    texts = {
        "better": "better than",
        "worse": "worse than",
        "cannot tell": "cannot be told from",
        "no verdict": "no verdict against",
    }
    parts = []
    for outcome, text in texts.items():
        others = [comparison.other for comparison in primary if comparison.outcome == outcome]
        if others:
            parts.append(f"{text} {', '.join(others)}")
    return f"{early}{primary[0].candidate}: {'; '.join(parts)}."


def _gain_of_last_quarter(curve: Curve) -> float:
    """How much validation PSNR rose after three quarters of the training; NaN where it was not looked at by then."""
    before = [psnr for step, psnr in zip(curve.steps, curve.psnr, strict=True) if step <= 0.75 * curve.steps[-1]]
    return curve.psnr[-1] - before[-1] if before else math.nan
