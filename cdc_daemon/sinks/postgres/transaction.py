"""One transaction whose small statements travel with the next larger one.

BEGIN, savepoints and their release wait until something is sent anyway, so they cost no round trip
of their own; a savepoint right behind another one is the same place and costs nothing at all.
Nothing here knows what a statement means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from psycopg.pq.abc import PGresult

from cdc_daemon.sinks.postgres.wire import Call, Statement, Wire, failure

_NAMED = 50  # characters, of a text that serves as its name
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"


class Transaction:
    """Statements of one transaction. psycopg.Error passes through; the caller rolls back.

    ``first``: what is run at its beginning.
    """

    def __init__(self, wire: Wire, first: Sequence[str] = ()) -> None:
        self._wire = wire
        self._pending = [_BEGIN, *first]
        self.begun = False  # whether the server knows of it
        self._marks: list[str] = []

    def script(self, statements: Sequence[str], *feeds: Iterable[bytes]) -> list[PGresult]:
        """Run statements as one script; every ``COPY … FROM STDIN`` takes the next feed."""
        before = self._take()
        text = "; ".join([*before, *statements])
        return self._wire.script(text.encode(), *feeds)[len(before) :]

    def calls(self, calls: Iterable[Call]) -> list[PGresult]:
        """Run statements in one round trip."""
        before = [_utility(text) for text in self._take()]
        results = self._wire.pipeline(chain(before, calls))
        error = failure(results)
        if error is not None:
            raise error
        return results[len(before) :]

    def begin(self) -> None:
        """Send what is pending now: what follows goes through psycopg."""
        if self._pending:
            self.script([])

    def mark(self) -> None:
        """Set a savepoint; savepoints nest."""
        if self._marks and self._pending and self._pending[-1] == _savepoint(self._marks[-1]):
            self._marks.append(self._marks[-1])
            return
        self._marks.append(f"s{len(self._marks)}")
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
        release = "" if kept else f"; RELEASE {mark}"
        self._wire.script(f"ROLLBACK TO {mark}{release}".encode())

    def commit(self, calls: Sequence[Call]) -> None:
        """Run the last calls and commit, in one round trip."""
        if self.begun or calls:
            self.calls([*calls, _utility("COMMIT")])

    def rollback(self) -> None:
        """Undo everything."""
        if self.begun:
            self.begun = False
            self._wire.script(b"ROLLBACK")

    def _take(self) -> list[str]:
        taken, self._pending = self._pending, []
        self.begun = True
        return taken


def _savepoint(name: str) -> str:
    return f"SAVEPOINT {name}"


def _utility(text: str) -> Call:
    """A statement without parameters; a long one is not worth a name."""
    name = f"cdc_{text.lower().replace(' ', '_')}".encode() if len(text) < _NAMED else b""
    return Statement(name, text.encode()), ()
