"""The observers of a study and their votes, for a server with several threads.

An observer is a place in the plan. A browser holds it by a cookie, and a code gets it back on
another device. Only the next pair that has no vote can be voted on, so reloads, double clicks, the
back button and a second tab count once.
"""

import base64
import dataclasses
import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from train.study.rules import COUNTED
from train.study.sent import Ballot, Conditions
from train.study.sequential import arrived, suffices
from train.study.study_checks import check_png
from train.study.study_file import open_study, read_about

_CODE = 10  # random bytes: 80 bits, which are 16 letters and digits
# Codes have no such digits, so somebody has misread a letter.
_MISREAD = str.maketrans("018", "OIB")
_SESSION = 32  # random bytes of a cookie


Outcome = Literal["counted", "earlier", "refused"]


@dataclass(frozen=True)
class Shown:
    """A pair as a page shows it, which does not say what is on which side."""

    trial: str
    left: str
    right: str
    clean: str | None
    number: int  # from 1, within the practice round or after it
    count: int
    practice: bool
    undo: str | None  # the trial whose vote can be taken back


class Votes:
    """The observers and votes in the file of a study. Every method may be called by any thread."""

    def __init__(self, folder: Path) -> None:
        """Opens the study. InputError: it cannot be used."""
        self._file = open_study(folder, write=True)
        self.about = read_about(self._file, folder)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def begin(self, conditions: Conditions) -> str | None:
        """Gives the first free place to a new observer.

        Returns:
          The value of the cookie, or None if all places are taken.
        """
        session = secrets.token_urlsafe(_SESSION)
        code = base64.b32encode(secrets.token_bytes(_CODE)).decode()
        with self._writing() as file:
            place = self._free_place()
            if place is None:
                return None
            file.execute(
                "INSERT INTO observers VALUES (?, ?, ?, ?, ?, 'server')",
                [
                    place,
                    _digest(session),
                    code,
                    time.time(),
                    json.dumps(dataclasses.asdict(conditions)),
                ],
            )
        return session

    def resume(self, code: str) -> str | None:
        """Moves an observer to this browser. Returns the new cookie, or None for a wrong code."""
        letters = "".join(code.upper().split()).replace("-", "")
        given = letters.translate(_MISREAD).encode()
        session = secrets.token_urlsafe(_SESSION)
        with self._writing() as file:
            found = None
            for row in file.execute("SELECT place, code FROM observers WHERE source = 'server'"):
                if secrets.compare_digest(row["code"].encode(), given):
                    found = row["place"]
            if found is None:
                return None
            file.execute(
                "UPDATE observers SET session = ? WHERE place = ?", [_digest(session), found]
            )
        return session

    def place_of(self, session: str | None) -> int | None:
        """The place of the observer whose browser sent this cookie."""
        if not session:
            return None
        # The data base compares digests, whose timing says nothing about the cookie.
        query = "SELECT place FROM observers WHERE session = ?"
        with self._lock:
            row = self._file.execute(query, [_digest(session)]).fetchone()
        return None if row is None else int(row["place"])

    def code_of(self, place: int) -> str:
        """The observer's code, in groups of four."""
        with self._lock:
            row = self._file.execute("SELECT code FROM observers WHERE place = ?", [place])
            code = str(row.fetchone()["code"])
        return "-".join(code[i : i + 4] for i in range(0, len(code), 4))

    def counts(self) -> tuple[int, int]:
        """Number of pairs that an observer sees in the practice round, and after it."""
        query = "SELECT count(*) FROM trials WHERE place = 0 AND (kind = 'practice') = ?"
        with self._lock:
            practice, others = (self._file.execute(query, [is_]).fetchone()[0] for is_ in (1, 0))
        return practice, others

    def photographs(self) -> int:
        """Number of photographs in the study."""
        with self._lock:
            return int(self._file.execute("SELECT count(*) FROM photographs").fetchone()[0])

    def done(self, place: int) -> int:
        """Number of pairs that the observer has voted on."""
        with self._lock:
            return self._next_position(place)

    def suffices(self, place: int) -> bool:
        """Whether the observer may stop, because the votes are enough for a verdict."""
        if self.about.stop != "sequential":
            return False
        planned: dict[int, list[int]] = {}
        scores: dict[int, float] = {}
        query = (
            "SELECT position, photograph, left_name, choice FROM trials LEFT JOIN (SELECT * FROM "
            "votes WHERE undone IS NULL) USING (place, position) WHERE place = ? AND kind IN (?, ?)"
        )
        first = self.about.sets[0]
        with self._lock:
            rows = self._file.execute(query, [place, *COUNTED]).fetchall()
        for row in rows:
            planned.setdefault(row["photograph"], []).append(row["position"])
            if row["choice"] is not None:
                for_left = {"left": 1.0, "none": 0.5}.get(row["choice"], 0.0)
                scores[row["position"]] = for_left if row["left_name"] == first else 1 - for_left
        return suffices([score for _, score in arrived(planned, scores)])

    def last_trial(self, place: int) -> str | None:
        """The trial whose vote the observer can take back."""
        with self._lock:
            return self._undoable(place)

    def shown(self, place: int) -> Shown | None:
        """The pair to vote on next; None if the observer has seen all."""
        with self._lock:
            position = self._next_position(place)
            row = self._trial(place, position)
            if row is None:
                return None
            counts = dict(
                self._file.execute(
                    "SELECT kind = 'practice', count(*) FROM trials WHERE place = ? GROUP BY 1",
                    [place],
                ).fetchall()
            )
            undo = self._undoable(place)
        practice = row["kind"] == "practice"
        before = 0 if practice else counts.get(1, 0)
        return Shown(
            trial=row["token"],
            left=row["left_token"],
            right=row["right_token"],
            clean=None if row["clean_picture"] is None else row["clean_token"],
            number=position - before + 1,
            count=counts[int(practice)],
            practice=practice,
            undo=undo,
        )

    def vote(self, place: int, ballot: Ballot) -> Outcome:
        """Records a vote. When this returns, the vote is on disk.

        Returns:
          "counted"; "earlier" if the pair has a vote already, which stays; or "refused" if the
          pair is not the observer's next one.
        """
        with self._writing() as file:
            position = self._next_position(place)
            row = file.execute(
                "SELECT position FROM trials WHERE place = ? AND token = ?", [place, ballot.trial]
            ).fetchone()
            if row is None or row["position"] > position:
                return "refused"
            if row["position"] < position:
                return "earlier"
            self._insert(place, position, ballot)
        return "counted"

    def undo(self, place: int, trial: str) -> bool:
        """Takes the last vote back, if it is the one on this trial. The record keeps it."""
        with self._writing() as file:
            if self._undoable(place) != trial:
                return False
            position = self._next_position(place) - 1
            file.execute(
                "UPDATE votes SET undone = ? WHERE place = ? AND position = ? AND undone IS NULL",
                [time.time(), place, position],
            )
        return True

    def picture(self, place: int, token: str) -> bytes | None:
        """The picture at an address, which only the observer who is shown it can fetch."""
        query = (
            "SELECT png FROM trials JOIN pictures ON pictures.number = CASE ? WHEN left_token THEN "
            "left_picture WHEN right_token THEN right_picture ELSE clean_picture END "
            "WHERE place = ? AND ? IN (left_token, right_token, clean_token) AND position <= ?"
        )
        with self._lock:
            position = self._next_position(place)
            row = self._file.execute(query, [token, place, token, position]).fetchone()
        if row is None:
            return None
        check_png(row["png"])
        return bytes(row["png"])

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on disk after the block, or has no effect if the block fails."""
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
                self._file.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have ended the transaction by itself.
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def _free_place(self) -> int | None:
        taken = {row["place"] for row in self._file.execute("SELECT place FROM observers")}
        free = (place for place in range(self.about.observers) if place not in taken)
        return next(free, None)

    def _insert(self, place: int, position: int, ballot: Ballot) -> None:
        self._file.execute(
            "INSERT INTO votes (place, position, choice, zoomed, flickered, milliseconds, time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                place,
                position,
                ballot.choice,
                ballot.zoomed,
                ballot.flickered,
                ballot.milliseconds,
                time.time(),
            ],
        )

    def _next_position(self, place: int) -> int:
        query = "SELECT count(*) FROM votes WHERE place = ? AND undone IS NULL"
        return int(self._file.execute(query, [place]).fetchone()[0])

    def _trial(self, place: int, position: int) -> sqlite3.Row | None:
        query = "SELECT * FROM trials WHERE place = ? AND position = ?"
        row: sqlite3.Row | None = self._file.execute(query, [place, position]).fetchone()
        return row

    def _undoable(self, place: int) -> str | None:
        """The trial of the last vote, unless the observer has just taken a vote back."""
        query = (
            "SELECT undone, token FROM votes JOIN trials USING (place, position) "
            "WHERE place = ? ORDER BY votes.number DESC LIMIT 1"
        )
        row = self._file.execute(query, [place]).fetchone()
        return None if row is None or row["undone"] is not None else str(row["token"])


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode(errors="surrogateescape")).hexdigest()
