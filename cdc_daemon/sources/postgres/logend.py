"""How far a source's log reaches, for whoever waits until the stream has passed it."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psycopg

from cdc_daemon.sources.postgres.connection import Connection

_WRITTEN: Final = """
SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
             ELSE pg_catalog.pg_current_wal_insert_lsn() END)::text"""
_NUDGE: Final = "SELECT pg_catalog.pg_logical_emit_message(true, 'cdc_daemon', '')"
_MAY_NOT: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.FeatureNotSupported,
)


def written(connection: Connection) -> str:
    """Where the log ends now."""
    row = connection.execute(_WRITTEN).fetchone()
    assert row is not None
    return str(row[0])


def nudge(connection: Connection) -> None:
    """Commit an empty message, so that an idle log is flushed and sent past where it ended.

    A standby, or a role that may not, leaves it at that: the server itself writes now and then.
    """
    with suppress(*_MAY_NOT):
        connection.execute(_NUDGE)
