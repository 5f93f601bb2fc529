"""Rows left behind by a repeated first copy that cannot go: something which stays refers to them.

What stays: living rows that the copy wrote, those of entities that are not swept, those held
themselves, and all of tables that are no entity but have a foreign key to one.
"""

from __future__ import annotations

from collections.abc import Mapping

from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC
from cdc_daemon.sinks.forms import Stored, as_json
from cdc_daemon.sinks.referrers import Referrer
from cdc_daemon.sinks.sqlite.dangling import References
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.names import PREFIX, quote
from cdc_daemon.sinks.sqlite.shape import Shape

Held = dict[str, set[Stored]]
"""Their keys, by entity; they are referred to, so a key is a single value."""

_OUTSIDERS = """
    SELECT m.name, f."from", f."to" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f
     WHERE m.type = 'table' AND f."table" = ?1 COLLATE NOCASE
       AND f.on_delete IN ('NO ACTION', 'RESTRICT')
       AND NOT EXISTS (SELECT 1 FROM pragma_foreign_key_list(m.name) g
                        WHERE g.id = f.id AND g.seq > 0)"""
"""Tables with a foreign key that lets no row go."""


class Holding:
    """Looks for the rows to hold in the tables of ``swept``: shapes by entity.

    ``started``: the generation's start.
    """

    def __init__(
        self,
        connection: Connection,
        references: References,
        swept: Mapping[str, Shape],
        started: str,
    ) -> None:
        self._connection = connection
        self._references = references
        self._swept = swept
        self._started = started
        self._held: Held = {}

    def find(self) -> Held:
        """Every row to hold: what is held holds in turn what it refers to."""
        hard = [shape for shape in self._swept.values() if not shape.layout.soft]
        for shape in hard:
            for referring in self._outsiders(shape):
                self._hold(shape, referring)
        pairs = [(s, r) for s in hard for r in self._references.of(s.layout.entity)]
        grown = bool(pairs)
        while grown:
            grown = any(self._hold_for(shape, referrer) for shape, referrer in pairs)
        return self._held

    def _outsiders(self, shape: Shape) -> list[str]:
        """What refers to a row ``p`` from tables that are no entity."""
        if len(shape.keys) > 1:
            return []
        ours = {name.lower() for name in self._references.tables}
        return [
            f"FROM {quote(name)} c WHERE c.{quote(column)} = p.{quote(key or shape.keys[0])}"
            for name, column, key in self._connection.execute(
                _OUTSIDERS, (shape.layout.entity.name,)
            )
            if name.lower() not in ours and not name.lower().startswith(PREFIX)
        ]

    def _hold_for(self, shape: Shape, referrer: Referrer) -> bool:
        """Hold what living rows of an entity that stay refer to; whether there was more."""
        name, stays, held = referrer.entity.name, "", "[]"
        child = self._swept.get(name)
        if child is not None:
            held = as_json(list(self._held.get(name, ())))
            stays = (
                f" AND (c.{quote(LAST_SYNC)} >= :started"
                f" OR c.{quote(child.keys[0])} IN (SELECT h.value FROM json_each(:held) h))"
            )
        living = f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""
        return self._hold(
            shape,
            f"FROM {quote(name)} c"
            f" WHERE c.{quote(referrer.attribute)} = p.{quote(shape.keys[0])}{living}{stays}",
            held,
        )

    def _hold(self, shape: Shape, referring: str, held: str = "[]") -> bool:
        """Hold what was left behind and what some row refers to; whether there was more."""
        known = self._held.get(shape.layout.entity.name, set())
        key = f"p.{quote(shape.keys[0])}"
        sql = (
            f"SELECT {key} FROM {shape.table} p WHERE {left_behind(shape, 'p')}"
            f" AND {key} NOT IN (SELECT k.value FROM json_each(:known) k)"
            f" AND EXISTS (SELECT 1 {referring})"
        )
        params = {"started": self._started, "known": as_json(list(known)), "held": held}
        more = {row[0] for row in self._connection.execute(sql, params)}
        if more:
            self._held[shape.layout.entity.name] = known | more
        return bool(more)


def left_behind(shape: Shape, alias: str) -> str:
    """Living rows that the generation did not write; ``:started`` says when it began."""
    living = f"{alias}.{quote(DELETED_AT)} IS NULL AND " if shape.soft_table else ""
    return f"{living}{alias}.{quote(LAST_SYNC)} < :started"
