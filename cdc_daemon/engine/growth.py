"""How fast a source's log grows, from looks some seconds apart."""

from __future__ import annotations

from collections import deque

WINDOW = 300.0
"""Seconds over which growth is averaged: more than a burst, less than a night."""


class Growth:
    """Bytes a second over the last minutes."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, written: int, now: float) -> None:
        """The log's end, in bytes, at a moment of the monotonic clock."""
        if self._seen and written < self._seen[-1][1]:
            self._seen.clear()  # another server, or one that was restored
        self._seen.append((now, written))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """None: not looked twice yet."""
        if len(self._seen) < 2:
            return None
        (began, start), (now, end) = self._seen[0], self._seen[-1]
        return (end - start) / (now - began) if now > began else None
