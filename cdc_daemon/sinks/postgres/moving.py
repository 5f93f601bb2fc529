"""Renames on the table, in one round trip. Foreign keys follow by ON UPDATE CASCADE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Key, Outcome, Rename
from cdc_daemon.sinks.postgres.arrays import arrays
from cdc_daemon.sinks.postgres.sets import states
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.singles import params
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call
from cdc_daemon.sinks.renaming import carry_out


def rename(transaction: Transaction, shape: Shape, step: Rename, outcome: Outcome) -> None:
    """Carry a step's renames out. A living row in the way is ``duplicate_entity_key``."""
    moving = Moving(transaction, shape)
    carry_out(moving, step, outcome)
    if moving.calls:
        transaction.calls(moving.calls)


class Moving:
    """``renaming.Rows`` on PostgreSQL; what changes rows is collected in ``calls``."""

    def __init__(self, transaction: Transaction, shape: Shape) -> None:
        self._transaction = transaction
        self._shape = shape
        self.calls: list[Call] = []

    def standing(self, keys: Sequence[Key]) -> Mapping[Key, bool]:
        return states(self._transaction, self._shape, keys)

    def clear(self, tombs: Sequence[Key]) -> None:
        self.calls.append((self._shape.delete, arrays(tombs)))

    def move(self, row: Row, old: Key) -> None:
        present = tuple(i for i, value in enumerate(row) if value is not UNCHANGED)
        values = [row[i] for i in present]
        self.calls.append((self._shape.rename(present), params([*values, *old])))

    def refer(self, gone: Sequence[Key], named: Sequence[tuple[Key, Key]]) -> None:
        if gone:
            self.calls.append((self._shape.forget_many, arrays(gone)))
        self.calls += [(self._shape.refer, params([*source, *key])) for source, key in named]
