"""Checks of a study's file before anything in it is used: somebody else may have made it."""

import os
import re
import sqlite3
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from train.errors import InputError, first_line

VERSION = 1  # version of the tables
APPLICATION = 0x4C756D53  # SQLite's header says with it that a file belongs to this program
_MOST_PIXELS = 2**26  # pixels of a picture
_PNG = re.compile(rb"\x89PNG\r\n\x1a\n....IHDR", re.DOTALL)
_SHORTEST_PNG = 57  # bytes: signature, header, one empty chunk of pixels, end

_SEQUENCE = "CREATE TABLE sqlite_sequence(name,seq)"  # SQLite makes it for AUTOINCREMENT
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

# A vote is always on the next pair, so there are no gaps.
_GAPS = (
    "SELECT 1 FROM votes WHERE undone IS NULL GROUP BY place HAVING max(position) != count(*) - 1"
)


def check_png(png: object) -> tuple[int, int]:
    """Width and height of a stored picture. InputError: it is not a PNG of a bounded size."""
    if not isinstance(png, bytes) or len(png) < _SHORTEST_PNG or not _PNG.match(png):
        raise InputError("A picture of the study is not a PNG file. Restore it from a copy.")
    width, height = struct.unpack(">II", png[16:24])
    if not 0 < width * height <= _MOST_PIXELS:
        raise InputError(f"A picture of the study has {width} x {height} pixels, which is refused.")
    return width, height


def check_header(path: Path) -> None:
    """Accepts only a study of this version. InputError: it is something else."""
    if not path.is_file():
        raise InputError(
            f"{path.parent} does not hold a study: there is no {path.name}. Make one with `python "
            "-m train study create`."
        )
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise InputError(f"{path} is not a file of a study. Restore it from a copy.")
    version, application = struct.unpack(">I4xI", header[60:72])
    if application != APPLICATION:
        raise InputError(f"{path} was not written by `study create`.")
    if version != VERSION:
        raise InputError(
            f"{path} was written by a different version of this program: its tables have version "
            f"{version}, and this program reads version {VERSION}. Use the program that wrote it."
        )


def check_links(path: Path) -> None:
    """Refuses links where SQLite writes, because it would change what they lead to.

    Next to the file it does not follow symbolic links, but it writes to hard ones.
    """
    for ending in ("", "-wal", "-shm", "-journal"):
        beside = path.with_name(path.name + ending)
        try:
            found = os.lstat(beside)
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise InputError(
                f"{beside} is a link, or not a file, and SQLite would write to it. If it was "
                "copied together with the study, replace it with a copy of its own. Otherwise, "
                "delete it."
            )


def check_tables(file: sqlite3.Connection, path: Path, tables: Sequence[str]) -> None:
    """Refuses tables, views, triggers and values that `study create` does not write.

    Args:
      file: the open file.
      path: where it lies, for errors.
      tables: the statements that made the tables and indexes of a study.

    Raises:
      InputError: it has others, or it is damaged.
    """
    # A name does not say what SQLite made by itself: somebody can call a trigger sqlite_stat1. Only
    # indexes that belong to a PRIMARY KEY have no SQL.
    found = {row["sql"] for row in file.execute("SELECT sql FROM sqlite_schema")}
    if found != {*tables, _SEQUENCE, None}:
        raise InputError(f"{path} does not have the tables of a study. Restore it from a copy.")
    for table in ("about", "photographs", "scores", "trials", "observers", "votes"):
        # Not the pictures, which would take seconds. They are checked when they are shown.
        said = file.execute(f"PRAGMA quick_check({table})").fetchone()[0]
        if said != "ok":
            raise InputError(f"{path} is damaged: {first_line(ValueError(said))}. Restore it.")
    for query in (*_wrong_types(file), *_WRONG_VALUES):
        if file.execute(query).fetchone() is not None:
            raise InputError(f"{path} holds values that no study has. Restore it from a copy.")


def check_gaps(file: sqlite3.Connection, path: Path) -> None:
    """Refuses to add votes to a study that lacks some. InputError: it does."""
    if file.execute(_GAPS).fetchone() is not None:
        raise InputError(f"{path} lacks votes between others. Restore it from a copy.")


def _wrong_types(file: sqlite3.Connection) -> Iterator[str]:
    """Queries that find values of other types than the tables declare, which SQLite accepts."""
    for table in ("about", "photographs", "pictures", "scores", "trials", "observers", "votes"):
        for column in file.execute(f"PRAGMA table_info({table})").fetchall():
            name, declared = column["name"], column["type"].lower()
            yield (
                f"SELECT 1 FROM {table} WHERE {name} IS NOT NULL AND typeof({name}) != "
                f"'{declared}' LIMIT 1"
            )
