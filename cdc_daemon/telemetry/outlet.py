"""Between those who log and where lines go: a bounded queue and one thread.

A reader that stopped reading, a full disk or a hanging journal must not stop the work, so nobody
who logs ever waits: lines for which there is no room are dropped and counted, and the count is told
as soon as a line can be written again. Not in here: what a line looks like, and where it goes
(``destinations``, ``journal``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

MOST_BYTES = 4 << 20  # that may wait
LONGEST_LINE = 256 << 10


class Destination(Protocol):
    """Where lines go."""

    def write(self, line: bytes) -> None:
        """Write one line; may wait as long as it likes. Raises OSError or ValueError."""

    def close(self) -> None:
        """Release what it holds."""


class Outlet:
    """Takes lines without ever waiting and writes them in order.

    ``lost`` makes the line that tells how many were dropped. ``put`` may be called by any thread
    that holds the log handler's lock.
    """

    def __init__(
        self, destination: Destination, lost: Callable[[int], bytes], most_bytes: int = MOST_BYTES
    ) -> None:
        self._destination = destination
        self._lost = lost
        self._most_bytes = most_bytes
        self._queue: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._taken = 0  # bytes; written by who puts
        self._refused = 0  # lines
        self._done = 0  # bytes; written by the thread
        self._failed = 0  # lines
        self._told = 0  # lines
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._refused + self._failed

    def put(self, line: bytes) -> None:
        """Write this line as soon as possible, or count it as dropped."""
        if len(line) > LONGEST_LINE or self._taken - self._done + len(line) > self._most_bytes:
            self._refused += 1
            return
        self._taken += len(line)
        self._queue.put(line)

    def flush(self, seconds: float) -> bool:
        """Wait until what was put before is written, so long at most; whether it is."""
        if not self._thread.is_alive():
            return False
        written = threading.Event()
        self._queue.put(written)
        return written.wait(seconds)

    def close(self) -> None:
        """End the thread once it has written what it has; does not wait for that."""
        self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._write(item)
            self._done += len(item)
        self._destination.close()

    def _write(self, line: bytes) -> None:
        dropped = self.dropped
        try:
            if dropped > self._told:
                self._destination.write(self._lost(dropped - self._told))
                self._told = dropped
            self._destination.write(line)
        except (OSError, ValueError):  # what cannot be said anywhere is counted
            self._failed += 1
