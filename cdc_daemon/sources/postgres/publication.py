"""A publication as the catalogue has it, and its identity: what tells that it was ever changed.

PostgreSQL 18 skips changes in silence where a publication, or a table's membership in it, did not
exist at that point of the log, and every version does when a table is taken out and put back. No
trace of that is in the stream. The catalogue rows have changed their oid or xmin, though, so these
are kept with the checkpoint: one mark for the publication and one for each mapped table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.catalog import TableFacts
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

_ROWS: Final = """
SELECT r.prrelid, 'r' || r.oid || '.' || r.xmin::text
FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = %s AND r.prrelid = ANY (%s::oid[])
"""

_SCHEMA_ROWS: Final = """
SELECT c.oid, 'n' || n.oid || '.' || n.xmin::text
FROM pg_catalog.pg_publication_namespace n
JOIN pg_catalog.pg_class c ON c.relnamespace = n.pnnspid
WHERE n.pnpubid = %s AND c.oid = ANY (%s::oid[])
"""

_DIGITS: Final = 12  # hexadecimal digits of a mark: short, for it is stored with every checkpoint
_ABSENT: Final = "-" * _DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A published table: which columns (None: not known, before 15) and under which condition."""

    columns: frozenset[str] | None
    row_filter: str | None


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
    members = {
        (schema, table): Member(
            columns=None if columns is None else frozenset(columns), row_filter=row_filter
        )
        for schema, table, columns, row_filter in connection.execute(query, (name,))
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


# --- its identity ------------------------------------------------------------------------------


def fingerprint(
    connection: Connection,
    publication: Publication | None,
    tables: Sequence[Table],
    facts: dict[tuple[str, str], TableFacts],
) -> str:
    """The publication's mark, then name and mark of each mapped table, as one word list.

    The same as long as no mapped table can have missed a change; other tables and GRANTs do not
    matter, nor do added columns.
    """
    rows = _membership(connection, publication, [each.oid for each in facts.values()])
    words = [_mark(f"{publication.oid}.{publication.xmin}") if publication else _ABSENT]
    for table in sorted(tables, key=lambda each: (each.schema, each.name)):
        found = facts.get((table.schema, table.name))
        member = publication is not None and (table.schema, table.name) in publication.members
        if found is None or not member:
            words.append(name_mark(table) + _ABSENT)
            continue
        identity = ",".join(found.identity)
        words.append(
            name_mark(table)
            + _mark(f"{found.oid}|{rows.get(found.oid, '')}|{found.replica}|{identity}")
        )
    return " ".join(words)


def _membership(
    connection: Connection, publication: Publication | None, oids: list[int]
) -> dict[int, str]:
    """What makes each table a member, as text: its own row, its schema's row, or nothing."""
    if publication is None:
        return {}
    found = connection.execute(_ROWS, (publication.oid, oids)).fetchall()
    if connection.info.server_version >= 150000:
        found += connection.execute(_SCHEMA_ROWS, (publication.oid, oids)).fetchall()
    marks: dict[int, str] = {}
    for oid, mark in sorted(found):
        marks[oid] = marks.get(oid, "") + mark
    return marks


def name_mark(table: Table) -> str:
    """The table's name, shortened to a hash."""
    return _mark(f"{table.schema}\0{table.name}")


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two fingerprints differ: the publication itself, changed tables, tables that came."""

    publication: bool
    changed: tuple[Table, ...]
    added: tuple[Table, ...]

    def __bool__(self) -> bool:
        return self.publication or bool(self.changed) or bool(self.added)


def compare(then: str, now: str, tables: Sequence[Table]) -> Difference:
    """What has happened between two fingerprints to these tables; those that went do not matter."""
    old, new = _parse(then), _parse(now)
    marks = [(table, name_mark(table)) for table in tables]
    return Difference(
        publication=old[""] != new[""],
        changed=tuple(t for t, name in marks if name in old and old[name] != new.get(name)),
        added=tuple(t for t, name in marks if name not in old),
    )


def _parse(text: str) -> dict[str, str]:
    """Mark of the publication (under the empty name) and of each table."""
    head, *words = text.split(" ")
    return {"": head, **{word[:_DIGITS]: word[_DIGITS:] for word in words}}
