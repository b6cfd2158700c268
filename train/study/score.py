"""Says what the votes of a study mean, and writes a page, a table and a file for programs."""

import base64
import dataclasses
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro
from rich.console import Console

from train.bounds import check_name
from train.console import make_console
from train.errors import InputError
from train.files.json_files import read_json
from train.files.outputs import (
    check_replaceable,
    check_writable,
    write_json,
    write_rows,
    write_text,
)
from train.inference.scoring.registry import METRICS
from train.study import scale_sentences, score_console, sentences
from train.study.ballots import Viewing, read_arrivals, read_observers, read_votes
from train.study.picture_files import without_padding
from train.study.results import PairResult, StudyResults, analyse
from train.study.rules import COUNTED
from train.study.score_tables import read_stored
from train.study.study_checks import check_png
from train.study.study_file import read_about, reading

PAGE, TABLE, RECORD = "results.html", "votes.csv", "results.json"
_LARGEST_PICTURES = 10_000_000  # bytes of all pictures in the page
# How the files of this command begin, and keys of its record. Earlier versions wrote the same.
_PAGE_STARTS = b'<!doctype html>\n<html lang="en">\n<head>\n'
_TITLE = b"<title>What people saw</title>"
_TABLE_STARTS = b"observer,number,kind,photograph,left,right,choice,"
_KEYS = {"about", "observers", "pairs", "controls", "planned", "given"}


@dataclass(frozen=True)
class ScoreConfig:
    """Say what the votes mean, and write results.html, votes.csv and results.json.

    There is no verdict until all votes are in, because their number is fixed in advance. There
    are two exceptions: studies made with `--stop sequential`, and the flag --end-early.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study."""
    output: Path | None = None
    """Folder to write to. None: the folder of the study."""
    viewing: Viewing = "all"
    """Votes to use. plain: only votes for which the observer neither zoomed nor flipped between the
    pictures. boosted: only the others. A verdict requires "all"."""
    end_early: bool = False
    """Give a verdict although votes are missing, and say that they are missing."""
    overwrite: bool = False
    """Replace files of these names even if `study score` did not write them."""

    def __post_init__(self) -> None:
        check_name("the folder of the study", self.study)
        check_name("--output", self.output)


def score(config: ScoreConfig) -> StudyResults:
    """Scores a study, prints the sentences and writes the files.

    Raises:
      InputError: if the study cannot be read, or has no vote that counts.
    """
    console = make_console(soft_wrap=True)
    folder = config.output or config.study
    _check_replaceable(folder, overwrite=config.overwrite)
    with reading(config.study) as file:
        votes = read_votes(file)
        results = read_results(
            file, config.study, viewing=config.viewing, end_early=config.end_early
        )
        if not results.pairs:
            excluded = [each for each in results.observers if each.excluded]
            why = "; ".join(f"observer {each.number} {each.excluded}" for each in excluded)
            raise InputError(
                f"{config.study} has no vote that counts{f': {why}' if why else ' yet'}. Votes are "
                f"collected by: python -m train study serve {config.study}"
            )
        most = _LARGEST_PICTURES // len(results.pairs)
        examples = [_examples(file, pair, most) for pair in results.pairs]

    check_writable(folder)
    write_rows(votes, folder / TABLE)
    write_json(as_record(results), folder / RECORD)
    write_text(_page(results, examples), folder / PAGE)
    several = len(results.about.sets) > 2
    for pair in results.pairs:
        console.print(sentences.headline(results, pair), highlight=False)
        if not several:
            console.print(sentences.measurement(results, pair), highlight=False)
            console.print(sentences.description(pair), highlight=False)
    if several:
        _print_several(console, results)
    if results.metrics is not None and results.metrics.metrics:
        console.print(score_console.metrics_table(results.metrics))
    if results.metrics is not None:
        console.print(scale_sentences.prediction(results.metrics), highlight=False)
    for note in sentences.notes(results):
        console.print(f"note: {note}", highlight=False)
    console.print(sentences.rules(results), highlight=False)
    for what, name in (("page", PAGE), ("votes", TABLE), ("results", RECORD)):
        console.print(f"{what:>8}  {folder / name}", highlight=False)
    return results


def _check_replaceable(folder: Path, *, overwrite: bool) -> None:
    """Raises an error if results would replace files that this command did not write."""

    def is_page(path: Path) -> bool:
        with path.open("rb") as file:
            start = file.read(1000)
        return start.startswith(_PAGE_STARTS) and _TITLE in start

    def is_table(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(_TABLE_STARTS)) == _TABLE_STARTS

    def is_record(path: Path) -> bool:
        return read_json(path).keys() >= _KEYS

    for name, is_ours in {PAGE: is_page, TABLE: is_table, RECORD: is_record}.items():
        check_replaceable(folder / name, is_ours, option="--output", overwrite=overwrite)


def read_results(
    file: sqlite3.Connection, folder: Path, *, viewing: Viewing = "all", end_early: bool = False
) -> StudyResults:
    """Reads the votes of an open study and analyses them.

    Args:
      file: the open study.
      folder: its folder, for errors.
      viewing: which votes to use.
      end_early: give a verdict although votes are missing.

    Returns:
      The results; without pairs if no vote counts.

    Raises:
      InputError: if the file is damaged.
    """
    about = read_about(file, folder)
    votes = read_votes(file)
    query = "SELECT count(*) FROM trials WHERE kind != 'practice'"
    return analyse(
        about,
        votes,
        read_observers(file, about, votes),
        planned=int(file.execute(query).fetchone()[0]),
        scores=read_stored(file, about),
        arrivals=read_arrivals(file, votes, about.sets[0]),
        viewing=viewing,
        end_early=end_early,
    )


def _print_several(console: Console, results: StudyResults) -> None:
    """The tables of a study of three sets or more."""
    assert results.scale is not None
    if results.scale.sets:
        console.print(score_console.sets_table(results))
    console.print(score_console.pairs_table(results))
    console.print(scale_sentences.explanation(results), highlight=False)
    for note in scale_sentences.notes(results):
        console.print(f"note: {note}", highlight=False)


def as_record(results: StudyResults) -> dict[str, Any]:
    """The results in the form of the JSON file."""
    record = dataclasses.asdict(results)
    for pair, made in zip(record["pairs"], results.pairs, strict=True):
        pair["sentences"] = [
            sentences.headline(results, made),
            sentences.measurement(results, made),
        ]
    record["notes"] = sentences.notes(results)
    return record


def _examples(
    file: sqlite3.Connection, pair: PairResult, most: int
) -> dict[str, list[dict[str, str]]]:
    """Pictures of the photographs that divided the observers, and of those that did not.

    Args:
      file: the open study.
      pair: the two sets.
      most: bytes that the pictures of both sets may have together.
    """
    left = most
    found: dict[str, list[dict[str, str]]] = {"split": [], "agreed": []}
    for name, photographs in (("split", pair.split), ("agreed", pair.agreed)):
        for photograph in photographs:
            pictures = _pictures(file, photograph, pair)
            left -= sum(map(len, pictures.values()))
            if left >= 0:
                found[name].append({"name": photograph, **pictures})
    return found


def _pictures(file: sqlite3.Connection, photograph: str, pair: PairResult) -> Mapping[str, str]:
    """The two pictures of a photograph as data URLs."""
    query = (
        "SELECT png FROM trials JOIN photographs ON photographs.number = trials.photograph JOIN "
        "pictures ON pictures.number = CASE left_name WHEN ? THEN left_picture ELSE right_picture "
        "END WHERE photographs.name = ? AND ? IN (left_name, right_name) AND kind IN (?, ?) LIMIT 1"
    )
    pictures = {}
    for side in ("first", "second"):
        letter = getattr(pair, side)
        png = file.execute(query, [letter, photograph, letter, *COUNTED]).fetchone()["png"]
        check_png(png)
        encoded = base64.b64encode(without_padding(png)).decode()
        pictures[side] = f"data:image/png;base64,{encoded}"
    return pictures


def _page(results: StudyResults, examples: list[dict[str, list[dict[str, str]]]]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("results.html.jinja").render(
        results=results,
        about=results.about,
        examples=examples,
        headline=sentences.headline,
        measurement=sentences.measurement,
        description=sentences.description,
        label=sentences.label,
        notes=sentences.notes(results),
        rules=sentences.rules(results),
        table=TABLE,
        says=scale_sentences,
        metric_names=METRICS,
    )
