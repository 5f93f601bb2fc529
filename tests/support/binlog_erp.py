"""The small ERP database of `erp` on MySQL or MariaDB, asked and changed in their words.

What differs is here: tables, where the log ends, a writer's statements, and the configuration.
Content is compared as rows of both sides, counters as on PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

import pymysql

from cdc_daemon.sources.mysql.gtid import parse_domains, parse_set
from cdc_daemon.sources.mysql.position import MariadbPosition, MysqlPosition, parse_position
from tests.support.control_kinds import ControlDatabase
from tests.support.databases import Database
from tests.support.erp import MAPPINGS, Erp
from tests.support.mysql_database import MysqlDatabase

TABLES: Final = """
    CREATE TABLE t_customer (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(200));
    CREATE TABLE t_order (
        fid bigint PRIMARY KEY, fbillno varchar(30) NOT NULL, fcustid bigint,
        famount decimal(18,4) NOT NULL);
    CREATE TABLE t_material (
        fid bigint PRIMARY KEY, fnumber varchar(40) NOT NULL, fname varchar(300),
        funit varchar(10), fprice decimal(18,4), fremark longtext);
    CREATE TABLE journal (number bigint AUTO_INCREMENT PRIMARY KEY, changes integer NOT NULL);
"""
CHANGES: Final = (
    "INSERT IGNORE INTO t_customer VALUES (%(fid)s, 'C' || %(fid)s || '.0', %(text)s)",
    "UPDATE t_customer SET fname = %(text)s WHERE fid = %(fid)s",
    "UPDATE t_customer SET fnumber = 'C' || fid || '.' || %(suffix)s WHERE fid = %(fid)s",
    "DELETE FROM t_customer WHERE fid = %(fid)s"
    " AND NOT EXISTS (SELECT 1 FROM t_order o WHERE o.fcustid = t_customer.fid)",
    "INSERT IGNORE INTO t_order SELECT %(other)s, 'O' || %(other)s, fid, %(amount)s FROM t_customer"
    " WHERE fid = %(fid)s",
    "UPDATE t_order SET famount = %(amount)s WHERE fid = %(fid)s",
    "UPDATE t_order o, t_customer c SET o.fcustid = c.fid"
    " WHERE o.fid = %(fid)s AND c.fid = %(other)s",
    "DELETE FROM t_order WHERE fid = %(fid)s",
    "INSERT IGNORE INTO t_material VALUES (%(fid)s, 'M' || %(fid)s || '.' || %(suffix)s, %(text)s,"
    " %(unit)s, %(amount)s, repeat('r', %(length)s))",
    "UPDATE t_material SET fprice = %(amount)s WHERE fid = %(fid)s",
    "UPDATE t_material SET fremark = repeat('u', %(length)s) WHERE fid = %(fid)s",
    "UPDATE t_material SET fnumber = 'M' || fid || '.' || %(suffix)s WHERE fid = %(fid)s",
    "DELETE FROM t_material WHERE fid = %(fid)s",
)
"""As those of `erp`."""
MODE: Final = "SET SESSION sql_mode = 'PIPES_AS_CONCAT,STRICT_ALL_TABLES'"
DIGITS: Final = " UNION ALL ".join(f"SELECT {digit} d" for digit in range(10))


class Session:
    """A transaction as psycopg has it: `execute` gives what tells `rowcount`; a context commits."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self.connection = connection
        self.execute(MODE.encode())

    def execute(self, statement: bytes, params: object = None) -> pymysql.cursors.Cursor:
        """Run one statement."""
        cursor: pymysql.cursors.Cursor = self.connection.cursor()
        cursor.execute(statement.decode(), params)
        return cursor

    def commit(self) -> None:
        """End the transaction."""
        self.connection.commit()

    def rollback(self) -> None:
        """Undo it."""
        self.connection.rollback()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.commit()
        finally:
            self.connection.close()


class BinlogErp(Erp):
    """The ERP database on MySQL or MariaDB."""

    away = pymysql.err.OperationalError
    verifiable = True
    asks = b"_heartbeat_period"

    def __init__(self, source: MysqlDatabase, target: ControlDatabase, folder: Path) -> None:
        super().__init__(cast(Database, source), target, folder)

    @property
    def origin(self) -> MysqlDatabase:
        """The source as what it is."""
        return cast(MysqlDatabase, self.source)

    @property
    def mariadb(self) -> bool:
        """Whether it is MariaDB."""
        return "MariaDB" in str(self.source.query("SELECT version()"))

    @property
    def random_changes(self) -> tuple[str, ...]:
        return CHANGES

    @property
    def alike(self) -> bool:
        return False

    def lead(self, end: str, port: int) -> None:
        if end == "source":  # in clear, or the proxy sees nobody's words
            self.more["source"] = {**self.more["source"], "port": port, "sslmode": "disable"}
        else:
            super().lead(end, port)

    def _source(self) -> dict[str, object]:
        server = self.origin.server
        return {"kind": "mysql", "host": "127.0.0.1", "port": server.port, "user": "root"}

    def configure(self, mappings: str = MAPPINGS, **settings: object) -> Path:
        return super().configure(
            mappings.replace("erp.public.", f"erp.{self.source.name}."), **settings
        )

    def set_up(self) -> Self:
        self.source.execute(TABLES)
        self.apply()
        return self

    def map_also(self, tables: str, published: str, mappings: str) -> None:
        self.source.execute(tables)
        self.configure(mappings)
        self.apply()

    def kept_there(self) -> list[tuple[Any, ...]]:
        return []  # the server keeps nothing for its readers

    def _end_of_log(self) -> Callable[[str], bool]:
        if self.mariadb:
            [(end,)] = self.source.query("SELECT @@GLOBAL.gtid_binlog_pos")
            return lambda text: _domains(text).covers(parse_domains(end))
        [(end,)] = self.source.query("SELECT @@GLOBAL.gtid_executed")
        return lambda text: _set(text).covers(parse_set(end))

    # --- writing --------------------------------------------------------------------------------

    def session(self) -> Session:
        return Session(self.origin.server.connect(self.source.name, autocommit=False))

    def series(self, first: int, last: int) -> str:
        places = range(len(str(last - first)))
        number = " + ".join(f"{10**place} * d{place}.d" for place in places)
        tables = ", ".join(f"({DIGITS}) d{place}" for place in places)
        return f"(SELECT {first} + {number} n FROM {tables} HAVING n <= {last}) numbers"

    def run(self, *statements: str) -> None:
        """Statements in one session, each a transaction unless they say otherwise; uncounted."""
        connection = self.origin.server.connect(self.source.name)
        with closing(connection):
            session = Session(connection)
            for statement in statements:
                session.execute(statement.encode())


def _domains(text: str) -> MariadbPosition:
    found = parse_position(text)
    assert isinstance(found, MariadbPosition)
    return found


def _set(text: str) -> MysqlPosition:
    found = parse_position(text)
    assert isinstance(found, MysqlPosition)
    return found
