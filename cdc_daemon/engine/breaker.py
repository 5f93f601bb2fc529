"""The breaker: when so much fails at once that the failure queue is no place for it.

A changed table, a wrong mapping or a lost parent table makes every change fail. Parking them one
by one would fill the queue with what one correction cures, so the pipeline stops instead, before
the unit of work that would pass a limit is committed, and waits for somebody to say ``resume``.
Pure but for the clock. Not in here: where it is noted that it stopped (ledger), who asks.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cdc_daemon.engine.lanes import WAITING
from cdc_daemon.model.errors import Retryable
from cdc_daemon.model.ports import Sink


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerLimits:
    """What may be parked within ``window`` seconds; 0: any number.

    ``parked``: changes. ``share``: of all changes, once ``least`` came; ``same_error``: changes
    with one error class; both without those that only wait behind others, of which one row that
    changes all the time may have any number.
    """

    window: float = 300.0
    parked: int = 20_000
    share: float = 0.5
    least: int = 2_000
    same_error: int = 10_000


class Tripped(Retryable):
    """Too much is parked at once: the pipeline has stopped before it fills the failure queue."""


_SLICES = 60
"""Parts of a window, so that what is remembered does not grow with the number of units."""


@dataclass(slots=True)
class _Slice:
    """What was committed in one of them. ``at``: when it began."""

    at: float
    changes: int = 0
    parked: Counter[str] = field(default_factory=Counter)


class Breaker:
    """What one pipeline parked lately."""

    def __init__(self, limits: BreakerLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._slices: deque[_Slice] = deque()
        self._changes = 0
        self._parked: Counter[str] = Counter()
        self._disarmed_until = 0.0

    def disarm(self, seconds: float) -> None:
        """Somebody has looked: begin anew, and let everything pass for so long."""
        self._slices.clear()
        self._changes, self._parked = 0, Counter()
        self._disarmed_until = self._clock() + seconds

    def judge(self, changes: int, parked: Mapping[str, int]) -> None:
        """Raise Tripped where a unit of so many changes, which parks these, by error class, would
        pass a limit. A unit that parks nothing passes always."""
        if not any(parked.values()) or self._clock() < self._disarmed_until:
            return
        self._let_go()
        total, by_class = self._changes + changes, self._parked + Counter(parked)
        if why := self._excess(total, by_class):
            raise Tripped(
                f"the breaker has stopped the pipeline: {why} within {self._limits.window:g} s",
                hint="see what fails (cdc-daemon failures stats), correct it, then:"
                " cdc-daemon failures resume",
            )

    def committed(self, changes: int, parked: Mapping[str, int]) -> None:
        """Such a unit was committed."""
        now = self._clock()
        if not self._slices or now - self._slices[-1].at >= self._limits.window / _SLICES:
            self._let_go()
            self._slices.append(_Slice(now))
        last = self._slices[-1]
        last.changes += changes
        self._changes += changes
        if parked:
            last.parked.update(parked)
            self._parked.update(parked)

    def _let_go(self) -> None:
        """What is older than the window counts no more."""
        begin = self._clock() - self._limits.window
        while self._slices and self._slices[0].at < begin:
            gone = self._slices.popleft()
            self._changes -= gone.changes
            self._parked -= gone.parked

    def _excess(self, changes: int, parked: Counter[str]) -> str:
        limits, number = self._limits, parked.total()
        if limits.parked and number > limits.parked:
            return f"{number:,} changes parked (limit {limits.parked:,})"
        errors = Counter({code: n for code, n in parked.items() if code != WAITING})
        failed = errors.total()
        if limits.share and changes >= limits.least and failed > limits.share * changes:
            return f"{failed:,} of {changes:,} changes failed (limit {limits.share:.0%})"
        for code, most in errors.most_common(1):
            if limits.same_error and most > limits.same_error:
                return f"{most:,} changes failed with {code} (limit {limits.same_error:,})"
        return ""


def stopped(sink: Sink, error: Tripped) -> None:
    """Note that it has stopped the pipeline; after the unit that was too much is rolled back."""
    with sink.begin() as unit:
        unit.queue.trip(error.message)
