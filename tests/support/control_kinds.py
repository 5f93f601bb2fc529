"""The control database of a test, asked in the words of its kind: what SQL does not say alike.

`kind_of` chooses. Not in here: what reads the same everywhere (`Erp.target`), and what the daemon
makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any, Final, Protocol, TypeAlias, assert_never

import psycopg
import pymysql
from psycopg.conninfo import make_conninfo
from pymysql.cursors import DictCursor

from tests.support.databases import Database
from tests.support.mysql_database import MysqlDatabase
from tests.support.real_daemon import RealDaemon
from tests.support.sqlite_database import SqliteDatabase

ControlDatabase: TypeAlias = Database | SqliteDatabase | MysqlDatabase


class ControlKind(Protocol):
    """What is asked of a control database.

    What its worker does is asked with the daemon, which a file needs. `hashes`: whether it hashes
    rows as a source on PostgreSQL does. `commit`: what is sent to end a unit of work.
    """

    hashes: bool
    commit: bytes

    @property
    def port(self) -> int | None:
        """Where it listens; None: it is a file."""

    def through(self, port: int) -> tuple[str, dict[str, object]]:
        """Its address by way of another port on loopback, and what a configuration says beside."""

    def references(self) -> list[int]:
        """How many rows each reference table has."""

    def checkpoint(self) -> dict[str, Any]:
        """The row of pipeline `erp`."""

    def working(self, daemon: RealDaemon | None) -> bool:
        """Whether the worker has a transaction open in which it has written."""

    def waits_for_lock(self, daemon: RealDaemon | None) -> bool:
        """Whether the worker waits for somebody's lock."""

    def waits_for(self, event: str) -> bool:
        """Whether the worker's statement waits for that event, as the server calls it."""

    def locked(self, table: str) -> AbstractContextManager[None]:
        """Somebody holds that table, so that nobody writes to it."""

    def end_sessions(self) -> None:
        """Whoever is connected has to do it again."""


def kind_of(database: ControlDatabase) -> ControlKind:
    """The words of a control database's kind."""
    match database:
        case Database():
            return OnPostgres(database)
        case SqliteDatabase():
            return InFile(database)
        case MysqlDatabase():
            return OnMysql(database)
        case _ as never:
            assert_never(never)


class OnPostgres:
    """On PostgreSQL."""

    hashes = True
    commit = b"cdc_commit"
    """The prepared statement's name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def port(self) -> int | None:
        return self._database.server.port

    def through(self, port: int) -> tuple[str, dict[str, object]]:
        return make_conninfo(self._database.dsn, host="127.0.0.1", port=port), {}

    def references(self) -> list[int]:
        names = self._database.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'cdc'::regnamespace"
            " AND relkind = 'r' AND relname LIKE 'reference%'"
        )
        counts = [self._database.query(f'SELECT count(*) FROM cdc."{name}"') for (name,) in names]
        return [number for ((number,),) in counts]

    def checkpoint(self) -> dict[str, Any]:
        ((row,),) = self._database.query(
            "SELECT to_jsonb(c) FROM cdc.checkpoint c WHERE pipeline = 'erp'"
        )
        assert isinstance(row, dict)
        return row

    def working(self, daemon: RealDaemon | None) -> bool:
        del daemon
        return self._worker("backend_xid IS NOT NULL")

    def waits_for_lock(self, daemon: RealDaemon | None) -> bool:
        del daemon
        return self._worker("wait_event_type = 'Lock'")

    def waits_for(self, event: str) -> bool:
        return self._worker(f"wait_event = '{event}'")

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """No stronger lock: that would take a transaction id, which a new slot on the server
        awaits."""
        with psycopg.connect(self._database.dsn) as connection:
            connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
            yield

    def end_sessions(self) -> None:
        self._database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'cdc_daemon%'"
        )

    def _worker(self, condition: str) -> bool:
        found = self._database.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            f" AND application_name = 'cdc_daemon:erp' AND {condition}"
        )
        return bool(found)


class InFile:
    """An SQLite file, which does not tell who works on it."""

    hashes = False
    commit = b""
    port = None

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def through(self, port: int) -> tuple[str, dict[str, object]]:
        raise AssertionError(f"no port leads to a file, nor does {port}")

    def references(self) -> list[int]:
        names = self._database.query(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'cdc_reference%'"
        )
        counts = [self._database.query(f'SELECT count(*) FROM "{name}"') for (name,) in names]
        return [number for ((number,),) in counts]

    def checkpoint(self) -> dict[str, Any]:
        return self._database.record("SELECT * FROM cdc.checkpoint WHERE pipeline = 'erp'")

    def working(self, daemon: RealDaemon | None) -> bool:
        """Whether it has read changes that it has not committed."""
        assert daemon is not None, "a file does not tell who works on it"
        status = daemon.status()
        return bool(status["received_changes"] > status["applied_changes"])

    def waits_for_lock(self, daemon: RealDaemon | None) -> bool:
        return self.working(daemon)

    def waits_for(self, event: str) -> bool:
        raise AssertionError(f"nobody waits for {event} at a file")

    def locked(self, table: str) -> AbstractContextManager[None]:
        del table
        return self._database.held()

    def end_sessions(self) -> None:
        raise AssertionError("a file has no sessions")


WORKER: Final = "(SELECT backend_pid FROM cdc_checkpoint WHERE pipeline = 'erp')"
"""The worker's connection: the server does not tell what a client calls itself."""


class OnMysql:
    """On MariaDB or MySQL."""

    hashes = False
    commit = b"\x03COMMIT"

    def __init__(self, database: MysqlDatabase) -> None:
        self._database = database

    @property
    def port(self) -> int | None:
        return self._database.server.port

    def through(self, port: int) -> tuple[str, dict[str, object]]:
        """In clear, or a proxy sees nobody's words."""
        url = self._database.dsn.replace(f":{self.port}/", f":{port}/")
        return url, {"sslmode": "disable"}

    def references(self) -> list[int]:
        names = self._database.query(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND table_name LIKE 'cdc_reference%'"
        )
        counts = [self._database.query(f"SELECT count(*) FROM `{name}`") for (name,) in names]
        return [number for ((number,),) in counts]

    def checkpoint(self) -> dict[str, Any]:
        server, name = self._database.server, self._database.name
        with closing(server.connect(name, cursorclass=DictCursor)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT * FROM cdc_checkpoint WHERE pipeline = 'erp'")
            row: Any = cursor.fetchone()
        return dict(row)

    def working(self, daemon: RealDaemon | None) -> bool:
        del daemon
        return self._transaction("trx_rows_modified > 0")

    def waits_for_lock(self, daemon: RealDaemon | None) -> bool:
        """For a row's, or a table's, which is no transaction's."""
        del daemon
        return self._transaction("trx_state = 'LOCK WAIT'") or self.waits_for("%lock")

    def waits_for(self, event: str) -> bool:
        return bool(
            self._database.query(
                f"SELECT id FROM information_schema.processlist WHERE id = {WORKER}"
                " AND state LIKE %s",
                f"Waiting for {event}",
            )
        )

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Others may read it, as where PostgreSQL locks it."""
        name = table.replace("cdc.", "cdc_")
        with closing(self._database.server.connect(self._database.name)) as connection:
            connection.cursor().execute(f"LOCK TABLES `{name}` READ")
            yield

    def end_sessions(self) -> None:
        found = self._database.query(
            "SELECT id FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (number,) in found:
            with suppress(pymysql.err.OperationalError):  # it has ended by itself
                self._database.execute(f"KILL {number}")

    def _transaction(self, condition: str) -> bool:
        return bool(
            self._database.query(
                "SELECT trx_id FROM information_schema.innodb_trx"
                f" WHERE trx_mysql_thread_id = {WORKER} AND {condition}"
            )
        )
