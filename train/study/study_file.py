"""The file of a study: its plan, its pictures and its votes, in one SQLite data base.

The server, which others may reach, opens the file that somebody else may have made. So a file is
used only if its tables are exactly those of this version: SQLite then has no view, trigger or
function of a stranger that it could run. A vote is on disk before the next pair is shown.
"""

import contextlib
import dataclasses
import json
import os
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from train.errors import InputError, first_line
from train.files.json_files import UnreadableError, parse_json
from train.files.outputs import whole_or_none
from train.files.typed_fields import from_tree
from train.study.rules import Stop, Task

FILE_NAME = "study.sqlite"
_VERSION = 1  # version of the tables below
_APPLICATION = 0x4C756D53  # SQLite's header says with it that a file belongs to this program
_LARGEST_VALUE = 64_000_000  # bytes of a picture or a text
_MOST_PIXELS = 2**26  # pixels of a picture
_PNG = b"\x89PNG\r\n\x1a\n"

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

_MOST = 2**31  # largest number of anything
# Queries that find values that nothing here writes, and that would lead to wrong results.
_WRONG_VALUES = (
    f"SELECT 1 FROM photographs WHERE number NOT BETWEEN 0 AND {_MOST}",
    f"SELECT 1 FROM trials WHERE place NOT BETWEEN 0 AND {_MOST} OR position NOT BETWEEN 0 AND "
    f"{_MOST} OR photograph NOT IN (SELECT number FROM photographs) OR left_picture NOT IN (SELECT "
    "number FROM pictures) OR right_picture NOT IN (SELECT number FROM pictures) OR clean_picture "
    "NOT IN (SELECT number FROM pictures) OR kind NOT IN ('practice', 'pair', 'repeat', 'same', "
    "'obvious')",
    "SELECT 1 FROM observers WHERE place NOT IN (SELECT place FROM trials)",
    "SELECT 1 FROM votes WHERE choice NOT IN ('left', 'none', 'right') OR milliseconds NOT "
    f"BETWEEN 0 AND {_MOST} OR zoomed NOT IN (0, 1) OR flickered NOT IN (0, 1)",
    "SELECT 1 FROM votes LEFT JOIN trials USING (place, position) WHERE kind IS NULL",
    "SELECT 1 FROM votes LEFT JOIN observers USING (place) WHERE code IS NULL",
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
    """
    with whole_or_none(folder / FILE_NAME) as temporary:
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as file:
            file.execute("PRAGMA journal_mode=MEMORY")
            file.execute(f"PRAGMA application_id={_APPLICATION}")
            file.execute(f"PRAGMA user_version={_VERSION}")
            file.execute("BEGIN")
            for table in _TABLES:
                file.execute(table)
            file.execute("INSERT INTO about VALUES (?)", [json.dumps(dataclasses.asdict(about))])
            file.executemany("INSERT INTO photographs VALUES (?, ?)", enumerate(photographs))
            file.executemany("INSERT INTO pictures VALUES (?, ?)", enumerate(pictures))
            file.executemany("INSERT INTO scores VALUES (?, ?, ?, ?)", scores)
            rows = map(dataclasses.astuple, trials)
            marks = ", ".join("?" * len(dataclasses.fields(PlannedTrial)))
            file.executemany(f"INSERT INTO trials VALUES ({marks})", rows)
            file.execute("COMMIT")


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
    _check_header(path)
    mode = "rw" if write else "ro"
    address = f"file:{quote(os.path.abspath(path))}?mode={mode}"
    try:
        file = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be opened: {first_line(error)}.") from None
    file.row_factory = sqlite3.Row
    try:
        file.execute("PRAGMA trusted_schema=OFF")
        file.execute("PRAGMA cell_size_check=ON")
        file.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
        _check_tables(file, path)
        if write:
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=FULL")
            file.execute("PRAGMA busy_timeout=5000")
    except sqlite3.Error as error:
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
        except sqlite3.Error as error:
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
    if sizes != {len(about.sets)} or len(about.sets) < 2 or len(about.obvious) != 2:
        raise InputError(f"{where} cannot be read as a study: its sets do not fit each other.")
    return about


def check_png(png: object) -> tuple[int, int]:
    """Width and height of a stored picture. InputError: it is not a PNG of a bounded size."""
    if not isinstance(png, bytes) or not png.startswith(_PNG) or png[12:16] != b"IHDR":
        raise InputError("A picture of the study is not a PNG file. Restore it from a copy.")
    width, height = struct.unpack(">II", png[16:24])
    if not 0 < width * height <= _MOST_PIXELS:
        raise InputError(f"A picture of the study has {width} x {height} pixels, which is refused.")
    return width, height


def _check_header(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"{path.parent} does not hold a study: there is no {FILE_NAME}. Make one with `python "
            "-m train study create`."
        )
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise InputError(f"{path} is not a file of a study. Restore it from a copy.")
    version, application = (
        struct.unpack(">I", header[60:64])[0],
        struct.unpack(">I", header[68:72])[0],
    )
    if application != _APPLICATION:
        raise InputError(f"{path} was not written by `study create`.")
    if version != _VERSION:
        raise InputError(
            f"{path} was written by a different version of this program: its tables have version "
            f"{version}, and this program reads version {_VERSION}. Use the program that wrote it."
        )


def _check_tables(file: sqlite3.Connection, path: Path) -> None:
    """Refuses tables, views and triggers that `study create` does not write."""
    found = {
        row["sql"]
        for row in file.execute("SELECT name, sql FROM sqlite_schema")
        if not str(row["name"]).startswith("sqlite_")
    }
    if found != set(_TABLES):
        raise InputError(f"{path} does not have the tables of a study. Restore it from a copy.")
    for table in ("about", "photographs", "scores", "trials", "observers", "votes"):
        # Not the pictures, which would take seconds. They are checked when they are shown.
        said = file.execute(f"PRAGMA quick_check({table})").fetchone()[0]
        if said != "ok":
            raise InputError(f"{path} is damaged: {first_line(ValueError(said))}. Restore it.")
    for query in (*_wrong_types(file), *_WRONG_VALUES):
        if file.execute(query).fetchone() is not None:
            raise InputError(f"{path} holds values that no study has. Restore it from a copy.")


def _wrong_types(file: sqlite3.Connection) -> Iterator[str]:
    """Queries that find values of other types than the tables declare, which SQLite accepts."""
    for table in ("about", "photographs", "pictures", "scores", "trials", "observers", "votes"):
        for column in file.execute(f"PRAGMA table_info({table})").fetchall():
            name, declared = column["name"], column["type"].lower()
            yield (
                f"SELECT 1 FROM {table} WHERE {name} IS NOT NULL AND typeof({name}) != "
                f"'{declared}' LIMIT 1"
            )


def as_mapping(row: sqlite3.Row) -> Mapping[str, object]:
    """A row by the names of its columns."""
    return dict(zip(row.keys(), tuple(row), strict=True))
