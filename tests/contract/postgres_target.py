"""The contract suite's control database on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.sinks.postgres import PostgresControl, PostgresSink, apply_plan
from cdc_daemon.sinks.postgres.ledger import TABLES
from cdc_daemon.sinks.postgres.names import listed, qualified, quote, reference_columns
from tests.contract.targets import Alteration, Found
from tests.support.databases import Database


class PostgresTarget:
    """``Target`` on PostgreSQL."""

    def __init__(
        self, database: Database, entities: Mapping[str, Entity], layouts: Sequence[Layout]
    ) -> None:
        self.database = database
        self._entities = dict(entities)
        self._layouts = tuple(layouts)
        self._made: list[PostgresSink | PostgresControl] = []
        self.conninfo = {k: str(v) for k, v in conninfo_to_dict(database.dsn).items()}
        apply_plan(self.conninfo, self._entities, self._layouts)

    def sink(self, pipeline: str = "erp", *, instance: str = "here") -> PostgresSink:
        sink = PostgresSink(
            self.conninfo, pipeline, self._entities, self._layouts, instance=instance
        )
        self._made.append(sink)
        return sink

    def control(self) -> PostgresControl:
        control = PostgresControl(self.conninfo)
        self._made.append(control)
        return control

    def living(self, layout: Layout) -> dict[Key, Found]:
        where = "WHERE deleted_at IS NULL" if layout.entity.soft_delete else ""
        rows = self._texts(layout, layout.columns, where)
        return {layout.key_of(row): row for row in rows}

    def tombstones(self, layout: Layout) -> dict[Key, tuple[Found, int]]:
        if not layout.entity.soft_delete:
            return {}
        time = "(extract(epoch FROM deleted_at) * 1000000)::bigint"
        rows = self._texts(layout, layout.columns, "WHERE deleted_at IS NOT NULL", time)
        return {layout.key_of(row[:-1]): (row[:-1], int(row[-1] or 0)) for row in rows}

    def references(self, layout: Layout) -> dict[Key, Key]:
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        table = qualified("cdc", layout.reference.name)
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {_casts(sources + targets)} FROM {table}".encode())
            encoded = [tuple(value.encode() for value in row) for row in rows]
        return {row[: len(sources)]: row[len(sources) :] for row in encoded}

    def age(self, layout: Layout, key: Key) -> None:
        where = " AND ".join(f"{quote(name)}::text = %s" for name in layout.entity.key)
        table = qualified("public", layout.entity.name)
        with self._reading() as connection:
            connection.execute(
                f"UPDATE {table} SET last_sync_time = '2000-01-01' WHERE {where}".encode(),
                [part.decode() for part in key],
            )

    @property
    def embedded(self) -> bool:
        return False

    @property
    def earliest(self) -> bytes:
        return b"0044-03-15 00:00:00 BC"

    def knows(self, change: Alteration) -> bool:
        return change.postgres != ""

    def alter(self, layout: Layout, change: Alteration | str, *, back: bool = False) -> None:
        if isinstance(change, Alteration):
            change = change.back if back else change.postgres
        self.database.execute(f"ALTER TABLE {qualified('public', layout.entity.name)} {change}")

    def forget_holder_for(self, pipeline: str, seconds: int) -> None:
        self.database.execute(
            "UPDATE cdc.checkpoint SET seen_at = clock_timestamp() - make_interval(secs => %s)"
            " WHERE pipeline = %s",
            seconds,
            pipeline,
        )

    def take_over(self, pipeline: str) -> PostgresSink:
        self.database.execute(
            "UPDATE cdc.checkpoint SET backend_pid = NULL, backend_start = NULL"
            " WHERE pipeline = %s",
            pipeline,
        )
        sink = self.sink(pipeline, instance="there")
        sink.acquire()
        return sink

    def count(self, table: str) -> int:
        ((number,),) = self.database.query(f'SELECT count(*) FROM cdc."{table}"')
        return int(number)

    def clear(self, *, ledger: bool = False) -> None:
        tables = [qualified("public", name) for name in self._entities]
        tables += [qualified("cdc", one.reference.name) for one in self._layouts if one.reference]
        if ledger:
            tables += [qualified("cdc", name) for name in TABLES if name != "meta"]
        self.database.execute(f"TRUNCATE {', '.join(tables)}")

    def close(self) -> None:
        while self._made:
            self._made.pop().close()

    def _texts(self, layout: Layout, columns: Sequence[str], where: str, *more: str) -> list[Found]:
        table = qualified("public", layout.entity.name)
        selected = ", ".join([_casts(columns), *(f"({sql})::text" for sql in more)])
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {selected} FROM {table} {where}".encode())
            return [tuple(None if v is None else v.encode() for v in row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(self.database.dsn, autocommit=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection


def _casts(columns: Sequence[str]) -> str:
    return listed(columns).replace(", ", "::text, ") + "::text"
