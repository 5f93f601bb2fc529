"""What a source keeps of its log for us, look by look: how long it will last, whether it is stuck.

Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from cdc_daemon.engine.growth import Growth
from cdc_daemon.engine.retention import Retention
from cdc_daemon.model.ports import SlotState


class KeptLog:
    """The newest state, and what follows from several."""

    def __init__(self) -> None:
        self.state: SlotState | None = None
        self._retention = Retention()
        self._growth = Growth()
        self._behind: tuple[str | None, float] | None = None  # at that position, since when

    def note(self, state: SlotState | None, position: str | None, now: float) -> None:
        """Look again, being at that position; None: nothing is known."""
        self.state = state
        if state is None or not state.behind_bytes:
            self._behind = None
        elif self._behind is None or self._behind[0] != position:
            self._behind = (position, now)
        self._retention.note(now, state.safe_bytes if state else None)
        if state is not None and state.written_bytes is not None:
            self._growth.note(state.written_bytes, now)

    def withheld(self, position: str | None, now: float) -> float | None:
        """Seconds for which the source has had more log than this position; None: it has not."""
        if self._behind is None or self._behind[0] != position:
            return None
        return now - self._behind[1]

    @property
    def growth(self) -> float | None:
        """How fast the log grows, in bytes a second; None: not known yet."""
        return self._growth.rate

    @property
    def seconds_left(self) -> float | None:
        """Until the slot is lost, at the rate of late."""
        return self._retention.seconds_left

    @property
    def seconds_if_stopped(self) -> float | None:
        """Until the slot's log is removed, if we stopped and the log grew on as it does."""
        if self.state is None or self.state.safe_bytes is None or not self.growth:
            return None
        return max(0, self.state.safe_bytes) / self.growth
