"""Whether a pipeline has applied what its source had written by some moment."""

from __future__ import annotations

import time

from cdc_daemon.model.errors import Stop
from cdc_daemon.sources.postgres.lsn import format_lsn, parse_lsn
from cdc_daemon.verify.target import TargetReader

_POLL = 0.1
_RESTART = 5.0  # how long a worker may be gone before nobody waits for it any longer


def await_applied(target: TargetReader, pipeline: str, lsn: int, timeout: float) -> bool:
    """Wait until the pipeline's checkpoint has reached a place of the log; whether it has.

    Gives up after ``timeout`` seconds, or sooner where no worker holds the pipeline.
    """
    started = alive_at = time.monotonic()
    while True:
        position, streaming, alive = target.progress(pipeline)
        if position is not None and streaming and _reached(position, lsn):
            return True
        now = time.monotonic()
        if alive:
            alive_at = now
        if now - started >= timeout or now - alive_at >= min(_RESTART, timeout):
            return False
        time.sleep(_POLL)


def _reached(position: str, lsn: int) -> bool:
    try:
        return parse_lsn(position) >= lsn
    except Stop as error:
        raise Stop(f"checkpoint position {position!r}: {error}") from error


def shown(lsn: int) -> str:
    """A place of the log as text."""
    return format_lsn(lsn)
