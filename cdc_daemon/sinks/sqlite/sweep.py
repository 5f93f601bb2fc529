"""The end of a repeated first copy: what this generation did not write is gone from the source.

Rows go hard or softly, as their mapping deletes; those of a mapping that keeps what its source
deletes stay. A row that another one refers to which stays is held back: it cannot go, and the copy
would never end. Tombstones lose their references to what went.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.effects import Outcome
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC
from cdc_daemon.sinks.forms import Stored, as_json
from cdc_daemon.sinks.sqlite.dangling import References, Suspects
from cdc_daemon.sinks.sqlite.database import Connection
from cdc_daemon.sinks.sqlite.held import Holding, left_behind
from cdc_daemon.sinks.sqlite.names import quote
from cdc_daemon.sinks.sqlite.shape import Shape


class Sweep:
    """What one generation left behind in the tables of some shapes."""

    def __init__(
        self,
        connection: Connection,
        references: References,
        shapes: Sequence[Shape],
        *,
        started: str,
        moment: str,
    ) -> None:
        self._connection = connection
        self._references = references
        self._swept = {s.layout.entity.name: s for s in shapes if not s.layout.keeps}
        self._started = started
        self._moment = moment

    def run(self, outcome: Outcome) -> Suspects:
        """Delete what was left behind. Rows held back are counted as ``noop``; references that are
        broken now."""
        swept = self._swept
        held = Holding(self._connection, self._references, swept, self._started).find()
        for name, shape in swept.items():
            gone = self._go(shape, held.get(name, set()))
            outcome.count(shape.layout.mapping, "delete", gone)
            outcome.count(shape.layout.mapping, "noop", len(held.get(name, ())))
        suspects: Suspects = {}
        for shape in swept.values():
            if not shape.layout.soft:
                self._references.loosen_all(self._connection, shape.layout.entity)
                suspects |= self._references.orphans(self._connection, shape.layout.entity)
        return suspects

    def _go(self, shape: Shape, held: set[Stored]) -> int:
        """Delete, and forget references to what is gone."""
        params = {"started": self._started, "held": as_json(list(held)), "moment": self._moment}
        if shape.layout.soft:
            values = f"{quote(DELETED_AT)} = :moment, {quote(LAST_SYNC)} = :moment"
            sql = f"UPDATE {shape.table} AS t SET {values} WHERE {left_behind(shape, 't')}"
        else:
            sql = f"DELETE FROM {shape.table} AS t WHERE {left_behind(shape, 't')}"
        if held:
            sql += f" AND t.{quote(shape.keys[0])} NOT IN (SELECT k.value FROM json_each(:held) k)"
        gone = self._connection.execute(sql, params).rowcount
        if shape.reference:
            self._connection.execute(_forget_gone(shape))
        return gone


def _forget_gone(shape: Shape) -> str:
    named = " AND ".join(
        f"t.{quote(key)} = r.{quote(target)}"
        for key, target in zip(shape.keys, shape.targets, strict=True)
    )
    living = f" AND t.{quote(DELETED_AT)} IS NULL" if shape.soft_table else ""
    return (
        f"DELETE FROM {shape.reference} AS r WHERE NOT EXISTS"
        f" (SELECT 1 FROM {shape.table} t WHERE {named}{living})"
    )
