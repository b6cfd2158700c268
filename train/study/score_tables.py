"""Scores of photographs: read from tables that lie next to them, and kept in the study's file."""

import csv
import dataclasses
import io
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from train.errors import InputError, list_some
from train.files.json_files import UnreadableError, read_bounded
from train.files.outputs import read_cell
from train.inference.scoring.registry import METRICS
from train.study.metric_ranks import Scores
from train.study.pictures import PictureSet
from train.study.study_file import Terms

TABLE = "scores.csv"
_LONGEST = 64_000_000  # bytes
_LARGEST = 1e6  # largest value of any metric, far above what photographs can have
_OTHER_COLUMNS = ("photograph", "sigma", "seed", "method")  # columns of evaluate's table
_METHOD = "restored"  # the rows of evaluate that are about the network


def with_scores(pictures: PictureSet, folder: Path) -> PictureSet:
    """Adds the scores in a table that lies in the folder, as ``evaluate`` writes it.

    A study does not need them. So if the table cannot be used, the set only gets a note that says
    why.
    """
    path = folder / TABLE
    try:
        scores, unknown = _read_table(path)
    except FileNotFoundError:
        return pictures
    except (OSError, UnreadableError, ValueError, csv.Error) as error:
        return dataclasses.replace(pictures, note=f"{path} is not used: {error}.")
    if not pictures.pictures.keys() & scores.keys():
        return dataclasses.replace(
            pictures, note=f"{path} is not used: it has no row for any of these photographs."
        )
    note = ""
    if unknown:
        note = (
            f"{path} has columns that are not metrics of evaluate, so that their direction is not "
            f"known: {list_some(unknown)}. They are not used."
        )
    return dataclasses.replace(pictures, scores=scores, note=note)


def rows_of(
    sets: Sequence[PictureSet], letters: Sequence[str], names: Sequence[str]
) -> list[tuple[int, str, str, float]]:
    """Rows of the study's table of scores.

    Args:
      sets: the results.
      letters: their letters.
      names: names of the photographs by number.

    Returns:
      For each score, the number of its photograph, the set, the metric and the value.
    """
    return [
        (number, letter, metric, value)
        for letter, pictures in zip(letters, sets, strict=True)
        for number, name in enumerate(names)
        for metric, value in (pictures.scores or {}).get(name, {}).items()
        if metric in METRICS and not math.isnan(value)
    ]


def read_stored(file: sqlite3.Connection, about: Terms) -> Scores:
    """Reads the scores in the file of a study, by metric, set and photograph.

    Raises:
      InputError: if a score is not one that ``study create`` could have written.
    """
    query = (
        "SELECT photographs.name AS photograph, scores.name AS letter, metric, value FROM scores "
        "JOIN photographs ON photographs.number = scores.photograph ORDER BY scores.rowid"
    )
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in file.execute(query):
        value = row["value"]
        known = row["metric"] in METRICS and row["letter"] in about.sets
        if not known or not isinstance(value, float) or not abs(value) <= _LARGEST:
            raise InputError("A score of the study is damaged. Restore the file from a copy.")
        found.setdefault(row["metric"], {}).setdefault(row["letter"], {})[row["photograph"]] = value
    return found


def _read_table(path: Path) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Scores by photograph, without its ending, and by metric; and the columns that are unknown."""
    content = read_bounded(path, longest=_LONGEST).decode("utf-8-sig")
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    columns = list(reader.fieldnames or ())
    metrics = [name for name in columns if name in METRICS]
    if "photograph" not in columns or not metrics or len(set(columns)) < len(columns):
        raise ValueError("it needs a column named photograph, and columns named as metrics")
    scores: dict[str, dict[str, float]] = {}
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} does not have {len(columns)} cells")
        if row.get("method", _METHOD) != _METHOD:
            continue
        name = PurePosixPath(read_cell(row["photograph"])).with_suffix("").as_posix()
        if name in scores:
            raise ValueError(
                f"it has several rows for {name}. If they are of several noise levels, evaluate "
                "with the one of these photographs, by --sigmas"
            )
        scores[name] = {metric: _number(metric, row[metric]) for metric in metrics}
    return scores, [name for name in columns if name not in (*METRICS, *_OTHER_COLUMNS)]


def _number(metric: str, cell: str) -> float:
    """A score; NaN for an empty cell."""
    value = float(cell) if cell.strip() else math.nan
    if cell.strip() and not abs(value) <= _LARGEST:
        raise ValueError(
            f"{metric} must be a number from -{_LARGEST:,.0f} to {_LARGEST:,.0f}; got {cell}"
        )
    return value
