"""Remembers the sizes and digests of photographs, so that a data set is decoded only once.

The index is one SQLite file, ``.cache/photographs.sqlite`` in the checkout, next to JAX's compiled
programs. Several processes may use it at once, and it may be deleted at any time.

A file is known by its path. It is decoded again if its size, its inode, the times of its content
and of any change (in nanoseconds), or the versions of the decoders have changed. A file that was
changed within the last two seconds is not recorded, because another change in the same tick of the
clock would not show.
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
from train.data.entries import Entry, PixelFacts
from train.data.folders import Listing
from train.data.libvips import pyvips
from train.files.trust import why_untrusted

PATH = Path(__file__).resolve().parents[2] / ".cache" / "photographs.sqlite"

_YOUNGEST = 2_000_000_000  # least age of a file's last change, in nanoseconds
_LIBVIPS = ".".join(str(pyvips.version(i)) for i in range(3))
_DECODERS = f"5 {_LIBVIPS} {PIL.__version__}"  # the first number counts changes of this module

# If the columns change, PATH must change too, because an older checkout may have made the file.
_TABLE = """
    CREATE TABLE IF NOT EXISTS photographs (
        place TEXT PRIMARY KEY, state TEXT, checksum TEXT,
        height INTEGER, width INTEGER, bits INTEGER, digest TEXT
    )
"""

_COLUMNS = ("place", "state", "checksum", "height", "width", "bits", "digest")
_PATIENCE = 5  # seconds to wait while another process uses the file
_warned: set[str] = set()

T = TypeVar("T")


class Stamp(NamedTuple):
    """Where a photograph is, and the state of the files that it comes from."""

    place: str  # path, or data set with a number
    state: str  # a hash of sizes and times


class KnownEntries(NamedTuple):
    """What the index knows about a listing, each list in the listing's order."""

    entries: list[Entry | None]  # None: the photograph must be decoded
    # Stamps of the clean photographs; None if nothing may be recorded
    stamps: list[Stamp | None]
    input_stamps: list[Stamp | None]  # the same for the degraded photographs


def look_up(listing: Listing) -> KnownEntries:
    """Finds the entries of photographs that need not be decoded again.

    The entry of a pair is known if both halves are known and have the same size.
    """
    stamps, input_stamps = _stamp_listing(listing)
    clean, degraded = _read_facts(stamps), _read_facts(input_stamps)
    entries: list[Entry | None] = []
    for name, target, given in zip(listing.names, clean, degraded, strict=True):
        if target is None:
            entries.append(None)
        elif listing.inputs is None:
            entries.append(Entry(name, *target))
        elif given is None or (given.height, given.width) != (target.height, target.width):
            entries.append(None)
        else:
            entries.append(Entry(name, *target, given.digest, given.bits))
    return KnownEntries(entries, stamps, input_stamps)


def remember(known: KnownEntries, entries: Sequence[Entry]) -> None:
    """Records the facts about photographs that were decoded, and replaces older facts.

    Args:
      known: the result of :func:`look_up` before the photographs were decoded.
      entries: the entries of all photographs in the listing.
    """
    found: list[tuple[Stamp | None, PixelFacts]] = []
    for i, entry in enumerate(entries):
        if known.entries[i] is not None:
            continue
        size = (entry.height, entry.width)
        found.append((known.stamps[i], PixelFacts(*size, entry.bits, entry.digest)))
        if entry.input_digest is not None and entry.input_bits is not None:
            facts = PixelFacts(*size, entry.input_bits, entry.input_digest)
            found.append((known.input_stamps[i], facts))
    rows = []
    for stamp, facts in found:
        if stamp is not None:
            rows.append((stamp.place, *_key(stamp, facts), *facts))
    if rows:
        insert = "INSERT OR REPLACE INTO photographs VALUES (?, ?, ?, ?, ?, ?, ?)"
        _use(lambda index: index.executemany(insert, rows), None)


def _stamp_listing(listing: Listing) -> tuple[list[Stamp | None], list[Stamp | None]]:
    """The stamps of the clean and of the degraded photographs; None if there is no stamp."""
    count = len(listing.names)
    nothing: list[Stamp | None] = [None] * count
    if listing.files:
        clean = [_stamp(str(path), [path]) for path in listing.files]
        return clean, [_stamp(str(path), [path]) for path in listing.input_files] or nothing
    whole = _stamp(listing.record, listing.shards) if listing.shards else None
    if whole is None:
        return nothing, nothing
    place, state = whole
    targets: list[Stamp | None] = [Stamp(f"{place} target {i}", state) for i in range(count)]
    inputs: list[Stamp | None] = [Stamp(f"{place} input {i}", state) for i in range(count)]
    return targets, inputs


def _read_facts(stamps: Sequence[Stamp | None]) -> list[PixelFacts | None]:
    """The facts that are known for each stamp, or None."""

    def read(index: sqlite3.Connection) -> list[PixelFacts | None]:
        return [None if stamp is None else _row(index, stamp) for stamp in stamps]

    nothing: list[PixelFacts | None] = [None] * len(stamps)
    return _use(read, nothing)


def _row(index: sqlite3.Connection, stamp: Stamp) -> PixelFacts | None:
    """The facts for a stamp; None if the row is for another state, or damaged."""
    found = index.execute("SELECT * FROM photographs WHERE place = ?", (stamp.place,)).fetchone()
    if found is None:
        return None
    _, state, checksum, *values = found
    facts = PixelFacts(*values)
    return facts if (state, checksum) == _key(stamp, facts) else None


def _key(stamp: Stamp, facts: PixelFacts) -> tuple[str, str]:
    """The state for which a row is valid, and a hash that shows whether the row is damaged."""
    state = f"{_DECODERS} {stamp.state}"
    return state, hashlib.sha256(f"{stamp.place} {state} {tuple(facts)}".encode()).hexdigest()


def _stamp(place: str, files: Iterable[Path]) -> Stamp | None:
    """The stamp of files; None if one is missing or was changed too recently."""
    states = hashlib.sha256()
    for path in files:
        try:
            about = path.stat()
        except OSError:
            return None
        if time.time_ns() - max(about.st_mtime_ns, about.st_ctime_ns) < _YOUNGEST:
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
    """The result of ``action``, or ``otherwise`` if the index cannot be used: that is only slow."""
    if why := why_untrusted(PATH.parent):
        _warn_once(f"its folder {why}, and somebody else may have made it")
        return otherwise
    try:
        PATH.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(PATH, timeout=_PATIENCE)) as index, index:
            index.execute(_TABLE)
            columns = tuple(row[1] for row in index.execute("PRAGMA table_info(photographs)"))
            if columns != _COLUMNS:
                _warn_once(
                    f"its table has the columns {', '.join(columns)[:200]}, so another program or "
                    "another version made it"
                )
                return otherwise
            return action(index)
    except (OSError, sqlite3.OperationalError) as error:  # full, read-only, or locked for too long
        _warn_once(str(error))
    except sqlite3.DatabaseError as error:  # damaged, or not a database
        aside = PATH.with_name(f"{PATH.name}.unreadable")
        try:
            os.replace(PATH, aside)
        except OSError:
            _warn_once(str(error))
        else:
            _warn_once(f"{error}. It was renamed to {aside.name}, and a new one will be made")
    return otherwise


def _warn_once(why: str) -> None:
    """Prints a warning, once for each reason."""
    if why not in _warned:
        _warned.add(why)
        complain(
            f"warning: {PATH}, the index of decoded photographs, cannot be used: {why}. All "
            "photographs are decoded again. This takes time, and results stay the same."
        )
