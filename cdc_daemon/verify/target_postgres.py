"""The control database on PostgreSQL, as verification reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psycopg

from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.sinks.postgres import failures
from cdc_daemon.sinks.postgres.checkpoint import STALE_SECONDS, check_version
from cdc_daemon.sinks.postgres.errors import translate
from cdc_daemon.sinks.postgres.names import (
    DELETED_AT,
    LEDGER,
    element_type,
    key_attributes,
    literal,
    qualified,
    quote,
    reference_columns,
)
from cdc_daemon.sinks.postgres.session import connect
from cdc_daemon.verify.attribute import comparable
from cdc_daemon.verify.reading import Texts, encoding_of, snapshot, stream
from cdc_daemon.verify.statement import TargetStatement, key_set

APPLICATION = "cdc_daemon:verify"
_STATE = """
SELECT c.position, c.phase = 'streaming', EXISTS (
       SELECT FROM pg_catalog.pg_stat_activity a
        WHERE a.pid = c.backend_pid
          AND (a.backend_start = c.backend_start OR a.backend_start IS NULL)
          AND c.seen_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s))
  FROM cdc.checkpoint c WHERE c.pipeline = %s"""
_NOT_THERE = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)


class PostgresReader:
    """``TargetReader`` on PostgreSQL. ``conninfo``: libpq keywords; never logged."""

    def __init__(self, conninfo: Mapping[str, str], schema: str) -> None:
        self._schema = schema
        self._connection = connect(conninfo, APPLICATION)
        self._encoding = encoding_of(self._connection)

    def check(self) -> None:
        """Refuse a ledger that is missing or of another version. Raises ConfigurationError."""
        with _errors():
            check_version(self._connection)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with _errors(), snapshot(self._connection):
            yield

    def lanes(self, pipeline: str) -> set[bytes]:
        """Digests of the pipeline's blocked lanes."""
        with _errors():
            return set(failures.lanes(self._connection, pipeline))

    def progress(self, pipeline: str) -> tuple[str | None, bool, bool]:
        """The checkpoint's position, whether it streams, and whether a worker holds it now."""
        with _errors():
            row = self._connection.execute(_STATE, (STALE_SECONDS, pipeline)).fetchone()
        return (row[0], row[1], row[2]) if row else (None, False, False)

    def rows(
        self, entity: Entity, attributes: Sequence[Attribute], keys: Sequence[Key] | None = None
    ) -> Iterator[Texts]:
        """Living rows in key order, the key's attributes first; only of these keys where given."""
        statement = TargetStatement(
            entity=entity, attributes=tuple(attributes), schema=self._schema
        )
        among = "" if keys is None else key_set(keys, len(entity.key))
        sql = statement.ordered(among=among, encoding=self._encoding)
        with _errors():
            yield from stream(self._connection, sql)

    def identities(self, layout: Layout, keys: Sequence[Key]) -> Iterator[tuple[Key, Texts]]:
        """Entity key and source key of those keys that the mapping's reference table names."""
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        attributes = key_attributes(layout.entity)
        table = qualified(LEDGER, layout.reference.name)
        texts = [
            f"{comparable(attribute.type, f'r.{quote(name)}')} AS a{n}"
            for n, (attribute, name) in enumerate(zip(attributes, targets, strict=True))
        ]
        texts += [f"(r.{quote(name)})::text AS i{n}" for n, name in enumerate(sources)]
        width = len(attributes)
        names = ", ".join(f'v.a{n} COLLATE "C"' for n in range(width))
        sql = (
            f"SELECT * FROM (SELECT {', '.join(texts)} FROM {table} AS r) AS v"
            f" WHERE ({names}) IN ({key_set(keys, width)})"
        )
        with _errors():
            for row in stream(self._connection, sql):
                yield row[:width], row[width:]  # type: ignore[misc]

    def tombstones(self, entity: Entity, keys: Sequence[bytes]) -> list[bytes]:
        """Those of these keys (of one part) whose rows are deleted softly."""
        (attribute,) = key_attributes(entity)
        column = f"t.{quote(attribute.name)}"
        listed = ", ".join(literal(key.decode()) for key in keys)
        sql = (
            f"SELECT ({column})::text FROM {qualified(self._schema, entity.name)} AS t"
            f" WHERE t.{quote(DELETED_AT)} IS NOT NULL"
            f" AND {column} = ANY (ARRAY[{listed}]::text[]::{element_type(attribute.type)}[])"
        )
        with _errors():
            return [row[0] for row in stream(self._connection, sql) if row[0] is not None]

    def meant(self, layout: Layout, value: bytes) -> bytes | None:
        """The entity key that a source id of one part stands for; None: not known (yet)."""
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        table = qualified(LEDGER, layout.reference.name)
        condition = f"r.{quote(sources[0])}::text = {literal(value.decode())}"
        found = self._one(f"SELECT r.{quote(targets[0])}::text FROM {table} AS r WHERE {condition}")
        return found[0] if found else None

    def row(
        self, entity: Entity, key: Sequence[bytes | None], names: Sequence[str]
    ) -> Texts | None:
        """These columns of the row with that key, as text; None where there is none."""
        condition = " AND ".join(
            f"t.{quote(attribute.name)} = "
            f"{literal((value or b'').decode())}::{element_type(attribute.type)}"
            for attribute, value in zip(key_attributes(entity), key, strict=True)
        )
        table = qualified(self._schema, entity.name)
        texts = ", ".join(f"t.{quote(name)}::text" for name in names)
        return self._one(f"SELECT {texts} FROM {table} AS t WHERE {condition}")

    def close(self) -> None:
        """Close; never raises."""
        with suppress(Exception):
            self._connection.close()

    def _one(self, sql: str) -> Texts | None:
        with _errors():
            try:
                with snapshot(self._connection):
                    return next(iter(list(stream(self._connection, sql))), None)
            except _NOT_THERE:
                return None  # nothing was applied yet


@contextmanager
def _errors() -> Iterator[None]:
    """Errors of the control database in our words."""
    try:
        yield
    except psycopg.Error as exc:
        raise translate(exc) from exc
