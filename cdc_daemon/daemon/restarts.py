"""How long the supervisor waits for what, and whether a worker that ended is started again."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from cdc_daemon.model.errors import (
    EXIT_CONFIGURATION,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_TRY_LATER,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
)

FINAL = frozenset({EXIT_CONFIGURATION, EXIT_USAGE})
"""Exit codes after which only another configuration helps."""

OUTAGE = frozenset({EXIT_UNREACHABLE, EXIT_TRY_LATER})
"""Exit codes that blame a server; waiting cures them, so they never use up the bound."""

_SEVERITY = (EXIT_OK, EXIT_USAGE, EXIT_CONFIGURATION, EXIT_TRY_LATER, EXIT_UNREACHABLE, EXIT_FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds.

    A drain gets ``drain_seconds`` (the worker's own limit) and ``drain_margin`` before SIGTERM,
    then ``kill_seconds`` before SIGKILL. A worker is hung after ``silence_seconds`` without a
    status line or ``watchdog_seconds`` without a turn of its loop, and then has ``hang_seconds`` to
    end by itself: less than systemd's watchdog, which would end its siblings too. ``max_restarts``
    within ``restart_window`` and without progress are allowed; the pauses double from
    ``backoff_first`` to ``backoff_most``.
    """

    drain_seconds: float = 10.0
    drain_margin: float = 5.0
    kill_seconds: float = 5.0
    silence_seconds: float = 30.0
    watchdog_seconds: float = 120.0
    hang_seconds: float = 10.0
    max_restarts: int = 10
    restart_window: float = 600.0
    backoff_first: float = 1.0
    backoff_most: float = 60.0

    @property
    def longest_stop(self) -> float:
        """How long a stop takes at most, with all the force that follows; and a little more."""
        return self.drain_seconds + self.drain_margin + 2 * self.kill_seconds


class Restarts:
    """Remembers how a pipeline's workers ended."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._endings: deque[tuple[float, bool]] = deque()  # when, and whether it counts
        self._reached: str | None = None

    def delay(self, now: float, code: int, position: str | None) -> float | None:
        """Seconds until the next start after a worker ended, or None: give the pipeline up.

        ``position`` is the checkpoint that this worker reported last; one that no worker before it
        had reached is progress and starts the count anew.
        """
        if position is not None and position != self._reached:
            self._reached = position
            self._endings.clear()
        while self._endings and self._endings[0][0] < now - self._limits.restart_window:
            self._endings.popleft()
        self._endings.append((now, code not in OUTAGE))
        if code in FINAL or sum(counts for _, counts in self._endings) > self._limits.max_restarts:
            return None
        doublings = min(len(self._endings) - 1, 32)
        pause = min(self._limits.backoff_first * 2.0**doublings, self._limits.backoff_most)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads restarts, guards nothing

    def limit(self, limits: Limits) -> None:
        """Other limits from now on."""
        self._limits = limits

    def forget(self) -> None:
        """Another configuration: nothing that happened before counts."""
        self._endings.clear()


def worst(codes: list[int]) -> int:
    """The exit code of a daemon whose pipelines all ended with these."""
    known = [code if code in _SEVERITY else EXIT_FAILED for code in codes]
    return max(known, key=_SEVERITY.index, default=EXIT_OK)
