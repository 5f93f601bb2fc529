"""How far a source's log reaches, for whoever waits until the stream has passed it."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psycopg

from cdc_daemon.sources.postgres.connection import Connection

_WRITTEN: Final = """
SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
             ELSE pg_catalog.pg_current_wal_insert_lsn() END)::text"""
_NUDGE: Final = "SELECT pg_catalog.pg_logical_emit_message(true, 'cdc_repair', '')"
_MAY_NOT: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.FeatureNotSupported,
)


def written(connection: Connection) -> str:
    """Where the log ends now; an empty message behind it sees to it that it is sent soon.

    A standby, or a role that may not write one, leaves it at that: the server itself writes now and
    then.
    """
    row = connection.execute(_WRITTEN).fetchone()
    assert row is not None
    with suppress(*_MAY_NOT):
        connection.execute(_NUDGE)
    return str(row[0])
