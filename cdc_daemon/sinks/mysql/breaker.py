"""Whether the breaker has stopped a pipeline, and why; and for how long it may not again."""

from __future__ import annotations

from collections.abc import Callable

from cdc_daemon.sinks.mysql.session import Result, Session

Run = Callable[..., Result]
"""``Session.run``, or that of a transaction."""

_TRIP = "REPLACE INTO cdc_breaker (pipeline, tripped_at, reason) VALUES (%s, UTC_TIMESTAMP(6), %s)"
_RESUME = """
    INSERT INTO cdc_breaker (pipeline, tripped_at, reason, resumed_until)
    VALUES (%s, UTC_TIMESTAMP(6), '', TIMESTAMPADD(MICROSECOND, %s, UTC_TIMESTAMP(6)))
    ON DUPLICATE KEY UPDATE resumed_until = VALUES(resumed_until)"""
_READ = "SELECT reason FROM cdc_breaker WHERE pipeline = %s AND resumed_until IS NULL"
_LEFT = """
    SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), resumed_until) FROM cdc_breaker
     WHERE pipeline = %s AND resumed_until > UTC_TIMESTAMP(6)"""


def trip(run: Run, pipeline: str, reason: str) -> None:
    """Note that the pipeline was stopped."""
    run(_TRIP, pipeline, reason)


def resume(run: Run, pipeline: str, seconds: float) -> bool:
    """It goes on, and for so long it is not stopped again; whether it was stopped."""
    stopped = bool(run(_READ, pipeline).rows)
    run(_RESUME, pipeline, int(seconds * 1e6))
    return stopped


def left(session: Session, pipeline: str) -> float:
    """Seconds for which it may not be stopped again."""
    return int(session.run(_LEFT, pipeline).text() or 0) / 1e6


def tripped(session: Session, pipeline: str) -> str | None:
    """Why it is stopped; None: it is not."""
    return session.run(_READ, pipeline).text()
