"""Many rows: straight COPY while inserts keep not conflicting, else statements over arrays.

Rows that the log inserted are appended to the entity table under a savepoint. A conflict takes that
back and sends them, and for a while all later ones, as arrays: one UPDATE writes the rows that
exist, one INSERT adds those that do not. Arrays go in slices, one pipeline for all of them, so that
the server works on one slice while the next is made.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence

import psycopg
from psycopg.pq.abc import PGresult

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Outcome, Patch, Truncate, Upsert
from cdc_daemon.sinks.caution import Caution
from cdc_daemon.sinks.postgres.arrays import array, arrays
from cdc_daemon.sinks.postgres.copytext import feed, feed_both
from cdc_daemon.sinks.postgres.names import DELETED_AT, LAST_SYNC, quote
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.singles import delete_call
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call, affected
from cdc_daemon.sinks.rejected import duplicate_entity_key
from cdc_daemon.sinks.steps import last_of_each, present_in

SLICE_ROWS = 1000
"""Rows in one statement over arrays: enough to make its round trip cheap, few enough to overlap."""


class Sets:
    """Sets of rows, written inside one transaction."""

    def __init__(
        self, transaction: Transaction, cautions: dict[int, Caution], outcome: Outcome
    ) -> None:
        self._transaction = transaction
        self._cautions = cautions
        self._outcome = outcome

    def upsert(self, shape: Shape, step: Upsert) -> None:
        """Write whole rows, and their references. DataError ``duplicate_entity_key``."""
        if step.fresh and self._append(shape, step):
            return
        rows, source_keys = last_of_each(step)
        if source_keys is None:
            self._merge(shape, rows)
        else:
            self._merge_named(shape, list(map(operator.add, rows, source_keys)))

    def patch(self, shape: Shape, step: Patch) -> None:
        """Write the present columns of rows that exist; the others are missing."""
        present = present_in(step)
        statement = shape.patch_many(present)

        def calls() -> Iterator[Call]:
            for rows in _slices(step.rows):
                columns = list(zip(*rows, strict=True))
                yield statement, [array(columns[i]) for i in present]

        written = sum(map(affected, self._transaction.calls(calls())))
        self._count(shape, "update", written)
        if written < len(step.rows):
            keys = [shape.layout.key_of(row) for row in step.rows]
            living = states(self._transaction, shape, keys)
            self._outcome.missing += [
                (shape.layout, row)
                for row, key in zip(step.rows, keys, strict=True)
                if not living.get(key)
            ]

    def delete(self, shape: Shape, step: Delete) -> None:
        """Delete by key, hard or softly, and the references that go along."""
        calls = [delete_call(shape, step)]
        if step.owners:
            calls.append((shape.forget_many, arrays(step.owners)))
        gone = affected(self._transaction.calls(calls)[0])
        self._count(shape, "delete", gone)
        self._count(shape, "noop", len(step.keys) - gone)

    def truncate(self, shape: Shape, step: Truncate) -> None:
        """Delete every row of the mapping, hard or softly, and all its references."""
        if step.layout.soft:
            moment = f"timestamptz 'epoch' + {step.time} * interval '1 microsecond'"
            statement = (
                f"UPDATE {shape.table} SET {quote(DELETED_AT)} = {moment},"
                f" {quote(LAST_SYNC)} = now() WHERE {quote(DELETED_AT)} IS NULL"
            )
        else:
            statement = f"DELETE FROM {shape.table}"
        statements = [statement]
        if shape.reference:
            statements.append(f"DELETE FROM {shape.reference}")
        self._count(shape, "delete", affected(self._transaction.script(statements)[0]))

    def _append(self, shape: Shape, step: Upsert) -> bool:
        """Try a straight COPY; False where a row was there already."""
        caution = self._cautions.setdefault(shape.number, Caution())
        if not caution.direct():
            return False
        statements, feeds = [shape.copy_table], [feed(step.rows)]
        if step.source_keys is not None:
            statements.append(shape.copy_references)
            feeds = [*feed_both(step.rows, step.source_keys, shape.layout.key)]
        self._transaction.mark()
        try:
            self._transaction.script(statements, *feeds)
        except psycopg.errors.UniqueViolation:
            self._transaction.rollback_to_mark()
            caution.conflicted()
            return False
        self._transaction.release()
        caution.went_well()
        self._count(shape, "insert", len(step.rows))
        return True

    def _merge(self, shape: Shape, rows: Sequence[Row]) -> None:
        """Write over what exists, add what does not."""
        updated = self._transaction.calls((shape.update, arrays(s)) for s in _slices(rows))
        self._add_missing(shape, rows, updated)

    def _merge_named(self, shape: Shape, rows: Sequence[Row]) -> None:
        """The same with source keys at the end of each row; their references are written too."""
        width = len(shape.columns)

        def calls() -> Iterator[Call]:
            for piece in _slices(rows):
                made = arrays(piece)
                yield shape.update, made
                yield shape.refer_many, [*made[width:], *(made[i] for i in shape.layout.key)]

        updated = self._transaction.calls(calls())[::2]
        if self._add_missing(shape, rows, updated) < len(rows):
            raise duplicate_entity_key(shape.layout)

    def _add_missing(self, shape: Shape, rows: Sequence[Row], updated: Sequence[PGresult]) -> int:
        """Add the rows of those slices of which not all were updated; how many are written now."""
        short = [
            piece
            for piece, result in zip(_slices(rows), updated, strict=True)
            if affected(result) < len(piece)
        ]
        inserted = (
            self._transaction.calls((shape.insert, arrays(s)) for s in short) if short else []
        )
        numbers = sum(map(affected, updated)), sum(map(affected, inserted))
        self._count(shape, "update", numbers[0])
        self._count(shape, "insert", numbers[1])
        return sum(numbers)

    def _count(self, shape: Shape, kind: str, number: int) -> None:
        self._outcome.count(shape.layout.mapping, kind, number)


def states(transaction: Transaction, shape: Shape, keys: Sequence[Key]) -> dict[Key, bool]:
    """Those of these keys that exist, and whether the row there lives (True) or is a tombstone."""
    if not keys:
        return {}
    found = transaction.calls([(shape.states, arrays(keys))])[0]
    return {
        keys[int(found.get_value(i, 0) or 0) - 1]: found.get_value(i, 1) == b"t"
        for i in range(found.ntuples)
    }


def _slices(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[start : start + SLICE_ROWS] for start in range(0, len(rows), SLICE_ROWS))
