"""A PostgreSQL source, as verification reads it: it computes each mapping's rows itself, in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.schema import MappingConfig, PostgresSourceConfig
from cdc_daemon.mapping.compile import CompiledMapping, tables_of
from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.sinks.postgres.names import quote
from cdc_daemon.sources.postgres.connection import Server
from cdc_daemon.sources.postgres.source import PostgresSource
from cdc_daemon.verify.attribute import Dialect
from cdc_daemon.verify.reading import (
    Connection,
    SourceReader,
    Texts,
    encoding_of,
    snapshot,
    stream,
)
from cdc_daemon.verify.statement import key_set, source_statement, table_of


class PostgresSide:
    """``SourceSide`` on PostgreSQL. The snapshot has a connection of its own, for the log's end is
    asked for meanwhile."""

    def __init__(
        self, configuration: Configuration, name: str, config: PostgresSourceConfig
    ) -> None:
        self._configuration = configuration
        tables = tables_of(configuration.mappings_of(name))
        self._log = PostgresSource(name, config.conninfo, config.slot, config.publication, tables)
        self._server = Server(name, config.conninfo)
        self._connection: Connection | None = None

    def relations(self) -> list[Relation]:
        """Every mapped table as it is now. Raises ConfigurationError for what is not there."""
        return self._log.relations()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with self._server.errors("verifying"), snapshot(self._sql()):
            yield

    def mapped(self, name: str, compiled: Mapping[str, CompiledMapping]) -> _MappedRows:
        """The rows of a mapping, by one statement."""
        connection, mapping = self._sql(), self._configuration.mapping(name)
        dialect = dialect_of(self._configuration, compiled, connection.info.server_version)
        reader = SourceReader(
            connection=connection,
            statement=source_statement(dialect, mapping),
            key_statement=source_statement(dialect, mapping, only_key=True),
            encoding=encoding_of(connection),
        )
        return _MappedRows(name, self._server, reader)

    def first(self, compiled: CompiledMapping, limit: int) -> list[Row]:
        """The first rows of a mapping's table by identity, as the log would say them."""
        with self._server.errors(f"reading {compiled.relation.name}"):
            return list(stream(self._sql(), _rows_sql(compiled, limit)))

    def mark(self) -> str:
        """The log's end; an empty message is put behind it."""
        return self._log.mark()

    def passed(self, position: str, mark: str) -> bool:
        """Whether a position is at or behind that place."""
        return self._log.passed(position, mark)

    def close(self) -> None:
        """Close; never raises."""
        self._log.close()
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()

    def _sql(self) -> Connection:
        if self._connection is None:
            self._connection = self._server.connect()
        return self._connection


@dataclass(frozen=True, slots=True)
class _MappedRows:
    """``MappedRows`` of a statement."""

    mapping: str
    server: Server
    reader: SourceReader

    def rows(self, keys: Sequence[Key] | None = None) -> Iterator[Texts]:
        """All rows in key order; only those with these keys where given."""
        return self._read(self.reader, keys)

    def unfiltered(self, keys: Sequence[Key]) -> set[Key]:
        """Those of these keys that a row has when ``where`` is left aside."""
        statement = replace(self.reader.key_statement, where="")
        start = statement.identities + 2
        rows = self._read(replace(self.reader, statement=statement), keys)
        return {row[start:] for row in rows}  # type: ignore[misc]

    def _read(self, reader: SourceReader, keys: Sequence[Key] | None) -> Iterator[Texts]:
        among = "" if keys is None else key_set(keys, reader.statement.keys)
        with self.server.errors(f"verifying {self.mapping}"):
            yield from reader.rows(among=among)


@dataclass(frozen=True, slots=True)
class _Relations:
    """The table of each mapping, as compiled."""

    compiled: Mapping[str, CompiledMapping]

    def __call__(self, mapping: MappingConfig) -> Relation:
        return self.compiled[mapping.name].relation


def dialect_of(
    configuration: Configuration, compiled: Mapping[str, CompiledMapping], version: int
) -> Dialect:
    """What compiling to SQL needs to know."""
    return Dialect(configuration=configuration, relation_of=_Relations(compiled), version=version)


def _rows_sql(compiled: CompiledMapping, limit: int) -> str:
    """Rows as the log would say them."""
    relation = compiled.relation
    columns = [f"t.{quote(column.name)}" for column in relation.columns]
    texts = [
        f"CASE WHEN {column} IS DISTINCT FROM NULL THEN pg_catalog.concat({column}) END AS c{n}"
        for n, column in enumerate(columns)
    ]
    order = ", ".join(columns[i] for i in relation.identity)
    by = f" ORDER BY {order}" if order else ""
    where = f" WHERE {relation.condition}" if relation.condition else ""
    table = table_of(relation)
    return f"SELECT {', '.join(texts)} FROM {table} AS t{where}{by} LIMIT {max(limit, 0)}"
