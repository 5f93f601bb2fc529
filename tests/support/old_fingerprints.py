"""The publication's identity as the first released checkpoints hold it.

What the source wrote before it knew partitions and effective identities, kept as it was: a daemon
that is newer must find that nothing has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

import psycopg

from cdc_daemon.model.ports import Table
from tests.support.databases import Database
from tests.support.sources import PUBLICATION

_TABLE: Final = """
SELECT c.oid, c.relreplident::text,
       (SELECT pg_catalog.string_agg(a.attname::text, ',' ORDER BY a.attnum)
        FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid
             AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
        WHERE x.indrelid = c.oid
        AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident END)
FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%s)
"""
_ROWS: Final = """
SELECT 'r' || r.oid || '.' || r.xmin::text
FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = %s AND r.prrelid = %s
"""
_SCHEMA_ROWS: Final = """
SELECT 'n' || n.oid || '.' || n.xmin::text
FROM pg_catalog.pg_publication_namespace n
JOIN pg_catalog.pg_class c ON c.relnamespace = n.pnnspid WHERE n.pnpubid = %s AND c.oid = %s
"""


def old_fingerprint(database: Database, tables: Sequence[Table]) -> str:
    """The publication's mark, then name and mark of each table; all of them are published."""
    with closing(psycopg.connect(database.dsn, autocommit=True)) as connection:
        publication = connection.execute(
            "SELECT oid, xmin::text FROM pg_publication WHERE pubname = %s", (PUBLICATION,)
        ).fetchone()
        assert publication is not None
        words = [_mark(f"{publication[0]}.{publication[1]}")]
        by_name = sorted(tables, key=lambda each: (each.schema, each.name))
        words += [_word(connection, publication[0], table) for table in by_name]
    return " ".join(words)


def _word(connection: psycopg.Connection[Any], publication: int, table: Table) -> str:
    found = connection.execute(_TABLE, (f"{table.schema}.{table.name}",)).fetchone()
    assert found is not None
    oid, replica, identity = found
    rows = connection.execute(_ROWS, (publication, oid)).fetchall()
    if connection.info.server_version >= 150000:
        rows += connection.execute(_SCHEMA_ROWS, (publication, oid)).fetchall()
    member = "".join(row[0] for row in sorted(rows))
    name = _mark(f"{table.schema}\0{table.name}")
    return name + _mark(f"{oid}|{member}|{replica}|{identity or ''}")


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
