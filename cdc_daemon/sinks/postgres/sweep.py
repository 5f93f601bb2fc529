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
from cdc_daemon.sinks.postgres.dangling import References, Referrer
from cdc_daemon.sinks.postgres.names import DELETED_AT, LAST_SYNC, quote
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Call, Param, Statement, affected

Held = dict[str, set[bytes]]
"""Keys of rows that were left behind and stay, by entity; referred to, so of a single value."""


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
        held = self._held()
        for name, shape in self._swept.items():
            gone = self._transaction.calls(self._going(shape, held.get(name)))
            outcome.count(shape.layout.mapping, "delete", affected(gone[0]))
            outcome.count(shape.layout.mapping, "noop", len(held.get(name, ())))
        loosened = [
            call for s in self._hard() for call in self._references.loosen_all(s.layout.entity)
        ]
        if loosened:
            self._transaction.calls(loosened)

    def _hard(self) -> list[Shape]:
        return [shape for shape in self._swept.values() if not shape.layout.soft]

    def _held(self) -> Held:
        """Rows left behind that rows which stay refer to, directly or through others."""
        held: Held = {}
        pairs = [(s, r) for s in self._hard() for r in self._references.of(s.layout.entity)]
        grown = True
        while grown:
            grown = False
            for shape, referrer in pairs:
                more = self._referred(shape, referrer, held)
                held.setdefault(shape.layout.entity.name, set()).update(more)
                grown = grown or bool(more)
        return held

    def _referred(self, shape: Shape, referrer: Referrer, held: Held) -> set[bytes]:
        """Keys left behind, and not held yet, that living rows of a referrer which stay name."""
        known = held.get(shape.layout.entity.name, set())
        params: list[Param] = [self._started, array(list(known))]
        stays = ""
        child = self._swept.get(referrer.entity.name)
        if child is not None:
            stays = f" AND (c.{quote(LAST_SYNC)} >= $1::timestamptz"
            if referrer.entity.name in held:
                stays += f" OR c.{quote(child.keys[0])} = ANY($3::{child.key_types[0]}[])"
                params.append(array(list(held[referrer.entity.name])))
            stays += ")"
        living = f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""
        key, table = quote(shape.keys[0]), self._references.table(referrer.entity)
        sql = (
            f"SELECT p.{key} FROM {shape.table} p WHERE {_left_behind(shape, 'p')}"
            f" AND p.{key} <> ALL($2::{shape.key_types[0]}[]) AND EXISTS (SELECT FROM {table} c"
            f" WHERE c.{quote(referrer.attribute)} = p.{key}{living}{stays})"
        )
        [found] = self._transaction.calls([(Statement(b"", sql.encode()), params)])
        return {found.get_value(i, 0) or b"" for i in range(found.ntuples)}

    def _going(self, shape: Shape, held: set[bytes] | None) -> list[Call]:
        """The statement that deletes, and the one that forgets references to what is gone."""
        params: list[Param] = [self._started]
        if shape.layout.soft:
            values = f"{quote(DELETED_AT)} = now(), {quote(LAST_SYNC)} = now()"
            sql = f"UPDATE {shape.table} t SET {values} WHERE {_left_behind(shape, 't')}"
        else:
            sql = f"DELETE FROM {shape.table} t WHERE {_left_behind(shape, 't')}"
        if held:
            sql += f" AND t.{quote(shape.keys[0])} <> ALL($2::{shape.key_types[0]}[])"
            params.append(array(list(held)))
        calls: list[Call] = [(Statement(b"", sql.encode()), params)]
        if shape.reference:
            calls.append((_forget_gone(shape), []))
        return calls


def _left_behind(shape: Shape, alias: str) -> str:
    """Living rows that this generation did not write; ``$1`` is its start."""
    living = f"{alias}.{quote(DELETED_AT)} IS NULL AND " if shape.soft_table else ""
    return f"{living}{alias}.{quote(LAST_SYNC)} < $1::timestamptz"


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
