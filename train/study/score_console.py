"""Tables of a study for the console."""

from rich import box
from rich.table import Table

from train.console import printable
from train.inference.scoring.registry import METRICS
from train.study.metric_ranks import MetricRanks
from train.study.results import StudyResults
from train.study.scale_sentences import cells, ends, signed
from train.study.sentences import label, level, percent


def sets_table(results: StudyResults) -> Table:
    """A line for each set, the most preferred one first."""
    table = _table("set", "JOD", "95 % interval", "against others", "95 % interval")
    assert results.scale is not None
    for placed in results.scale.sets:
        table.add_row(
            printable(label(results, placed.letter)),
            *cells(placed),
        )
    return table


def pairs_table(results: StudyResults) -> Table:
    """A line for every two sets."""
    table = _table("pair", "score", "interval", "level", "first/none/second", "ahead, JOD")
    distances = {}
    if results.scale is not None:
        distances = {(each.first, each.second): each.jod for each in results.scale.distances}
    for pair in results.pairs:
        jod = distances.get((pair.first, pair.second))
        table.add_row(
            f"{pair.first.upper()} and {pair.second.upper()}",
            percent(pair.interval.mean),
            ends(pair.interval, shares=True),
            level(pair),
            "/".join(map(str, pair.choices)),
            "-" if jod is None else signed(jod.mean),
        )
    return table


def metrics_table(ranks: MetricRanks) -> Table:
    """A line for each metric, the one that predicts the votes best first."""
    table = _table(
        "metric",
        "rank correlation",
        f"{100 * ranks.confidence:.3g} % interval",
        "prefers the same",
        "may be the best",
    )
    for rank in ranks.metrics:
        table.add_row(
            METRICS[rank.metric].label,
            signed(rank.correlation.mean),
            ends(rank.correlation),
            "-" if rank.agrees is None else percent(rank.agrees),
            "yes" if rank.may_be_best else "no",
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table
