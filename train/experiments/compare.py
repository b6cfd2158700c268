"""Finds out which loss is better on these photographs, by training the same network with each.

The comparison is paired by construction: a seed fixes the initial weights, the patches, their noise
and the number of steps, whatever the loss is. The right learning rate and clipping depend on the
scale of a loss, so they are picked for each loss on validation photographs, with the first seed.
The test photographs are scored once, at the end. A comparison that was interrupted continues where
it stopped. With more seeds, only the missing ones are trained.
"""

import contextlib
import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from train.assembly import assemble
from train.console import make_console
from train.data.sources import Source
from train.data.splits import data_warnings, leak_warnings, pair_warnings
from train.experiments.baselines import (
    check_baselines,
    describe_baselines,
    score_baselines,
    time_network,
)
from train.experiments.compare_config import CompareConfig
from train.experiments.earlier_settings import earlier_settings, keep_picked, save_picked
from train.experiments.fine_tuning import (
    describe_fine_tuning,
    fine_tuned_from,
)
from train.experiments.folders import advise_repeating, open_folder, open_with_validation
from train.experiments.interim_looks import look_warnings, record_look
from train.experiments.networks.members import NOISE_SEED, Member
from train.experiments.networks.starts import open_starts, start_warnings
from train.experiments.people import ask_people
from train.experiments.picking import (
    choice_rows,
    edge_warnings,
    seed_warnings,
    start_row,
)
from train.experiments.report.crops import find_crops
from train.experiments.report.page import describe_environment
from train.experiments.report.report import Report, as_record, write_report
from train.experiments.report.wording import (
    describe_changes,
    describe_comparison,
    describe_other_metrics,
    explain_differences,
    headline,
)
from train.experiments.results import Results, train_and_score
from train.experiments.statistics.conclusions import (
    START,
    Comparison,
    changes_from_start,
    conclude,
)
from train.experiments.statistics.convergence import (
    convergence_warning,
    lengths_warning,
    rises_between,
)
from train.files.outputs import write_json, write_rows
from train.inference.scoring.metric_weights import check_weights
from train.inference.scoring.sizes import size_notes
from train.inference.scoring.timing import Stopwatch

# Simulated with no true difference and 68 photographs, with 3 seeds at the first look and as many
# as it suggested at the second. The second look adds 0.4 to 3 percentage points of false alarms.
_FALSE_ALARMS_OF_TWO_LOOKS = " (6 to 10 % for two looks, in a simulation)"


def compare(config: CompareConfig, command: str) -> Path:
    """Trains the networks that are still untrained, scores all, and writes the report.

    Args:
      config: what is compared, and how.
      command: the command line, which the report repeats.

    Returns:
      The comparison's folder.

    Raises:
      InputError: if the input cannot be used, or every setting of a loss diverged.
    """
    with contextlib.ExitStack() as held:
        return _compare(config, command, held)


def _compare(config: CompareConfig, command: str, held: contextlib.ExitStack) -> Path:
    console = make_console()
    began = time.monotonic()

    # --- errors in the input are found before anything is written or trained
    for loss in config.losses:
        member = Member(loss, config.fit.seed, config.rates[0], None)
        assemble(member.config(config.fit, Path()))
    starts = open_starts(config.start_of_seed, config.fit.model.model)
    earlier = earlier_settings(config)
    check_weights(config.columns)
    splits, validation = open_with_validation(
        config.fit, "compare", flag="--primary", metrics=(config.primary,)
    )
    check_baselines(config, splits.test)
    digests = [start.digest for start in starts]
    folder = open_folder(config, splits, "compare", held, also={"start_digests": digests})
    if earlier:
        keep_picked(folder, earlier, config)
    console.print(advise_repeating(folder), soft_wrap=True)
    warnings = [*leak_warnings(splits), *pair_warnings(splits)]
    warnings += start_warnings(starts, splits.test)
    warnings += noise_warnings(config, splits.test)
    warnings += size_notes(config.columns, splits.test)
    of_data = data_warnings(splits, workers=config.fit.run.workers)
    for warning in dict.fromkeys([*of_data, *warnings]):
        console.print(f"warning: {warning}", soft_wrap=True)

    # --- networks of each length
    by_length: list[Results] = []
    tried = earlier
    for at in config.each_length():
        results = train_and_score(at, folder, splits.test, validation, tried, starts, console)
        by_length.append(results)
        tried = tried or results.tried  # longer training runs use what suited the shortest one
    *_, longest = by_length
    save_picked(folder, longest.tried, config)

    # --- conclusions
    looks = [f"{seeds} seed{'s' * (seeds > 1)}" for seeds in record_look(folder, config.seeds)]
    if config.lengths:
        warnings.append(
            f"learning rates and clipping were picked with {min(config.lengths):,} updates, and "
            "are those of every length."
        )
    warnings += edge_warnings(config, longest.tried) + seed_warnings(config)
    warnings += look_warnings(looks, simulated=_FALSE_ALARMS_OF_TWO_LOOKS)
    if starts:
        warnings.insert(0, describe_fine_tuning(starts))
    report = _make_report(by_length, splits.test, warnings, _without_out(command), folder)
    if config.baselines:
        write_rows(report.baselines, folder / "baselines.csv")
    records = [as_record(comparison) for comparison in report.comparisons]
    write_json(records, folder / "conclusions.json")
    write_report(report, folder / "report.html")
    _announce(report, console)
    compared = sum(len(results.scored) for results in by_length)
    console.print(f"{compared} networks compared in {time.monotonic() - began:.0f} s")
    files = {"report": "report.html", "scores": "scores.csv", "conclusions": "conclusions.json"}
    for what, name in files.items():
        console.print(f"{what:>11}  {folder / name}", soft_wrap=True)
    return folder


def _announce(report: Report, console: Console) -> None:
    """Prints the sentences of the report."""
    console.print(report.headline, soft_wrap=True)
    for comparison in report.comparisons[: len(report.losses) - 1]:
        more = describe_other_metrics(comparison, report.comparisons)
        console.print(f"- {describe_comparison(comparison)} {more}", soft_wrap=True)
    first, *others = report.losses
    other = others[0] if len(others) == 1 else "the other loss"
    console.print(explain_differences(first, other), soft_wrap=True)
    for line in describe_baselines(report.baselines, report.comparisons[0].metric, report.seconds):
        console.print(line, soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(report.cost, soft_wrap=True)


def _make_report(
    by_length: Sequence[Results],
    test: Source,
    notes: Sequence[str],
    command: str,
    folder: Path,
) -> Report:
    """Collects what the page says and shows: about the longest training, if there are several."""
    results = by_length[-1]
    config, members, tried, scored = results.config, results.members, results.tried, results.scored
    rows = results.rows
    # Photographs with real degradations have no noise levels.
    levels = config.primary_sigmas if test.inputs is None else ()
    conclusions = conclude(
        rows,
        config.losses,
        primary=config.primary,
        primary_sigmas=levels,
        margin=config.margin,
        fine_tuned=fine_tuned_from(results.starts),
    )
    changes: list[Comparison] = []
    if results.starts:
        with_starts = [*rows, *results.of_starts]
        changes = changes_from_start(with_starts, config.losses, sigmas=levels)
        deciding = [change for change in changes if change.metric == config.primary]
        notes = [*notes, describe_changes(deciding, conclusions[0].margin)]
    curves = [members.curve(member) for member in scored]
    at_lengths, early = _compare_lengths(by_length, levels)
    if early is None:
        early = convergence_warning(curves)
    if results.starts:
        early = ""  # A fine-tuning is judged by its change from the start.

    # --- crops, restored by the networks of the first seed
    of_first_seed = {}
    for member in scored:
        if member.seed == config.fit.seed:
            of_first_seed[member.loss] = members.load_or_retrain(member)
    middle = sorted(config.levels)[len(config.levels) // 2]
    crops = find_crops(
        of_first_seed, rows, test, sigma=middle, noise_seed=NOISE_SEED, count=config.crops
    )

    # --- classical methods, and the time of the network
    stopwatch = Stopwatch()
    baselines = score_baselines(config, test, rows, stopwatch)
    if baselines:
        restore, *_ = of_first_seed.values()
        time_network(restore, test, stopwatch, method="", sigma=middle)

    # --- settings that were tried, and the time that training took
    choices = []
    if results.validated is not None:
        choices.append(start_row(START, results.validated, config.primary))
    for loss, values in tried.items():
        choices += choice_rows(loss, values, config.primary)

    return Report(
        title=f"{config.losses[0]} against {', '.join(config.losses[1:])}",
        headline=early + headline(conclusions, []),
        notes=notes,
        losses=config.losses,
        comparisons=conclusions,
        changes=changes,
        at_lengths=at_lengths,
        scores=[*rows, *results.of_starts],
        curves=[curve for curve in curves if curve.steps],
        crops=crops,
        choices=choices,
        settings={
            **config.settings(),
            "start_digests": [start.digest for start in results.starts],
        },
        versions=describe_environment(),
        command=command,
        cost=_describe_cost(by_length),
        baselines=baselines,
        seconds=stopwatch.per_megapixel(["", *config.baselines]),
        people=ask_people(folder, map(members.folder_of, scored), photographs=len(test.names)),
    )


def _compare_lengths(
    by_length: Sequence[Results], levels: tuple[float, ...]
) -> tuple[dict[int, list[Comparison]], str | None]:
    """Compares the losses at each length, and says whether the longest training was long enough.

    Args:
      by_length: the results of each length, the longest ones last.
      levels: the noise levels that decide.

    Returns:
      The comparisons in the primary metric, by length, and the warning of
      :func:`lengths_warning`; ({}, None) if there is only one length.
    """
    if len(by_length) == 1:
        return {}, None
    found = {}
    for results in by_length:
        config = results.config
        at = conclude(results.rows, config.losses, primary=config.primary, primary_sigmas=levels)
        found[config.fit.optimizer.steps] = at[: len(config.losses) - 1]
    curves = [
        [results.members.curve(member) for member in results.scored] for results in by_length[-2:]
    ]
    return found, lengths_warning(rises_between(*curves), *list(found)[-2:])


def noise_warnings(config: CompareConfig, test: Source) -> list[str]:
    """One sentence if the test noise was not trained on, or if flags about noise have no effect."""
    trained, blind = config.fit.data.sigma, config.fit.data.blind
    if test.inputs is not None:
        given = {
            "--sigmas": config.levels != (trained,),
            "--primary-sigmas": config.primary_sigmas != (),
            "--draws": config.draws > 1,
        }
        unused = [flag for flag in given if given[flag]]
        if not unused:
            return []
        have = "have" if len(unused) > 1 else "has"
        return [
            f"{', '.join(unused)} {have} no effect on the test photographs, which are degraded "
            "already and are scored once, as they are."
        ]
    unknown = []
    for sigma in sorted(config.levels):
        if sigma > trained or (sigma != trained and not blind):
            unknown.append(sigma)
    if not unknown:
        return []
    at = f"up to sigma {trained:g}" if blind else f"at sigma {trained:g}"
    scored = ", ".join(f"{sigma:g}" for sigma in unknown)
    highest = max(*config.levels, trained)
    return [
        f"networks trained {at} are scored at sigma {scored}, which they never meet in training. "
        f"Use --blind --sigma {highest:g} to train at every level up to {highest:g}."
    ]


def _without_out(command: str) -> str:
    """The command without --out, whose folder exists by now and would only be continued."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(word)
    return shlex.join(kept)


def _describe_cost(by_length: Sequence[Results]) -> str:
    """Says how long the training took."""
    costs = [results.members.cost(results.trained) for results in by_length]
    seconds, steps = (math.fsum(part) for part in zip(*costs, strict=True))
    ways = {
        "loop": "one after the other (loop)",
        "vmap": "at once on one device (vmap)",
        "mesh": "at once, divided over devices (mesh)",
    }
    networks = sum(len(results.trained) for results in by_length)
    trained = f"{networks} networks were trained {ways[by_length[0].config.population]}."
    if not steps:  # an earlier version trained them
        return f"{trained} How long this took was not measured."
    took = f"{seconds:.0f} s in total, {1000 * seconds / steps:.1f} ms per step of each network"
    return f"{trained} This took {took}, including compilation, validation and saving."
