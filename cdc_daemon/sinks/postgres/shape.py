"""The statements of one layout: what its rows look like in SQL, written out once.

A *shape* has prepared statements for single rows, and statements over arrays for many. References
(source key → entity key) take part in both where the mapping keeps them: then a row may replace a
living one only if the reference of its own source key names it. A row that an earlier generation
left behind counts as not living, for the running copy or its sweep has the word on it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from functools import cached_property

from cdc_daemon.model.effects import Layout
from cdc_daemon.sinks.postgres.names import (
    DELETED_AT,
    LAST_SYNC,
    LEDGER,
    element_type,
    key_attributes,
    listed,
    literal,
    qualified,
    quote,
    reference_columns,
)
from cdc_daemon.sinks.postgres.wire import Statement

_numbers = itertools.count(1)
_LONGEST = 40  # of a statement's name the server looks at 63 bytes only
_MOMENT = "timestamptz 'epoch' + {}::bigint * interval '1 microsecond'"


class Shape:
    """SQL of one layout on one schema. Text is made at first use and kept."""

    def __init__(self, layout: Layout, schema: str, pipeline: str) -> None:
        self.layout = layout
        self.number = next(_numbers)
        self.table = qualified(schema, layout.entity.name)
        self.columns = layout.columns
        self._at = {name: f"c{i}" for i, name in enumerate(layout.columns)}
        self.keys = layout.entity.key
        self.soft_table = layout.entity.soft_delete
        self.sources, self.targets = reference_columns(layout)
        reference = layout.reference
        self.reference = qualified(LEDGER, reference.name) if reference else ""
        self.source_types = tuple(kind for _, kind in reference.columns) if reference else ()
        self._generation = (
            f"(SELECT c.generation_started FROM {LEDGER}.checkpoint c"
            f" WHERE c.pipeline = {literal(pipeline)})"
        )
        self.key_types = tuple(element_type(a.type) for a in key_attributes(layout.entity))

    def statement(self, purpose: str, sql: str) -> Statement:
        """A prepared statement of this shape."""
        if len(purpose) > _LONGEST:
            purpose = hashlib.blake2b(purpose.encode(), digest_size=16).hexdigest()
        return Statement(f"cdc_{self.number}_{purpose}".encode(), sql.encode())

    # --- single rows -----------------------------------------------------------------------------

    @cached_property
    def write(self) -> Statement:
        """Write one row: its values, then, with references, its source key. One row: inserted?

        No row in the answer: a living row of somebody else stands there.
        """
        guard = ""
        if self.reference:
            guard = f" WHERE {self._replaceable('t', self._parameters(len(self.columns)))}"
        sql = (
            f"INSERT INTO {self.table} AS t ({listed(self.columns)})"
            f" VALUES ({_dollars(len(self.columns))})"
            f" ON CONFLICT ({listed(self.keys)}) DO UPDATE SET {self._assignments('EXCLUDED')}"
            f"{guard} RETURNING t.xmax = 0"
        )
        return self.statement("write", sql)

    @cached_property
    def refer(self) -> Statement:
        """Write one reference: source key, then entity key."""
        width = len(self.sources) + len(self.targets)
        sql = (
            f"INSERT INTO {self.reference} AS r ({listed(self.sources + self.targets)})"
            f" VALUES ({_dollars(width)}) {self._refer_again}"
        )
        return self.statement("refer", sql)

    def patch(self, present: tuple[int, ...]) -> Statement:
        """Update the present columns of one living row; values of ``present``, key among them."""
        names = [self.columns[i] for i in present]
        places = {name: f"${i}" for i, name in enumerate(names, 1)}
        where = " AND ".join(f"t.{quote(k)} = {places[k]}" for k in self.keys)
        values = [f"{quote(n)} = {places[n]}" for n in names if n not in self.keys]
        mark = "_".join(str(i) for i in present)
        sql = f"UPDATE {self.table} t SET {self._set(values)} WHERE {where}{self._living('t')}"
        return self.statement(f"patch_{mark}", sql)

    def rename(self, present: tuple[int, ...]) -> Statement:
        """Move one row: the present values, then the old key."""
        names = [self.columns[i] for i in present]
        values = [f"{quote(name)} = ${i}" for i, name in enumerate(names, 1)]
        where = " AND ".join(
            f"t.{quote(key)} = ${i}" for i, key in enumerate(self.keys, len(names) + 1)
        )
        mark = "_".join(str(i) for i in present)
        sql = f"UPDATE {self.table} t SET {self._set(values)} WHERE {where}"
        return self.statement(f"rename_{mark}", sql)

    # --- sets of keys ----------------------------------------------------------------------------

    @cached_property
    def delete(self) -> Statement:
        """Delete by arrays of key parts."""
        if len(self.keys) == 1:
            where = f"WHERE t.{quote(self.keys[0])} = ANY($1::{self.key_types[0]}[])"
            return self.statement("delete", f"DELETE FROM {self.table} t {where}")
        using, on = self._unnested()
        return self.statement("delete", f"DELETE FROM {self.table} t USING {using} WHERE {on}")

    @cached_property
    def delete_owned(self) -> Statement:
        """The same, of rows that their owner's reference names: key parts, source key parts."""
        using, on = self._unnested(owned=True)
        return self.statement(
            "delete_owned", f"DELETE FROM {self.table} t USING {using} WHERE {on}"
        )

    @cached_property
    def bury(self) -> Statement:
        """Set ``deleted_at`` by arrays of key parts and one of moments (µs since 1970)."""
        return self._bury(owned=False)

    @cached_property
    def bury_owned(self) -> Statement:
        """The same, of rows that the reference of their owner names: then source key parts."""
        return self._bury(owned=True)

    def _bury(self, *, owned: bool) -> Statement:
        using, on = self._unnested(extra="bigint", owned=owned)
        return self.statement(
            f"bury_{owned}",
            f"UPDATE {self.table} t SET {quote(DELETED_AT)} = {_MOMENT.format('k.x')},"
            f" {quote(LAST_SYNC)} = now() FROM {using} WHERE {on}{self._living('t')}",
        )

    @cached_property
    def forget_many(self) -> Statement:
        """Delete references by arrays of source key parts."""
        columns = [f"k{i}" for i in range(len(self.sources))]
        arrays = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(self.source_types, 1))
        on = " AND ".join(
            f"r.{quote(s)} = k.{c}" for s, c in zip(self.sources, columns, strict=True)
        )
        sql = (
            f"DELETE FROM {self.reference} r USING unnest({arrays}) AS k({', '.join(columns)})"
            f" WHERE {on}"
        )
        return self.statement("forget_many", sql)

    @cached_property
    def resolve(self) -> Statement:
        """Entity keys by arrays of source key parts: a row for each, in their order; or NULLs."""
        columns = [f"k{i}" for i in range(len(self.sources))]
        arrays = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(self.source_types, 1))
        on = " AND ".join(
            f"r.{quote(s)} = k.{c}" for s, c in zip(self.sources, columns, strict=True)
        )
        found = listed(self.targets)
        sql = (
            f"SELECT {', '.join(f'r.{quote(name)}' for name in self.targets)}"
            f" FROM unnest({arrays}) WITH ORDINALITY AS k({', '.join(columns)}, n) LEFT JOIN"
            f" LATERAL (SELECT {found} FROM {self.reference} r WHERE {on} OFFSET 0) r ON true"
            f" ORDER BY k.n"
        )
        return self.statement("resolve", sql)

    @cached_property
    def states(self) -> Statement:
        """Which keys exist: (ordinal, living) by arrays of key parts."""
        using, on = self._unnested(ordinal=True)
        living = f"t.{quote(DELETED_AT)} IS NULL" if self.soft_table else "true"
        sql = (
            f"SELECT k.n, t.living FROM {using} CROSS JOIN"
            f" LATERAL (SELECT {living} AS living FROM {self.table} t WHERE {on} OFFSET 0) t"
        )
        return self.statement("states", sql)

    # --- sets of rows ----------------------------------------------------------------------------

    @cached_property
    def copy_table(self) -> str:
        """COPY straight into the entity table."""
        return self.copy_some(range(len(self.columns)))

    def copy_some(self, present: Iterable[int]) -> str:
        """COPY of some columns straight into the entity table."""
        return f"COPY {self.table} ({listed(self.columns[i] for i in present)}) FROM STDIN"

    @cached_property
    def copy_references(self) -> str:
        """COPY straight into the reference table: source key, entity key."""
        return f"COPY {self.reference} ({listed(self.sources + self.targets)}) FROM STDIN"

    @cached_property
    def update(self) -> Statement:
        """Write rows over those that exist: their columns, then, with references, source keys."""
        values = [(name, f"s.{self._at[name]}") for name in self.columns if name not in self.keys]
        assigned = [f"{quote(name)} = {value}" for name, value in values]
        if self.soft_table:
            assigned.append(f"{quote(DELETED_AT)} = NULL")
        guard = f" AND {self._replaceable('t', self._same_source())}" if self.reference else ""
        return self.statement(
            "update",
            f"UPDATE {self.table} t SET {self._set(assigned)} FROM {self._rows()}"
            f" WHERE {self._same_key()}{guard}",
        )

    @cached_property
    def insert(self) -> Statement:
        """Add rows that do not exist, in key order; parameters as for :attr:`update`."""
        selected = ", ".join(f"s.{self._at[name]}" for name in self.columns)
        order = ", ".join(f"s.{self._at[name]}" for name in self.keys)
        again = f" ON CONFLICT ({listed(self.keys)}) DO "
        again += "NOTHING" if self.reference else f"UPDATE SET {self._assignments('EXCLUDED')}"
        return self.statement(
            "insert",
            f"INSERT INTO {self.table} ({listed(self.columns)}) SELECT {selected}"
            f" FROM {self._rows()} WHERE NOT EXISTS (SELECT FROM {self.table} t"
            f" WHERE {self._same_key()}) ORDER BY {order}{again}",
        )

    @cached_property
    def refer_many(self) -> Statement:
        """Write references where they are new or changed: source keys, then entity keys."""
        sources = [f"s.s{i}" for i in range(len(self.sources))]
        keys = [f"s.{self._at[name]}" for name in self.keys]
        named = " AND ".join(
            f"r.{quote(target)} = {key}" for target, key in zip(self.targets, keys, strict=True)
        )
        rows = _unnested_rows([*self._source_kinds, *self._kinds(self.layout.key)])
        return self.statement(
            "refer_many",
            f"INSERT INTO {self.reference} AS r ({listed(self.sources + self.targets)})"
            f" SELECT {', '.join(sources + keys)} FROM {rows} WHERE NOT EXISTS"
            f" (SELECT FROM {self.reference} r WHERE {self._same_source()} AND {named})"
            f" ORDER BY {', '.join(sources)} {self._refer_again}",
        )

    def patch_many(self, present: tuple[int, ...]) -> Statement:
        """Update the present columns of living rows."""
        names = [self.columns[i] for i in present if self.columns[i] not in self.keys]
        values = [f"{quote(name)} = s.{self._at[name]}" for name in names]
        mark = "_".join(str(i) for i in present)
        return self.statement(
            f"patch_many_{mark}",
            f"UPDATE {self.table} t SET {self._set(values)} FROM {self._rows(present)}"
            f" WHERE {self._same_key()}{self._living('t')}",
        )

    # --- parts ----------------------------------------------------------------------------------

    def _set(self, values: Iterable[str]) -> str:
        return ", ".join([*values, f"{quote(LAST_SYNC)} = now()"])

    def _assignments(self, alias: str) -> str:
        values = [f"{quote(n)} = {alias}.{quote(n)}" for n in self.columns if n not in self.keys]
        if self.soft_table:
            values.append(f"{quote(DELETED_AT)} = NULL")
        return self._set(values)

    def _living(self, alias: str) -> str:
        return f" AND {alias}.{quote(DELETED_AT)} IS NULL" if self.soft_table else ""

    def _rows(self, present: Sequence[int] | None = None) -> str:
        """All columns and source keys, or the present columns, out of parameters."""
        if present is not None:
            return _unnested_rows(self._kinds(present))
        return _unnested_rows([*self._kinds(range(len(self.columns))), *self._source_kinds])

    def _kinds(self, places: Iterable[int]) -> list[tuple[str, str]]:
        """Name in ``s`` and element type of these columns."""
        attributes = self.layout.attributes
        return [(f"c{i}", element_type(attributes[i].type)) for i in places]

    @property
    def _source_kinds(self) -> list[tuple[str, str]]:
        return [(f"s{i}", kind) for i, kind in enumerate(self.source_types)]

    def _same_key(self) -> str:
        return " AND ".join(f"t.{quote(key)} = s.{self._at[key]}" for key in self.keys)

    def _parameters(self, offset: int = 0) -> str:
        """``r.source = $n`` for every part of the source key."""
        return " AND ".join(
            f"r.{quote(name)} = ${i}" for i, name in enumerate(self.sources, offset + 1)
        )

    def _same_source(self) -> str:
        return " AND ".join(f"r.{quote(name)} = s.s{i}" for i, name in enumerate(self.sources))

    def _replaceable(self, alias: str, named: str) -> str:
        """Whether a row may be written over: dead, left behind, or named by its own reference."""
        own = " AND ".join(
            f"r.{quote(target)} = {alias}.{quote(key)}"
            for target, key in zip(self.targets, self.keys, strict=True)
        )
        dead = f"{alias}.{quote(DELETED_AT)} IS NOT NULL OR " if self.soft_table else ""
        left_behind = f"{alias}.{quote(LAST_SYNC)} < {self._generation}"
        named_by_it = f"EXISTS (SELECT FROM {self.reference} r WHERE {named} AND {own})"
        return f"({dead}{left_behind} OR {named_by_it})"

    @property
    def _refer_again(self) -> str:
        values = ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in self.targets)
        before = ", ".join(f"r.{quote(name)}" for name in self.targets)
        after = ", ".join(f"EXCLUDED.{quote(name)}" for name in self.targets)
        return (
            f"ON CONFLICT ({listed(self.sources)}) DO UPDATE SET {values}"
            f" WHERE ROW({before}) IS DISTINCT FROM ROW({after})"
        )

    def _unnested(
        self, *, extra: str = "", ordinal: bool = False, owned: bool = False
    ) -> tuple[str, str]:
        """``unnest(…) AS k(…)`` over arrays of key parts, and its join condition with ``t``.

        ``extra``: one more array of that type, as ``x``. ``owned``: then arrays of source key
        parts, whose reference has to name the row.
        """
        columns = [f"k{i}" for i in range(len(self.keys))]
        sources = [f"s{i}" for i in range(len(self.sources))] if owned else []
        kinds = [
            *self.key_types,
            *([extra] if extra else ()),
            *(self.source_types if owned else ()),
        ]
        arrays = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(kinds, 1))
        names = [*columns, *(["x"] if extra else ()), *sources, *(["n"] if ordinal else ())]
        on = [f"t.{quote(key)} = k.{name}" for key, name in zip(self.keys, columns, strict=True)]
        if owned:
            pairs = [
                *zip(self.sources, sources, strict=True),
                *zip(self.targets, columns, strict=True),
            ]
            named = " AND ".join(f"r.{quote(name)} = k.{column}" for name, column in pairs)
            on.append(f"EXISTS (SELECT FROM {self.reference} r WHERE {named})")
        suffix = " WITH ORDINALITY" if ordinal else ""
        return f"unnest({arrays}){suffix} AS k({', '.join(names)})", " AND ".join(on)


def _dollars(count: int) -> str:
    return ", ".join(f"${i}" for i in range(1, count + 1))


def _unnested_rows(kinds: Sequence[tuple[str, str]]) -> str:
    """Rows out of parameters, as ``s``; unnested in the SELECT list, they are stored nowhere."""
    selected = [f"unnest(${n}::{kind}[]) AS {name}" for n, (name, kind) in enumerate(kinds, 1)]
    return f"(SELECT {', '.join(selected)}) s"
