r"""The statements of one layout: what its rows look like in SQL, written out once.

Many rows are one JSON text that ``JSON_TABLE`` unfolds into a table ``s``, joined with the entity's
table ``t`` by its key: so they need no temporary table, and each is looked up by the primary key
whatever other unique keys there are (``ON DUPLICATE KEY UPDATE`` would meet any of them). Only
appended rows are literals. A row may replace a living one only if the reference of its own source
key names it; a row that an earlier generation left behind counts as not living.

In a statement the mark ``\0``, which no value and no name holds, stands for the JSON text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC, key_attributes, reference_columns
from cdc_daemon.sinks.mysql.ledger import reference_types
from cdc_daemon.sinks.mysql.names import column_type, is_text, ledger, listed, quote
from cdc_daemon.sinks.mysql.values import (
    Columns,
    columns_of,
    literal,
    literal_column,
    literals,
    shown_row,
    source_columns,
    unfolded,
)

MARK = "\0"
_TEXT = Attribute(name="", type=EntityType(Kind.TEXT))
_MOMENT = "datetime(6)"


class Shape:
    """SQL of one layout. ``collation``: by which texts are equal only if their bytes are."""

    def __init__(self, layout: Layout, collation: str) -> None:
        self.layout = layout
        self.collation = collation
        self.table = quote(layout.entity.name)
        self.columns = layout.columns
        self.keys = layout.entity.key
        self.key_attributes = key_attributes(layout.entity)
        self.key_types = tuple(one.type for one in self.key_attributes)
        self.soft_table = layout.entity.soft_delete
        self.sources, self.targets = reference_columns(layout)
        self.reference = ledger(layout.reference.name) if layout.reference else ""
        self._attributes = layout.attributes
        self._at = {name: f"c{i}" for i, name in enumerate(layout.columns)}

    # --- values ---------------------------------------------------------------------------------

    def rows(self, rows: Sequence[Row]) -> Columns:
        """Whole rows as columns of stored values. Raises DataError."""
        return columns_of(rows, self._attributes)

    def some(self, rows: Sequence[Row], places: Sequence[int]) -> Columns:
        """The columns at these places."""
        picked = [[row[i] for i in places] for row in rows]
        return columns_of(picked, [self._attributes[i] for i in places])

    def key_columns(self, keys: Sequence[Key]) -> Columns:
        """Entity keys as columns of stored values. Raises DataError."""
        return columns_of(keys, self.key_attributes)

    def key_json(self, keys: Sequence[Key], *more: Columns) -> str:
        """Entity keys, and columns beside them, as the literal of a JSON text."""
        return unfolded([*self.key_columns(keys), *(one for columns in more for one in columns)])

    def source_json(self, keys: Sequence[Key]) -> str:
        """Source keys as the literal of a JSON text."""
        return unfolded(source_columns(keys))

    def shown_key(self, row: Sequence[bytes | None]) -> Key:
        """An entity key as the server prints its columns, as the log has it."""
        return tuple([part or b"" for part in shown_row(row, self.key_types)])

    # --- single rows, and appended ones -----------------------------------------------------------

    def insert(self, columns: Columns, moment: str) -> str:
        """Add rows that are not there."""
        names = listed([*self.columns, LAST_SYNC])
        values = literals(columns, self._attributes, literal(moment))
        return f"INSERT INTO {self.table} ({names}) VALUES {values}"

    def refer(self, columns: Columns, verb: str = "REPLACE") -> str:
        """Write references: columns of source keys, then of entity keys."""
        kinds = [*[_TEXT] * len(self.sources), *self.key_attributes]
        names = listed(self.sources + self.targets)
        return f"{verb} INTO {self.reference} ({names}) VALUES {literals(columns, kinds)}"

    def rename(self, row: Row, present: Sequence[int], old: Key, moment: str) -> str:
        """Move one row: the present values, at the old key."""
        names = [self.columns[i] for i in present]
        attributes = [self._attributes[i] for i in present]
        values = self._assigned(names, self.some([row], present), attributes)
        where = self._assigned(self.keys, self.key_columns([old]), self.key_attributes)
        return (
            f"UPDATE {self.table} SET {', '.join([*values, _synced('', moment)])}"
            f" WHERE {' AND '.join(where)}"
        )

    def _assigned(
        self, names: Sequence[str], columns: Columns, attributes: Sequence[Attribute]
    ) -> list[str]:
        return [
            f"{quote(name)} = {literal_column(column, attribute)[0]}"
            for name, column, attribute in zip(names, columns, attributes, strict=True)
        ]

    # --- many rows ------------------------------------------------------------------------------

    def update(self, moment: str, started: str | None) -> str:
        """Write rows over those that exist; with references, source keys come after the columns."""
        names = [name for name in self.columns if name not in self.keys]
        values = [f"t.{quote(name)} = {self._value(name)}" for name in names]
        if self.soft_table:
            values.append(f"t.{quote(DELETED_AT)} = NULL")
        guard = f" WHERE {self._replaceable(started)}" if self.reference else ""
        return (
            f"UPDATE {self._whole_rows} STRAIGHT_JOIN {self.table} t ON {self._same_key}"
            f" SET {', '.join([*values, _synced('t.', moment)])}{guard}"
        )

    def patch(self, present: Sequence[int], moment: str) -> str:
        """Update the present columns of living rows."""
        names = [self.columns[i] for i in present]
        values = [f"t.{quote(n)} = {self._value(n)}" for n in names if n not in self.keys]
        return (
            f"UPDATE {self._table(self._declared(names))} STRAIGHT_JOIN {self.table} t"
            f" ON {self._same_key} SET {', '.join([*values, _synced('t.', moment)])}"
            f"{self._living('WHERE')}"
        )

    # --- sets of keys ---------------------------------------------------------------------------

    def delete(self, *, owned: bool = False) -> str:
        """Delete by key; ``owned``: then source keys, whose reference has to name the row."""
        own = f" WHERE {self._named}" if owned else ""
        return f"DELETE t FROM {self.keyed(owned=owned)}{own}"

    def bury(self, moment: str, *, owned: bool = False) -> str:
        """Set ``deleted_at``: keys, moments; ``owned``: then source keys."""
        own = f" AND {self._named}" if owned else ""
        return (
            f"UPDATE {self.keyed(times=True, owned=owned)} SET t.{quote(DELETED_AT)} = s.x,"
            f" {_synced('t.', moment)} WHERE t.{quote(DELETED_AT)} IS NULL{own}"
        )

    @cached_property
    def forget(self) -> str:
        """Delete references by their source keys."""
        return (
            f"DELETE r FROM {self._table(self._source_parts)} STRAIGHT_JOIN {self.reference} r"
            f" ON {self._same_source}"
        )

    @cached_property
    def resolve(self) -> str:
        """(ordinal from 1, entity key) of source keys that are known."""
        return (
            f"SELECT s.n, {listed(self.targets, 'r')}"
            f" FROM {self._table(self._source_parts, ordinal=True)}"
            f" STRAIGHT_JOIN {self.reference} r ON {self._same_source}"
        )

    @cached_property
    def states(self) -> str:
        """(ordinal from 1, living) of keys that exist."""
        living = f"t.{quote(DELETED_AT)} IS NULL" if self.soft_table else "1"
        return f"SELECT s.n, {living} FROM {self.keyed(ordinal=True)}"

    def holding(self, attribute: str, values: str) -> str:
        """Ordinals of keys whose rows hold one of these values, a list of literals."""
        return (
            f"SELECT s.n FROM {self.keyed(ordinal=True)} WHERE t.{quote(attribute)} IN ({values})"
        )

    # --- parts ----------------------------------------------------------------------------------

    @cached_property
    def _whole_rows(self) -> str:
        return self._table([*self._declared(self.columns), *self._source_parts])

    def keyed(self, *, ordinal: bool = False, times: bool = False, owned: bool = False) -> str:
        """The rows ``t`` that keys in a JSON text name; moments and source keys come after them."""
        parts = self._declared(self.keys)
        parts += [("x", _MOMENT)] if times else []
        parts += self._source_parts if owned else []
        made = self._table(parts, ordinal=ordinal)
        return f"{made} STRAIGHT_JOIN {self.table} t ON {self._same_key}"

    def keys_only(self) -> str:
        """Keys in a JSON text as a table with the key's own columns, without an alias."""
        values = ", ".join(f"{self._value(key)} AS {quote(key)}" for key in self.keys)
        return f"(SELECT {values} FROM {self._table(self._declared(self.keys))})"

    def _table(self, parts: Sequence[tuple[str, str]], *, ordinal: bool = False) -> str:
        return unfolding(parts, ordinal=ordinal)

    def _declared(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Names in ``s`` and types of these columns: only keys are compared, so only they need
        their own; what else there is the server converts when it is assigned."""
        return [(self._at[name], self._declaration(name)) for name in names]

    def _declaration(self, name: str) -> str:
        if name not in self.keys:
            return text_type(self.collation)
        return key_declaration(self.layout.entity.attribute(name).type, self.collation)

    @cached_property
    def _source_parts(self) -> list[tuple[str, str]]:
        if self.layout.reference is None:
            return []
        kinds = reference_types(self.layout)
        return [
            (f"s{i}", text_type(self.collation) if is_text(kinds[name]) else kinds[name])
            for i, name in enumerate(self.sources)
        ]

    def _value(self, name: str) -> str:
        return unpacked(self.layout.entity.attribute(name).type, f"s.{self._at[name]}")

    @cached_property
    def _same_key(self) -> str:
        return " AND ".join(f"t.{quote(key)} = {self._value(key)}" for key in self.keys)

    @cached_property
    def _same_source(self) -> str:
        return " AND ".join(f"r.{quote(name)} = s.s{i}" for i, name in enumerate(self.sources))

    @cached_property
    def _named(self) -> str:
        """Whether the reference of the source key in ``s`` names row ``t``."""
        own = " AND ".join(
            f"r.{quote(target)} = t.{quote(key)}"
            for target, key in zip(self.targets, self.keys, strict=True)
        )
        return f"EXISTS (SELECT 1 FROM {self.reference} r WHERE {self._same_source} AND {own})"

    def _replaceable(self, started: str | None) -> str:
        """Whether a row may be written over: dead, left behind, or named by its own reference."""
        dead = f"t.{quote(DELETED_AT)} IS NOT NULL OR " if self.soft_table else ""
        left = f"t.{quote(LAST_SYNC)} < {literal(started)} OR " if started else ""
        return f"({dead}{left}{self._named})"

    def _living(self, word: str) -> str:
        return f" {word} t.{quote(DELETED_AT)} IS NULL" if self.soft_table else ""


def unfolding(parts: Sequence[tuple[str, str]], *, ordinal: bool = False) -> str:
    """``JSON_TABLE(…) s`` over an array of rows: (name, type) of each part of a row."""
    columns = ["n FOR ORDINALITY"] if ordinal else []
    columns += [f"{name} {kind} PATH '$[{i}]'" for i, (name, kind) in enumerate(parts)]
    return f"JSON_TABLE({MARK}, '$[*]' COLUMNS ({', '.join(columns)})) s"


def filled(sql: str, text: str) -> str:
    """The statement with its JSON text."""
    return sql.replace(MARK, text, 1)


def text_type(collation: str) -> str:
    """The type of any text inside ``JSON_TABLE``: its default would be the database's charset."""
    return f"longtext CHARACTER SET utf8mb4 COLLATE {collation}"


def key_declaration(entity_type: EntityType, collation: str) -> str:
    """The type of a part of a key there: compared as its column is, but never cut."""
    spelt = column_type(entity_type, keyed=True)
    if is_text(spelt) or entity_type.kind is Kind.BYTES:
        return text_type(collation)
    return spelt


def unpacked(entity_type: EntityType, value: str) -> str:
    """A stored text as the column's value: bytes travel as hexadecimal digits."""
    return f"UNHEX({value})" if entity_type.kind is Kind.BYTES else value


def _synced(alias: str, moment: str) -> str:
    return f"{alias}{quote(LAST_SYNC)} = {literal(moment)}"
