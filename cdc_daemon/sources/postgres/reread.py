"""Rows of a source table read again by identity, in the text that the log would use.

The keys are parameters whose type the server takes from the columns they are compared with, so no
type is named and an index can be used. Only domains over types of no other comparison, and types
of extensions (citext), whose operators are on no search path, are compared by what the catalogue
says. Results are asked for in text format.

A key may be written otherwise than the row it names has it: 1.5 for the numeric(10,2) 1.50, a
citext in other letters. Which key names which row is for the server to say; the keys that no row is
spelt like are asked about once more, and each row says which of them it is.
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
from cdc_daemon.sources.postgres.encodings import (
    codec_of,
    in_its_encoding,
    read_rows,
    take_bytes,
    take_text,
)
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
    """Full-width rows by the keys as they were given; keys without a row are left out.

    Two keys that mean the same row have it both.
    """
    found: dict[Key, Row] = {}
    codec = codec_of(connection)
    asked = [key for key in dict.fromkeys(keys) if _sayable(key, codec)]
    equalities = _equalities(connection, relation)
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        for row in _asked(connection, _query(relation, len(part), equalities), part):
            found[tuple([row[i] for i in relation.identity])] = row  # type: ignore[misc]
        unlike = [key for key in part if key not in found]
        if unlike:
            found |= _spelt_otherwise(connection, relation, unlike, equalities)
    return {key: found[key] for key in asked if key in found}


def _sayable(key: Key, codec: str) -> bool:
    """Whether the database's encoding has all its characters; else no row is called so."""
    try:
        return all(value.decode().encode(codec or "utf-8") is not None for value in key)
    except UnicodeEncodeError:
        return False


def _spelt_otherwise(
    connection: Connection,
    relation: Relation,
    keys: Sequence[Key],
    equalities: Mapping[str, tuple[str, str]],
) -> dict[Key, Row]:
    """The rows of keys that are not spelt as their rows have them."""
    query = _query(relation, len(keys), equalities, matches=True)
    found: dict[Key, Row] = {}
    for *row, matches in _asked(connection, query, keys):
        assert isinstance(matches, bytes)  # an array: {t,f,...}
        hits = matches.strip(b"{}").split(b",")
        found |= {key: tuple(row) for key, hit in zip(keys, hits, strict=True) if hit == b"t"}
    return found


def _query(
    relation: Relation,
    count: int,
    equalities: Mapping[str, tuple[str, str]],
    *,
    matches: bool = False,
) -> sql.Composed:
    """Rows whose identity is one of so many keys; with ``matches`` also which of them."""
    columns: list[sql.Composable] = [sql.Identifier(column.name) for column in relation.columns]
    if matches:
        each = sql.SQL(", ").join(_is_key(relation, n, equalities) for n in range(count))
        columns.append(sql.SQL("ARRAY[{}]").format(each))
    published = f" AND {relation.condition}" if relation.condition else ""
    return sql.SQL("SELECT {} FROM {} WHERE ({}){}").format(
        sql.SQL(", ").join(columns),
        table_of(relation),
        _condition(relation, count, equalities),
        sql.SQL(published),
    )


def _asked(connection: Connection, query: sql.Composed, keys: Sequence[Key]) -> list[Row]:
    """The rows of a query; keys and rows in the database's encoding where that is read here."""
    values = [value for key in keys for value in key]
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
    return sql.SQL(" OR ").join(_is_key(relation, n, equalities) for n in range(count))


def _is_key(relation: Relation, n: int, equalities: Mapping[str, tuple[str, str]]) -> sql.Composed:
    """That a row's identity is the n-th key."""
    names = [relation.columns[i].name for i in relation.identity]
    return sql.SQL("({})").format(
        sql.SQL(" AND ").join(
            _equal(name, f"${n * len(names) + i + 1}", *equalities.get(name, ("", "=")))
            for i, name in enumerate(names)
        )
    )


def _equal(name: str, parameter: str, cast: str, operator: str) -> sql.Composed:
    return sql.SQL("{}{} {} {}{}").format(
        sql.Identifier(name), sql.SQL(cast), sql.SQL(operator), sql.SQL(parameter), sql.SQL(cast)
    )
