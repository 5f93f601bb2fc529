"""Whether the breaker has stopped a pipeline, and why, until somebody says resume."""

from __future__ import annotations

from cdc_daemon.sinks.sqlite.database import Connection

_TRIP = """
    INSERT INTO cdc_breaker (pipeline, tripped_at, reason) VALUES (?, ?, ?)
    ON CONFLICT (pipeline) DO UPDATE SET tripped_at = excluded.tripped_at, reason = excluded.reason
    """
_RESUME = "DELETE FROM cdc_breaker WHERE pipeline = ?"
_READ = "SELECT reason FROM cdc_breaker WHERE pipeline = ?"


def trip(connection: Connection, pipeline: str, reason: str, moment: str) -> None:
    """Note that the pipeline was stopped."""
    connection.execute(_TRIP, (pipeline, moment, reason))


def resume(connection: Connection, pipeline: str) -> bool:
    """It goes on; whether it was stopped."""
    return connection.execute(_RESUME, (pipeline,)).rowcount > 0


def tripped(connection: Connection, pipeline: str) -> str | None:
    """Why it is stopped; None: it is not."""
    row = connection.execute(_READ, (pipeline,)).fetchone()
    return None if row is None else str(row[0])
