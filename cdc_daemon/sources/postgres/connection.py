"""Connections to one source database, with forced session settings, and its errors in our words.

The output text of a walsender depends on settings that a DBA may have changed for the role or the
database, so all of them are forced at connect. Every psycopg error leaves this package as one of
ours; DETAIL (which holds row values) and connection strings never do.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from cdc_daemon.config.handshake import TLS_REFUSED, tls_problem
from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    NotAdmitted,
    PreflightRefusal,
    Problem,
    Stop,
    Unreachable,
)
from cdc_daemon.sources.postgres.probe import CANNOT_CONNECT_NOW, refusal

Connection = psycopg.Connection[tuple[Any, ...]]

SESSION: Final = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "search_path": "",
    "row_security": "off",  # a policy that hides rows is an error, not a smaller table
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""Settings that decide how values look and are read, or that would end a long copy."""

_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

_RETRY = re.compile(r"08...|57P0.|57014|53...|40...|55006|25006|58030")
_SPEAKABLE = re.compile(r"(08|28|3D|42|53|55|57|58)...")
"""Classes whose messages name objects, settings and processes only; 22 and 23 quote values."""
_GONE = {
    "42704": "it was dropped",
    "55000": "the server no longer serves it",
    "58P01": "the server has removed the log that is needed",
}
_DENIED = re.compile(r"28...|3D000|42501")

_STARTUP: Final = (
    (
        re.compile(r"password authentication failed|no password supplied|authentication failed"),
        "check user and password",
    ),
    (
        re.compile(r'role ".*" does not exist|is not permitted to log in'),
        "create the role with LOGIN, or correct the user",
    ),
    (re.compile(r'database ".*" does not exist'), "correct the database's name"),
    (
        re.compile(r"no pg_hba.conf entry|pg_hba.conf rejects"),
        "allow user, database and address in the server's pg_hba.conf",
    ),
    (
        re.compile(r"start (walsender|WAL sender)|replication role"),
        "ALTER ROLE ... REPLICATION for the daemon's user",
    ),
    (re.compile(r"permission denied"), "grant the daemon's user CONNECT on the database"),
    (re.compile(rf"SSL|certificate|sslmode|GSS|{TLS_REFUSED}"), "check sslmode and tls"),
    (
        re.compile(r"invalid (connection option|sslmode|port|integer|value)"),
        "correct the connection's settings",
    ),
)
_TRANSIENT = re.compile(
    r"shutting down|starting up|recovery|not yet accepting|too many|remaining connection slots"
    r"|could not connect|Connection refused|timeout expired|could not translate|timed out"
    r"|closed the connection|No route|unreachable|terminat|exceeds .?max_wal_senders"
)

_BROKEN = re.compile(
    r"closed the connection|closed unexpectedly|SYSCALL|EOF detected|unexpected eof"
    r"|reset by peer|Broken pipe|aborted"
)
"""What libpq says of a connection that broke while it was being opened, with TLS or without."""

_OTHER_KIND = re.compile(r"session is (not )?read-only|server is (not )?in hot standby mode")
"""What libpq says of servers that are not what ``target_session_attrs`` asks for: in a fail-over
none is, until the standby is promoted."""
_KIND_HINT = (
    "no server is what target_session_attrs of the address asks for: promote a standby, or see"
    " whether default_transaction_read_only is on"
)


class Server:
    """How one source's database is reached. The password stays in here."""

    def __init__(self, source: str, conninfo: Mapping[str, str]) -> None:
        self.source = source
        self._conninfo = conninfo  # whose password may be read anew

    @property
    def where(self) -> str:
        """The source's name with host, port and database, for messages."""
        get = self._conninfo.get
        host = get("host") or get("hostaddr") or "local socket"
        return f"source {self.source} ({host}:{get('port', '5432')}/{self.database})"

    @property
    def address(self) -> dict[str, str]:
        """The connection's keywords without the password."""
        return {name: text for name, text in self._conninfo.items() if name != "password"}

    @property
    def user(self) -> str:
        """The role that the daemon connects as."""
        return self._conninfo.get("user", "")

    @property
    def database(self) -> str:
        """The database's name."""
        return self._conninfo.get("dbname") or self.user

    def connect(self) -> Connection:
        """An SQL connection in autocommit mode."""
        return self._connect()

    def connect_for_replication(self) -> Connection:
        """A walsender connection: only replication commands and simple queries."""
        return self._connect(replication="database")

    def money_scale(self) -> int:
        """Digits after the point that ``money`` has in sessions of this database.

        A money value is a whole number of the smallest coins, and ``lc_monetary`` says how many
        make one: with the daemon's own C, 1,234 yen print as ``$12.34``.
        """
        kept = {name: value for name, value in SESSION.items() if name != "lc_monetary"}
        with self._connect(kept) as connection:
            row = connection.execute("SELECT pg_catalog.scale(0::money::numeric)").fetchone()
        assert row is not None
        return int(row[0])

    def _connect(self, session: Mapping[str, str] = SESSION, **extra: str) -> Connection:
        settings = {**_DEFAULTS, **self._conninfo, **extra}
        forced = " ".join(f"-c {name}={value}" for name, value in session.items())
        settings["options"] = f"{settings.get('options', '')} {forced}".strip()
        settings["client_encoding"] = "UTF8"
        settings.setdefault("application_name", f"cdc_daemon:{self.source}")
        try:
            return psycopg.connect(autocommit=True, prepare_threshold=None, **settings)  # type: ignore[arg-type]
        except psycopg.Error as exc:
            raise self.startup_error(exc) from exc

    def startup_error(self, exc: psycopg.Error) -> CdcError:
        """A failed connection: worth another try, or something to be corrected first."""
        said = self._clean(str(exc))
        text = _reason(said)
        if _BROKEN.search(text):
            return Unreachable(f"{self.where}: {text}")
        if _OTHER_KIND.search(text):
            return Unreachable(f"{self.where}: {text}", hint=_KIND_HINT)
        for pattern, cure in _STARTUP:
            if pattern.search(text):
                found = tls_problem(str(exc), self._conninfo) or (text, cure)
                return NotAdmitted([Problem(what=found[0], where=self.where, cure=found[1])])
        if not _TRANSIENT.search(text) and self._asks_for_password():
            cure = "read the server's message; its log says more"
            return NotAdmitted([Problem(what=text, where=self.where, cure=cure)])
        return Unreachable(f"{self.where}: {text}")

    def _clean(self, text: str) -> str:
        """The text without the password, should a driver ever repeat it."""
        password = self._conninfo.get("password")
        return text.replace(password, "********") if password else text

    def _asks_for_password(self) -> bool:
        """Whether every server is up and takes connections, so that one refused us for a reason."""
        answers = (None, "28000", "28P01", "3D000", "42501")
        try:
            return all(
                refusal(host, port, user=self.user, database=self.database) in answers
                for host, port in self._addresses()
            )
        except OSError:
            return False

    def _addresses(self) -> list[tuple[str, int]]:
        """Host and port of each server; one port may stand for all."""
        get = self._conninfo.get
        names = (get("host") or "").split(",")
        numbers = (get("hostaddr") or "").split(",")
        hosts = [
            number or name or "localhost"
            for number, name in itertools.zip_longest(numbers, names, fillvalue="")
        ]
        ports = [int(port or "5432") for port in (get("port") or "").split(",")]
        if len(ports) == 1:
            ports *= len(hosts)
        return list(zip(hosts, ports, strict=False))

    def shutting_down(self, host: str, port: int) -> bool:
        """Whether new connections there are told that the server is going down, or are refused.

        A server that does not answer in time says nothing: it may only be busy.
        """
        try:
            found = refusal(host, port, user=self.user, database=self.database)
        except (ConnectionRefusedError, FileNotFoundError):  # the latter: a Unix socket that went
            return True
        except OSError:
            return False
        return found == CANNOT_CONNECT_NOW

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn psycopg's errors into ours; ``doing`` says what was tried."""
        try:
            yield
        except psycopg.Error as exc:
            raise self.translate(exc, doing) from exc

    def translate(self, exc: psycopg.Error, doing: str) -> CdcError:
        """An error of an open connection in our words, without DETAIL and without values."""
        state = exc.sqlstate
        said = self._said(exc)
        message = f"{doing}: {said}" + (f" (SQLSTATE {state})" if state else "")
        if state is None and (
            isinstance(exc, psycopg.OperationalError) or type(exc) is psycopg.DatabaseError
        ):  # the connection broke: before, or in the middle of a result
            return Unreachable(f"{self.where}: {message}")
        if state is not None and _RETRY.fullmatch(state):
            return Unreachable(f"{self.where}: {message}")
        if state in _GONE:
            cure = f"{_GONE[state]}; if that stays so: cdc-daemon snapshot start"
            return PreflightRefusal([Problem(what=message, where=self.where, cure=cure)])
        if state is not None and _DENIED.fullmatch(state):
            cure = f"grant {self.user or 'the user'} what is missing"
            return ConfigurationError([Problem(what=message, where=self.where, cure=cure)])
        return Stop(f"{self.where}: {message}")

    def _said(self, exc: psycopg.Error) -> str:
        """What the server or libpq said, where that never quotes a row; else the error's name."""
        if exc.sqlstate is None:
            return self._clean(str(exc)).split("\n", 1)[0]
        if _SPEAKABLE.fullmatch(exc.sqlstate) and exc.diag.message_primary:
            return self._clean(exc.diag.message_primary)
        return re.sub(r"\B([A-Z])", r" \1", type(exc).__name__).lower()


def _reason(said: str) -> str:
    """What the server said of a failed connection, else what libpq says, in one line.

    libpq explains a connection that broke in lines of their own, which say nothing.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for words in (r"\b(FATAL|ERROR):\s", r"\bfailed:\s"):
        found = [line for line in lines if re.search(words, line)]
        if found:
            return re.sub(r"^.*?(FATAL|ERROR):\s+", "", found[-1])
    return lines[-1] if lines else "connection failed"
