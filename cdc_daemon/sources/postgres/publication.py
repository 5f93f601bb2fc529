"""A publication as the catalogue has it: what it publishes, and what makes a table a member of it.

What tells that it was ever changed is its identity (``fingerprint.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from cdc_daemon.sources.postgres.catalog import ColumnFacts, TableFacts
from cdc_daemon.sources.postgres.connection import Connection

_PUBLICATION: Final = """
SELECT p.oid, p.xmin::text, p.puballtables, p.pubviaroot,
       p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
       COALESCE(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n')
FROM pg_catalog.pg_publication p WHERE p.pubname = %s
"""

_MEMBERS: Final = """
SELECT t.schemaname::text, t.tablename::text, {columns}, {filter}
FROM pg_catalog.pg_publication_tables t WHERE t.pubname = %s
"""

_LINEAGE: Final = """
WITH lineage (oid, relid) AS (
    SELECT c.oid, c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::oid[])
    UNION SELECT c.oid, a.relid
    FROM pg_catalog.pg_class c, pg_catalog.pg_partition_ancestors(c.oid) a (relid)
    WHERE c.oid = ANY (%s::oid[]) AND c.relispartition)
"""

_ROWS: Final = f"""{_LINEAGE}
SELECT l.oid, 'r' || r.oid || '.' || r.xmin::text, l.relid = l.oid
FROM lineage l JOIN pg_catalog.pg_publication_rel r ON r.prrelid = l.relid WHERE r.prpubid = %s
"""

_SCHEMA_ROWS: Final = f"""{_LINEAGE}
SELECT l.oid, 'n' || n.oid || '.' || n.xmin::text, l.relid = l.oid
FROM lineage l JOIN pg_catalog.pg_class c ON c.oid = l.relid
JOIN pg_catalog.pg_publication_namespace n ON c.relnamespace = n.pnnspid WHERE n.pnpubid = %s
"""

_HOLDING: Final = """
WITH RECURSIVE up (oid, relid, depth, edges) AS (
    SELECT c.oid, c.oid, 0, '' FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::oid[])
    UNION ALL
    SELECT u.oid, i.inhparent, u.depth + 1, u.edges || i.inhparent || '.' || i.xmin::text || '/'
    FROM up u JOIN pg_catalog.pg_class c ON c.oid = u.relid AND c.relispartition
    JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.relid)
SELECT DISTINCT ON (u.oid) u.oid, u.edges || COALESCE(d.xmin::text, '')
FROM up u JOIN pg_catalog.pg_class c ON c.oid = u.relid
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prrelid = u.relid AND r.prpubid = %s
LEFT JOIN {schemas} ON n.pnnspid = c.relnamespace AND n.pnpubid = %s
LEFT JOIN pg_catalog.pg_depend d ON n.oid IS NOT NULL AND r.oid IS NULL
     AND d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = u.relid AND d.objsubid = 0
     AND d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.deptype = 'n'
WHERE r.oid IS NOT NULL OR n.oid IS NOT NULL
ORDER BY u.oid, u.depth
"""
"""The way from a table up to the nearest member; of a member by schema, how it is in that schema:
moving a table to another schema writes its dependency anew, GRANT and rewriting it do not."""
_SCHEMAS: Final = "pg_catalog.pg_publication_namespace n"
_NO_SCHEMAS: Final = "(SELECT 0::oid, 0::oid, 0::oid WHERE false) n (oid, pnnspid, pnpubid)"

_FILTERS: Final = """
SELECT n.nspname::text, c.relname::text, a.attname::text
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.regexp_matches(r.prqual::text, ':varattno ([0-9]+)', 'g') AS v (m)
JOIN pg_catalog.pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = v.m[1]::int2
WHERE r.prpubid = %s AND r.prqual IS NOT NULL
"""
"""The columns in row filters: the only thing that is read from a node tree, unchanged since 15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A published table: which columns (None: not known, before 15) and under which condition."""

    columns: frozenset[str] | None
    row_filter: str | None
    filtered_by: frozenset[str] = frozenset()  # the columns in the condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publication and, of its tables, those that are mapped."""

    oid: int
    xmin: str
    all_tables: bool
    via_root: bool
    actions: frozenset[str]
    generated: str  # pubgencols: 'n' none, 's' stored
    members: dict[tuple[str, str], Member]


def read_publication(connection: Connection, name: str) -> Publication | None:
    """The publication, or None if there is none of that name."""
    row = connection.execute(_PUBLICATION, (name,)).fetchone()
    if row is None:
        return None
    known = connection.info.server_version >= 150000
    query = sql.SQL(_MEMBERS).format(
        columns=sql.SQL("t.attnames::text[]" if known else "NULL"),
        filter=sql.SQL("t.rowfilter" if known else "NULL"),
    )
    found = connection.execute(query, (name,)).fetchall()
    filters: dict[tuple[str, str], set[str]] = {}
    if known and any(row[3] is not None for row in found):
        for schema, table, column in connection.execute(_FILTERS, (row[0],)):
            filters.setdefault((schema, table), set()).add(column)
    members = {
        (schema, table): Member(
            columns=None if columns is None else frozenset(columns),
            row_filter=row_filter,
            filtered_by=frozenset(filters.get((schema, table), ())),
        )
        for schema, table, columns, row_filter in found
    }
    actions = ("insert", "update", "delete", "truncate")
    return Publication(
        oid=row[0],
        xmin=row[1],
        all_tables=row[2],
        via_root=row[3],
        actions=frozenset(name for name, on in zip(actions, row[4:8], strict=True) if on),
        generated=row[8],
        members=members,
    )


def as_published(
    facts: Mapping[tuple[str, str], TableFacts], publication: Publication | None
) -> dict[tuple[str, str], TableFacts]:
    """The tables with stored generated columns as columns like any other, where the publication
    has them in the log (PostgreSQL 18: ``publish_generated_columns = stored``)."""
    if publication is None or publication.generated != "s":
        return dict(facts)
    return {name: replace(table, columns=_published(table)) for name, table in facts.items()}


def _published(table: TableFacts) -> tuple[ColumnFacts, ...]:
    return tuple(
        replace(column, generated="") if column.generated == "s" else column
        for column in table.columns
    )


# --- its members -------------------------------------------------------------------------------


def holds(publication: Publication, found: TableFacts, rows: Mapping[int, str]) -> bool:
    """Whether the publication holds a table, or, under their own names, a table's partitions."""
    if found.partitioned and not publication.via_root:
        return publication.all_tables or found.oid in rows
    return (found.schema, found.name) in publication.members


def membership(
    connection: Connection, publication: Publication | None, oids: list[int]
) -> dict[int, str]:
    """What makes each table a member, as text: rows for it, for what it is a partition of, or for
    their schemas; or nothing."""
    return joined(ties(connection, publication, oids))


Tie = tuple[int, str, bool]
"""A table's oid, a row that makes it a member, and whether itself: else it is part of a member."""


def ties(connection: Connection, publication: Publication | None, oids: list[int]) -> list[Tie]:
    """What makes each table a member, row by row and in order."""
    if publication is None:
        return []
    asked = (oids, oids, publication.oid)
    found = connection.execute(_ROWS, asked).fetchall()
    if connection.info.server_version >= 150000:
        found += connection.execute(_SCHEMA_ROWS, asked).fetchall()
    return sorted((oid, mark, own) for oid, mark, own in found)


def holding(
    connection: Connection, publication: Publication | None, oids: list[int]
) -> dict[int, str]:
    """What joins each table to the row that makes it a member, as text; where it is no more than
    being that table, nothing."""
    if publication is None or publication.all_tables:
        return {}
    known = connection.info.server_version >= 150000
    query = sql.SQL(_HOLDING).format(schemas=sql.SQL(_SCHEMAS if known else _NO_SCHEMAS))
    found = connection.execute(query, (oids, publication.oid, publication.oid)).fetchall()
    return {oid: text for oid, text in found if text}


def joined(found: Iterable[Tie]) -> dict[int, str]:
    """The rows of each table as text."""
    marks: dict[int, str] = {}
    for oid, mark, _ in found:
        marks[oid] = marks.get(oid, "") + mark
    return marks
