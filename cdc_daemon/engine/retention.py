"""How long a source's slot will last, from how fast the log that it may still keep grows less."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 600.0  # seconds that are looked back


class Retention:
    """Bytes that may still be written before the slot is lost, over the last minutes."""

    def __init__(self) -> None:
        self.seconds_left: float | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, safe_bytes: int | None) -> None:
        """Look again (seconds of the monotonic clock); None: there is no bound, or no slot."""
        if safe_bytes is None:
            self._seen.clear()
            self.seconds_left = None
            return
        self._seen.append((now, safe_bytes))
        while self._seen[0][0] < now - WINDOW:
            self._seen.popleft()
        self.seconds_left = self._left()

    def _left(self) -> float | None:
        """Seconds; None where it does not grow less, or was seen but once."""
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        if ended <= began or after >= before:
            return None
        return max(0, after) * (ended - began) / (before - after)
