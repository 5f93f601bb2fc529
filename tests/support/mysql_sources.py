"""A MySQL or MariaDB source over a test's own schema, and what its log says in plain words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pymysql
from pymysql.cursors import Cursor

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.changes import Batch, Row
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.dump import server_id_of
from cdc_daemon.sources.mysql.source import MysqlSource
from cdc_daemon.sources.mysql.stream import MysqlStream

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema of one test's own on a server."""

    server: FamilyServer
    name: str
    made: list[MysqlSource] = field(default_factory=list)

    def execute(self, statements: str, *params: Any) -> None:
        """Run SQL as superuser, each statement by itself."""
        self.server.execute(statements, *params, database=self.name)

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.server.query(statement, *params, database=self.name)

    def connect(self) -> pymysql.Connection[Cursor]:
        """A session in autocommit mode."""
        return self.server.connect(self.name)

    def table(self, name: str, *columns: str, identity: tuple[str, ...] = ()) -> Table:
        """A mapped table of the schema."""
        return Table(schema=self.name, name=name, columns=frozenset(columns), identity=identity)

    def source(self, *tables: Table, **limits: Any) -> MysqlSource:
        """A source that reads it, closed with the schema."""
        settings = {name: str(value) for name, value in self.server.address.items()}
        server_id = server_id_of(self.name, str(next(_numbers)))
        made = MysqlSource("hr", settings, tables, server_id=server_id, **limits)
        self.made.append(made)
        return made


@contextmanager
def schema_on(server: FamilyServer) -> Iterator[Schema]:
    """An empty schema, gone afterwards."""
    schema = Schema(server, f"test_{next(_numbers)}")
    server.create_database(schema.name)
    try:
        yield schema
    finally:
        for source in schema.made:
            source.close()
        server.drop_database(schema.name)


def copy(source: MysqlSource) -> tuple[str, list[Row]]:
    """Take the snapshot: position and all rows."""
    with source.snapshot("") as snapshot:
        batches = list(snapshot.read(source.tables))
    return snapshot.position, [row for b in batches for run in b.runs for row in run.new_rows]


@contextmanager
def streaming(source: MysqlSource, after: str) -> Iterator[MysqlStream]:
    """The log behind a position."""
    stream = source.stream(after)
    try:
        yield stream
    finally:
        stream.close()


def read_to_end(source: MysqlSource, stream: MysqlStream, seconds: float = 20.0) -> list[Batch]:
    """Everything that the log holds now."""
    mark = source.mark()
    batches: list[Batch] = []
    position = ""
    for _ in range(int(seconds / 0.2)):
        if batch := stream.read(0.2):
            batches.append(batch)
            position = batch.position or position
        if position and source.passed(position, mark):
            return batches
    raise AssertionError(f"the log did not come to {mark}: {batches}")


def read_from(source: MysqlSource, after: str) -> list[Batch]:
    """Everything that the log holds behind a position."""
    with streaming(source, after) as stream:
        return read_to_end(source, stream)
