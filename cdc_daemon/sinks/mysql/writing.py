"""Steps carried out inside one transaction, many rows a statement.

Rows that the log inserted are appended under a savepoint; a conflict takes that back and sends
them, and for a while all later ones, the other way: one UPDATE writes over the rows that exist,
and those that do not are added. Rows go in slices; a slice that is more than the server takes in
one packet goes in halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Outcome, Patch, Truncate, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.caution import Caution
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC
from cdc_daemon.sinks.mysql.checkpoint import moment_of
from cdc_daemon.sinks.mysql.names import quote
from cdc_daemon.sinks.mysql.session import Result
from cdc_daemon.sinks.mysql.shape import Shape, filled
from cdc_daemon.sinks.mysql.slices import sliced
from cdc_daemon.sinks.mysql.transaction import TooLong, Transaction
from cdc_daemon.sinks.mysql.values import Columns, literal, source_columns, unfolded
from cdc_daemon.sinks.rejected import duplicate_entity_key
from cdc_daemon.sinks.steps import last_of_each, present_in

_DUPLICATE = "sqlstate_23505"

T = TypeVar("T")

Piece = Sequence[tuple[Row, Key]]
"""Rows, each with its source key; an empty one where the mapping keeps none."""


class Writing:
    """What one ``apply`` writes. ``started``: when the generation began, as the ledger has it."""

    def __init__(
        self,
        transaction: Transaction,
        cautions: dict[int, Caution],
        outcome: Outcome,
        started: str | None,
    ) -> None:
        self._transaction = transaction
        self._cautions = cautions
        self._outcome = outcome
        self._started = started

    @property
    def moment(self) -> str:
        """When the unit began."""
        return self._transaction.moment

    # --- steps ------------------------------------------------------------------------------------

    def upsert(self, shape: Shape, step: Upsert) -> None:
        """Write whole rows, and their references. DataError ``duplicate_entity_key``."""
        if step.fresh and self._appended(shape, step):
            return
        rows, sources = last_of_each(step)
        self._sliced(_beside(rows, sources), lambda piece: self._merge(shape, piece))

    def patch(self, shape: Shape, step: Patch) -> None:
        """Write the present columns of rows that exist; the others are missing."""
        present = present_in(step)

        def write(rows: Sequence[Row]) -> None:
            text = unfolded(shape.some(rows, present))
            written = self._run(shape, filled(shape.patch(present, self.moment), text)).affected
            self._count(shape, "update", written)
            if written < len(rows):
                self._note_missing(shape, rows)

        self._sliced(step.rows, write)

    def delete(self, shape: Shape, step: Delete) -> None:
        """Delete by key, hard or softly, and the references that go along."""
        owners = step.owners if step.owners is not None else [()] * len(step.keys)
        times = step.times if step.layout.soft else [0] * len(step.keys)

        def go(piece: Sequence[tuple[Key, int, Key]]) -> None:
            gone = self._go(shape, step, piece)
            self._count(shape, "delete", gone)
            self._count(shape, "noop", len(piece) - gone)

        self._sliced(list(zip(step.keys, times, owners, strict=True)), go)

    def truncate(self, shape: Shape, step: Truncate) -> None:
        """Delete every row of the mapping, hard or softly, and all its references."""
        if step.layout.soft:
            statements = [
                f"UPDATE {shape.table} SET {quote(DELETED_AT)} = {literal(moment_of(step.time))},"
                f" {quote(LAST_SYNC)} = {literal(self.moment)} WHERE {quote(DELETED_AT)} IS NULL"
            ]
        else:
            statements = [f"DELETE FROM {shape.table}"]
        if shape.reference:
            statements.append(f"DELETE FROM {shape.reference}")
        self._count(shape, "delete", self._transaction.script(statements)[0].affected)

    # --- parts ------------------------------------------------------------------------------------

    def _appended(self, shape: Shape, step: Upsert) -> bool:
        """Try whether all rows are new; False, with nothing written, where some are not."""
        caution = self._cautions.setdefault(id(shape), Caution())
        if not caution.direct():
            return False
        self._transaction.mark()
        try:
            rows = _beside(step.rows, step.source_keys)
            self._sliced(rows, lambda piece: self._append(shape, piece))
        except DataError as error:
            self._transaction.rollback_to_mark()
            if error.code != _DUPLICATE:
                raise
            caution.conflicted()
            return False
        self._transaction.release()
        caution.went_well()
        self._count(shape, "insert", len(step.rows))
        return True

    def _append(self, shape: Shape, piece: Piece) -> None:
        columns = shape.rows([row for row, _ in piece])
        statements = [shape.insert(columns, self.moment)]
        if shape.reference and piece[0][1]:
            statements.append(shape.refer(_references(shape, columns, piece), "INSERT"))
        self._transaction.script(statements, shape.columns)

    def _merge(self, shape: Shape, piece: Piece) -> None:
        """Write over what exists, add what does not."""
        rows = [row for row, _ in piece]
        columns = shape.rows(rows)
        named = shape.reference and piece[0][1]
        sources = source_columns([source for _, source in piece]) if named else []
        written = filled(shape.update(self.moment, self._started), unfolded([*columns, *sources]))
        statements = [written]
        if named:
            statements.append(shape.refer(_references(shape, columns, piece)))
        updated = self._transaction.script(statements, shape.columns)[0].affected
        self._count(shape, "update", updated)
        if updated < len(rows):
            self._add(shape, rows, len(rows) - updated)

    def _add(self, shape: Shape, rows: Sequence[Row], lacking: int) -> None:
        """Add the rows that are not there. DataError where others stand in their place."""
        keyed = {shape.layout.key_of(row): row for row in rows}
        standing = states(self._transaction, shape, [key for key in keyed if None not in key])
        absent = [row for key, row in keyed.items() if key not in standing]
        if len(absent) < lacking:
            raise duplicate_entity_key(shape.layout)
        self._run(shape, shape.insert(shape.rows(absent), self.moment))
        self._count(shape, "insert", len(absent))

    def _go(self, shape: Shape, step: Delete, piece: Sequence[tuple[Key, int, Key]]) -> int:
        owned = step.owners is not None
        keys, owners = [key for key, _, _ in piece], [owner for _, _, owner in piece]
        beside: list[Columns] = []
        if step.layout.soft:
            beside.append([[moment_of(time) for _, time, _ in piece]])
        if owned:
            beside.append(source_columns(owners))
        soft = step.layout.soft
        sql = shape.bury(self.moment, owned=owned) if soft else shape.delete(owned=owned)
        statements = [filled(sql, shape.key_json(keys, *beside))]
        if owned:
            statements.append(filled(shape.forget, shape.source_json(owners)))
        return self._transaction.script(statements, shape.columns)[0].affected

    def _note_missing(self, shape: Shape, rows: Sequence[Row]) -> None:
        keys = [shape.layout.key_of(row) for row in rows]
        living = states(self._transaction, shape, keys)
        self._outcome.missing += [
            (shape.layout, row) for row, key in zip(rows, keys, strict=True) if not living.get(key)
        ]

    def _run(self, shape: Shape, sql: str) -> Result:
        return self._transaction.script([sql], shape.columns)[0]

    def _count(self, shape: Shape, kind: str, number: int) -> None:
        self._outcome.count(shape.layout.mapping, kind, number)

    def _sliced(self, items: Sequence[T], act: Callable[[Sequence[T]], None]) -> None:
        """Carry something out for slices. DataError for a row that no packet holds."""
        try:
            sliced(items, act)
        except TooLong as error:
            words = f"The row is larger than the {error.most:,} bytes of max_allowed_packet"
            raise DataError(words, code="sqlstate_54000") from error


def states(transaction: Transaction, shape: Shape, keys: Sequence[Key]) -> dict[Key, bool]:
    """Those of these keys that exist, and whether the row there lives (True) or is a tombstone."""
    found: dict[Key, bool] = {}

    def ask(piece: Sequence[Key]) -> None:
        asked = filled(shape.states, shape.key_json(piece))
        for n, living in transaction.script([asked], shape.columns)[0].rows:
            found[piece[int(n or b"0") - 1]] = living == b"1"

    sliced(keys, ask)
    return found


def referred(transaction: Transaction, shape: Shape, sources: Sequence[Key]) -> dict[Key, Key]:
    """The entity keys of those of these source keys that the reference table knows."""
    found: dict[Key, Key] = {}

    def ask(piece: Sequence[Key]) -> None:
        asked = filled(shape.resolve, shape.source_json(piece))
        for n, *key in transaction.run(asked).rows:
            found[piece[int(n or b"0") - 1]] = shape.shown_key(key)

    sliced(sources, ask)
    return found


def _beside(rows: Sequence[Row], sources: Sequence[Key] | None) -> list[tuple[Row, Key]]:
    return list(zip(rows, sources if sources is not None else [()] * len(rows), strict=True))


def _references(shape: Shape, columns: Columns, piece: Piece) -> Columns:
    """Source keys and the entity keys beside them, for the reference table."""
    sources = source_columns([source for _, source in piece])
    return [*sources, *(columns[i] for i in shape.layout.key)]
