"""Steps carried out inside one transaction: each statement runs over all rows of a step.

Rows that the log inserted are added first, and only where some were there already are all written
over; other rows are written over first, and only where some were not there are they added. Rows go
in slices, so that no more of them than a slice is held twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Outcome, Patch, Truncate, Upsert
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC
from cdc_daemon.sinks.forms import Stored
from cdc_daemon.sinks.rejected import duplicate_entity_key
from cdc_daemon.sinks.sqlite.checkpoint import moment_of
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.names import quote
from cdc_daemon.sinks.sqlite.shape import Shape
from cdc_daemon.sinks.steps import last_of_each, present_in

SLICE_ROWS = 2000

Columns = list[Iterable[Stored]]
"""Of one length, or without end; the first one says how long."""


class Writing:
    """What one ``apply`` writes. ``moment``: its time; ``started``: the generation's."""

    def __init__(
        self, connection: Connection, outcome: Outcome, moment: str, started: str | None
    ) -> None:
        self._connection = connection
        self._outcome = outcome
        self.moment = moment
        self._started = started

    # --- steps ------------------------------------------------------------------------------------

    def upsert(self, shape: Shape, step: Upsert) -> None:
        """Write whole rows, and their references. DataError ``duplicate_entity_key``."""
        rows, sources = last_of_each(step)
        for start in range(0, len(rows), SLICE_ROWS):
            piece = rows[start : start + SLICE_ROWS]
            columns: Columns = [*shape.rows(piece), repeat(self.moment)]
            if sources is not None:
                named = sources[start : start + SLICE_ROWS]
                self._write_named(shape, columns, named, fresh=step.fresh)
            elif step.fresh:
                self._write_fresh(shape, columns, len(piece))
            else:
                self._write(shape, columns, len(piece))

    def patch(self, shape: Shape, step: Patch) -> None:
        """Write the present columns of rows that exist; the others are missing."""
        present = present_in(step)
        for rows in _slices(step.rows):
            columns: Columns = [*shape.some(rows, present), repeat(self.moment)]
            written = self.many(shape.patch(present), _tuples(columns))
            self.count(shape, "update", written)
            if written < len(rows):
                self._note_missing(shape, rows)

    def delete(self, shape: Shape, step: Delete) -> None:
        """Delete by key, hard or softly, and the references that go along."""
        if not step.keys:
            return
        columns: Columns = [*shape.key_columns(step.keys)]
        owners: Columns = [] if step.owners is None else [*shape.source_columns(step.owners)]
        owned = step.owners is not None
        if step.layout.soft:
            times = {time: moment_of(time) for time in set(step.times)}
            columns += [[times[time] for time in step.times], repeat(self.moment)]
            gone = self.many(shape.bury(owned=owned), _tuples([*columns, *owners]))
        else:
            gone = self.many(shape.delete(owned=owned), _tuples([*columns, *owners]))
        if owned:
            self.many(shape.forget, _tuples(owners))
        self.count(shape, "delete", gone)
        self.count(shape, "noop", len(step.keys) - gone)

    def truncate(self, shape: Shape, step: Truncate) -> None:
        """Delete every row of the mapping, hard or softly, and all its references."""
        if step.layout.soft:
            done = self._connection.execute(
                f"UPDATE {shape.table} SET {quote(DELETED_AT)} = ?, {quote(LAST_SYNC)} = ?"
                f" WHERE {quote(DELETED_AT)} IS NULL",
                (moment_of(step.time), self.moment),
            )
        else:
            done = self._connection.execute(f"DELETE FROM {shape.table}")
        if shape.reference:
            self._connection.execute(f"DELETE FROM {shape.reference}")
        self.count(shape, "delete", done.rowcount)

    # --- parts ------------------------------------------------------------------------------------

    def many(self, sql: str, rows: Iterator[tuple[Stored, ...]]) -> int:
        """Run a statement over rows; how many rows it wrote."""
        return max(self._connection.executemany(sql, rows).rowcount, 0)

    def count(self, shape: Shape, kind: str, number: int) -> None:
        """Count rows of the shape's mapping."""
        self._outcome.count(shape.layout.mapping, kind, number)

    def _write_fresh(self, shape: Shape, columns: Columns, number: int) -> None:
        inserted = self.many(shape.insert, _tuples(columns))
        if inserted < number:
            self.many(shape.update, _tuples(columns))
        self.count(shape, "insert", inserted)
        self.count(shape, "update", number - inserted)

    def _write(self, shape: Shape, columns: Columns, number: int) -> None:
        updated = self.many(shape.update, _tuples(columns))
        if updated < number:
            self.many(shape.insert, _tuples(columns))
        self.count(shape, "insert", number - updated)
        self.count(shape, "update", updated)

    def _write_named(
        self, shape: Shape, columns: Columns, sources: Sequence[Key], *, fresh: bool
    ) -> None:
        """The same with references, of which a living row must be named."""
        number, source_columns = len(sources), shape.source_columns(sources)
        references: Columns = [*source_columns, *(columns[i] for i in shape.layout.key)]
        if fresh and self._append(shape, columns, number):
            self.many(shape.refer, _tuples(references))
            return
        guarded: Columns = [*columns, repeat(self._started), *source_columns]
        updated = self.many(shape.update, _tuples(guarded))
        self.many(shape.refer, _tuples(references))
        inserted = self.many(shape.insert, _tuples(columns)) if updated < number else 0
        if updated + inserted < number:
            raise duplicate_entity_key(shape.layout)
        self.count(shape, "update", updated)
        self.count(shape, "insert", inserted)

    def _append(self, shape: Shape, columns: Columns, number: int) -> bool:
        """Try whether all rows are new; False, with nothing written, where some are not."""
        self._connection.execute("SAVEPOINT cdc_append")
        appended = self.many(shape.insert, _tuples(columns)) == number
        if not appended:
            self._connection.execute("ROLLBACK TO cdc_append")
        self._connection.execute("RELEASE cdc_append")
        if appended:
            self.count(shape, "insert", number)
        return appended

    def _note_missing(self, shape: Shape, rows: Sequence[Row]) -> None:
        keys = [shape.layout.key_of(row) for row in rows]
        living = states(self._connection, shape, keys)
        self._outcome.missing += [
            (shape.layout, row) for row, key in zip(rows, keys, strict=True) if not living.get(key)
        ]


def states(connection: Connection, shape: Shape, keys: Sequence[Key]) -> dict[Key, bool]:
    """Those of these keys that exist, and whether the row there lives (True) or is a tombstone."""
    if not keys:
        return {}
    found = connection.execute(shape.states, (shape.key_json(keys),))
    return {keys[n]: bool(living) for n, living in found}


def _tuples(columns: Columns) -> Iterator[tuple[Stored, ...]]:
    """Columns as rows of parameters; the first column says how many."""
    return zip(*columns, strict=False)


def _slices(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[start : start + SLICE_ROWS] for start in range(0, len(rows), SLICE_ROWS))
