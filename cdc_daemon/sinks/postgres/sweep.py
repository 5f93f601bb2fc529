"""The end of a repeated first copy: what this generation did not write is gone from the source.

Rows go hard or softly, as their mapping deletes; those of a mapping that keeps what its source
deletes stay. A row that another one refers to which stays is held back: it cannot go, and the copy
would never end. Tombstones lose their references to what went.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from cdc_daemon.model.effects import Outcome
from cdc_daemon.sinks.postgres.arrays import array
from cdc_daemon.sinks.postgres.dangling import References
from cdc_daemon.sinks.postgres.held import Holding, left_behind
from cdc_daemon.sinks.postgres.names import DELETED_AT, LAST_SYNC, quote
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call, Param, Statement, affected


class Sweep:
    """What one generation left behind in the tables of some shapes."""

    def __init__(
        self,
        transaction: Transaction,
        references: References,
        shapes: Sequence[Shape],
        started: dt.datetime,
    ) -> None:
        self._transaction = transaction
        self._references = references
        self._swept = {s.layout.entity.name: s for s in shapes if not s.layout.keeps}
        self._started = started.isoformat().encode()

    def run(self, outcome: Outcome) -> None:
        """Delete what was left behind. Rows held back are counted as ``noop``."""
        swept = self._swept
        held = Holding(self._transaction, self._references, swept, self._started).find()
        for name, shape in swept.items():
            gone = self._transaction.calls(self._going(shape, held.get(name)))
            outcome.count(shape.layout.mapping, "delete", affected(gone[0]))
            outcome.count(shape.layout.mapping, "noop", len(held.get(name, ())))
        hard = [shape.layout.entity for shape in swept.values() if not shape.layout.soft]
        loosened = [call for entity in hard for call in self._references.loosen_all(entity)]
        if loosened:
            self._transaction.calls(loosened)

    def _going(self, shape: Shape, held: set[bytes] | None) -> list[Call]:
        """The statement that deletes, and the one that forgets references to what is gone."""
        params: list[Param] = [self._started]
        if shape.layout.soft:
            values = f"{quote(DELETED_AT)} = now(), {quote(LAST_SYNC)} = now()"
            sql = f"UPDATE {shape.table} t SET {values} WHERE {left_behind(shape, 't')}"
        else:
            sql = f"DELETE FROM {shape.table} t WHERE {left_behind(shape, 't')}"
        if held:
            sql += f" AND t.{quote(shape.keys[0])} <> ALL($2::{shape.key_types[0]}[])"
            params.append(array(list(held)))
        calls: list[Call] = [(Statement(b"", sql.encode()), params)]
        if shape.reference:
            calls.append((_forget_gone(shape), []))
        return calls


def _forget_gone(shape: Shape) -> Statement:
    named = " AND ".join(
        f"t.{quote(key)} = r.{quote(target)}"
        for key, target in zip(shape.keys, shape.targets, strict=True)
    )
    living = f" AND t.{quote(DELETED_AT)} IS NULL" if shape.soft_table else ""
    sql = (
        f"DELETE FROM {shape.reference} r WHERE NOT EXISTS"
        f" (SELECT FROM {shape.table} t WHERE {named}{living})"
    )
    return Statement(b"", sql.encode())
