"""The file of a study: its plan, its pictures and its votes, in one SQLite data base.

The server, which others may reach, opens the file that somebody else may have made. So a file is
used only if its tables are exactly those of this version: SQLite then has no view, trigger or
function of a stranger that it could run. A vote is on disk before the next pair is shown.
"""

import contextlib
import dataclasses
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from train.errors import InputError, first_line
from train.files.json_files import UnreadableError, parse_json
from train.files.outputs import whole_or_none
from train.files.typed_fields import from_tree
from train.study.rules import (
    FEWEST_FOR_SIDES,
    LETTERS,
    LONGEST_QUESTION,
    MOST_OBSERVERS,
    MOST_ON_ONE_SIDE,
    MOST_PHOTOGRAPHS,
    MOST_VOTES,
    Stop,
    Task,
)
from train.study.study_checks import (
    APPLICATION,
    VERSION,
    check_gaps,
    check_header,
    check_links,
    check_tables,
)

FILE_NAME = "study.sqlite"
_LARGEST_VALUE = 64_000_000  # bytes of a picture or a text

_TABLES = (
    "CREATE TABLE about (content TEXT NOT NULL)",
    "CREATE TABLE photographs (number INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE pictures (number INTEGER PRIMARY KEY, png BLOB NOT NULL)",
    "CREATE TABLE scores (photograph INTEGER NOT NULL, name TEXT NOT NULL, metric TEXT NOT NULL, "
    "value REAL NOT NULL)",
    "CREATE TABLE trials (place INTEGER NOT NULL, position INTEGER NOT NULL, token TEXT NOT NULL, "
    "kind TEXT NOT NULL, photograph INTEGER NOT NULL, left_name TEXT NOT NULL, "
    "right_name TEXT NOT NULL, left_picture INTEGER NOT NULL, right_picture INTEGER NOT NULL, "
    "clean_picture INTEGER, left_token TEXT NOT NULL, right_token TEXT NOT NULL, "
    "clean_token TEXT NOT NULL, PRIMARY KEY (place, position))",
    "CREATE TABLE observers (place INTEGER PRIMARY KEY, session TEXT, code TEXT NOT NULL, "
    "started REAL NOT NULL, conditions TEXT NOT NULL, source TEXT NOT NULL)",
    "CREATE TABLE votes (number INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, "
    "position INTEGER NOT NULL, choice TEXT NOT NULL, zoomed INTEGER NOT NULL, "
    "flickered INTEGER NOT NULL, milliseconds INTEGER NOT NULL, time REAL NOT NULL, undone REAL)",
    # A pair has one vote that counts, whatever several tabs and double clicks send.
    "CREATE UNIQUE INDEX one_vote ON votes (place, position) WHERE undone IS NULL",
    "CREATE INDEX tokens ON trials (place, token)",
)


@dataclass(frozen=True)
class Terms:
    """What was decided before the first vote.

    Attributes:
      id: random name of the study.
      task: what is asked.
      question: the question in words.
      names: what each set is called, such as the name of its folder, by letter in ``sets``.
      sets: the letters "a", "b" and so on.
      digests: digests of the networks that restored each set; empty texts if they are unknown.
      observers: number of observers.
      votes_per_pair: votes of each observer on each pair.
      seed: seed of orders and sides.
      stop: whether the number of votes is fixed, or the votes decide when they suffice.
      obvious: what the obvious pair shows, the better one first.
      created: when, in UTC.
      most_on_one_side: largest share of an observer's votes that may be for the same side.
      fewest_for_sides: number of votes without which the rule about sides says nothing.
    """

    id: str
    task: Task
    question: str
    names: tuple[str, ...]
    sets: tuple[str, ...]
    digests: tuple[str, ...]
    observers: int
    votes_per_pair: int
    seed: int
    stop: Stop
    obvious: tuple[str, ...]
    created: str
    most_on_one_side: float = MOST_ON_ONE_SIDE
    fewest_for_sides: int = FEWEST_FOR_SIDES

    def name_of(self, letter: str) -> str:
        """What a set is called."""
        return dict(zip(self.sets, self.names, strict=True))[letter]


@dataclass(frozen=True)
class PlannedTrial:
    """A row of the table of trials."""

    place: int
    position: int
    token: str
    kind: str
    photograph: int
    left_name: str
    right_name: str
    left_picture: int
    right_picture: int
    clean_picture: int | None
    left_token: str
    right_token: str
    clean_token: str


def write_study(
    folder: Path,
    about: Terms,
    *,
    photographs: Sequence[str],
    pictures: Sequence[bytes],
    trials: Sequence[PlannedTrial],
    scores: Sequence[tuple[int, str, str, float]] = (),
) -> None:
    """Writes a new study; the file appears whole or not at all.

    Args:
      folder: an existing folder.
      about: what was decided.
      photographs: names of the photographs.
      pictures: PNG files by number.
      trials: what each observer sees.
      scores: photograph, set, metric and value, for each score that is known.

    Raises:
      InputError: if SQLite cannot write the file, for example because the disk is full.
    """
    try:
        with whole_or_none(folder / FILE_NAME) as temporary:
            with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as file:
                file.execute("PRAGMA journal_mode=MEMORY")
                file.execute(f"PRAGMA application_id={APPLICATION}")
                file.execute(f"PRAGMA user_version={VERSION}")
                file.execute("BEGIN")
                for table in _TABLES:
                    file.execute(table)
                content = json.dumps(dataclasses.asdict(about))
                file.execute("INSERT INTO about VALUES (?)", [content])
                file.executemany("INSERT INTO photographs VALUES (?, ?)", enumerate(photographs))
                file.executemany("INSERT INTO pictures VALUES (?, ?)", enumerate(pictures))
                file.executemany("INSERT INTO scores VALUES (?, ?, ?, ?)", scores)
                rows = map(dataclasses.astuple, trials)
                marks = ", ".join("?" * len(dataclasses.fields(PlannedTrial)))
                file.executemany(f"INSERT INTO trials VALUES ({marks})", rows)
                file.execute("COMMIT")
    except sqlite3.Error as error:
        raise InputError(
            f"{folder / FILE_NAME} could not be written: {first_line(error)}. Free some space, or "
            "choose a different folder."
        ) from None


def open_study(folder: Path, *, write: bool = False) -> sqlite3.Connection:
    """Opens the file of a study, after checking that it is one.

    Args:
      folder: the folder that ``study create`` wrote.
      write: whether votes will be written.

    Returns:
      The connection, which several threads may use one after the other.

    Raises:
      InputError: if there is no study, or if the file is not one of this version.
    """
    path = folder / FILE_NAME
    check_header(path)
    check_links(path)
    mode = "rw" if write else "ro"
    address = f"file:{quote(os.path.abspath(path))}?mode={mode}"
    try:
        file = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be opened: {first_line(error)}.") from None
    file.row_factory = sqlite3.Row
    # After a flipped bit, bytes may not be text any more. SQLite does not notice that.
    file.text_factory = lambda text: text.decode(errors="replace")
    try:
        file.execute("PRAGMA trusted_schema=OFF")
        file.execute("PRAGMA cell_size_check=ON")
        file.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
        check_tables(file, path, _TABLES)
        if write:
            check_gaps(file, path)
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=FULL")
            file.execute("PRAGMA busy_timeout=5000")
    except (sqlite3.Error, UnicodeDecodeError) as error:  # An error may quote damaged text.
        file.close()
        raise InputError(
            f"{path} cannot be read as a study: {first_line(error)}. Use the folder that "
            "`study create` wrote, or restore the file from a copy."
        ) from None
    except InputError:
        file.close()
        raise
    return file


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Opens a study to read it, and closes it after the block."""
    with contextlib.closing(open_study(folder)) as file:
        try:
            yield file
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{folder / FILE_NAME} is damaged: {first_line(error)}. Restore it from a copy."
            ) from None


def read_about(file: sqlite3.Connection, folder: Path) -> Terms:
    """Reads what was decided. InputError: the file does not say it in the expected form."""
    where = str(folder / FILE_NAME)
    rows = file.execute("SELECT content FROM about").fetchall()
    try:
        tree = parse_json(str(rows[0]["content"]).encode()) if len(rows) == 1 else None
    except UnreadableError as error:
        raise InputError(f"{where} cannot be read as a study: {error}.") from None
    about: Terms = from_tree(Terms, tree, where)
    sizes = {len(about.names), len(about.sets), len(about.digests)}
    count = len(about.sets)
    if sizes != {count} or count < 2 or about.sets != LETTERS[:count]:
        raise InputError(f"{where} cannot be read as a study: its sets do not fit each other.")
    # Cookies and files of votes are named after it.
    if re.fullmatch("[0-9a-f]{16}", about.id) is None:
        raise InputError(f"{where} cannot be read as a study: its name is not one of a study.")
    if why := _beyond_limits(file, about):
        raise InputError(f"{where} cannot be read as a study: {why}.")
    if not _fits(file, about):
        raise InputError(f"{where} cannot be read as a study: its pairs do not fit its sets.")
    return about


def _beyond_limits(file: sqlite3.Connection, about: Terms) -> str:
    """What is larger than `study create` makes it, with which scoring would not end; or ""."""
    if not 1 <= about.observers <= MOST_OBSERVERS or not 1 <= about.votes_per_pair <= MOST_VOTES:
        return f"it may have 1 to {MOST_OBSERVERS} observers, with 1 to {MOST_VOTES} votes per pair"
    if len(about.question) > LONGEST_QUESTION or not about.question.isprintable():
        return f"its question must be one line of at most {LONGEST_QUESTION} characters"
    count, names = file.execute("SELECT count(*), count(DISTINCT name) FROM photographs").fetchone()
    if count > MOST_PHOTOGRAPHS or names < count:
        return f"it may have at most {MOST_PHOTOGRAPHS:,} photographs, with different names"
    return ""


def _fits(file: sqlite3.Connection, about: Terms) -> bool:
    """Whether the plan has a place for each observer, and shows what its kinds of pairs show."""
    if len(about.obvious) != 2:
        return False
    places = file.execute("SELECT count(DISTINCT place), max(place) FROM trials").fetchone()
    if tuple(places) != (about.observers, about.observers - 1):
        return False
    for row in file.execute("SELECT DISTINCT kind, left_name, right_name FROM trials"):
        shown = (row["left_name"], row["right_name"])
        if row["kind"] == "obvious":
            fits = sorted(shown) == sorted(about.obvious)
        else:
            fits = set(shown) <= set(about.sets) and (shown[0] == shown[1]) == (
                row["kind"] == "same"
            )
        if not fits:
            return False
    return True
