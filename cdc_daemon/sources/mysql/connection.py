"""Connections to one MySQL or MariaDB server: forced session settings, errors in our words.

What a SELECT prints, and whether it is allowed to change anything, depends on settings that a DBA
may have changed, so all of them are forced at connect. Every PyMySQL error leaves this package as
one of ours. A server's message is repeated only where it names objects and settings; those that
quote values of rows are told by number.

Keywords are those of ``config/mysql_address.py``. The socket is opened here, so that a half-open
one is noticed. PyMySQL's parts that its class does not show (``_sock``, ``_read_timeout``) are
touched in this file only.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from io import BufferedReader
from typing import Any, Final, Protocol, TypeAlias, cast

import pymysql
from pymysql import err
from pymysql.cursors import Cursor

from cdc_daemon.config.conninfo import VERIFIED
from cdc_daemon.config.mysql_address import tls_keywords
from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    NotAdmitted,
    PreflightRefusal,
    Problem,
    Stop,
    Unreachable,
)
from cdc_daemon.sources.mysql import refusals
from cdc_daemon.sources.mysql.edition import Edition, parse_edition
from cdc_daemon.sources.mysql.tls import tls_words

__all__ = [
    "CONNECT_SECONDS",
    "READ_SECONDS",
    "SESSION",
    "WRITE_SECONDS",
    "Connection",
    "Edition",
    "Server",
    "command",
    "drop",
    "query",
    "socket_of",
    "unread",
]

Connection: TypeAlias = "pymysql.Connection[Cursor]"

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 600.0  # of silence in a statement, after which the server is given up
WRITE_SECONDS: Final = 60.0

SESSION: Final = {
    "time_zone": "'+00:00'",
    "sql_mode": "'STRICT_ALL_TABLES'",  # zero dates are read as they are, and nothing is cut
    "character_set_results": "utf8mb4",
    "sql_auto_is_null": "0",
    "sql_big_selects": "1",
    "sql_select_limit": "18446744073709551615",  # DEFAULT would be the server's own
    "wait_timeout": "31536000",  # between two tables a copy waits for the control database
    "lc_time_names": "'en_US'",
    "net_write_timeout": "3600",  # a long copy may be slower than the server likes
    "lock_wait_timeout": "60",
    "innodb_lock_wait_timeout": "60",
}
_SESSION_OF: Final = {
    True: {
        "max_statement_time": "0",
        "system_versioning_asof": "DEFAULT",  # of a server that has it, such tables are refused
        "idle_transaction_timeout": "0",
        "idle_readonly_transaction_timeout": "0",
    },
    False: {"max_execution_time": "0"},
}
"""Of MariaDB, and of MySQL."""

_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", 30),
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 60_000),
)
_IN_CLEAR: Final = ("mysql_clear_password", "dialog", "mysql_old_password")


class Server:
    """How one source's server is reached. The password stays in here."""

    def __init__(self, source: str, settings: Mapping[str, str]) -> None:
        self.source = source
        self._settings = settings  # whose password may be read anew

    @property
    def where(self) -> str:
        """The source's name with host, port and database, for messages."""
        get = self._settings.get
        place = get("socket") or f"{self._host}:{self._port}"
        return f"source {self.source} ({place}{'/' if get('database') else ''}{self.database})"

    @property
    def address(self) -> dict[str, str]:
        """The connection's keywords without the password."""
        return {name: text for name, text in self._settings.items() if name != "password"}

    @property
    def user(self) -> str:
        """The account that the daemon connects as."""
        return self._settings.get("user", "")

    @property
    def database(self) -> str:
        """The default schema; empty: none."""
        return self._settings.get("database", "")

    @property
    def _host(self) -> str:
        return self._settings.get("host") or "localhost"

    @property
    def _port(self) -> int:
        return int(self._settings.get("port") or 3306)

    # --- connecting -----------------------------------------------------------------------------

    def connect(self, *, read_timeout: float = READ_SECONDS) -> Connection:
        """An SQL connection in autocommit mode that only reads."""
        connection = self.connect_for_replication(read_timeout=read_timeout)
        try:
            with self.errors("setting the session up"), connection.cursor() as cursor:
                cursor.execute("SELECT VERSION()")
                mariadb = "mariadb" in str(_only(cursor)).lower()
                wanted = {**SESSION, **_SESSION_OF[mariadb]}
                listed = ", ".join(f"SESSION {name} = {value}" for name, value in wanted.items())
                cursor.execute(f"SET {listed}")
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_for_replication(self, *, read_timeout: float) -> Connection:
        """A connection with the server's own settings, for reading its log."""
        secure = tls_keywords(self._settings)
        trusted = self._settings.get("sslmode") in VERIFIED
        connection: Connection = pymysql.Connection(
            host=self._host,
            port=self._port,
            unix_socket=self._settings.get("socket") or None,
            user=self.user,
            password=self._settings.get("password", "").encode(),
            database=self.database or None,
            charset="utf8mb4",
            autocommit=True,
            read_timeout=CONNECT_SECONDS,
            write_timeout=WRITE_SECONDS,
            program_name=f"cdc_daemon:{self.source}",
            auth_plugin_map={} if trusted else dict.fromkeys(_IN_CLEAR, _Withheld),
            defer_connect=True,
            **secure,
        )
        self._open(connection)
        _inside(connection)._read_timeout = read_timeout
        return connection

    def _open(self, connection: Connection) -> None:
        try:
            connected = self._reach()
        except OSError as exc:
            raise Unreachable(f"{self.where}: {exc.strerror or 'no connection'}") from exc
        try:
            connection.connect(connected)
        except (err.Error, RuntimeError) as exc:
            raise self.startup_error(exc) from exc
        except (ValueError, IndexError, AssertionError, struct.error) as exc:
            what = f"{self.where}: what answers does not speak MySQL's protocol"
            raise Unreachable(what) from exc

    def _reach(self) -> socket.socket:
        """A socket that notices when nobody is at its other end any more."""
        path = self._settings.get("socket")
        if path:
            connected = socket.socket(socket.AF_UNIX)
            try:
                connected.settimeout(CONNECT_SECONDS)
                connected.connect(path)
            except BaseException:
                connected.close()
                raise
            return connected
        connected = socket.create_connection((self._host, self._port), CONNECT_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return connected

    def edition(self, connection: Connection) -> Edition:
        """What answers. Raises Stop for a version that cannot be read."""
        with self.errors("asking for the version"), connection.cursor() as cursor:
            cursor.execute("SELECT VERSION(), @@lower_case_table_names")
            told, lower = cursor.fetchone() or ("", 0)
        found = parse_edition(str(told), int(lower))
        if found is None:
            raise Stop(f"{self.where}: {told!r} is no version of MySQL or MariaDB")
        return found

    # --- errors ---------------------------------------------------------------------------------

    def startup_error(self, exc: Exception) -> CdcError:
        """A failed connection: worth another try, or something to be corrected first."""
        tls = tls_words(getattr(exc, "original_exception", None))
        if tls is not None:
            return self._refused(*tls)
        if isinstance(exc, RuntimeError):
            return self._refused(*refusals.missing_package(str(exc)))
        code, said = _told(exc)
        found = refusals.at_startup(code, said)
        if found is not None:
            return self._refused(*found)
        return Unreachable(f"{self.where}: {self._clean(said)}")

    def _refused(self, what: str, cure: str) -> NotAdmitted:
        return NotAdmitted([Problem(what=self._clean(what), where=self.where, cure=cure)])

    def _clean(self, text: str) -> str:
        """The text without the password, should a driver ever repeat it."""
        password = self._settings.get("password")
        return text.replace(password, "********") if password else text

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn PyMySQL's errors into ours; ``doing`` says what was tried."""
        try:
            yield
        except err.Error as exc:
            raise self.translate(exc, doing) from exc

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Let refusals that name no place name this server."""
        try:
            yield
        except PreflightRefusal as exc:
            if all(problem.where for problem in exc.problems):
                raise
            found = [replace(one, where=one.where or self.where) for one in exc.problems]
            raise PreflightRefusal(found) from exc

    def translate(self, exc: err.Error, doing: str) -> CdcError:
        """An error of an open connection in our words, without values."""
        code, said = _told(exc)
        if code in refusals.EXPIRED:
            return self.startup_error(exc)
        message = f"{doing}: {self._clean(refusals.speakable(code, said))}"
        if refusals.is_passing(code) or (code == 0 and isinstance(exc, err.OperationalError)):
            return Unreachable(f"{self.where}: {message}")
        if isinstance(exc, (err.InterfaceError, err.InternalError)) and code < 1000:
            return Unreachable(f"{self.where}: {message or 'the connection is broken'}")
        if code in refusals.DENIED:
            cure = f"grant {self.user or 'the account'} what is missing"
            return ConfigurationError([Problem(what=message, where=self.where, cure=cure)])
        return Stop(f"{self.where}: {message}")


class _Result(Protocol):
    """A result whose rows are not read."""

    unbuffered_active: bool
    connection: object | None


class _Inside(Protocol):
    """What PyMySQL's connections have and do not show."""

    _sock: socket.socket | None
    _read_timeout: float

    _rfile: BufferedReader
    _result: _Result | None

    def _force_close(self) -> None: ...

    def query(self, sql: str, unbuffered: bool = ...) -> object: ...

    def _execute_command(self, command: int, sql: bytes) -> None: ...

    def _read_packet(self) -> object: ...


def _inside(connection: Connection) -> _Inside:
    return cast("_Inside", connection)


class _Withheld:
    """A server that wants the password as it stands, over a way that nobody vouches for."""

    def __init__(self, connection: object) -> None:
        del connection

    def authenticate(self, packet: object) -> object:
        del packet
        raise err.OperationalError(refusals.IN_CLEAR, "the password is not sent in clear")


def query(
    server: Server, connection: Connection, sql: str, *params: object
) -> list[tuple[Any, ...]]:
    """All rows of a query. Raises our errors."""
    with server.errors("querying the source"), closing(connection.cursor()) as cursor:
        cursor.execute(sql, params or None)
        return list(cursor.fetchall())


def socket_of(connection: Connection) -> socket.socket:
    """The open socket of a connection, with or without TLS."""
    found = _inside(connection)._sock
    if found is None:
        raise Unreachable("the connection is closed")
    return found


def command(connection: Connection, number: int, body: bytes, *, answered: bool = True) -> None:
    """Send a command of the protocol; ``answered``: and take its OK."""
    inside = _inside(connection)
    inside._execute_command(number, body)
    if answered:
        inside._read_packet()


def unread(connection: Connection, sql: str) -> BufferedReader:
    """Send a SELECT and take in the description of its columns; its rows are there to be read."""
    inside = _inside(connection)
    inside.query(sql, unbuffered=True)
    result, inside._result = inside._result, None
    if result is not None:
        result.unbuffered_active, result.connection = False, None  # or it would read them, too
    return inside._rfile


def drop(connection: Connection) -> None:
    """Close without a word, also while another thread waits for the socket; never raises."""
    with suppress(Exception):
        socket.socket.shutdown(socket_of(connection), socket.SHUT_RDWR)
    with suppress(Exception):
        _inside(connection)._force_close()


def _told(exc: BaseException) -> tuple[int, str]:
    """An error's number (0: none) and its first line."""
    arguments = exc.args
    code = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    said = str(arguments[-1]) if arguments else ""
    return code, said.split("\n", 1)[0]


def _only(cursor: Cursor) -> object:
    row = cursor.fetchone()
    return row[0] if row else None
