"""A clock that never goes back, in seconds since 1970."""

from __future__ import annotations

import time


class Steady:
    """Goes with the system's clock where that goes forward, and on where it is set back."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Now."""
        tick = time.monotonic()
        self._ahead = max(self._ahead, time.time() - tick)
        return tick + self._ahead
