"""When a plain append of rows that the log inserted is worth a try."""

from __future__ import annotations

_CAUTION = (4, 64)  # batches written over after a first conflict, and at most


class Caution:
    """Whether a layout's inserts are worth a straight COPY; doubles the wait with each conflict."""

    def __init__(self) -> None:
        self._wait, self._left = _CAUTION[0], 0

    def direct(self) -> bool:
        """Ask before each batch of inserts."""
        if self._left:
            self._left -= 1
            return False
        return True

    def went_well(self) -> None:
        """A straight COPY met no conflict."""
        self._wait = _CAUTION[0]

    def conflicted(self) -> None:
        """A straight COPY had to be taken back."""
        self._left = self._wait
        self._wait = min(self._wait * 2, _CAUTION[1])
