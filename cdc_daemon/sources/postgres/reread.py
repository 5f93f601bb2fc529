"""Rows of a source table read again by identity, in the text that the log would use.

The keys are parameters whose type the server takes from the columns they are compared with, so no
type is named and an index can be used. Only domains over types of no other comparison, and types
of extensions (citext), whose operators are on no search path, are compared by what the catalogue
says. Results are asked for in text format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.sources.postgres.connection import Connection
from cdc_daemon.sources.postgres.encodings import in_its_encoding, read_rows, take_bytes, take_text
from cdc_daemon.sources.postgres.snapshot import table_of

_AT_ONCE: Final = 500  # keys in one query
_OWN: Final = frozenset({"other", "citext"})  # types whose equality may not be pg_catalog's
_EQUALITIES: Final = """
WITH RECURSIVE base (name, oid, domain) AS (
    SELECT a.attname::text, a.atttypid, false FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND a.attname = ANY (%s)
    UNION ALL SELECT b.name, t.typbasetype, true FROM base b
    JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype = 'd')
SELECT b.name, pg_catalog.format_type(b.oid, -1), b.domain, COALESCE(n.nspname::text, 'pg_catalog')
FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
LEFT JOIN pg_catalog.pg_opclass c ON c.opcintype = b.oid AND c.opcmethod = 403 AND c.opcdefault
LEFT JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = b.oid
     AND m.amoprighttype = b.oid AND m.amopstrategy = 3
LEFT JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
"""
"""Base type and schema of ``=`` (403: btree; strategy 3: equality)."""


def reread(connection: Connection, relation: Relation, keys: Sequence[Key]) -> dict[Key, Row]:
    """Full-width rows by identity; identities without a row are left out."""
    found: dict[Key, Row] = {}
    asked = list(dict.fromkeys(keys))
    equalities = _equalities(connection, relation)
    published = f" AND {relation.condition}" if relation.condition else ""
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        query = sql.SQL("SELECT {} FROM {} WHERE ({}){}").format(
            sql.SQL(", ").join(sql.Identifier(column.name) for column in relation.columns),
            table_of(relation),
            _condition(relation, len(part), equalities),
            sql.SQL(published),
        )
        values = [value for key in part for value in key]
        for row in _asked(connection, query, values):
            found[tuple([row[i] for i in relation.identity])] = row  # type: ignore[misc]
    return found


def _asked(connection: Connection, query: sql.Composed, values: Sequence[bytes]) -> list[Row]:
    """The rows of a query; keys and rows in the database's encoding where that is read here."""
    codec = take_bytes(connection)
    if codec:
        values = [value.decode().encode(codec) for value in values]
    try:
        text = in_its_encoding(query, connection)
        with connection.lock:
            result = connection.pgconn.exec_params(text, values)
    finally:
        if codec:
            take_text(connection)
    rows = _rows(result)
    return read_rows(rows, codec)[0] if codec else rows


def _rows(result: PGresult) -> list[Row]:
    if result.status != ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
    return [
        tuple([result.get_value(row, column) for column in range(result.nfields)])
        for row in range(result.ntuples)
    ]


def _equalities(connection: Connection, relation: Relation) -> dict[str, tuple[str, str]]:
    """(cast, operator) of the identity's columns whose comparison must be spelt out."""
    own = [
        c.name for c in map(relation.columns.__getitem__, relation.identity) if c.type.name in _OWN
    ]
    if not own:
        return {}
    rows = connection.execute(_EQUALITIES, (relation.schema, relation.table, own)).fetchall()
    return {
        name: (f"::{base}", f"OPERATOR({sql.Identifier(schema).as_string()}.=)")
        for name, base, domain, schema in rows
        if domain or schema != "pg_catalog"
    }


def _condition(
    relation: Relation, count: int, equalities: Mapping[str, tuple[str, str]]
) -> sql.Composed:
    """That a row's identity is one of so many keys, given as parameters."""
    names = [relation.columns[i].name for i in relation.identity]
    width = len(names)
    if not equalities:
        keys = (
            "(" + ", ".join(f"${n * width + i + 1}" for i in range(width)) + ")"
            for n in range(count)
        )
        return sql.SQL("({}) IN ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(map(sql.SQL, keys))
        )
    return sql.SQL(" OR ").join(
        sql.SQL("({})").format(
            sql.SQL(" AND ").join(
                _equal(name, f"${n * width + i + 1}", *equalities.get(name, ("", "=")))
                for i, name in enumerate(names)
            )
        )
        for n in range(count)
    )


def _equal(name: str, parameter: str, cast: str, operator: str) -> sql.Composed:
    return sql.SQL("{}{} {} {}{}").format(
        sql.Identifier(name), sql.SQL(cast), sql.SQL(operator), sql.SQL(parameter), sql.SQL(cast)
    )
