"""What waits for delivery and what became of it: an SQLite file in the daemon's state folder.

It works while every database is down, and a message that is in it survives kill -9. A decision of
the rules goes in as one transaction (the message, and that the channel was told), so that none is
lost or made twice between the two. It holds alerts, never a secret: a message gets its text and
its address when it is sent. One process writes it, which holds a lock on a file beside it; others
may read.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdc_daemon.notify.alert import Message, Notice
from cdc_daemon.notify.rules import Decision, Told
from cdc_daemon.notify.spool_file import explained, hold, opened

MOST_LOGGED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message that is to be delivered; times in seconds since 1970, ``error`` of the last try."""

    message: Message
    created: float
    due: float
    attempts: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A message that was delivered, or given up (``result``)."""

    message: Message
    created: float
    ended: float
    result: str
    attempts: int
    answer: str


class Spool:
    """The file, held by this process; any thread may call."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises Unusable, saying why and what to do."""
        self.path = path
        self._lock = threading.Lock()
        with explained(path):
            self._held = hold(path)
        try:
            with explained(path):
                self._db = opened(path)
        except BaseException:
            os.close(self._held)
            raise

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            self._db.close()
            os.close(self._held)

    # --- what the rules say -----------------------------------------------------------------------

    def told(self) -> dict[str, dict[str, Told]]:
        """What each channel knows, by channel and alert."""
        found: dict[str, dict[str, Told]] = {}
        for channel, key, text in self._rows("SELECT channel, key, told FROM told"):
            found.setdefault(channel, {})[key] = Told.from_dict(json.loads(text))
        return found

    def keep(self, decision: Decision, now: float) -> None:
        """A message to deliver, and what its channel knows from then on: both or neither."""
        known = [
            (decision.channel, key, _json(told.to_dict())) for key, told in decision.told.items()
        ]
        with self._writing() as db:
            db.execute("DELETE FROM told WHERE channel = ?", (decision.channel,))
            db.executemany("INSERT INTO told VALUES (?, ?, ?)", known)
            if decision.message is not None:
                _insert(db, decision.message, now)

    def forget(self, channels: list[str]) -> None:
        """What other channels than these know; what waits for them goes on waiting."""
        marks = ", ".join("?" * len(channels))
        with self._writing() as db:
            db.execute(f"DELETE FROM told WHERE channel NOT IN ({marks})", channels)

    # --- delivery ---------------------------------------------------------------------------------

    def next(self, channel: str, now: float) -> Waiting | None:
        """The oldest message that is due, else the one that will be first."""
        order = "ORDER BY max(due, ?), created, rowid LIMIT 1"
        rows = self._rows(f"{_WAITING} WHERE channel = ? {order}", (channel, now))
        return _waiting(rows[0]) if rows else None

    def attempt(self, waiting: Waiting, now: float, window: float) -> None:
        """A try begins; those of the last ``window`` seconds are remembered."""
        channel = waiting.message.channel
        with self._writing() as db:
            db.execute(
                "DELETE FROM attempt WHERE channel = ? AND time < ?", (channel, now - window)
            )
            db.execute("INSERT INTO attempt VALUES (?, ?)", (channel, now))

    def attempts(self, channel: str) -> list[float]:
        """When messages were tried of late, ascending."""
        rows = self._rows("SELECT time FROM attempt WHERE channel = ? ORDER BY time", (channel,))
        return [row[0] for row in rows]

    def defer(self, waiting: Waiting, due: float, error: str) -> None:
        """It was not delivered; the next try is due then."""
        with self._writing() as db:
            db.execute(
                "UPDATE waiting SET attempts = attempts + 1, due = ?, error = ? WHERE id = ?",
                (due, error, waiting.message.id),
            )

    def end(self, waiting: Waiting, now: float, result: str, answer: str) -> None:
        """It was delivered, or given up: it waits no longer and stands in the log."""
        message = waiting.message
        attempts = waiting.attempts + (result == "delivered")
        with self._writing() as db:
            db.execute("DELETE FROM waiting WHERE id = ?", (message.id,))
            db.execute(
                "INSERT INTO log (id, channel, created, ended, result, attempts, answer, notices)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (message.id, message.channel, waiting.created, now, result, attempts, answer,
                 _notices(message)),
            )  # fmt: skip

    def pause(self, channel: str, until: float) -> None:
        """Leave the channel's service alone until then."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO pause VALUES (?, ?)", (channel, until))

    def hasten(self, channel: str, now: float) -> None:
        """Another configuration: whatever waits for the channel is due, and its service asked."""
        with self._writing() as db:
            db.execute("UPDATE waiting SET due = min(due, ?) WHERE channel = ?", (now, channel))
            db.execute("DELETE FROM pause WHERE channel = ?", (channel,))

    def paused(self, channel: str) -> float:
        """Until when the channel's service is left alone; 0: it is not."""
        rows = self._rows("SELECT until FROM pause WHERE channel = ?", (channel,))
        return float(rows[0][0]) if rows else 0.0

    def tidy(self, before: float, most: int = MOST_LOGGED) -> None:
        """Forget what ended before that, and all but the newest of the log."""
        with self._writing() as db:
            db.execute("DELETE FROM log WHERE ended < ?", (before,))
            db.execute("DELETE FROM log WHERE number <= (SELECT max(number) FROM log) - ?", (most,))

    def strays(self, channels: list[str], created_before: float) -> list[Waiting]:
        """Old messages to channels that are not among these."""
        marks = ", ".join("?" * len(channels))
        sql = f"{_WAITING} WHERE channel NOT IN ({marks}) AND created < ?"
        return [_waiting(row) for row in self._rows(sql, (*channels, created_before))]

    def counts(self) -> dict[str, int]:
        """How many messages wait, by channel."""
        return dict(self._rows("SELECT channel, count(*) FROM waiting GROUP BY channel"))

    def untried(self) -> int:
        """How many messages wait of which no try has ended yet."""
        return int(self._rows("SELECT count(*) FROM waiting WHERE attempts = 0")[0][0])

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._lock, explained(self.path):
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock, explained(self.path), self._db as db:
            yield db


def read_log(path: Path, channel: str | None, limit: int) -> tuple[list[Waiting], list[Ended]]:
    """What waits, and what ended last, newest first; of one channel or (None) of all.

    For whoever may read the file; one that is not there: nothing was ever sent. Raises Unusable.
    """
    if not path.exists():
        return [], []
    with explained(path), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        only = "WHERE :channel IS NULL OR channel = :channel"
        which = {"channel": channel, "limit": limit}
        waiting = db.execute(f"{_WAITING} {only} ORDER BY created DESC LIMIT :limit", which)
        still = waiting.fetchall()
        ended = db.execute(f"{_ENDED} {only} ORDER BY number DESC LIMIT :limit", which).fetchall()
    return [_waiting(row) for row in still], [_ended(row) for row in ended]


_WAITING = "SELECT id, channel, notices, created, due, attempts, error FROM waiting"
_ENDED = "SELECT id, channel, notices, created, ended, result, attempts, answer FROM log"


def _waiting(row: tuple[Any, ...]) -> Waiting:
    created, due, attempts, error = row[3:]
    message = _message(*row[:3])
    return Waiting(message=message, created=created, due=due, attempts=attempts, error=error)


def _ended(row: tuple[Any, ...]) -> Ended:
    created, ended, result, attempts, answer = row[3:]
    return Ended(
        message=_message(*row[:3]),
        created=created,
        ended=ended,
        result=result,
        attempts=attempts,
        answer=answer,
    )


def _message(id: str, channel: str, notices: str) -> Message:
    found = tuple(Notice.from_dict(plain) for plain in json.loads(notices))
    return Message(id=id, channel=channel, notices=found)


def _notices(message: Message) -> str:
    return _json([notice.to_dict() for notice in message.notices])


def _insert(db: sqlite3.Connection, message: Message, now: float) -> None:
    db.execute(
        "INSERT INTO waiting (id, channel, created, due, notices) VALUES (?, ?, ?, ?, ?)",
        (message.id, message.channel, now, now, _notices(message)),
    )


def _json(value: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(value, separators=(",", ":"))  # ASCII: whatever a name may hold
