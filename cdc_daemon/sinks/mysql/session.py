"""One session on the control database, with settings that no server or account may talk us out of.

READ COMMITTED: each statement sees what was committed before it, as a unit that has waited for a
lock must; REPEATABLE READ would read rows by a view from before that and lock gaps between keys.
NO_BACKSLASH_ESCAPES: a value needs an escape only for a quote. Values come and go as text; the
driver converts none.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.constants import CLIENT, SERVER_STATUS
from pymysql.cursors import SSCursor

from cdc_daemon.config.mysql_address import DEFAULT_PORT, tls_keywords
from cdc_daemon.model.errors import ConfigurationError, Problem
from cdc_daemon.sinks.mysql.errors import refused, translate, unsettled
from cdc_daemon.sinks.mysql.values import literal

LOCK_TIMEOUT_SECONDS = 30
"""How long a statement waits for somebody else's lock before the unit is tried again."""

SQL_MODE = (
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES"
)
_SETTINGS = {
    "sql_mode": f"'{SQL_MODE}'",
    "time_zone": "'+00:00'",
    "autocommit": "1",
    "completion_type": "0",
    "foreign_key_checks": "1",
    "unique_checks": "1",
    "sql_safe_updates": "0",
    "sql_select_limit": "18446744073709551615",
    "sql_auto_is_null": "0",
    "sql_big_selects": "1",
    "innodb_lock_wait_timeout": str(LOCK_TIMEOUT_SECONDS),
    "lock_wait_timeout": str(LOCK_TIMEOUT_SECONDS),
    "wait_timeout": "28800",
    "net_read_timeout": "60",
    "net_write_timeout": "60",
}
_OF_MYSQL = {"max_execution_time": "0"}
_OF_MARIADB = {
    "max_statement_time": "0",
    "idle_transaction_timeout": "0",
    "idle_write_transaction_timeout": "0",
}
_FACTS = "SELECT VERSION(), @@max_allowed_packet, CONNECTION_ID(), DATABASE()"
_CONNECT_SECONDS = 10
_FETCH_ROWS = 4000
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
_LOST_AFTER_MS = 30_000

Value = bytes | None
Rows = Sequence[tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement did: rows it wrote or matched, rows it answers, the number it gave out."""

    affected: int
    rows: Rows
    inserted: int

    def text(self, column: int = 0) -> str | None:
        """A column of the first row as text; None: no row, or NULL."""
        value = self.rows[0][column] if self.rows else None
        return None if value is None else value.decode()


class Session:
    """An open connection. pymysql.Error passes through; one thread at a time."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self._connection = connection
        facts = self.run(_FACTS).rows[0]
        version, packet, number, database = [(one or b"").decode() for one in facts]
        self.server = version
        self.mariadb = "mariadb" in version.lower()
        self.version = _version(version)
        self.longest = int(packet) - 1024
        self.number = int(number)
        self.database = database

    @property
    def collation(self) -> str:
        """The collation by which texts are equal only if their bytes are."""
        return "utf8mb4_nopad_bin" if self.mariadb else "utf8mb4_0900_bin"

    @property
    def alive(self) -> bool:
        """Whether statements can be sent, as far as it is known."""
        return bool(self._connection.open)

    @property
    def in_transaction(self) -> bool:
        """Whether the server said with its last answer that a transaction is open."""
        status: int = self._connection.server_status  # type: ignore[attr-defined]
        return bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def run(self, sql: str, *params: object) -> Result:
        """Run one statement; ``%s`` stands for a parameter, where there are any."""
        return self.script([sql % tuple(map(literal, params)) if params else sql])[0]

    def script(self, statements: Sequence[str]) -> list[Result]:
        """Run statements in one round trip; the first that fails ends it, and raises."""
        return self.send("; ".join(statements).encode(), len(statements))

    def send(self, payload: bytes, number: int) -> list[Result]:
        """The same for so many statements that are joined already."""
        connection = self._connection
        found = [self._result(connection.query(payload))]
        while len(found) < number:
            found.append(self._result(connection.next_result()))
        return found

    def stream(self, sql: str) -> Iterator[tuple[Value, ...]]:
        """The rows of a query as they come, so that few are held; nothing else runs meanwhile."""
        with self._connection.cursor(SSCursor) as cursor:
            cursor.execute(sql)
            while rows := cursor.fetchmany(_FETCH_ROWS):
                yield from rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction of statements that :meth:`run` runs; an exception rolls back."""
        self.run("START TRANSACTION")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with suppress(pymysql.Error):
                self.run("ROLLBACK")
            raise

    def close(self) -> None:
        """Close; never raises."""
        with suppress(Exception):
            self._connection.close()

    def _result(self, affected: int) -> Result:
        found = self._connection._result  # type: ignore[attr-defined]  # a cursor would copy rows
        return Result(affected, found.rows or (), found.insert_id or 0)


def connect(
    conninfo: Mapping[str, str], application: str, settings: Mapping[str, str] | None = None
) -> Session:
    """A session with our settings, committing each statement outside transactions.

    Raises Unreachable, or ConfigurationError for a wrong password, user, database or certificate.
    """
    try:
        connection = pymysql.connect(**_keywords(conninfo, application))
    except pymysql.Error as exc:
        raise refused(exc, conninfo) from exc
    except RuntimeError as exc:  # a package that a way to log in needs
        raise refused(pymysql.OperationalError(2061, str(exc)), conninfo) from exc
    except UnicodeError as exc:
        what = "the address is not valid"
        raise ConfigurationError([Problem(what=what, cure="see target.url")]) from exc
    try:
        return _settled(connection, {**_SETTINGS, **(settings or {})}, conninfo)
    except BaseException:
        connection.close()
        raise


def _keywords(conninfo: Mapping[str, str], application: str) -> dict[str, Any]:
    return {
        "host": conninfo.get("host", "localhost"),
        "port": int(conninfo.get("port", DEFAULT_PORT)),
        "unix_socket": conninfo.get("socket"),
        "user": conninfo.get("user"),
        "password": conninfo.get("password", "").encode(),  # as text it would become latin1
        "database": conninfo.get("dbname"),
        "charset": "utf8mb4",
        "use_unicode": False,
        "conv": {},
        "autocommit": None,
        "connect_timeout": int(conninfo.get("connect_timeout", _CONNECT_SECONDS)),
        "client_flag": CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
        "program_name": application,
        **tls_keywords(conninfo),
    }


def _settled(
    connection: pymysql.Connection[Any], settings: Mapping[str, str], conninfo: Mapping[str, str]
) -> Session:
    _keep_alive(connection)
    try:
        session = Session(connection)
    except pymysql.Error as exc:
        raise unsettled(exc, conninfo) from exc
    names = f"SET NAMES utf8mb4 COLLATE {session.collation}"
    level = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"
    wanted = {**settings, **(_OF_MARIADB if session.mariadb else _OF_MYSQL)}
    assigned = {name: f"SESSION {name} = {value}" for name, value in wanted.items()}
    try:
        session.script([names, f"SET {', '.join(assigned.values())}", level])
    except pymysql.Error as exc:
        one_by_one = {name: f"SET {text}" for name, text in assigned.items()}
        steps = {session.collation: names, **one_by_one, "READ COMMITTED": level}
        raise unsettled(exc, conninfo, _at_fault(session, steps)) from exc
    return session


def _at_fault(session: Session, steps: Mapping[str, str]) -> str:
    """The first setting that is refused by itself."""
    for name, sql in steps.items():
        try:
            session.run(sql)
        except pymysql.Error:
            return name
    return "that comes with others"


def _keep_alive(connection: pymysql.Connection[Any]) -> None:
    """Let the system notice a server that is gone: the driver itself waits for ever."""
    found = connection._sock  # type: ignore[attr-defined]  # nothing else leads there
    if found is None or found.family == socket.AF_UNIX:
        return
    for name, value in _KEEPALIVE:
        found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LOST_AFTER_MS)


def _version(text: str) -> tuple[int, int, int]:
    """The version in what a server says of itself: ``5.5.5-10.11.19-MariaDB``, ``9.7.4``."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)(?=-MariaDB)|^(\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        return 0, 0, 0
    first, second, third = [int(part) for part in found.groups() if part is not None][:3]
    return first, second, third


@contextmanager
def translated(known: Sequence[str] = ()) -> Iterator[None]:
    """The driver's errors in our words."""
    try:
        yield
    except pymysql.Error as exc:
        raise translate(exc, known=known) from exc
