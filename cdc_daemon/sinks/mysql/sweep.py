"""The end of a repeated first copy: what this generation did not write is gone from the source.

Rows go hard or softly, as their mapping deletes; those of a mapping that keeps what its source
deletes stay. A row that another one refers to which stays is held back: it cannot go, and the copy
would never end. Tombstones lose their references to what went.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.effects import Outcome
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC
from cdc_daemon.sinks.mysql.dangling import References, Suspects
from cdc_daemon.sinks.mysql.held import Holding, key_list, left_behind
from cdc_daemon.sinks.mysql.names import quote
from cdc_daemon.sinks.mysql.shape import Shape, filled
from cdc_daemon.sinks.mysql.slices import sliced
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.values import literal

_PAGE = 10_000
"""Keys that are read at once where some of them stay."""


class Sweep:
    """What one generation left behind in the tables of some shapes."""

    def __init__(
        self,
        transaction: Transaction,
        references: References,
        shapes: Sequence[Shape],
        started: str,
    ) -> None:
        self._transaction = transaction
        self._references = references
        self._swept = {s.layout.entity.name: s for s in shapes if not s.layout.keeps}
        self._started = started

    def run(self, outcome: Outcome) -> Suspects:
        """Delete what was left behind. Rows held back are counted as ``noop``; references that are
        broken now."""
        swept = self._swept
        held = Holding(self._transaction, self._references, swept, self._started).find()
        for name, shape in swept.items():
            gone = self._go(shape, held.get(name, set()))
            outcome.count(shape.layout.mapping, "delete", gone)
            outcome.count(shape.layout.mapping, "noop", len(held.get(name, ())))
        suspects: Suspects = {}
        for shape in swept.values():
            if not shape.layout.soft:
                self._references.loosen_all(self._transaction, shape.layout.entity)
                suspects |= self._references.orphans(self._transaction, shape.layout.entity)
        return suspects

    def _go(self, shape: Shape, held: set[bytes]) -> int:
        """Delete, and forget references to what is gone."""
        gone = self._go_around(shape, held) if held else self._go_all(shape)
        if shape.reference:
            self._transaction.run(_forget_gone(shape))
        return gone

    def _go_all(self, shape: Shape) -> int:
        where = left_behind(shape, "t", self._started)
        sql = f"DELETE t FROM {shape.table} t WHERE {where}"
        if shape.layout.soft:
            moment = literal(self._transaction.moment)
            values = f"t.{quote(DELETED_AT)} = {moment}, t.{quote(LAST_SYNC)} = {moment}"
            sql = f"UPDATE {shape.table} t SET {values} WHERE {where}"
        return self._transaction.run(sql).affected

    def _go_around(self, shape: Shape, held: set[bytes]) -> int:
        """The same past rows that are held, which are more than one list may name; page by page,
        for what was left behind may be most of a table. Only hard deletes hold rows back."""
        gone, run = [0], self._transaction.run
        key = f"t.{quote(shape.keys[0])}"
        where, behind = left_behind(shape, "t", self._started), ""

        def go(keys: Sequence[bytes]) -> None:
            text = shape.key_json([(one,) for one in keys])
            gone.append(run(filled(shape.delete(), text)).affected)

        page = f"SELECT {key} FROM {shape.table} t WHERE {where}{{}} ORDER BY {key} LIMIT {_PAGE}"
        while rows := run(page.format(behind)).rows:
            keys = [shape.shown_key(row)[0] for row in rows]
            sliced([one for one in keys if one not in held], go)
            behind = f" AND {key} > {key_list(shape, keys[-1:])}"
        return sum(gone)


def _forget_gone(shape: Shape) -> str:
    named = " AND ".join(
        f"t.{quote(key)} = r.{quote(target)}"
        for key, target in zip(shape.keys, shape.targets, strict=True)
    )
    living = f" AND t.{quote(DELETED_AT)} IS NULL" if shape.soft_table else ""
    return (
        f"DELETE r FROM {shape.reference} r LEFT JOIN {shape.table} t ON {named}{living}"
        f" WHERE t.{quote(shape.keys[0])} IS NULL"
    )
