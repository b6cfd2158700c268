"""Which loss is better on these photographs: train the same network under each, from the same seeds, and compare.

Paired by construction: a seed fixes initial weights, patches, their noise and the number of steps,
whatever the loss. What a loss's scale acts on, learning rate and clipping, is picked for each loss
on validation photographs, with the first seed; the test photographs are looked at once, at the end.
Stopped, a comparison goes on where it was, and with more seeds it trains those that are missing.
"""

import contextlib
import itertools
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.assembly import assemble
from train.console import make_console
from train.data.sources import Source
from train.data.splits import leak_warnings
from train.experiments.compare_config import CompareConfig
from train.experiments.conclusions import alongside, conclude, headline
from train.experiments.crops import find_crops
from train.experiments.folders import open_folder, open_with_validation
from train.experiments.interim_looks import look_warnings, record_look
from train.experiments.members import NOISE_SEED, Member, Members
from train.experiments.page import describe_environment
from train.experiments.picking import (
    Tried,
    choice_rows,
    edge_warnings,
    score_seeds,
    seed_warnings,
    try_settings,
)
from train.experiments.report import Report, as_record, write_report
from train.experiments.scores import Score
from train.inference.scores import write_rows
from train.outputs import write_json

# Simulated with no true difference, 68 photographs and 3 seeds first, then as many seeds as the
# first look named: the second look adds 0.4 to 3 percentage points of false alarms.
_FALSE_ALARMS_OF_TWO_LOOKS = " (6 to 10 % of two looks, simulated)"


def compare(config: CompareConfig, command: str) -> Path:
    """Trains what is not trained yet, scores, concludes, writes the report; gives the comparison's folder."""
    with contextlib.ExitStack() as held:
        return _compare(config, command, held)


def _compare(config: CompareConfig, command: str, held: contextlib.ExitStack) -> Path:
    console = make_console()
    began = time.monotonic()

    # --- all that can be wrong with the input is found before anything is written or trained
    for loss in config.losses:
        assemble(
            Member(loss, config.fit.seed, config.learning_rates[0], None).config(config.fit, Path())
        )
    splits, validation = open_with_validation(config.fit, "compare")
    folder = open_folder(config, splits, "compare", held)
    again = f"the same flags and --out {shlex.quote(str(folder))}"
    console.print(f"{folder}: if it is stopped, {again} resume it", soft_wrap=True)
    notes = leak_warnings(splits) + noise_warnings(config, splits.test)
    for note in notes:
        console.print(f"warning: {note}", soft_wrap=True)
    members = Members(folder / "members", config.fit, console, config.population)

    # --- learning rate and clipping for each loss, on validation photographs; then every seed, on those of the test
    tried = try_settings(config, members, validation)
    scored = score_seeds(config, members, tried, splits.test)
    scores = list(itertools.chain(*scored.values()))
    write_rows(scores, folder / "scores.csv")

    # --- what may be said of it
    looks = [f"{seeds} seed{'s' * (seeds > 1)}" for seeds in record_look(folder, config.seeds)]
    notes += (
        edge_warnings(config, tried)
        + seed_warnings(config)
        + look_warnings(looks, simulated=_FALSE_ALARMS_OF_TWO_LOOKS)
    )
    report = _report(config, members, tried, scored, splits.test, notes, _without_out(command))
    write_json(
        [as_record(comparison) for comparison in report.comparisons], folder / "conclusions.json"
    )
    write_report(report, folder / "report.html")
    console.print(report.headline, soft_wrap=True)
    for comparison in report.comparisons[: len(config.losses) - 1]:
        console.print(
            f"- {comparison.sentence} {alongside(comparison, report.comparisons)}", soft_wrap=True
        )
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(report.cost, soft_wrap=True)
    console.print(f"{len(scored)} networks compared, {time.monotonic() - began:.0f} s")
    for what, name in {
        "report": "report.html",
        "scores": "scores.csv",
        "conclusions": "conclusions.json",
    }.items():
        console.print(f"{what:>11}  {folder / name}", soft_wrap=True)
    return folder


def _report(
    config: CompareConfig,
    members: Members,
    tried: Mapping[str, Tried],
    scored: Mapping[Member, Sequence[Score]],
    test: Source,
    notes: Sequence[str],
    command: str,
) -> Report:
    """All that the page says."""
    scores = list(itertools.chain(*scored.values()))
    # Photographs degraded in reality have none
    levels = config.primary_sigmas if test.inputs is None else ()
    conclusions = conclude(
        scores, config.losses, primary=config.primary, primary_sigmas=levels, margin=config.margin
    )
    curves = [members.curve(member) for member in scored]
    first = {
        member.loss: members.restorer(member) for member in scored if member.seed == config.fit.seed
    }
    trials = [
        Member(loss, config.fit.seed, *setting)
        for loss, values in tried.items()
        for setting in values
    ]
    middle = sorted(config.levels)[len(config.levels) // 2]
    return Report(
        title=f"{config.losses[0]} against {', '.join(config.losses[1:])}",
        headline=headline(conclusions, curves),
        notes=notes,
        losses=config.losses,
        comparisons=conclusions,
        scores=scores,
        curves=[curve for curve in curves if curve.steps],
        crops=find_crops(
            first, scores, test, sigma=middle, noise_seed=NOISE_SEED, count=config.crops
        ),
        choices=[
            row
            for loss, values in tried.items()
            for row in choice_rows(loss, values, config.primary)
        ],
        settings=config.settings(),
        versions=describe_environment(),
        command=command,
        cost=_cost(config, members, list(dict.fromkeys([*trials, *scored]))),
    )


def noise_warnings(config: CompareConfig, test: Source) -> list[str]:
    """One sentence if test noise differs from training noise, or flags of noise have no effect."""
    trained, blind = config.fit.data.sigma, config.fit.data.blind
    if test.inputs is not None:
        given = {
            "--sigmas": config.levels != (trained,),
            "--primary-sigmas": config.primary_sigmas != (),
            "--draws": config.draws > 1,
        }
        unused = ", ".join(flag for flag in given if given[flag])
        why = "these are degraded already, and are scored once, as they are"
        return [f"of no effect on the test photographs: {unused}; {why}."] if unused else []
    unknown = [s for s in sorted(config.levels) if s > trained or (s != trained and not blind)]
    if not unknown:
        return []
    at, judged = (
        f"up to sigma {trained:g}" if blind else f"at sigma {trained:g}",
        ", ".join(f"{s:g}" for s in unknown),
    )
    return [
        f"networks that are trained {at} are judged at {judged}, noise that they never met: take "
        f"--blind --sigma {max(*config.levels, trained):g} to train at every level up to that."
    ]


def _without_out(command: str) -> str:
    """The command without --out: its folder exists by now, and would only be continued."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(word)
    return shlex.join(kept)


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
