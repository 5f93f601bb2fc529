"""What is told to whom, and when: by passed clocks, without a thread."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pytest

from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.notify.alert import Alert, Kind, Message, Notice, Phase, Severity
from cdc_daemon.notify.rules import Rules, Told, matches
from cdc_daemon.notify.watching import Standing, Watch

BLOCKED = Alert(kind=Kind.BLOCKED, severity=Severity.CRITICAL, pipeline="erp")
STOPPED = Alert(kind=Kind.STOPPED, severity=Severity.CRITICAL, pipeline="hr")
NOON = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC).timestamp()
HOUR = 3600.0


def parked(number: int = 1, entity: str = "employee") -> Alert:
    return Alert(
        kind=Kind.PARKED,
        severity=Severity.WARNING,
        pipeline="hr",
        entity=entity,
        weight=number,
        facts={"changes": number},
    )


# --- watching -----------------------------------------------------------------------------------


class Seeing:
    """A watch with its clock."""

    def __init__(self, told: Iterable[Standing] = ()) -> None:
        self.watch = Watch(30.0, told, 0.0)

    def sees(self, now: float, *alerts: Alert, silent: Iterable[str] = ()) -> set[Kind]:
        self.watch.take(now, alerts, set(silent))
        return {one.alert.kind for one in self.watch.standing().values()}


def test_a_state_is_an_alert_once_it_has_lasted() -> None:
    seeing = Seeing()
    assert seeing.sees(0, BLOCKED) == set()
    assert seeing.sees(29, BLOCKED) == set()
    assert seeing.sees(30, BLOCKED) == {Kind.BLOCKED}
    assert seeing.watch.standing()[BLOCKED.key].since == 0


def test_a_short_one_is_none() -> None:
    seeing = Seeing()
    for now in (0, 10, 20):
        assert seeing.sees(now, BLOCKED) == set()
    for now in (40, 50, 60, 1000):
        assert seeing.sees(now) == set()
    assert seeing.sees(1001, BLOCKED) == set()


def test_one_that_comes_and_goes_is_one_alert() -> None:
    """20 seconds on, 20 seconds off, for an hour."""
    seeing = Seeing()
    changes = 0
    before: set[Kind] = set()
    for now in range(0, 3600, 5):
        found = seeing.sees(now, *([BLOCKED] if now // 20 % 2 == 0 else []))
        changes, before = changes + (found != before), found
    assert changes == 1
    assert before == {Kind.BLOCKED}
    assert seeing.sees(3700) == set()


def test_what_cannot_pass_is_an_alert_at_once_and_is_over_only_when_gone_for_long() -> None:
    seeing = Seeing()
    assert seeing.sees(0, STOPPED) == {Kind.STOPPED}
    assert seeing.sees(29) == {Kind.STOPPED}
    assert seeing.sees(30) == set()


def test_a_pipeline_that_is_starting_says_nothing_about_its_alerts() -> None:
    seeing = Seeing()
    seeing.sees(0, BLOCKED)
    seeing.sees(20, silent=["erp"])
    assert seeing.sees(31, BLOCKED) == {Kind.BLOCKED}
    assert seeing.sees(500, silent=["erp"]) == {Kind.BLOCKED}
    assert seeing.sees(529) == {Kind.BLOCKED}
    assert seeing.sees(530) == set()


def test_what_was_told_before_a_restart_stands_until_it_is_seen_to_be_over() -> None:
    seeing = Seeing([Standing(alert=BLOCKED, since=-500.0)])
    assert seeing.sees(1, silent=["erp"]) == {Kind.BLOCKED}
    assert seeing.sees(2, BLOCKED) == {Kind.BLOCKED}
    assert seeing.watch.standing()[BLOCKED.key].since < 0
    assert seeing.sees(40) == set()


# --- rules --------------------------------------------------------------------------------------


def config(**more: Any) -> NotificationsConfig:
    """Two channels, a and b; everything warned of goes to both unless rules say otherwise."""
    channels = {
        name: {"kind": "wecom", "token": "x", "recovery": name == "a"} for name in ("a", "b")
    }
    return NotificationsConfig.model_validate({"channels": channels, **more})


class Deciding:
    """Rules with their clock; what was decided counts as kept."""

    def __init__(self, found: NotificationsConfig, **told: dict[str, Told]) -> None:
        self.rules = Rules(found, told)

    def at(
        self, now: float, *alerts: Alert, clock: float = NOON, at_once: bool = False
    ) -> dict[str, Message]:
        """The messages of that moment by channel."""
        standing = {one.key: Standing(alert=one, since=1.0) for one in alerts}
        sent = {}
        for decision in self.rules.decide(now, clock, standing, at_once=at_once):
            self.rules.settle(decision)
            if decision.message is not None:
                sent[decision.channel] = decision.message
        return sent


def phases(messages: dict[str, Message]) -> dict[str, list[tuple[Kind, Phase]]]:
    return {
        name: [(one.alert.kind, one.phase) for one in message.notices]
        for name, message in messages.items()
    }


def test_what_comes_within_the_wait_is_one_message_the_worst_first() -> None:
    deciding = Deciding(config())
    assert deciding.at(0, parked()) == {}
    assert deciding.at(5, parked(), BLOCKED) == {}
    found = phases(deciding.at(10, parked(), BLOCKED))
    both = [(Kind.BLOCKED, Phase.BEGAN), (Kind.PARKED, Phase.BEGAN)]
    assert found == {"a": both, "b": both}
    assert deciding.at(11, parked(), BLOCKED) == {}
    assert deciding.at(100, parked(), BLOCKED) == {}


def test_an_end_is_told_to_channels_that_want_it_and_forgotten_by_all() -> None:
    deciding = Deciding(config(group_wait_seconds=0))
    assert set(deciding.at(0, BLOCKED)) == {"a", "b"}
    assert phases(deciding.at(60)) == {"a": [(Kind.BLOCKED, Phase.ENDED)]}
    assert deciding.rules.told == {"a": {}, "b": {}}
    assert deciding.at(61) == {}
    assert set(deciding.at(62, BLOCKED)) == {"a", "b"}


def test_what_goes_on_is_repeated_and_what_got_much_worse_is_told_at_once() -> None:
    deciding = Deciding(config(group_wait_seconds=0, repeat_seconds=HOUR))
    deciding.at(0, parked(3))
    assert deciding.at(HOUR - 1, parked(29)) == {}
    assert phases(deciding.at(HOUR, parked(29)))["a"] == [(Kind.PARKED, Phase.GOES_ON)]
    assert phases(deciding.at(HOUR + 1, parked(290)))["a"] == [(Kind.PARKED, Phase.WORSE)]
    assert deciding.at(HOUR + 2, parked(291)) == {}


def test_nothing_is_repeated_with_0() -> None:
    deciding = Deciding(config(group_wait_seconds=0, repeat_seconds=0))
    deciding.at(0, BLOCKED)
    assert deciding.at(1e9, BLOCKED) == {}


def test_quiet_hours_let_only_what_is_critical_through() -> None:
    hours = {"from": "22:00", "to": "07:00", "zone": "Asia/Shanghai"}
    deciding = Deciding(config(group_wait_seconds=0, quiet_hours=hours))
    night = dt.datetime.fromisoformat("2026-07-01T23:00:00+08:00").timestamp()
    assert phases(deciding.at(0, parked(), BLOCKED, clock=night))["a"] == [
        (Kind.BLOCKED, Phase.BEGAN)
    ]
    passing = parked(entity="order")
    assert deciding.at(60, parked(), BLOCKED, passing, clock=night) == {}
    morning = deciding.at(9 * HOUR, parked(), clock=night + 9 * HOUR)
    assert phases(morning)["a"] == [(Kind.PARKED, Phase.BEGAN), (Kind.BLOCKED, Phase.ENDED)]
    assert [one.alert.entity for one in morning["a"].notices] == ["employee", None]


def test_quiet_hours_may_hold_what_is_critical() -> None:
    hours = {"from": "11:00", "to": "13:00", "critical": True}
    deciding = Deciding(config(group_wait_seconds=0, quiet_hours=hours))
    assert deciding.at(0, BLOCKED) == {}
    assert set(deciding.at(HOUR, BLOCKED, clock=NOON + HOUR)) == {"a", "b"}


@pytest.mark.parametrize(
    "rule, alert, is_meant",
    [
        ({}, parked(), True),
        ({"severity": "critical"}, parked(), False),
        ({"severity": "critical"}, BLOCKED, True),
        ({"pipeline": "h?"}, parked(), True),
        ({"pipeline": "erp*"}, parked(), False),
        ({"entity": "emp*"}, parked(), True),
        ({"entity": "EMP*"}, parked(), False),
        ({"entity": "*"}, BLOCKED, True),
        ({"entity": "order"}, BLOCKED, False),
    ],
)
def test_a_rule_means_severity_pipeline_and_entity(
    rule: dict[str, str], alert: Alert, is_meant: bool
) -> None:
    found = config(rules=({"to": ("a",), **rule},))
    assert matches(found.rules[0], alert) is is_meant


def test_rules_send_each_channel_its_own_and_nothing_twice() -> None:
    rules = (
        {"to": ("a",), "severity": "critical"},
        {"to": ("a", "b"), "pipeline": "hr"},
        {"to": ("a",), "entity": "employee"},
    )
    deciding = Deciding(config(group_wait_seconds=0, rules=rules))
    found = phases(deciding.at(0, parked(), BLOCKED))
    assert found == {
        "a": [(Kind.BLOCKED, Phase.BEGAN), (Kind.PARKED, Phase.BEGAN)],
        "b": [(Kind.PARKED, Phase.BEGAN)],
    }


def test_another_configuration_tells_of_no_end_that_was_none() -> None:
    """A rule that no longer means an alert forgets it; a new channel is told what stands."""
    before = Deciding(config(group_wait_seconds=0))
    before.at(0, parked(), BLOCKED)
    rules = ({"to": ("a", "b"), "severity": "critical"},)
    after = Deciding(config(group_wait_seconds=0, rules=rules), a=dict(before.rules.told["a"]))
    assert phases(after.at(1, parked(), BLOCKED)) == {"b": [(Kind.BLOCKED, Phase.BEGAN)]}
    assert set(after.rules.told["a"]) == {BLOCKED.key}


def test_with_the_daemons_end_nothing_is_waited_for() -> None:
    deciding = Deciding(config(group_wait_seconds=3600))
    assert set(deciding.at(0, STOPPED, at_once=True)) == {"a", "b"}


# --- forms that are kept ------------------------------------------------------------------------


def test_what_is_kept_comes_back_as_it_was() -> None:
    notice = Notice(alert=parked(7), phase=Phase.WORSE, since=1.5, time=2.5)
    assert Notice.from_dict(notice.to_dict()) == notice
    told = Told(alert=BLOCKED, since=1.0, time=2.0)
    assert Told.from_dict(told.to_dict()) == told
