"""Renames on the table. Rows that refer to a renamed one follow, by statements of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.sinks.mysql.dangling import References
from cdc_daemon.sinks.mysql.shape import Shape, filled
from cdc_daemon.sinks.mysql.slices import sliced
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.values import source_columns
from cdc_daemon.sinks.mysql.writing import states


class Moving:
    """``renaming.Rows`` on MySQL and MariaDB."""

    def __init__(self, transaction: Transaction, references: References, shape: Shape) -> None:
        self._transaction = transaction
        self._references = references
        self._shape = shape

    def standing(self, keys: Sequence[Key]) -> Mapping[Key, bool]:
        return states(self._transaction, self._shape, keys)

    def clear(self, tombs: Sequence[Key]) -> None:
        shape, run = self._shape, self._transaction.run
        sliced(tombs, lambda some: run(filled(shape.delete(), shape.key_json(some))))

    def move(self, row: Row, old: Key) -> None:
        shape = self._shape
        present = tuple(i for i, value in enumerate(row) if value is not UNCHANGED)
        statements = [shape.rename(row, present, old, self._transaction.moment)]
        new = shape.layout.key_of(row)
        if new[0] != old[0]:
            statements += self._references.follow(shape.layout.entity, old[0], new[0])
        self._transaction.script(statements, shape.columns)

    def refer(self, gone: Sequence[Key], named: Sequence[tuple[Key, Key]]) -> None:
        shape, run = self._shape, self._transaction.run

        def note(pairs: Sequence[tuple[Key, Key]]) -> None:
            sources = source_columns([source for source, _ in pairs])
            targets = shape.key_columns([key for _, key in pairs])
            run(shape.refer([*sources, *targets]))

        sliced(gone, lambda some: run(filled(shape.forget, shape.source_json(some))))
        sliced(named, note)
