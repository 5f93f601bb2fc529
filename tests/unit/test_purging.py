"""Settled changes leave the failure queue some at a time, by word and by policy."""

from __future__ import annotations

import datetime as dt
from typing import cast

import pytest

from cdc_daemon.config.failures import FailuresConfig
from cdc_daemon.engine.purging import AT_ONCE, EVERY, Purging
from cdc_daemon.model.errors import CdcError
from cdc_daemon.model.ports import Command, Sink
from cdc_daemon.model.selection import Selection


class FakeSink:
    """Has so many settled changes."""

    def __init__(self, settled: int) -> None:
        self.settled = settled
        self.asked: list[Selection] = []

    def purge(self, selection: Selection, most: int) -> int:
        self.asked.append(selection)
        done = min(most, self.settled)
        self.settled -= done
        return done


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


def purging(sink: FakeSink, kept: dt.timedelta | None, clock: Clock) -> Purging:
    return Purging(sink=cast(Sink, sink), kept=kept, progressed=lambda: None, clock=clock)


def test_the_policy_looks_once_an_hour_and_goes_on_while_there_is_more() -> None:
    """It never has more than some in one transaction, and never means what is parked."""
    sink, clock = FakeSink(AT_ONCE + 1), Clock()
    policy = purging(sink, dt.timedelta(days=90), clock)
    assert [policy.tend() for _ in range(3)] == [AT_ONCE, 1, 0]
    assert len(sink.asked) == 2
    clock.now += EVERY
    assert policy.tend() == 0
    assert len(sink.asked) == 3
    settled = sink.asked[0].settled
    assert settled is not None
    age = dt.datetime.now(dt.UTC) - settled
    assert abs(age - dt.timedelta(days=90)) < dt.timedelta(minutes=1)


def test_without_a_policy_everything_stays() -> None:
    sink = FakeSink(5)
    assert purging(sink, None, Clock()).tend() == 0
    assert sink.asked == []


def order(**arguments: object) -> Command:
    return Command(id=1, pipeline="erp", verb="purge", arguments=arguments, actor="ann")


def test_a_command_deletes_all_that_it_means() -> None:
    sink = FakeSink(2 * AT_ONCE)
    one = purging(sink, None, Clock())
    moment = "2026-07-28T00:00:00+00:00"
    found = one.carry_out(order(settled=moment, state="skipped", entity="material"))
    assert found == {"purged": 2 * AT_ONCE}
    meant = Selection(
        state="skipped", entity="material", settled=dt.datetime(2026, 7, 28, tzinfo=dt.UTC)
    )
    assert sink.asked == [meant] * 3


def test_a_command_that_names_no_moment_deletes_nothing() -> None:
    sink = FakeSink(5)
    with pytest.raises(CdcError, match="pass --older-than"):
        purging(sink, None, Clock()).carry_out(order())
    assert sink.asked == []


def test_how_long_is_kept_is_a_duration() -> None:
    assert FailuresConfig(keep_settled="12h").kept == dt.timedelta(hours=12)
    assert FailuresConfig().kept is None
    for text in ("90", "0d", "-1d", "2 h", "forever"):
        with pytest.raises(ValueError, match="this is no duration"):
            FailuresConfig(keep_settled=text)
