"""Rows left behind by a repeated first copy that cannot go: something which stays refers to them.

What stays: living rows that the copy wrote, those of entities that are not swept, those held
themselves, and all of tables that are no entity but have a foreign key to one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cdc_daemon.model.entities import Kind
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC
from cdc_daemon.sinks.mysql.dangling import References
from cdc_daemon.sinks.mysql.names import PREFIX, quote
from cdc_daemon.sinks.mysql.shape import Shape
from cdc_daemon.sinks.mysql.slices import sliced
from cdc_daemon.sinks.mysql.transaction import Transaction
from cdc_daemon.sinks.mysql.values import literal, literal_column
from cdc_daemon.sinks.referrers import Referrer

_AT_ONCE = 10_000  # keys in one list
_NUMBERS = (Kind.INTEGER, Kind.BIGINT, Kind.DECIMAL)

Held = dict[str, set[bytes]]
"""Their keys as the log has them, by entity; they are referred to, so a key is a single value."""

_OUTSIDERS = """
    SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_NAME,
           k.REFERENCED_COLUMN_NAME
      FROM information_schema.KEY_COLUMN_USAGE k
      JOIN information_schema.REFERENTIAL_CONSTRAINTS r
        ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME
       AND r.TABLE_NAME = k.TABLE_NAME
     WHERE k.REFERENCED_TABLE_SCHEMA = DATABASE() AND k.REFERENCED_TABLE_NAME IN ({})
       AND r.DELETE_RULE IN ('NO ACTION', 'RESTRICT')
     GROUP BY k.CONSTRAINT_SCHEMA, k.CONSTRAINT_NAME, k.TABLE_SCHEMA, k.TABLE_NAME
    HAVING COUNT(*) = 1"""
"""Tables with a foreign key that lets no row go, as far as we may see them."""


class Holding:
    """Looks for the rows to hold in the tables of ``swept``: shapes by entity.

    ``started``: the generation's start.
    """

    def __init__(
        self,
        transaction: Transaction,
        references: References,
        swept: Mapping[str, Shape],
        started: str,
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
        known = {shape.layout.entity.name: shape for shape in shapes}
        ours = set(self._references.tables)
        names = ", ".join(map(literal, known)) or "NULL"
        found: list[tuple[Shape, str]] = []
        for row in self._transaction.run(_OUTSIDERS.format(names)).rows:
            home, name, column, table, key = [(one or b"").decode() for one in row]
            shape = known.get(table)
            foreign = home != self._transaction.session.database
            if shape is not None and (foreign or not (name in ours or name.startswith(PREFIX))):
                referring = f"FROM {quote(home)}.{quote(name)} c"
                found.append((shape, f"{referring} WHERE c.{quote(column)} = p.{quote(key)}"))
        return found

    def _hold_for(self, shape: Shape, referrer: Referrer) -> bool:
        """Hold what living rows of an entity that stay refer to; whether there was more."""
        name = referrer.entity.name
        living = f" AND c.{quote(DELETED_AT)} IS NULL" if referrer.entity.soft_delete else ""
        referring = (
            f"FROM {quote(name)} c"
            f" WHERE c.{quote(referrer.attribute)} = p.{quote(shape.keys[0])}{living}"
        )
        child = self._swept.get(name)
        if child is None:
            return self._hold(shape, referring)
        written = f"c.{quote(LAST_SYNC)} >= {literal(self._started)}"
        grown = [self._hold(shape, f"{referring} AND {written}")]

        def hold(keys: Sequence[bytes]) -> None:
            among = f"c.{quote(child.keys[0])} IN ({key_list(child, keys)})"
            grown.append(self._hold(shape, f"{referring} AND {among}"))

        sliced(list(self._held.get(name, ())), hold, most=_AT_ONCE)
        return any(grown)

    def _hold(self, shape: Shape, referring: str) -> bool:
        """Hold what was left behind and what some row refers to; whether there was more."""
        sql = (
            f"SELECT p.{quote(shape.keys[0])} FROM {shape.table} p"
            f" WHERE {left_behind(shape, 'p', self._started)} AND EXISTS (SELECT 1 {referring})"
        )
        known = self._held.get(shape.layout.entity.name, set())
        more = {shape.shown_key(row)[0] for row in self._transaction.run(sql).rows} - known
        if more:
            self._held[shape.layout.entity.name] = known | more
        return bool(more)


def left_behind(shape: Shape, alias: str, started: str) -> str:
    """Living rows that the generation, which began then, did not write."""
    living = f"{alias}.{quote(DELETED_AT)} IS NULL AND " if shape.soft_table else ""
    return f"{living}{alias}.{quote(LAST_SYNC)} < {literal(started)}"


def key_list(shape: Shape, keys: Iterable[bytes]) -> str:
    """Keys of one part as a list of literals: numbers as such, for texts are compared inexactly."""
    [attribute] = shape.key_attributes
    [column] = shape.key_columns([(key,) for key in keys])
    if attribute.type.kind in _NUMBERS:
        return ", ".join(map(str, column))
    return ", ".join(literal_column(column, attribute))
