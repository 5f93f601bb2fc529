"""How deliveries go, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one channel: attempts that succeeded and failed since the daemon began, and messages that
    wait.
    """

    sent: int = 0
    failed: int = 0
    waiting: int = 0
