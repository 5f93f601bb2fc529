"""Rows left behind by a repeated first copy that cannot go: something which stays refers to them.

What stays: living rows that the copy wrote, those of entities that are not swept, those held
themselves, and all of tables that are no entity but have a foreign key to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc_daemon.sinks.postgres.arrays import array
from cdc_daemon.sinks.postgres.dangling import References
from cdc_daemon.sinks.postgres.names import DELETED_AT, LAST_SYNC, quote
from cdc_daemon.sinks.postgres.shape import Shape
from cdc_daemon.sinks.postgres.transaction import Transaction
from cdc_daemon.sinks.postgres.wire import Param, Statement
from cdc_daemon.sinks.referrers import Referrer

Held = dict[str, set[bytes]]
"""Their keys, by entity; they are referred to, so a key is a single value."""

_OUTSIDERS = Statement(
    b"",
    b"""
    SELECT array_position($1::regclass[], c.confrelid::regclass) - 1,
           format('FROM %s c WHERE c.%I = p.%I', c.conrelid::regclass, a.attname, k.attname)
      FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
      JOIN pg_catalog.pg_attribute k ON k.attrelid = c.confrelid AND k.attnum = c.confkey[1]
     WHERE c.contype = 'f' AND c.confrelid = ANY ($1::regclass[]) AND c.confdeltype IN ('a', 'r')
       AND cardinality(c.conkey) = 1 AND c.conrelid <> ALL($2::regclass[])
       AND has_schema_privilege(t.relnamespace, 'USAGE')
       AND has_table_privilege(c.conrelid, 'SELECT')""",
)
"""Which of our tables others refer to by a foreign key that lets no row go, and how; as far as we
may read those others."""


class Holding:
    """Looks for the rows to hold in the tables of ``swept``: shapes by entity.

    ``started``: the generation's start, as text.
    """

    def __init__(
        self,
        transaction: Transaction,
        references: References,
        swept: Mapping[str, Shape],
        started: bytes,
    ) -> None:
        self._transaction = transaction
        self._references = references
        self._swept = swept
        self._started = started
        self._held: Held = {}

    def find(self) -> Held:
        """Every row to hold: what is held holds in turn what it refers to."""
        hard = [shape for shape in self._swept.values() if not shape.layout.soft]
        for shape, referring in self._outsiders([s for s in hard if len(s.keys) == 1]):
            self._hold(shape, referring)
        pairs = [(s, r) for s in hard for r in self._references.of(s.layout.entity)]
        grown = bool(pairs)
        while grown:
            grown = any(self._hold_for(shape, referrer) for shape, referrer in pairs)
        return self._held

    def _outsiders(self, shapes: Sequence[Shape]) -> list[tuple[Shape, str]]:
        """What refers to a row ``p`` of these from tables that are no entity."""
        theirs = array([shape.table.encode() for shape in shapes])
        ours = array([table.encode() for table in self._references.tables])
        [found] = self._transaction.calls([(_OUTSIDERS, [theirs, ours])])
        return [
            (shapes[int(found.get_value(i, 0) or 0)], (found.get_value(i, 1) or b"").decode())
            for i in range(found.ntuples)
        ]

    def _hold_for(self, shape: Shape, referrer: Referrer) -> bool:
        """Hold what living rows of an entity that stay refer to; whether there was more."""
        name, params, stays = referrer.entity.name, [], ""
        child = self._swept.get(name)
        if child is not None:
            stays = f" AND (c.{quote(LAST_SYNC)} >= $1::timestamptz"
            if name in self._held:
                stays += f" OR c.{quote(child.keys[0])} = ANY($3::{child.key_types[0]}[])"
                params.append(array(list(self._held[name])))
            stays += ")"
        living = f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""
        return self._hold(
            shape,
            f"FROM {self._references.table(referrer.entity)} c"
            f" WHERE c.{quote(referrer.attribute)} = p.{quote(shape.keys[0])}{living}{stays}",
            *params,
        )

    def _hold(self, shape: Shape, referring: str, *params: Param) -> bool:
        """Hold what was left behind and what some row refers to; whether there was more."""
        known = self._held.get(shape.layout.entity.name, set())
        key = f"p.{quote(shape.keys[0])}"
        sql = (
            f"SELECT {key} FROM {shape.table} p WHERE {left_behind(shape, 'p')}"
            f" AND {key} <> ALL($2::{shape.key_types[0]}[]) AND EXISTS (SELECT {referring})"
        )
        call = Statement(b"", sql.encode()), [self._started, array(list(known)), *params]
        [found] = self._transaction.calls([call])
        more = {found.get_value(i, 0) or b"" for i in range(found.ntuples)}
        if more:
            self._held[shape.layout.entity.name] = known | more
        return bool(more)


def left_behind(shape: Shape, alias: str) -> str:
    """Living rows that the generation did not write; ``$1`` is its start."""
    living = f"{alias}.{quote(DELETED_AT)} IS NULL AND " if shape.soft_table else ""
    return f"{living}{alias}.{quote(LAST_SYNC)} < $1::timestamptz"
