"""Rows that PostgreSQL refuses to compute: found by halving the table's pages.

In one snapshot a row's place (ctid) stays, so that it can be named to leave the row out. Partitions
are searched one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from cdc_daemon.sinks.postgres.names import literal, qualified
from cdc_daemon.verify.statement import SourceStatement, is_one_of, stands_in

Connection = psycopg.Connection[tuple[Any, ...]]

UNCOMPUTABLE = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)
"""What a statement fails with when one row is at fault: SQLSTATE class 22, and limits."""

_LEAVES = """
SELECT c.oid, c.oid::regclass::text,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint
  FROM pg_class c
 WHERE c.relkind = 'r' AND (c.oid = {0}::regclass
    OR c.oid IN (SELECT relid FROM pg_partition_tree({0}::regclass) WHERE isleaf))
 ORDER BY c.oid"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """One row that cannot be computed. ``name``: its table, or partition, qualified and quoted."""

    table: int
    name: str
    place: str


def find_poison(connection: Connection, statement: SourceStatement) -> list[Poison]:
    """Every row of the statement's table that cannot be computed, table by table."""
    name = qualified(statement.relation.schema, statement.relation.table)
    found: list[Poison] = []
    for oid, leaf, pages in connection.execute(_LEAVES.format(literal(name)).encode()).fetchall():
        leaf = f"ONLY {leaf}"  # noqa: PLW2901 - what inherits is searched on its own, or not at all
        places = _search(connection, statement, leaf, pages)
        found += [Poison(table=oid, name=leaf, place=place) for place in places]
    return found


def _search(connection: Connection, statement: SourceStatement, leaf: str, pages: int) -> list[str]:
    found: list[str] = []
    ranges = [(0, pages)]
    while ranges:
        low, high = ranges.pop()
        if low >= high or _computes(connection, statement, leaf, stands_in((low, high))):
            continue
        if high - low > 1:
            middle = (low + high) // 2
            ranges += [(low, middle), (middle, high)]
        else:
            found += _search_page(connection, statement, leaf, low)
    return found


def _search_page(
    connection: Connection, statement: SourceStatement, leaf: str, page: int
) -> list[str]:
    sql = f"SELECT t0.ctid::text FROM {leaf} AS t0 WHERE {stands_in((page, page + 1))}"
    found: list[str] = []
    groups = [[row[0] for row in connection.execute(sql.encode()).fetchall()]]
    while groups:
        places = groups.pop()
        if not places or _computes(connection, statement, leaf, is_one_of(places)):
            continue
        if len(places) > 1:
            middle = len(places) // 2
            groups += [places[:middle], places[middle:]]
        else:
            found += places
    return found


def _computes(connection: Connection, statement: SourceStatement, leaf: str, only: str) -> bool:
    """Whether all values of some rows can be computed."""
    connection.execute("SAVEPOINT verify_probe")
    try:
        connection.execute(statement.probe(of=leaf, only=only).encode())
    except UNCOMPUTABLE:
        connection.execute("ROLLBACK TO SAVEPOINT verify_probe")
        return False
    connection.execute("RELEASE SAVEPOINT verify_probe")
    return True
