"""What was found in photographs' files when they were last decoded, so that a data set is decoded once, not each time.

One SQLite file, ``.cache/photographs.sqlite`` in the checkout, beside what JAX compiled; several
processes may use it at once, and it may be deleted at any time. A file is known by its path, and
only as long as its size, its inode, the times of its content and of any change (in nanoseconds) and
the decoders' versions are what they were. What was changed within the last two seconds is not taken
down: another change in the same tick of the clock would not show.
"""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import PIL

from train.console import complain
from train.data.folders import Listing
from train.data.libvips import pyvips

PATH = Path(__file__).resolve().parents[2] / ".cache" / "photographs.sqlite"

_SETTLED = 2_000_000_000  # nanoseconds after its last change
_LIBVIPS = ".".join(str(pyvips.version(i)) for i in range(3))
_DECODERS = f"4 {_LIBVIPS} {PIL.__version__}"  # the first number counts changes of this module

# A change of the columns needs a change of PATH: an older checkout may have made the file.
_TABLE = """
    CREATE TABLE IF NOT EXISTS photographs (
        place TEXT PRIMARY KEY, state TEXT, checksum TEXT, height INTEGER, width INTEGER, bits INTEGER, digest TEXT
    )
"""

_COLUMNS = ("place", "state", "checksum", "height", "width", "bits", "digest")
_PATIENCE = 5  # seconds to wait for another process to finish with it
_told: set[str] = set()

T = TypeVar("T")


class Stamp(NamedTuple):
    """Where a photograph is, and the state of the files that it comes from."""

    place: str
    state: str


class PixelFacts(NamedTuple):
    """What decoding gave."""

    height: int
    width: int
    bits: int
    digest: str


def stamp_files(listing: Listing) -> tuple[list[Stamp | None], list[Stamp | None]]:
    """Stamps of the clean photographs and of the degraded ones, in a listing's order; None where there is none."""
    count = len(listing.names)
    nothing: list[Stamp | None] = [None] * count
    if listing.files:
        clean = [_stamp(str(path), [path]) for path in listing.files]
        return clean, [_stamp(str(path), [path]) for path in listing.input_files] or nothing
    whole = _stamp(listing.record, listing.shards) if listing.shards else None
    if whole is None:
        return nothing, nothing
    place, state = whole
    return [Stamp(f"{place} target {i}", state) for i in range(count)], [
        Stamp(f"{place} input {i}", state) for i in range(count)
    ]


def look_up(stamps: Sequence[Stamp | None]) -> list[PixelFacts | None]:
    """What is known under each stamp."""
    nothing: list[PixelFacts | None] = [None] * len(stamps)
    return _use(
        lambda index: [None if stamp is None else _row(index, stamp) for stamp in stamps], nothing
    )


def remember(found: Iterable[tuple[Stamp | None, PixelFacts]]) -> None:
    """Takes down what decoding gave; what was known of the same place is forgotten."""
    rows = [
        (stamp.place, *_key(stamp, known), *known) for stamp, known in found if stamp is not None
    ]
    if rows:
        _use(
            lambda index: index.executemany(
                "INSERT OR REPLACE INTO photographs VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            ),
            None,
        )


def _row(index: sqlite3.Connection, stamp: Stamp) -> PixelFacts | None:
    found = index.execute("SELECT * FROM photographs WHERE place = ?", (stamp.place,)).fetchone()
    if found is None:
        return None
    _, state, checksum, *values = found
    known = PixelFacts(*values)
    return known if (state, checksum) == _key(stamp, known) else None


def _key(stamp: Stamp, known: PixelFacts) -> tuple[str, str]:
    """The state that a row holds for, and a hash by which a damaged row is told."""
    state = f"{_DECODERS} {stamp.state}"
    return state, hashlib.sha256(f"{stamp.place} {state} {known}".encode()).hexdigest()


def _stamp(place: str, files: Iterable[Path]) -> Stamp | None:
    """None where a file is not there, or too fresh to be told from what it may yet become."""
    states = hashlib.sha256()
    for path in files:
        try:
            about = path.stat()
        except OSError:
            return None
        if time.time_ns() - max(about.st_mtime_ns, about.st_ctime_ns) < _SETTLED:
            return None
        times = f"{about.st_mtime_ns} {about.st_ctime_ns}"
        states.update(
            f"{path.name} {about.st_size} {about.st_ino} {times}\n".encode(
                errors="backslashreplace"
            )
        )
    return Stamp(
        os.path.abspath(place).encode(errors="backslashreplace").decode(), states.hexdigest()
    )


def _use(action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
    """What ``action`` gives; ``otherwise`` if there can be no index, which costs time and nothing else."""
    try:
        PATH.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(PATH, timeout=_PATIENCE)) as index, index:
            index.execute(_TABLE)
            columns = tuple(row[1] for row in index.execute("PRAGMA table_info(photographs)"))
            if columns != _COLUMNS:
                _tell(
                    f"its table has the columns {', '.join(columns)[:200]}, so another program or "
                    "version made it"
                )
                return otherwise
            return action(index)
    except (OSError, sqlite3.OperationalError) as error:  # no room, read-only, locked for long
        _tell(str(error))
    except sqlite3.DatabaseError as error:  # damaged, or no database
        aside = PATH.with_name(f"{PATH.name}.unreadable")
        try:
            os.replace(PATH, aside)
        except OSError:
            _tell(str(error))
        else:
            _tell(f"{error}. It is kept as {aside.name}, and a new one is made")
    return otherwise


def _tell(why: str) -> None:
    """One warning for each reason."""
    if why not in _told:
        _told.add(why)
        complain(
            f"warning: {PATH}, which remembers what photographs were decoded to, cannot be used: "
            f"{why}. They are decoded again, which takes time and changes nothing."
        )
