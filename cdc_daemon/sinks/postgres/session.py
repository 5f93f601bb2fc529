"""One session on the control database, with settings that no server or role may talk us out of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from cdc_daemon.sinks.postgres.errors import refused, translate
from cdc_daemon.sinks.postgres.wire import Wire

Connection = psycopg.Connection[TupleRow]

LOCK_TIMEOUT_SECONDS = 30
"""How long a statement waits for somebody else's lock before the unit is tried again."""

_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_SETTINGS = {
    "search_path": "''",
    "DateStyle": "'ISO, YMD'",
    "IntervalStyle": "postgres",
    "TimeZone": "'UTC'",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "lock_timeout": f"'{LOCK_TIMEOUT_SECONDS}s'",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # Rows that come as parameters are joined by the entity table's key, one after the other: that
    # plan is good for any values, so a statement is planned once (each time: 1 to 2 µs a row).
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # A plan made while a table was empty must not scan it when it has grown.
    "enable_seqscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "work_mem": "'32MB'",
}
_DURABLE = (
    "SELECT pg_catalog.set_config('synchronous_commit', 'on', false)"
    " WHERE pg_catalog.current_setting('synchronous_commit') <> 'remote_apply'"
)


def place(conninfo: Mapping[str, str]) -> str:
    """Host and database, for messages: never the user's password."""
    host = conninfo.get("host") or conninfo.get("hostaddr") or "local socket"
    return f"{host}:{conninfo.get('port', '5432')}/{conninfo.get('dbname', '')}"


def connect(
    conninfo: Mapping[str, str], application: str, settings: Mapping[str, str] | None = None
) -> Connection:
    """A connection in autocommit with our settings.

    Raises Unreachable, or ConfigurationError for a wrong password, role, database or certificate.
    """
    keywords: dict[str, Any] = {
        **_DEFAULTS,
        **conninfo,
        "client_encoding": "UTF8",
        "application_name": application[:MAX_APPLICATION],
    }
    try:
        connection = psycopg.connect(autocommit=True, **keywords)
    except psycopg.Error as exc:
        raise refused(exc, place(conninfo), conninfo) from exc
    try:
        settled = {**_SETTINGS, **(settings or {})}
        script = "; ".join(f"SET {name} = {value}" for name, value in settled.items())
        connection.execute(f"{script}; {_DURABLE}".encode())
        with suppress(psycopg.Error):  # newer than the oldest server, or not on its system
            connection.execute("SET transaction_timeout = 0")
        with suppress(psycopg.Error):  # a backend whose client is gone ends inside a statement too
            connection.execute("SET client_connection_check_interval = '2s'")
    except psycopg.Error as exc:
        connection.close()
        raise refused(exc, place(conninfo), conninfo) from exc
    return connection


MAX_APPLICATION = 63


class Session:
    """A connection and its lower level. Raises Unreachable for one that broke meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        try:
            self.wire = Wire(connection)
        except psycopg.Error as exc:
            connection.close()
            raise translate(exc) from exc

    @property
    def alive(self) -> bool:
        """Whether statements can be sent, as far as it is known."""
        return not self.connection.closed and self.wire.alive and self.wire.settled

    def close(self) -> None:
        """Close; never raises."""
        with suppress(Exception):
            self.connection.close()
