"""The statements of one layout: what its rows look like in SQL, written out once.

Statements are for one row and run over many (``executemany``): an embedded database has no round
trip to save. Parameters are numbered: the layout's columns, then what each statement says. A row
may replace a living one only if the reference of its own source key names it; a row that an earlier
generation left behind counts as not living.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC, key_attributes, reference_columns
from cdc_daemon.sinks.forms import Stored, key_texts, stored, texts
from cdc_daemon.sinks.sqlite.names import ledger, listed, marks, matched, parts, printed, quote

Params = Sequence[Stored]

_TEXT = EntityType(Kind.TEXT)


class Shape:
    """SQL of one layout. Text is made at first use and kept."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.table = quote(layout.entity.name)
        self.columns = layout.columns
        self.keys = layout.entity.key
        self.key_types = tuple(a.type for a in key_attributes(layout.entity))
        self.soft_table = layout.entity.soft_delete
        self.sources, self.targets = reference_columns(layout)
        self.reference = ledger(layout.reference.name) if layout.reference else ""
        self._attributes = layout.attributes
        self._width = len(layout.columns)

    # --- values ---------------------------------------------------------------------------------

    def rows(self, rows: Sequence[Row]) -> list[Sequence[Stored]]:
        """Whole rows as columns of stored values. Raises DataError."""
        columns = zip(*rows, strict=True)
        return [stored(c, a) for c, a in zip(columns, self._attributes, strict=True)]

    def some(self, rows: Sequence[Row], places: Sequence[int]) -> list[Sequence[Stored]]:
        """The columns at these places."""
        return [stored([row[i] for row in rows], self._attributes[i]) for i in places]  # type: ignore[misc]

    def key_columns(self, keys: Sequence[Key]) -> list[Sequence[Stored]]:
        """Entity keys as columns of stored values."""
        attributes: tuple[Attribute, ...] = key_attributes(self.layout.entity)
        return [stored(c, a) for c, a in zip(zip(*keys, strict=True), attributes, strict=True)]

    def source_columns(self, keys: Sequence[Key]) -> list[Sequence[Stored]]:
        """Source keys as columns: SQLite makes numbers of them where their columns hold numbers."""
        return [texts(column) for column in zip(*keys, strict=True)]

    def key_json(self, keys: Sequence[Key]) -> str:
        """Entity keys for ``json_each``."""
        return key_texts(keys, self.key_types)

    def source_json(self, keys: Sequence[Key]) -> str:
        """Source keys for ``json_each``."""
        return key_texts(keys, [_TEXT] * len(self.sources))

    # --- single rows ----------------------------------------------------------------------------

    @cached_property
    def insert(self) -> str:
        """Add a row unless one is there: its columns, then the moment."""
        return (
            f"INSERT INTO {self.table} ({listed([*self.columns, LAST_SYNC])})"
            f" VALUES ({marks(self._width + 1)}) ON CONFLICT ({listed(self.keys)}) DO NOTHING"
        )

    @cached_property
    def update(self) -> str:
        """Write over a row: its columns, the moment; with references the generation's start and the
        source key."""
        values = [
            f"{quote(name)} = ?{i}"
            for i, name in enumerate(self.columns, 1)
            if name not in self.keys
        ]
        if self.soft_table:
            values.append(f"{quote(DELETED_AT)} = NULL")
        guard = ""
        if self.reference:
            guard = f" AND {self._replaceable(self._width + 2)}"
        return (
            f"UPDATE {self.table} AS t SET {self._set(values, self._width + 1)}"
            f" WHERE {self._same_key}{guard}"
        )

    @cached_property
    def refer(self) -> str:
        """Write a reference: source key, then entity key."""
        columns = self.sources + self.targets
        values = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in self.targets)
        return (
            f"INSERT INTO {self.reference} ({listed(columns)}) VALUES ({marks(len(columns))})"
            f" ON CONFLICT ({listed(self.sources)}) DO UPDATE SET {values}"
        )

    def patch(self, present: tuple[int, ...]) -> str:
        """Update the present columns of one living row: their values, then the moment."""
        names = [self.columns[i] for i in present]
        places = {name: i for i, name in enumerate(names, 1)}
        values = [f"{quote(n)} = ?{places[n]}" for n in names if n not in self.keys]
        where = " AND ".join(f"t.{quote(k)} = ?{places[k]}" for k in self.keys)
        return (
            f"UPDATE {self.table} AS t SET {self._set(values, len(names) + 1)}"
            f" WHERE {where}{self._living}"
        )

    def rename(self, present: tuple[int, ...]) -> str:
        """Move one row: the present values, the moment, then the old key."""
        names = [self.columns[i] for i in present]
        values = [f"{quote(name)} = ?{i}" for i, name in enumerate(names, 1)]
        return (
            f"UPDATE {self.table} AS t SET {self._set(values, len(names) + 1)}"
            f" WHERE {matched('t', self.keys, len(names) + 2)}"
        )

    def delete(self, *, owned: bool = False) -> str:
        """Delete by key; ``owned``: then the source key, whose reference has to name the row."""
        own = f" AND {self._named(len(self.keys) + 1)}" if owned else ""
        return f"DELETE FROM {self.table} AS t WHERE {matched('t', self.keys)}{own}"

    def bury(self, *, owned: bool = False) -> str:
        """Set ``deleted_at``: key, time, moment; ``owned``: then the source key."""
        width = len(self.keys)
        own = f" AND {self._named(width + 3)}" if owned else ""
        values = [f"{quote(DELETED_AT)} = ?{width + 1}"]
        return (
            f"UPDATE {self.table} AS t SET {self._set(values, width + 2)}"
            f" WHERE {matched('t', self.keys)}{self._living}{own}"
        )

    @cached_property
    def forget(self) -> str:
        """Delete a reference by its source key."""
        return f"DELETE FROM {self.reference} AS r WHERE {matched('r', self.sources)}"

    # --- sets of keys, out of one JSON array ----------------------------------------------------

    @cached_property
    def resolve(self) -> str:
        """(ordinal, entity key as texts) of source keys that are known."""
        on = " AND ".join(
            f"r.{quote(name)} = {part}"
            for name, part in zip(self.sources, parts(len(self.sources)), strict=True)
        )
        found = ", ".join(
            printed(type_, f"r.{quote(name)}")
            for type_, name in zip(self.key_types, self.targets, strict=True)
        )
        return (
            f"SELECT k.key, {found} FROM json_each(?1) k CROSS JOIN {self.reference} r WHERE {on}"
        )

    @cached_property
    def states(self) -> str:
        """(ordinal, living) of keys that exist."""
        living = f"t.{quote(DELETED_AT)} IS NULL" if self.soft_table else "1"
        return (
            f"SELECT k.key, {living} FROM json_each(?1) k CROSS JOIN {self.table} t"
            f" WHERE {self.on_json()}"
        )

    def on_json(self) -> str:
        """The join of ``t`` with keys ``k``."""
        return " AND ".join(
            f"t.{quote(name)} = {part}"
            for name, part in zip(self.keys, parts(len(self.keys)), strict=True)
        )

    # --- parts ----------------------------------------------------------------------------------

    def _set(self, values: Sequence[str], moment: int) -> str:
        return ", ".join([*values, f"{quote(LAST_SYNC)} = ?{moment}"])

    @property
    def _living(self) -> str:
        return f" AND t.{quote(DELETED_AT)} IS NULL" if self.soft_table else ""

    @property
    def _same_key(self) -> str:
        at = dict(zip(self.columns, itertools.count(1), strict=False))
        return " AND ".join(f"t.{quote(key)} = ?{at[key]}" for key in self.keys)

    def _named(self, first: int) -> str:
        """Whether the reference of a source key (parameters from ``first``) names row ``t``."""
        own = " AND ".join(
            f"r.{quote(target)} = t.{quote(key)}"
            for target, key in zip(self.targets, self.keys, strict=True)
        )
        by = matched("r", self.sources, first)
        return f"EXISTS (SELECT 1 FROM {self.reference} r WHERE {by} AND {own})"

    def _replaceable(self, first: int) -> str:
        """Whether a row may be written over: dead, left behind, or named by its own reference."""
        dead = f"t.{quote(DELETED_AT)} IS NOT NULL OR " if self.soft_table else ""
        return f"({dead}t.{quote(LAST_SYNC)} < ?{first} OR {self._named(first + 1)})"
