"""Whether the breaker has stopped a pipeline, and why, until somebody says resume."""

from __future__ import annotations

from collections.abc import Callable

from cdc_daemon.sinks.mysql.session import Result, Session

Run = Callable[..., Result]
"""``Session.run``, or that of a transaction."""

_TRIP = "REPLACE INTO cdc_breaker (pipeline, tripped_at, reason) VALUES (%s, UTC_TIMESTAMP(6), %s)"
_RESUME = "DELETE FROM cdc_breaker WHERE pipeline = %s"
_READ = "SELECT reason FROM cdc_breaker WHERE pipeline = %s"


def trip(run: Run, pipeline: str, reason: str) -> None:
    """Note that the pipeline was stopped."""
    run(_TRIP, pipeline, reason)


def resume(run: Run, pipeline: str) -> bool:
    """It goes on; whether it was stopped."""
    return run(_RESUME, pipeline).affected > 0


def tripped(session: Session, pipeline: str) -> str | None:
    """Why it is stopped; None: it is not."""
    return session.run(_READ, pipeline).text()
