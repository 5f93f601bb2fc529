"""Whether the breaker has stopped a pipeline, and why, until somebody says resume."""

from __future__ import annotations

from cdc_daemon.sinks.postgres.session import Connection

_TRIP = """
    INSERT INTO cdc.breaker (pipeline, reason) VALUES (%s, %s)
    ON CONFLICT (pipeline) DO UPDATE SET tripped_at = clock_timestamp(), reason = excluded.reason"""
_RESUME = "DELETE FROM cdc.breaker WHERE pipeline = %s"
_READ = "SELECT reason FROM cdc.breaker WHERE pipeline = %s"


def trip(connection: Connection, pipeline: str, reason: str) -> None:
    """Note that the pipeline was stopped."""
    connection.execute(_TRIP, (pipeline, reason))


def resume(connection: Connection, pipeline: str) -> bool:
    """It goes on; whether it was stopped."""
    return connection.execute(_RESUME, (pipeline,)).rowcount > 0


def tripped(connection: Connection, pipeline: str) -> str | None:
    """Why it is stopped; None: it is not."""
    row = connection.execute(_READ, (pipeline,)).fetchone()
    return None if row is None else str(row[0])
