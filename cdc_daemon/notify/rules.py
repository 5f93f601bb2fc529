"""Which alert goes to which channel, and when.

For each channel: what it was told, against what stands now. What is new, much worse, over, or was
told long ago is pending; what is pending for ``group_wait`` seconds goes as one message. In quiet
hours only what is critical is pending; what is over by their end was never told. Pure; clocks are
passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from cdc_daemon.config.notifications import NotificationsConfig, RuleConfig
from cdc_daemon.notify.alert import Alert, Message, Notice, Phase, Severity
from cdc_daemon.notify.watching import Standing

MUCH_WORSE = 10
"""By how much an alert's weight must have grown to be told again at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a channel knows of an alert; ``time`` of telling and ``since`` in seconds since 1970."""

    alert: Alert
    since: float
    time: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"alert": self.alert.to_dict(), "since": self.since, "time": self.time}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Told:
        """The inverse of :meth:`to_dict`."""
        return cls(alert=Alert.from_dict(plain["alert"]), since=plain["since"], time=plain["time"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """For one channel: what to send (None: nothing) and what it knows from then on."""

    channel: str
    message: Message | None
    told: Mapping[str, Told]


@dataclass(slots=True)
class _Channel:
    recovery: bool
    told: Mapping[str, Told] = field(default_factory=dict)
    opened: float | None = None  # when the first of what is pending came


class Rules:
    """What each channel knows; by a section's rules."""

    def __init__(self, config: NotificationsConfig, told: Mapping[str, Mapping[str, Told]]) -> None:
        """``told``: by channel and alert, from before this process began."""
        self._config = config
        self._rules = config.effective_rules
        self._channels = {
            name: _Channel(channel.recovery, dict(told.get(name, {})))
            for name, channel in config.channels.items()
        }

    @property
    def told(self) -> dict[str, Mapping[str, Told]]:
        """By channel and alert."""
        return {name: channel.told for name, channel in self._channels.items()}

    def decide(
        self, now: float, clock: float, standing: Mapping[str, Standing], *, at_once: bool = False
    ) -> Iterator[Decision]:
        """What has become due. The caller keeps each decision, then calls :meth:`settle`.

        ``now``: seconds since 1970 that never go back; ``clock``: the time of the day's. With
        ``at_once`` nothing is waited for.
        """
        quiet = self._quiet(clock)
        for name, channel in self._channels.items():
            wanted = {key: one for key, one in standing.items() if self._wants(name, one.alert)}
            forgotten = [key for key in channel.told if key in standing and key not in wanted]
            forgotten += [] if channel.recovery else channel.told.keys() - standing.keys()
            found = [*self._news(channel, wanted, now), *_over(channel, standing, now)]
            notices = [one for one in found if one.alert.severity not in quiet]
            if self._waits(channel, notices, now) and not (at_once and notices):
                notices = []
            if notices or forgotten:
                yield _decision(name, channel, notices, forgotten)

    def settle(self, decision: Decision) -> None:
        """The decision was kept."""
        channel = self._channels[decision.channel]
        channel.told = decision.told
        if decision.message is not None:
            channel.opened = None

    def _quiet(self, clock: float) -> frozenset[Severity]:
        """The severities that are not told now."""
        hours = self._config.quiet_hours
        if hours is None or not hours.hold(clock, self._config.zone):
            return frozenset()
        loud = frozenset() if hours.critical else frozenset({Severity.CRITICAL})
        return frozenset(Severity) - loud

    def _wants(self, channel: str, alert: Alert) -> bool:
        return any(channel in rule.to and matches(rule, alert) for rule in self._rules)

    def _news(
        self, channel: _Channel, wanted: Mapping[str, Standing], now: float
    ) -> Iterator[Notice]:
        for key, one in wanted.items():
            phase = self._phase(one.alert, channel.told.get(key), now)
            if phase is not None:
                yield Notice(alert=one.alert, phase=phase, since=one.since, time=now)

    def _phase(self, alert: Alert, told: Told | None, now: float) -> Phase | None:
        if told is None:
            return Phase.BEGAN
        before = told.alert
        if alert.severity > before.severity or alert.weight >= MUCH_WORSE * max(1, before.weight):
            return Phase.WORSE
        repeat = self._config.repeat_seconds
        return Phase.GOES_ON if repeat and now - told.time >= repeat else None

    def _waits(self, channel: _Channel, notices: Sequence[Notice], now: float) -> bool:
        """Whether what is pending waits for more; notes since when something is."""
        if not notices:
            channel.opened = None
            return False
        if channel.opened is None:
            channel.opened = now
        return now - channel.opened < self._config.group_wait_seconds


def matches(rule: RuleConfig, alert: Alert) -> bool:
    """Whether a rule is about such an alert; of those about no entity only ``*`` is."""
    return (
        alert.severity >= Severity[rule.severity.upper()]
        and (rule.pipeline is None or fnmatchcase(alert.pipeline, rule.pipeline))
        and (rule.entity is None or fnmatchcase(alert.entity or "\0", rule.entity))
    )


def _over(channel: _Channel, standing: Mapping[str, Standing], now: float) -> Iterator[Notice]:
    if not channel.recovery:
        return
    for key, told in channel.told.items():
        if key not in standing:
            yield Notice(alert=told.alert, phase=Phase.ENDED, since=told.since, time=now)


def _decision(
    name: str, channel: _Channel, notices: list[Notice], forgotten: Iterable[str]
) -> Decision:
    told = {key: one for key, one in channel.told.items() if key not in forgotten}
    for notice in notices:
        key = notice.alert.key
        if notice.phase is Phase.ENDED:
            told.pop(key, None)
        else:
            told[key] = Told(alert=notice.alert, since=notice.since, time=notice.time)
    worst_first = sorted(notices, key=lambda one: (one.phase is Phase.ENDED, -one.alert.severity))
    message = Message(channel=name, notices=tuple(worst_first)) if notices else None
    return Decision(channel=name, message=message, told=told)
