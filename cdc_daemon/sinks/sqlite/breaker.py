"""Whether the breaker has stopped a pipeline, and why; and for how long it may not again."""

from __future__ import annotations

import datetime as dt

from cdc_daemon.sinks.sqlite.checkpoint import moment_in, moment_text
from cdc_daemon.sinks.sqlite.database import Connection

_TRIP = """
    INSERT INTO cdc_breaker (pipeline, tripped_at, reason) VALUES (?, ?, ?)
    ON CONFLICT (pipeline) DO UPDATE
       SET tripped_at = excluded.tripped_at, reason = excluded.reason, resumed_until = NULL"""
_RESUME = """
    INSERT INTO cdc_breaker (pipeline, tripped_at, reason, resumed_until) VALUES (?1, ?2, '', ?3)
    ON CONFLICT (pipeline) DO UPDATE SET resumed_until = excluded.resumed_until"""
_READ = "SELECT reason FROM cdc_breaker WHERE pipeline = ? AND resumed_until IS NULL"
_LEFT = "SELECT resumed_until FROM cdc_breaker WHERE pipeline = ?"


def trip(connection: Connection, pipeline: str, reason: str, moment: str) -> None:
    """Note that the pipeline was stopped."""
    connection.execute(_TRIP, (pipeline, moment, reason))


def resume(connection: Connection, pipeline: str, seconds: float) -> bool:
    """It goes on, and for so long it is not stopped again; whether it was stopped."""
    stopped = tripped(connection, pipeline) is not None
    now = dt.datetime.now(dt.UTC)
    until = now + dt.timedelta(seconds=seconds)
    connection.execute(_RESUME, (pipeline, moment_text(now), moment_text(until)))
    return stopped


def left(connection: Connection, pipeline: str) -> float:
    """Seconds for which it may not be stopped again."""
    row = connection.execute(_LEFT, (pipeline,)).fetchone()
    until = moment_in(row[0]) if row else None
    return max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds()) if until else 0.0


def tripped(connection: Connection, pipeline: str) -> str | None:
    """Why it is stopped; None: it is not."""
    row = connection.execute(_READ, (pipeline,)).fetchone()
    return None if row is None else str(row[0])
