"""Mapped tables as the source's catalogue describes them now.

Everything here is read with a few set-based queries, whatever the number of tables. What is wrong
with what it finds, ``requirements.py`` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cdc_daemon.model.changes import Relation
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.connection import Connection
from cdc_daemon.sources.postgres.encodings import codec_of
from cdc_daemon.sources.postgres.relations import REPLICAS, Described, Known, Relations
from cdc_daemon.sources.postgres.types import Types

_IDENTITIES = """
LEFT JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) AS columns
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid
         AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
    WHERE x.indrelid = c.oid AND x.indisprimary) k ON true
LEFT JOIN LATERAL (
    SELECT x.indexrelid AS oid, pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) AS columns
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid
         AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
    WHERE x.indrelid = c.oid AND x.indisreplident GROUP BY x.indexrelid) i ON true
"""

_TABLES = f"""
SELECT n.nspname::text, c.relname::text, c.oid, c.relkind::text, c.relpersistence::text,
       c.relreplident::text, c.relispartition,
       COALESCE(pg_catalog.row_security_active(c.oid), false),
       k.columns, i.columns, COALESCE(i.oid, 0)
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS w (s, t)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.s
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
     AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
{_IDENTITIES}
"""

_DESCENDANTS = f"""
WITH RECURSIVE tree (root, oid, edges, attached, step, new, late) AS (
    SELECT r, r, '', NULL::xid, 0::bigint, true, false FROM pg_catalog.unnest(%s::oid[]) r
    UNION ALL
    SELECT t.root, i.inhrelid, t.edges || '.' || i.xmin::text,
           CASE WHEN born.so OR pg_catalog.age(t.attached) < pg_catalog.age(i.xmin)
                THEN t.attached ELSE i.xmin END,
           CASE WHEN born.so OR pg_catalog.age(t.attached) < pg_catalog.age(i.xmin) THEN t.step
                WHEN t.attached = i.xmin THEN GREATEST(t.step, at.step) ELSE at.step END,
           t.new AND a.xmin = i.xmin,
           t.late OR NOT born.so AND a.xmin <> i.xmin AND at.step > 0
    FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.inhrelid AND a.attnum = -1
    CROSS JOIN LATERAL (SELECT CASE WHEN i.xmax = '0'::xid THEN i.cmin::text::bigint
         ELSE 4294967295 END AS step) at
    CROSS JOIN LATERAL (SELECT a.xmin = i.xmin AND EXISTS (
         SELECT FROM pg_catalog.pg_attribute u WHERE u.attrelid = i.inhrelid AND u.attnum > 0
         AND NOT u.attisdropped AND u.xmin = a.xmin AND u.cmin = a.cmin AND u.xmax = '0'::xid
         ) AS so) born)
SELECT t.root, n.nspname::text, c.relname::text, c.oid, c.relkind::text, c.relpersistence::text,
       c.relreplident::text, c.relispartition, k.columns, i.columns, c.relfilenode,
       t.edges, COALESCE(t.attached::text, ''), t.step, t.new, t.late
FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind <> 'p' AND t.edges <> ''
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
{_IDENTITIES}
ORDER BY c.oid
"""
"""A partition was created in its place where a column's row is still that of the table's creation:
attaching a table writes every one of them anew. A step is the number of a command inside its
transaction; where somebody failed to undo the attachment it is no longer known, and the last."""

_COLUMNS = """
SELECT a.attrelid, a.attname::text, a.atttypid, a.atttypmod, a.attgenerated::text,
       pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

_TYPES = """
WITH RECURSIVE used (oid) AS (
    SELECT pg_catalog.unnest(%s::oid[])
    UNION SELECT COALESCE(e.oid, t.typbasetype)
          FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
          LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
          WHERE t.typtype = 'd' OR e.oid IS NOT NULL)
SELECT t.oid, pg_catalog.format_type(t.oid, NULL),
       CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE 0 END, t.typtypmod, COALESCE(e.oid, 0)
FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """One column: type by oid and modifier; ``generated``: ``s`` or ``v`` where it is computed."""

    name: str
    oid: int
    modifier: int
    generated: str
    readable: bool


_BARE: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


def spelled(schema: str, name: str) -> str:
    """A table's name to be pasted into SQL: names that are not plain stand in quotes."""
    return ".".join(
        each if _BARE.fullmatch(each) else '"' + each.replace('"', '""') + '"'
        for each in (schema, name)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Descendant:
    """A partition that holds rows (a leaf), or a table that inherits, of a mapped table.

    ``edges``: what changes when any table between the two is attached anew. ``attached``: the
    transaction that did so last, and ``step`` the command in it; empty: it came into being in its
    place, and brought no rows. ``new``: it was attached in the transaction that created it.
    ``late``: it was not, and that transaction had written before, so that its number is older than
    the attachment. ``file``: changes when it is truncated or rewritten.
    """

    schema: str
    name: str
    oid: int
    kind: str
    persistence: str
    replica: str
    is_partition: bool
    identity: tuple[str, ...]
    file: int
    edges: str
    attached: str
    step: int
    new: bool
    late: bool

    @property
    def title(self) -> str:
        """``schema.table``."""
        return f"{self.schema}.{self.name}"

    @property
    def spelled(self) -> str:
        """The same in SQL."""
        return spelled(self.schema, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table, view or partition; ``kind``, ``persistence``, ``replica`` as in pg_class."""

    schema: str
    name: str
    oid: int
    kind: str
    persistence: str
    replica: str
    is_partition: bool
    row_security: bool
    primary_key: tuple[str, ...]
    replica_index: tuple[str, ...]
    replica_index_oid: int
    columns: tuple[ColumnFacts, ...]
    descendants: tuple[Descendant, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that the log's key-only tuples carry; empty: none, or all of them."""
        return _identity(self.replica, self.primary_key, self.replica_index)

    @property
    def spelled(self) -> str:
        """``schema.table`` in SQL."""
        return spelled(self.schema, self.name)

    @property
    def partitioned(self) -> bool:
        """Whether its rows are those of its partitions."""
        return self.kind == "p"

    @property
    def unlogged(self) -> bool:
        """Whether changes of its rows, or of some, are in no log."""
        leaves = self.descendants if self.partitioned else ()
        return self.persistence != "p" or any(each.persistence != "p" for each in leaves)

    def column(self, name: str) -> ColumnFacts | None:
        """A column by name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Which partitions' changes are a table's, by oid, and which of its rows are published."""

    leaves: frozenset[int] = frozenset()
    condition: str = ""


WHOLE = Extent()


def read_tables(
    connection: Connection, tables: Sequence[Table]
) -> dict[tuple[str, str], TableFacts]:
    """What the catalogue knows of these tables; missing ones are left out."""
    names = [table.schema for table in tables], [table.name for table in tables]
    found = connection.execute(_TABLES, names).fetchall()
    columns: dict[int, list[ColumnFacts]] = {}
    for oid, name, type_oid, modifier, generated, readable in connection.execute(
        _COLUMNS, ([row[2] for row in found],)
    ):
        facts = ColumnFacts(
            name=name, oid=type_oid, modifier=modifier, generated=generated, readable=readable
        )
        columns.setdefault(oid, []).append(facts)
    descendants = _read_descendants(connection, [row[2] for row in found if row[3] in "rp"])
    return {
        (row[0], row[1]): TableFacts(
            schema=row[0],
            name=row[1],
            oid=row[2],
            kind=row[3],
            persistence=row[4],
            replica=row[5],
            is_partition=row[6],
            row_security=row[7],
            primary_key=tuple(row[8] or ()),
            replica_index=tuple(row[9] or ()),
            replica_index_oid=row[10],
            columns=tuple(columns.get(row[2], ())),
            descendants=tuple(descendants.get(row[2], ())),
        )
        for row in found
    }


def _identity(
    replica: str, primary_key: Sequence[str] | None, index: Sequence[str] | None
) -> tuple[str, ...]:
    """The columns that key-only tuples carry."""
    return tuple({"d": primary_key, "i": index}.get(replica) or ())


def _read_descendants(connection: Connection, oids: list[int]) -> dict[int, list[Descendant]]:
    """Leaves of partitioned tables, and tables that inherit from others, by the mapped table."""
    found: dict[int, list[Descendant]] = {}
    row: tuple[Any, ...]
    for row in connection.execute(_DESCENDANTS, (oids,)):
        one = Descendant(
            schema=row[1],
            name=row[2],
            oid=row[3],
            kind=row[4],
            persistence=row[5],
            replica=row[6],
            is_partition=row[7],
            identity=_identity(row[6], row[8], row[9]),
            file=row[10],
            edges=row[11],
            attached=row[12],
            step=row[13],
            new=row[14],
            late=row[15],
        )
        found.setdefault(row[0], []).append(one)
    return found


def learn(
    connection: Connection,
    facts: Sequence[TableFacts],
    relations: Relations,
    types: Types,
    extents: Mapping[int, Extent],
) -> None:
    """Teach the decoder what only the catalogue knows: keys, oids, domains, arrays, names."""
    relations.codec = codec_of(connection)
    types.codec = relations.codec or "utf-8"
    used = sorted({column.oid for table in facts for column in table.columns})
    found = connection.execute(_TYPES, (used,)).fetchall()
    types.learn(row[:4] for row in found)
    types.learn_arrays((row[0], row[4]) for row in found if row[4])
    relations.learn(
        {
            (table.schema, table.name): _known(table, extents.get(table.oid, WHOLE))
            for table in facts
        }
    )


def _known(table: TableFacts, extent: Extent) -> Known:
    return Known(
        columns=tuple(column.name for column in table.columns),
        primary_key=table.primary_key,
        oid=table.oid,
        leaves=extent.leaves,
        replica=REPLICAS[table.replica],
        identity=frozenset(table.identity),
        alone=not table.partitioned,
        condition=extent.condition,
    )


def describe(facts: TableFacts, relations: Relations, types: Types) -> Relation:
    """A mapped table's relation, with the columns in the order in which the log sends them."""
    published = [column for column in facts.columns if not column.generated]
    described = Described(
        schema=facts.schema,
        table=facts.name,
        names=tuple(column.name for column in published),
        types=tuple(types.column_type(column.oid, column.modifier) for column in published),
        flagged=frozenset(facts.identity),
        replica=REPLICAS[facts.replica],
    )
    return relations.describe(described)[0]
