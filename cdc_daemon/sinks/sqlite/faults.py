"""Rows of a failed batch that are at fault for themselves, with the error each would give alone.

Asked only after a data error. Here nothing is cheaper than asking the database itself: each row is
applied alone, without a savepoint of its own, for a statement that fails leaves nothing behind; and
what went in is taken back by the caller's savepoint. Left out is what depends on other rows: keys
that are taken, references.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Key, Patch, Step, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.forms import Stored
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.errors import rolled_back, translate
from cdc_daemon.sinks.sqlite.shape import Shape
from cdc_daemon.sinks.steps import present_in

Faults = dict[Key, DataError]

_OF_OTHERS = ("sqlstate_23503", "sqlstate_23505")


class Search:
    """Tries rows one by one. ``moment``, ``started``: as for writing them."""

    def __init__(self, connection: Connection, moment: str, started: str | None) -> None:
        self._connection = connection
        self._moment = moment
        self._started = started

    def run(self, shape: Shape, step: Step) -> Faults:
        """Entity keys of a step's rows at fault."""
        if not isinstance(step, Upsert | Patch):
            return {}
        found: Faults = {}
        for n, row in enumerate(step.rows):
            source = step.source_keys[n] if isinstance(step, Upsert) and step.source_keys else None
            error = self._error_of(shape, step, row, source)
            if error is not None and error.code not in _OF_OTHERS:
                found[step.layout.key_of(row)] = error
        return found

    def _error_of(
        self, shape: Shape, step: Upsert | Patch, row: Row, source: Key | None
    ) -> DataError | None:
        try:
            if isinstance(step, Upsert):
                self._write(shape, row, source)
            else:
                present = present_in(step)
                values = _first(shape.some([row], present))
                self._connection.execute(shape.patch(present), [*values, self._moment])
        except DataError as error:
            return error
        except sqlite3.Error as exc:
            found = translate(exc, known=shape.columns)
            if not isinstance(found, DataError):
                raise
            if not self._connection.in_transaction:
                raise rolled_back() from exc
            return found
        return None

    def _write(self, shape: Shape, row: Row, source: Key | None) -> None:
        values = [*_first(shape.rows([row])), self._moment]
        named: list[Stored] = []
        if source is not None:
            named = [self._started, *_first(shape.source_columns([source]))]
        if self._connection.execute(shape.update, [*values, *named]).rowcount == 0:
            self._connection.execute(shape.insert, values)


def _first(columns: Sequence[Sequence[Stored]]) -> Iterator[Stored]:
    return (column[0] for column in columns)
