"""What people saw: the answers of a viewing study of a comparison's networks, for its report."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from train.checkpoints.origin import recorded_digest
from train.errors import InputError
from train.experiments.report.report import People
from train.study import scale_sentences, sentences
from train.study.results import StudyResults
from train.study.rules import why_no_verdict
from train.study.score import PAGE, read_results
from train.study.study_file import FILE_NAME, reading

_FOLDER = "study"  # in the folder of the comparison


def ask_people(folder: Path, networks: Iterable[Path], *, photographs: int) -> People:
    """Reads the study of a comparison's networks, or says how to make one.

    Args:
      folder: folder of the comparison.
      networks: folders of its networks.
      photographs: number of photographs that it tests on.

    Returns:
      What the report says.
    """
    study = folder / _FOLDER
    if not os.path.lexists(study / FILE_NAME):
        return _how_to_ask(folder, photographs)
    try:
        with reading(study) as file:
            results = read_results(file, study)
        digests = set(map(recorded_digest, networks)) - {""}
    except InputError as error:
        return People(said=(str(error),))
    if not set(results.about.digests) <= digests:
        return People(
            said=(
                f"The study in {study} shows results that are not from these networks, so it is "
                "not reported here.",
            )
        )
    if not results.pairs:
        return People(
            said=(f"The study in {study} has no votes that count yet. Collect them with:",),
            commands=(_command("serve", study),),
        )
    return _answers(results, study)


def _answers(results: StudyResults, study: Path) -> People:
    headlines = [sentences.headline(results, pair) for pair in results.pairs]
    said = [*sentences.notes(results), sentences.rules(results)]
    if results.scale is None:
        measured = [sentences.measurement(results, pair) for pair in results.pairs]
        rows = []
    else:
        # What the numbers mean is said once, not for each of up to fifteen pairs.
        said = [scale_sentences.explanation(results), *scale_sentences.notes(results), *said]
        measured = [scale_sentences.measurement(pair) for pair in results.pairs]
        rows = [
            (sentences.label(results, placed.letter), *scale_sentences.cells(placed))
            for placed in results.scale.sets
        ]
    return People(
        question=results.about.question,
        verdicts=list(zip(headlines, measured, strict=True)),
        scale=rows,
        said=said,
        page=f"{_FOLDER}/{PAGE}" if (study / PAGE).exists() else "",
    )


def _how_to_ask(folder: Path, photographs: int) -> People:
    study = folder / _FOLDER
    said = [
        "Scores do not say which result people prefer. These commands ask people, without telling "
        "them which result is which:"
    ]
    then = (
        f"After the last vote, this gives the answer: {_command('score', study)}. To show "
        "the answer on this page, repeat the command of the comparison, with --out set to the "
        "folder of this page."
    )
    if why := why_no_verdict(photographs):
        then += (
            f" However, {why}. To show other photographs instead, add --clean FOLDER to the first "
            "command."
        )
    return People(
        said=said,
        commands=(
            f"{_command('create', study)} --comparison {shlex.quote(str(folder))}",
            _command("serve", study),
        ),
        then=then,
    )


def _command(name: str, study: Path) -> str:
    return f"python -m train study {name} {shlex.quote(str(study))}"
