"""Whether a pipeline has applied what its source had written by some moment."""

from __future__ import annotations

import time
from collections.abc import Callable

from cdc_daemon.model.errors import Stop
from cdc_daemon.verify.target import TargetReader

_POLL = 0.1
_RESTART = 5.0  # how long a worker may be gone before nobody waits for it any longer


def await_applied(
    target: TargetReader, pipeline: str, reached: Callable[[str], bool], timeout: float
) -> bool:
    """Wait until the pipeline's checkpoint has reached a place of the log; whether it has.

    ``reached``: whether a position has; it raises Stop for what is none. Gives up after
    ``timeout`` seconds, or sooner where no worker holds the pipeline.
    """
    started = alive_at = time.monotonic()
    while True:
        position, streaming, alive = target.progress(pipeline)
        if position is not None and streaming and _is_reached(position, reached):
            return True
        now = time.monotonic()
        if alive:
            alive_at = now
        if now - started >= timeout or now - alive_at >= min(_RESTART, timeout):
            return False
        time.sleep(_POLL)


def _is_reached(position: str, reached: Callable[[str], bool]) -> bool:
    try:
        return reached(position)
    except Stop as error:
        raise Stop(f"checkpoint position {position!r}: {error}") from error
