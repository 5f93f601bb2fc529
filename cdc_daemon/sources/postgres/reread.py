"""Rows of a source table read again by identity, in the text that the log would use.

The keys are parameters whose type the server takes from the columns they are compared with, so no
type is named and an index can be used. Results are asked for in text format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.sources.postgres.connection import Connection

_AT_ONCE: Final = 500  # keys in one query


def reread(
    connection: Connection, relation: Relation, keys: Sequence[Key], *, partitioned: bool
) -> dict[Key, Row]:
    """Full-width rows by identity; identities without a row are left out."""
    found: dict[Key, Row] = {}
    asked = list(dict.fromkeys(keys))
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        query = _query(relation, len(part), partitioned=partitioned).as_bytes(connection)
        values = [value for key in part for value in key]
        with connection.lock:
            result = connection.pgconn.exec_params(query, values)
        for row in _rows(result):
            found[tuple([row[i] for i in relation.identity])] = row  # type: ignore[misc]
    return found


def _rows(result: PGresult) -> list[Row]:
    if result.status != ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
    return [
        tuple([result.get_value(row, column) for column in range(result.nfields)])
        for row in range(result.ntuples)
    ]


def _query(relation: Relation, count: int, *, partitioned: bool) -> sql.Composed:
    """SELECT of the relation's columns for so many keys."""
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in relation.columns)
    identity = [sql.Identifier(relation.columns[i].name) for i in relation.identity]
    width = len(identity)
    keys = (
        "(" + ", ".join(f"${row * width + i + 1}" for i in range(width)) + ")"
        for row in range(count)
    )
    return sql.SQL("SELECT {} FROM {} {} WHERE ({}) IN ({})").format(
        columns,
        sql.SQL("" if partitioned else "ONLY"),
        sql.Identifier(relation.schema, relation.table),
        sql.SQL(", ").join(identity),
        sql.SQL(", ").join(map(sql.SQL, keys)),
    )
