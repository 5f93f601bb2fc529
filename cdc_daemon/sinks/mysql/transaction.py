"""One transaction whose small statements travel with the next larger one.

START TRANSACTION, savepoints and their release wait until something is sent anyway, so they cost no
round trip of their own; a savepoint right behind another one is the same place and costs nothing.

A deadlock takes the whole transaction, and the server would begin another one, or commit each
statement alone, without a word. So after any error but a row's, and when the server says that no
transaction is open, nothing is sent any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pymysql

from cdc_daemon.model.errors import CdcError, DataError, Stop
from cdc_daemon.sinks.mysql.errors import rolled_back, translate
from cdc_daemon.sinks.mysql.session import Result, Session
from cdc_daemon.sinks.mysql.values import literal

_BEGIN = ("START TRANSACTION", "SELECT UTC_TIMESTAMP(6)")


RAISE_PACKET = "raise max_allowed_packet there: SET GLOBAL, and in its configuration file"


class TooLong(Stop):
    """Statements are larger than the server takes in one packet: so many bytes at ``most``."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(
            f"A statement is larger than the {most:,} bytes that the control database takes.",
            hint=RAISE_PACKET,
        )


class Transaction:
    """Statements of one transaction, with their errors in our words; the caller rolls back.

    ``moment``: when it began, by the server's clock; asked for with its first statement.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.begun = False
        self._ended: CdcError | None = None
        self._moment = ""
        self._pending: list[str] = []
        self._marks: list[str] = []

    @property
    def moment(self) -> str:
        """The moment as text: ``2026-02-28 23:59:59.000000``."""
        self.begin()
        return self._moment

    def begin(self) -> None:
        """Begin, unless it has begun. Raises what ended it, where something has."""
        if self._ended is not None:
            raise self._ended
        if not self.begun:
            self.begun = True
            with self._kept(()):
                moment = self.session.script(_BEGIN)[1].text()
            assert moment is not None
            self._moment = moment

    def run(self, sql: str, *params: object) -> Result:
        """Run one statement; ``%s`` stands for a parameter, where there are any."""
        return self.script([sql % tuple(map(literal, params)) if params else sql])[0]

    def script(self, statements: Sequence[str], known: Sequence[str] = ()) -> list[Result]:
        """Run statements in one round trip. ``known``: attribute names that an error may name.

        Raises TooLong, with nothing sent, for more than the server takes.
        """
        self.begin()
        before = self._pending
        payload = "; ".join([*before, *statements]).encode()
        if len(payload) > self.session.longest:
            raise TooLong(self.session.longest)
        self._pending = []
        with self._kept(known):
            found = self.session.send(payload, len(before) + len(statements))
        if not self.session.in_transaction:
            raise self._end(rolled_back())
        return found[len(before) :]

    def mark(self) -> None:
        """Set a savepoint; savepoints nest."""
        if self._marks and self._pending and self._pending[-1] == _savepoint(self._marks[-1]):
            self._marks.append(self._marks[-1])
            return
        self._marks.append(f"cdc_{len(self._marks)}")
        self._pending.append(_savepoint(self._marks[-1]))

    def release(self) -> None:
        """Keep what came since the innermost savepoint."""
        name = self._marks.pop()
        if name in self._marks:
            return
        if self._pending and self._pending[-1] == _savepoint(name):
            self._pending.pop()
        else:
            self._pending.append(f"RELEASE {_savepoint(name)}")

    def rollback_to_mark(self) -> None:
        """Undo what came since the innermost savepoint, and forget it."""
        name = self._marks.pop()
        kept = name in self._marks
        mark = _savepoint(name)
        if mark in self._pending:
            del self._pending[self._pending.index(mark) + kept :]
            return
        self._pending.clear()
        if self._ended is None and self.begun:
            self.script([f"ROLLBACK TO {mark}", *([] if kept else [f"RELEASE {mark}"])])

    def commit(self) -> None:
        """Commit what was begun. Raises Unreachable when nobody knows whether it took effect."""
        if self.begun:
            self.begin()
            self._pending.clear()
            with self._kept(()):
                self.session.run("COMMIT")

    def rollback(self) -> None:
        """Undo everything; never raises."""
        self._ended = self._ended or rolled_back()
        if self.begun and self.session.alive:
            try:
                self.session.run("ROLLBACK")
            except Exception:  # noqa: BLE001 - whatever it is, this session is of no use any more
                self.session.close()

    @contextmanager
    def _kept(self, known: Sequence[str]) -> Iterator[None]:
        """Errors in our words; any but a row's is the end of the transaction."""
        try:
            yield
        except pymysql.Error as exc:
            error = translate(exc, known=known)
            if not isinstance(error, DataError):
                self._end(error)
            raise error from exc

    def _end(self, error: CdcError) -> CdcError:
        self._ended = error
        return error


def _savepoint(name: str) -> str:
    return f"SAVEPOINT {name}"
