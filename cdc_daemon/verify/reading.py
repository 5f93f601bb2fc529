"""Rows of a statement, streamed in bounded memory, as bytes; rows that cannot be computed included.

A row whose value PostgreSQL refuses to compute (a division by zero, a text that is no number) ends
the whole statement. Then such rows are searched for (verify/poison), left out of the statement, and
put in again where their keys belong, with a reason.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from cdc_daemon.model.changes import Invalid
from cdc_daemon.sources.postgres.encodings import read
from cdc_daemon.verify.poison import UNCOMPUTABLE, Poison, find_poison
from cdc_daemon.verify.statement import Excluded, SourceStatement, is_one_of

Connection = psycopg.Connection[tuple[Any, ...]]
Texts = tuple[bytes | None, ...]

FETCH_ROWS = 4_000
_SETTINGS = (
    "SET LOCAL cursor_tuple_fraction = 1; SET LOCAL jit = off; SET LOCAL work_mem = '32MB';"
    " SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on;"
    " SET LOCAL standard_conforming_strings = on"
)
NOT_COMPUTED = b"a value cannot be computed"
_numbers = itertools.count(1)


class _Bytes(Loader):
    """Text as the bytes that came."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """One read-only snapshot; the connection must be in autocommit mode."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute(_SETTINGS)
    connection.execute("SELECT pg_catalog.pg_current_snapshot()")  # it is taken at the first query
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK")


def encoding_of(connection: Connection) -> str:
    """The database's encoding; what is not UTF8 orders differently."""
    row = connection.execute("SELECT pg_catalog.current_setting('server_encoding')").fetchone()
    assert row is not None
    return str(row[0])


def stream(connection: Connection, sql: str) -> Iterator[Texts]:
    """The rows of a SELECT of text columns, through a server-side cursor of the open snapshot."""
    cursor = connection.cursor(name=f"verify_{next(_numbers)}")
    cursor.adapters.register_loader("text", _Bytes)
    with cursor:
        cursor.execute(sql.encode())
        while rows := cursor.fetchmany(FETCH_ROWS):
            yield from rows


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReader:
    """Reads one mapping's rows; ``key_statement`` computes nothing but identity and key."""

    connection: Connection
    statement: SourceStatement
    key_statement: SourceStatement
    encoding: str

    def rows(self, *, among: str = "") -> Iterator[Texts]:
        """The rows in key order, of the open snapshot; ``among``: only rows with these keys."""
        connection = self.connection
        connection.execute("SAVEPOINT verify_rows")
        try:
            yield from _begun(stream(connection, self._sql(among)))
            return
        except UNCOMPUTABLE:
            connection.execute("ROLLBACK TO SAVEPOINT verify_rows")
            poison = find_poison(connection, self.statement)
            if not poison:
                raise
        excluded = [
            Excluded(table=table, places=tuple(one.place for one in group))
            for table, group in itertools.groupby(poison, lambda one: one.table)
        ]
        rest = stream(connection, self._sql(among, excluded))
        left_out = sorted(map(self._row_of, poison), key=self._order)
        if among:  # what has no key, or another one, is not asked for
            wanted = set(stream(connection, among))
            left_out = [row for row in left_out if self._key(row) in wanted]
        yield from heapq.merge(rest, left_out, key=self._order)

    def _sql(self, among: str, excluded: Sequence[Excluded] = ()) -> str:
        return self.statement.ordered(excluded=excluded, among=among, encoding=self.encoding)

    def _key(self, row: Texts) -> Texts:
        start = self.statement.identities + 2
        return row[start : start + self.statement.keys]

    def _order(self, row: Texts) -> list[tuple[bool, bytes]]:
        return [(value is not None, value or b"") for value in self._key(row)]

    def _row_of(self, one: Poison) -> Texts:
        """A row as the statement would give it, with its key where that can be computed."""
        statement, only = self.key_statement, is_one_of([one.place])
        width = len(self.statement.attributes)
        self.connection.execute("SAVEPOINT verify_key")
        try:
            sql = statement.rows(of=one.name, only=only)
            (row,) = stream(self.connection, sql)
        except (*UNCOMPUTABLE, ValueError):
            self.connection.execute("ROLLBACK TO SAVEPOINT verify_key")
            (identity,) = stream(self.connection, statement.found(of=one.name, only=only))
            if codec := statement.relation.codec:
                identity = tuple([_as_read(value, codec) for value in identity])
            return (*identity, NOT_COMPUTED, None, *[None] * width)
        identity, key = row[: statement.identities], row[statement.identities + 2 :]
        return (*identity, NOT_COMPUTED, None, *key, *[None] * (width - statement.keys))


def _as_read(value: bytes | None, codec: str) -> bytes | None:
    """A stored text as the log's reader has it; what is none stays as its bytes."""
    found = read(value, codec)
    return value if isinstance(found, Invalid) else found  # type: ignore[return-value]


def _begun(rows: Iterator[Texts]) -> Iterator[Texts]:
    """The same rows, the first of them fetched: all values of all rows are computed before it."""
    first = next(rows, None)
    return rows if first is None else itertools.chain([first], rows)
