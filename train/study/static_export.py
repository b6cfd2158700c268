"""A study as one HTML file, for places without a server, and the votes that come back as files.

The file holds the pictures of one observer and no word about what they show. Its votes stay in the
observer's browser until they are saved as JSON.
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from train.bounds import check_name, hint
from train.console import make_console
from train.errors import InputError, list_below
from train.files.json_files import UnreadableError, parse_json, read_json
from train.files.outputs import write_text
from train.study.messages import read_messages
from train.study.offline import OfflineVotes
from train.study.sent import Ballot, Conditions
from train.study.server import PAGES, make_environment
from train.study.study_checks import check_png
from train.study.study_file import Terms

_LONGEST = 8_000_000  # bytes of a file with votes
_TEXTS = ("practice", "progress", "finished", "paused", "send_file", "save_why", "undo", "continue")


@dataclass(frozen=True)
class StaticConfig:
    """Write a study for one observer as one HTML file, which needs no server.

    The observer opens the page, votes, and sends you the file of votes that the page saves.
    `study merge` adds this file to the study.
    Repeat the command for each observer, with a different file.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study."""
    static: Path
    """HTML file to write."""
    language: str = "en"
    """Language of the page: the name of a file in train/study/messages."""

    def __post_init__(self) -> None:
        check_name("the folder of the study", self.study)
        check_name("--static", self.static)


@dataclass(frozen=True)
class MergeConfig:
    """Add votes that observers have sent as files.

    Files of a different study, files that were merged before, and files that were changed by
    accident are refused. Fraud cannot be detected.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study."""
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint=hint)]
    """Files with votes."""

    def __post_init__(self) -> None:
        check_name("the folder of the study", self.study)
        if not self.files:
            raise InputError("study merge needs the files that observers have sent.")
        for file in self.files:
            check_name("the name of a file", file)


def export_static(config: StaticConfig) -> None:
    """Writes the page of the next observer, whose place is then taken.

    Raises:
      InputError: if all places are taken, or the file exists.
    """
    console = make_console(soft_wrap=True)
    if config.static.exists():
        raise InputError(f"--static {config.static} exists. Choose a different file.")
    say = read_messages(config.language)
    votes = OfflineVotes(config.study)
    try:
        place = votes.reserve()
        if place is None:
            raise InputError(
                f"All {votes.about.observers} places of {config.study} are taken. Make a study "
                "with more --observers."
            )
        try:
            page = _page(votes, place, say)
            config.static.parent.mkdir(parents=True, exist_ok=True)
            write_text(page, config.static)
        except BaseException:
            votes.release(place)
            raise
    finally:
        votes.close()
    console.print(
        f"{config.static} is for observer {place + 1}. Add the votes that come back with: python "
        f"-m train study merge {config.study} FILES"
    )


def merge(config: MergeConfig) -> None:
    """Adds votes from files: all of them, or none if one is refused.

    Raises:
      InputError: with the list of what is wrong.
    """
    console = make_console(soft_wrap=True)
    votes = OfflineVotes(config.study)
    wrong: list[str] = []
    found: dict[int, tuple[Path, Conditions, list[Ballot]]] = {}
    try:
        for path in config.files:
            try:
                place, conditions, ballots = _read(path, votes.about)
                votes.check_merge(place, ballots)
                if place in found:
                    raise InputError(f"it is of the same observer as {found[place][0]}")
            except InputError as error:
                wrong.append(f"{path}: {error}")
                continue
            found[place] = path, conditions, ballots
        if wrong:
            raise InputError("Nothing was merged. These files are refused:" + list_below(wrong))
        added = votes.merge(
            {place: (conditions, ballots) for place, (_, conditions, ballots) in found.items()}
        )
    finally:
        votes.close()
    console.print(f"{added} votes of {len(found)} observers were added.")
    console.print(
        "note: A file that somebody changed on purpose cannot be distinguished from an honest one."
    )


def _page(votes: OfflineVotes, place: int, say: Mapping[str, str]) -> str:
    rows = votes.planned(place)
    # Pictures are stored once each, in an order that says nothing.
    numbers = sorted(
        {
            number
            for row in rows
            for number in (row["left_picture"], row["right_picture"], row["clean_picture"])
            if number is not None
        }
    )
    secrets.SystemRandom().shuffle(numbers)
    index = {number: i for i, number in enumerate(numbers)}
    pictures = []
    for number in numbers:
        png = votes.stored_picture(number)
        check_png(png)
        pictures.append("data:image/png;base64," + base64.b64encode(png).decode())
    trials = []
    for row in rows:
        shown = {"left": index[row["left_picture"]], "right": index[row["right_picture"]]}
        if row["clean_picture"] is not None:
            shown["clean"] = index[row["clean_picture"]]
        trials.append({"trial": row["token"], "pictures": shown})
    practice = sum(row["kind"] == "practice" for row in rows)
    viewer, own = ((PAGES / name).read_text() for name in ("viewer.js", "static.js"))
    study = {
        "id": votes.about.id,
        "place": place,
        "practice": practice,
        "trials": trials,
        "pictures": pictures,
        "texts": {name: say[name] for name in _TEXTS},
    }
    return (
        make_environment()
        .get_template("static.html.jinja")
        .render(
            say=say,
            question=votes.about.question,
            task=votes.about.task,
            progress="",
            undo=False,
            trials=trials,
            practice=practice,
            study=study,
            file_name=f"votes-{votes.about.id}-{place + 1}.json",
            style=(PAGES / "study.css").read_text(),
            script=viewer.replace("export ", "") + own,
        )
    )


def _read(path: Path, about: Terms) -> tuple[int, Conditions, list[Ballot]]:
    """Reads a file with votes. InputError: why it is refused, without its name."""
    try:
        saved = read_json(path, longest=_LONGEST)
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except UnreadableError as error:
        raise InputError(str(error)) from None
    if not isinstance(saved, dict) or not isinstance(saved.get("content"), str):
        raise InputError("it does not hold the votes of a study")
    content = saved["content"].encode(errors="surrogatepass")
    if hashlib.sha256(content).hexdigest() != saved.get("sha256"):
        raise InputError("it was changed or damaged after it was saved")
    try:
        tree = parse_json(content)
    except UnreadableError as error:
        raise InputError(str(error)) from None
    if not isinstance(tree, dict) or tree.get("study") != about.id:
        raise InputError("it is of a different study")
    place, conditions = tree.get("place"), tree.get("conditions")
    parsed = Conditions.parse(conditions) if isinstance(conditions, dict) else None
    ballots = _ballots(tree.get("votes"))
    if type(place) is not int or parsed is None or ballots is None:
        raise InputError("it does not hold the votes of a study")
    return place, parsed, ballots


def _ballots(rows: Any) -> list[Ballot] | None:
    if not isinstance(rows, list):
        return None
    ballots = [Ballot.parse(row) if isinstance(row, dict) else None for row in rows]
    return None if None in ballots else [ballot for ballot in ballots if ballot is not None]
