"""Places of observers who vote without a server, and the votes that they send as files."""

import dataclasses
import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence

from train.errors import InputError
from train.study.sent import Ballot, Conditions
from train.study.votes import Votes


class OfflineVotes(Votes):
    """A study whose votes may also come from files."""

    def reserve(self) -> int | None:
        """Takes the first free place for a file; None if there is none.

        The server does not give this place to anybody.
        """
        with self._writing() as file:
            place = self._free_place()
            if place is not None:
                # Nobody can resume it on the server, so its code is only a filler.
                row = [place, None, secrets.token_hex(16), time.time(), "{}", "file"]
                file.execute("INSERT INTO observers VALUES (?, ?, ?, ?, ?, ?)", row)
        return place

    def release(self, place: int) -> None:
        """Frees a place whose file could not be written."""
        with self._writing() as file:
            file.execute("DELETE FROM observers WHERE place = ? AND source = 'file'", [place])

    def planned(self, place: int) -> list[sqlite3.Row]:
        """Everything that an observer sees, in order."""
        query = "SELECT * FROM trials WHERE place = ? ORDER BY position"
        return self._file.execute(query, [place]).fetchall()

    def stored_picture(self, number: int) -> bytes:
        """The file of a picture."""
        query = "SELECT png FROM pictures WHERE number = ?"
        return bytes(self._file.execute(query, [number]).fetchone()["png"])

    def check_merge(self, place: int, ballots: Sequence[Ballot]) -> None:
        """Refuses votes that this place cannot have, or has already.

        Votes may continue those of an earlier file.

        Raises:
          InputError: why they are refused.
        """
        query = "SELECT count(*) FROM observers WHERE place = ? AND source = 'file'"
        if not self._file.execute(query, [place]).fetchone()[0]:
            raise InputError("no file was made for this observer")
        tokens = [str(row["token"]) for row in self.planned(place)]
        if [ballot.trial for ballot in ballots] != tokens[: len(ballots)] or not ballots:
            raise InputError("its votes do not fit the pairs of the study")
        query = (
            "SELECT choice, milliseconds FROM votes WHERE place = ? AND undone IS NULL "
            "ORDER BY position"
        )
        before = [tuple(row) for row in self._file.execute(query, [place])]
        now = [(ballot.choice, ballot.milliseconds) for ballot in ballots]
        if before[: len(now)] == now:
            raise InputError("its votes were merged before")
        if now[: len(before)] != before:
            raise InputError("it contradicts votes of the same observer that were merged before")

    def merge(self, found: Mapping[int, tuple[Conditions, Sequence[Ballot]]]) -> int:
        """Adds votes that were checked: all of them, or none.

        Args:
          found: conditions and votes by place.

        Returns:
          The number of votes that were added.
        """
        added = 0
        with self._writing() as file:
            for place, (conditions, ballots) in found.items():
                done = self._next_position(place)
                file.execute(
                    "UPDATE observers SET conditions = ? WHERE place = ?",
                    [json.dumps(dataclasses.asdict(conditions)), place],
                )
                for position, ballot in enumerate(ballots[done:], start=done):
                    self._insert(place, position, ballot)
                    added += 1
        return added
