"""A control database with the pipeline that writes to it, put together as the worker does it.

Between two examples it is emptied, which is quicker than making another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any, Final, cast
from unittest import mock

import psycopg

from cdc_daemon import build
from cdc_daemon.config.configuration import Configuration
from cdc_daemon.config.load import load
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.pipeline import Pipeline
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.model.ports import Control, Stream
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.sinks import postgres, sqlite
from cdc_daemon.sinks.postgres.ledger import TABLES
from tests.support.databases import Database
from tests.support.ordering.model import Found
from tests.support.ordering.source import VersionedSource
from tests.support.ordering.traces import KEYS, READ, Trace, postgres_triggers, sqlite_triggers
from tests.support.sqlite_database import SqliteDatabase

CONFIGURATION: Final = """
    sources: {erp: {kind: postgres, dsn: "postgresql://cdc@127.0.0.1/erp"}}
    target: {url: "%(url)s"}
    entities:
      customer:
        key: [code]
        attributes: {code: string(40), name: string(4), note: text, origin: bigint, version: bigint}
      sales_order:
        key: [order_no]
        attributes:
          order_no: string(40)
          customer_code: {type: string(40), references: customer}
          note: text
          origin: bigint
          version: bigint
      item:
        key: [id]
        attributes: {id: string(40), name: string(4), note: text, origin: bigint, version: bigint}
    mappings:
      - {from: erp.public.customer, to: customer, key: {code: number}, on_delete: %(delete)s,
         fields: {name: name, note: note, origin: origin, version: version}}
      - {from: erp.public.orders, to: sales_order, key: {order_no: number}, on_delete: %(delete)s,
         fields: {customer_code: {ref: name, from: erp.public.customer}, note: note,
                  origin: origin, version: version}}
      - {from: erp.public.item, to: item, key: {id: id}, where: "note <> 'hidden'",
         on_delete: %(delete)s,
         fields: {name: {expr: "name || '!'"}, note: note, origin: origin, version: version}}
"""
ENTITY_OF: Final = {"customer": "customer", "orders": "sales_order", "item": "item"}
_SECOND: Final = {"customer": "name", "sales_order": "customer_code", "item": "name"}
_CHECKED: Final = "ALTER TABLE {} ADD CONSTRAINT poison CHECK (note <> 'poison'{}) NOT VALID"


class Stage:
    """``database``: an empty one. ``soft``: how rows are deleted."""

    def __init__(self, database: Database | SqliteDatabase, folder: Path, *, soft: bool) -> None:
        self.database = database
        self.soft = soft
        self._path = folder / f"{database.name}.yaml"
        values = {"url": database.dsn, "delete": "soft" if soft else "hard"}
        self._path.write_text(dedent(CONFIGURATION) % values, "utf-8")
        self.configuration: Configuration = load([self._path], environ={})
        self._apply_plan()
        self._run: Callable[..., Any] = self._connect()
        self._script(sqlite_triggers(KEYS, soft=soft) if self.embedded else postgres_triggers(KEYS))
        self.control: Control = build.make_control(self.configuration)

    @property
    def embedded(self) -> bool:
        return isinstance(self.database, SqliteDatabase)

    def _apply_plan(self) -> None:
        compile_relation = build.compiler(self.configuration, "erp")
        relations = VersionedSource.relations_of()
        compiled = build.compile_all(self.configuration, relations, compile_relation)
        layouts = [one.layout for one in compiled]
        self._references = [one.reference.name for one in layouts if one.reference is not None]
        entities, target = self.configuration.entities, self.configuration.target
        if self.embedded:
            sqlite.apply_plan(target.path, entities, layouts)
        else:
            postgres.apply_plan(target.conninfo, entities, layouts)

    def _connect(self) -> Callable[..., Any]:
        """A connection of the test's own, in autocommit."""
        if isinstance(self.database, SqliteDatabase):
            self._closing: Any = sqlite3.connect(
                self.database.path, isolation_level=None, timeout=10
            )
        else:
            self._closing = psycopg.connect(self.database.dsn, autocommit=True)
        return cast(Callable[..., Any], self._closing.execute)

    def close(self) -> None:
        """Close the connections."""
        self.control.close()
        self._closing.close()

    # --- asking it --------------------------------------------------------------------------------

    def execute(self, statement: str, *params: object) -> Any:
        """A statement that reads the same on both: ``cdc.`` is the ledger, ``%s`` a parameter."""
        if self.embedded:
            statement = statement.replace("cdc.", "cdc_").replace("%s", "?")
        return self._run(statement, params)

    def _script(self, statements: str) -> None:
        if self.embedded:
            self._closing.executescript(statements)
        else:
            self._run(statements)

    def rows(self, table: str) -> dict[str, Found]:
        """The living rows of a table's entity, by key."""
        entity = ENTITY_OF[table]
        living = " WHERE deleted_at IS NULL" if self.soft else ""
        found = self.execute(
            f"SELECT {KEYS[entity]}, {_SECOND[entity]}, note, origin, version FROM {entity}{living}"
        )
        return {row[0]: (*row[:3], str(row[3]), str(row[4])) for row in found.fetchall()}

    def traces(self, after: int) -> tuple[int, list[Trace]]:
        """What took effect since, and the number of the last of it."""
        rows = self.execute(READ, after).fetchall()
        return (rows[-1][0] if rows else after), [Trace(*row[1:]) for row in rows]

    def queue(self) -> list[tuple[Any, ...]]:
        """Id, position, place in it, state, error code and whether it is due, of all changes."""
        return list(
            self.execute(
                "SELECT id, position, sequence, state, error_code, retry_at IS NOT NULL"
                " FROM cdc.failure ORDER BY id"
            ).fetchall()
        )

    # --- what it refuses --------------------------------------------------------------------------

    def refuse(self, *, checked: bool) -> None:
        """Rows whose note is `poison`: by a trigger, or (PostgreSQL) by a CHECK."""
        if checked and not self.embedded:
            living = " OR deleted_at IS NOT NULL" if self.soft else ""
            for entity in KEYS:
                self.execute(f"ALTER TABLE {entity} DROP CONSTRAINT IF EXISTS poison")
                self.execute(_CHECKED.format(entity, living))
        else:
            self.execute("INSERT INTO refused VALUES ('poison') ON CONFLICT DO NOTHING")

    def accept(self) -> None:
        """Everything again."""
        self.execute("DELETE FROM refused")
        for entity in () if self.embedded else KEYS:
            self.execute(f"ALTER TABLE {entity} DROP CONSTRAINT IF EXISTS poison")

    def let_time_pass(self) -> None:
        """So much that whatever is tried again by the clock is due."""
        long_ago = "'2000-01-01 00:00:00.000000+00'"
        self.execute(f"UPDATE cdc.failure SET retry_at = {long_ago} WHERE retry_at IS NOT NULL")

    def clear(self) -> None:
        """Nothing was ever written."""
        self.accept()
        ledger = [name for name in TABLES if name != "meta"]
        tables = [*KEYS, "trace", *(f"cdc.{name}" for name in (*self._references, *ledger))]
        if not self.embedded:
            self.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY")
            return
        self.execute("BEGIN IMMEDIATE")
        self.execute("PRAGMA defer_foreign_keys = ON")
        for table in tables:
            self.execute(f"DELETE FROM {table}")
        self.execute("COMMIT")


class Session:
    """One run of the worker's parts over a stage, until it is ended; ``checkpoint`` as it began."""

    def __init__(self, stage: Stage, source: VersionedSource, meter: Meter) -> None:
        self._stage = stage
        self._meter = meter
        with mock.patch.object(build, "make_source", return_value=source):
            self.parts = build.open_pipeline(stage.configuration, "erp", meter)
        self.stream = cast(Stream, source)
        self.checkpoint = self.parts.sink.acquire()
        self.pipeline = Pipeline(
            source=self.parts.source,
            sink=self.parts.sink,
            applier=self.parts.applier,
            meter=meter,
            limits=self.parts.limits,
            stopping=Stopping(5.0),
            parking=self.parts.copying.parking,
            breaker=self.parts.copying.breaker,
            between=lambda: None,
            cascading=self.parts.copying.cascading,
        )

    def copied(self) -> None:
        """Nothing was there to be copied; the log follows."""
        sink, identity = self.parts.sink, self.parts.source.identify()
        sink.begin_generation("cdc_erp", identity)
        with sink.begin() as unit:
            unit.finish_snapshot(list(self.parts.layouts), identity, "0")

    def begin(self) -> None:
        """As a session of the worker begins."""
        self.parts.releasing.begin()

    def recover(self) -> Checkpoint:
        """After an error inside a unit of work: the same parts go on, from the checkpoint."""
        self.checkpoint = self.parts.sink.recover()
        self.begin()
        return self.checkpoint

    def idle(self, position: str) -> None:
        """The log says that there is nothing new."""
        self.parts.sink.save_progress(position)
        self._meter.checkpointed(position)

    def ask(self, verb: str, arguments: dict[str, object]) -> int:
        """Queue a command, as the command line does; its number."""
        return self._stage.control.submit("erp", verb, arguments, "tester")

    def turn(self) -> None:
        """What the worker does between units: commands, then whatever is due."""
        self.parts.repairs.run_commands(self.checkpoint)
        while self.parts.releasing.turn():
            pass

    def end(self) -> None:
        """Let go of the pipeline; never raises."""
        with suppress(Exception):
            self.parts.close()


def lanes_agree(session: Session) -> Sequence[bytes]:
    """Lanes that memory and failure queue do not both hold closed."""
    kept, lanes = session.parts.sink.lanes(), session.parts.lanes
    missing = [lane for lane in kept if lane not in lanes]
    return missing if missing or len(lanes) == len(kept) else [b"more than the queue has"]
