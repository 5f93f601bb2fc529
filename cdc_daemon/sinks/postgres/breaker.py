"""Whether the breaker has stopped a pipeline, and why; and for how long it may not again."""

from __future__ import annotations

from cdc_daemon.sinks.postgres.session import Connection

_TRIP = """
    INSERT INTO cdc.breaker (pipeline, reason) VALUES (%s, %s)
    ON CONFLICT (pipeline) DO UPDATE
       SET tripped_at = clock_timestamp(), reason = excluded.reason, resumed_until = NULL"""
_RESUME = """
    INSERT INTO cdc.breaker (pipeline, reason, resumed_until)
    VALUES (%s, '', clock_timestamp() + %s * interval '1 second')
    ON CONFLICT (pipeline) DO UPDATE SET resumed_until = excluded.resumed_until"""
_READ = "SELECT reason FROM cdc.breaker WHERE pipeline = %s AND resumed_until IS NULL"
_LEFT = """
    SELECT extract(epoch FROM resumed_until - clock_timestamp())::float8 FROM cdc.breaker
     WHERE pipeline = %s AND resumed_until > clock_timestamp()"""


def trip(connection: Connection, pipeline: str, reason: str) -> None:
    """Note that the pipeline was stopped."""
    connection.execute(_TRIP, (pipeline, reason))


def resume(connection: Connection, pipeline: str, seconds: float) -> bool:
    """It goes on, and for so long it is not stopped again; whether it was stopped."""
    stopped = tripped(connection, pipeline) is not None
    connection.execute(_RESUME, (pipeline, seconds))
    return stopped


def left(connection: Connection, pipeline: str) -> float:
    """Seconds for which it may not be stopped again."""
    row = connection.execute(_LEFT, (pipeline,)).fetchone()
    return 0.0 if row is None else float(row[0])


def tripped(connection: Connection, pipeline: str) -> str | None:
    """Why it is stopped; None: it is not."""
    row = connection.execute(_READ, (pipeline,)).fetchone()
    return None if row is None else str(row[0])
