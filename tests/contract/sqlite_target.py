"""The contract suite's control database on SQLite."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from cdc_daemon.model.effects import Key, Layout
from cdc_daemon.model.entities import Entity
from cdc_daemon.sinks.columns import reference_columns
from cdc_daemon.sinks.forms import form_of
from cdc_daemon.sinks.sqlite import SqliteControl, SqliteSink, apply_plan
from cdc_daemon.sinks.sqlite.holder import path_of
from cdc_daemon.sinks.sqlite.ledger import TABLES
from cdc_daemon.sinks.sqlite.names import ledger, listed, printed, quote
from cdc_daemon.sinks.sqlite.tables import create_table
from tests.contract.targets import Alteration, Found

LEDGER = tuple(name for name in TABLES if name != "meta")


class SqliteTarget:
    """``Target`` on SQLite."""

    def __init__(
        self, path: Path, entities: Mapping[str, Entity], layouts: Sequence[Layout]
    ) -> None:
        self.path = path
        self._entities = dict(entities)
        self._layouts = tuple(layouts)
        self._made: list[SqliteSink | SqliteControl] = []
        self._altered: list[Alteration] = []
        apply_plan(str(path), self._entities, self._layouts)

    def sink(self, pipeline: str = "erp", *, instance: str = "here") -> SqliteSink:
        sink = SqliteSink(
            str(self.path), pipeline, self._entities, self._layouts, instance=instance
        )
        self._made.append(sink)
        return sink

    def control(self) -> SqliteControl:
        control = SqliteControl(str(self.path))
        self._made.append(control)
        return control

    def living(self, layout: Layout) -> dict[Key, Found]:
        where = "WHERE deleted_at IS NULL" if layout.entity.soft_delete else ""
        rows = self._texts(layout, where)
        return {layout.key_of(row): row for row in rows}

    def tombstones(self, layout: Layout) -> dict[Key, tuple[Found, int]]:
        if not layout.entity.soft_delete:
            return {}
        time_text = (
            "CAST(strftime('%s', substr(deleted_at, 1, 19)) || substr(deleted_at, 21, 6) AS TEXT)"
        )
        rows = self._texts(layout, "WHERE deleted_at IS NOT NULL", time_text)
        return {layout.key_of(row[:-1]): (row[:-1], int(row[-1] or 0)) for row in rows}

    def references(self, layout: Layout) -> dict[Key, Key]:
        assert layout.reference is not None
        sources, targets = reference_columns(layout)
        names = listed(sources + targets).split(", ")
        texts = ", ".join(f"CAST({name} AS TEXT)" for name in names)
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {texts} FROM {ledger(layout.reference.name)}")
            encoded = [tuple(value.encode() for value in row) for row in rows]
        return {row[: len(sources)]: row[len(sources) :] for row in encoded}

    def age(self, layout: Layout, key: Key) -> None:
        forms = [form_of(layout.entity.attribute(name).type) for name in layout.entity.key]
        values = [
            part.decode() if form is None else form(part)
            for form, part in zip(forms, key, strict=True)
        ]
        where = " AND ".join(f"{quote(name)} = ?" for name in layout.entity.key)
        with self._reading() as connection:
            connection.execute(
                f"UPDATE {quote(layout.entity.name)}"
                f" SET last_sync_time = '2000-01-01 00:00:00.000000+00' WHERE {where}",
                values,
            )

    @property
    def embedded(self) -> bool:
        return True

    @property
    def earliest(self) -> bytes:
        return b"0044-03-15 00:00:00 BC"

    def knows(self, change: Alteration) -> bool:
        return change.sqlite is not None

    def alter(self, layout: Layout, change: Alteration, *, back: bool = False) -> None:
        """SQLite cannot alter constraints: the table, which is empty, is made anew."""
        (self._altered.remove if back else self._altered.append)(change)
        sql = create_table(layout.entity, self._entities)
        for one in self._altered:
            if isinstance(one.sqlite, str):
                sql = sql.replace("\nPRIMARY KEY", f"\n{one.sqlite},\nPRIMARY KEY")
            elif one.sqlite is not None:
                column, more = one.sqlite
                sql = sql.replace(f"\n{quote(column)} TEXT", f"\n{quote(column)} TEXT {more}")
        with self._reading() as connection:
            connection.execute(f"DROP TABLE {quote(layout.entity.name)}")
            connection.execute(sql)

    def forget_holder_for(self, pipeline: str, seconds: int) -> None:
        del pipeline  # there is but one
        seen = time.time() - seconds
        os.utime(path_of(str(self.path)), (seen, seen))

    def take_over(self, pipeline: str) -> SqliteSink:
        self.forget_holder_for(pipeline, 31)
        sink = self.sink(pipeline, instance="there")
        sink.acquire()
        return sink

    def count(self, table: str) -> int:
        with self._reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM {_ledger(table)}").fetchone()[0])

    def clear(self, *, ledger: bool = False) -> None:
        tables = [quote(name) for name in self._entities]
        tables += [_ledger(one.reference.name) for one in self._layouts if one.reference]
        if ledger:
            tables += [_ledger(name) for name in LEDGER]
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table in tables:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("COMMIT")

    def sqlite(self, sql: str) -> None:
        """Any statement, as an administrator's shell runs it."""
        with self._reading() as connection:
            connection.execute(sql)

    def close(self) -> None:
        while self._made:
            self._made.pop().close()

    def _texts(self, layout: Layout, where: str, *more: str) -> list[Found]:
        texts = [printed(a.type, quote(a.name)) for a in layout.attributes]
        selected = ", ".join([*texts, *more])
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {selected} FROM {quote(layout.entity.name)} {where}")
            return [tuple(None if v is None else str(v).encode() for v in row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as connection:
            yield connection


def _ledger(name: str) -> str:
    return ledger(name)
