"""From what is seen each second to alerts that begin, go on and end.

A state must last for a while until it is an alert, and be gone as long until the alert is over, so
that one which comes and goes is told once. Nothing is known of a pipeline that is just starting:
what stands about it goes on standing. Pure; the clock is passed in and never goes back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cdc_daemon.notify.alert import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An alert that goes on; ``since``: when it was first seen (seconds since 1970)."""

    alert: Alert
    since: float


@dataclass(slots=True)
class _Seen:
    """``first`` and ``last`` time that it was seen; ``begun``: it is an alert by now."""

    alert: Alert
    first: float
    last: float
    begun: bool = False


class Watch:
    """Remembers what was seen; ``settle`` in seconds."""

    def __init__(self, settle: float, told: Iterable[Standing], now: float) -> None:
        """``told``: alerts that somebody was told of before this process began."""
        self.settle = settle
        self._seen = {one.alert.key: _Seen(one.alert, one.since, now, begun=True) for one in told}

    def take(self, now: float, alerts: Iterable[Alert], silent: Collection[str]) -> None:
        """What is amiss now; ``silent``: pipelines of which nothing is known at present."""
        for seen in self._seen.values():
            if seen.alert.pipeline in silent:
                seen.last = now
        for alert in alerts:
            self._see(alert, now)
        self._seen = {key: seen for key, seen in self._seen.items() if not self._over(seen, now)}

    def standing(self) -> Mapping[str, Standing]:
        """The alerts that go on, by key."""
        return {
            key: Standing(alert=seen.alert, since=seen.first)
            for key, seen in self._seen.items()
            if seen.begun
        }

    def _see(self, alert: Alert, now: float) -> None:
        seen = self._seen.setdefault(alert.key, _Seen(alert, now, now))
        seen.alert, seen.last = alert, now
        seen.begun = seen.begun or alert.kind.lasting or now - seen.first >= self.settle

    def _over(self, seen: _Seen, now: float) -> bool:
        return seen.last < now and now - seen.last >= self.settle
