"""Writes the tables of README.md and docs/ from the comparisons here: python results/tables.py.

A table stands between a line like ``<!-- small: differences psnr ciede2000 -->``, which names a
folder here, the kind of table and its metrics, and the line ``<!-- end -->``. What is between them
is replaced. Without metrics, a table shows all of them.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.experiments.statistics import conclusions
from train.inference.scoring.registry import METRICS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_PLACE = re.compile(r"(?P<mark><!-- (?P<what>[\w-]+: [^>]*?) -->\n).*?(?P<end><!-- end -->)", re.S)
_UNCHANGED = "unchanged start"  # what compare calls the network before it is fine-tuned

Scores = dict[str, dict[str, np.ndarray]]  # by loss, then by metric: one for each photograph


def scores(folder: Path, metrics: Sequence[str]) -> str:
    """The mean scores of each loss over photographs, noise levels and seeds.

    Args:
      folder: a comparison.
      metrics: names of metrics; all if empty.

    Returns:
      A Markdown table, in which the best of the trained networks is bold.
    """
    table = _read_scores(folder)
    shown = metrics or list(table[next(iter(table))])
    means = {loss: {name: by[name].mean() for name in shown} for loss, by in table.items()}
    trained = [loss for loss in means if loss != _UNCHANGED]
    rows = [["loss", *(_title(name) for name in shown)]]
    for loss, by in means.items():
        row = [loss if loss == _UNCHANGED else f"`{loss}`"]
        for name in shown:
            about = METRICS[name]
            best = (max if about.higher_is_better else min)(means[one][name] for one in trained)
            text = f"{by[name]:.{about.digits}f}"
            row.append(f"**{text}**" if loss in trained and by[name] == best else text)
        rows.append(row)
    return _markdown(rows)


def differences(folder: Path, metrics: Sequence[str]) -> str:
    """How the first loss differs from each of the others, with 95 % intervals.

    Args:
      folder: a comparison.
      metrics: names of metrics; all if empty.

    Returns:
      A Markdown table. A metric that decides has its outcome next to the interval.
    """
    found = json.loads((folder / "conclusions.json").read_text(encoding="utf-8"))
    others = list(dict.fromkeys(one["other"] for one in found))
    shown = metrics or list(dict.fromkeys(one["metric"] for one in found))
    candidate = found[0]["candidate"]
    by = {(one["metric"], one["other"]): one for one in found}
    rows = [[f"`{candidate}` minus", *(f"`{other}`" for other in others)]]
    rows += [[_title(name), *(_difference(by[name, other]) for other in others)] for name in shown]
    return _markdown(rows)


def verdicts(folder: Path, metrics: Sequence[str]) -> str:
    """The verdicts that ``compare`` printed, as a quotation.

    Args:
      folder: a comparison.
      metrics: must be empty.

    Returns:
      A quotation in Markdown, with one item for each other loss.
    """
    del metrics
    found = json.loads((folder / "conclusions.json").read_text(encoding="utf-8"))
    decided = [one for one in found if one["adjusted_p"] is not None]
    return "".join(f"> - {one['sentence']}\n" for one in decided)


KINDS: dict[str, Callable[[Path, Sequence[str]], str]] = {
    "scores": scores,
    "differences": differences,
    "verdicts": verdicts,
}


def rewritten(page: str) -> str:
    """Replaces each table of a page by what the comparisons here say now.

    Args:
      page: Markdown.

    Returns:
      The page with new tables.
    """

    def table(found: re.Match[str]) -> str:
        name, _, wanted = found["what"].partition(": ")
        kind, *metrics = wanted.split()
        return f"{found['mark']}{KINDS[kind](HERE / name, metrics)}{found['end']}"

    return _PLACE.sub(table, page)


def _read_scores(folder: Path) -> Scores:
    by: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name in row.keys() & METRICS.keys():
                by[row["loss"]][name].append(float(row[name]))
    order = list(METRICS)
    return {
        loss: {name: np.array(of[name]) for name in sorted(of, key=order.index)}
        for loss, of in by.items()
    }


def _title(name: str) -> str:
    about = METRICS[name]
    unit = f", {about.unit}" if about.unit else ""
    label = about.label.replace("|", r"\|")  # a bar would end the cell
    return f"{label}{unit} {about.arrow}"


def _difference(one: dict[str, Any]) -> str:
    """In the metric's own direction, while the file counts what is better as positive."""
    about, of = METRICS[one["metric"]], one["difference"]
    values = of["mean"], of["low"], of["high"]
    if not about.higher_is_better:
        values = -of["mean"], -of["high"], -of["low"]
    mean, low, high = (f"{value:+.{about.digits}f}" for value in values)
    text = f"{mean} [{low}, {high}]"
    if one["adjusted_p"] is None:
        return text
    outcome = one["outcome"]
    if outcome == "equal":
        outcome = f"equal to within {conclusions.MARGIN_DB:g} dB"
    return f"{text}: **{outcome}**"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |\n" for row in rows)
    return "".join([head, "|" + "---|" * len(rows[0]) + "\n", *body])


if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        if (after := rewritten(before)) != before:
            path.write_text(after, encoding="utf-8")
            print(f"wrote the tables of {path.relative_to(ROOT)}")
