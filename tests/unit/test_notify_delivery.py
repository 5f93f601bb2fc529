"""Spool and delivery: nothing that was decided is lost, whatever ends when; by passed clocks."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdc_daemon.config.channels import WebhookChannel
from cdc_daemon.notify import webhook
from cdc_daemon.notify.alert import Alert, Kind, Message, Notice, Phase, Severity
from cdc_daemon.notify.delivery import LONGEST_PAUSE, Delivery, backoff
from cdc_daemon.notify.limits import Window
from cdc_daemon.notify.results import Deferred, Delivered, Refused, Result
from cdc_daemon.notify.rules import Decision, Told
from cdc_daemon.notify.spool import Spool, read_log
from cdc_daemon.notify.spool_file import Unusable
from cdc_daemon.notify.texts import Manner

ALERT = Alert(kind=Kind.BLOCKED, severity=Severity.CRITICAL, pipeline="erp")
HOUR = 3600.0


def message(id: str = "m1", channel: str = "a") -> Message:
    notice = Notice(alert=ALERT, phase=Phase.BEGAN, since=1.0, time=2.0)
    return Message(channel=channel, notices=(notice,), id=id)


def decided(one: Message) -> Decision:
    told = {ALERT.key: Told(alert=ALERT, since=1.0, time=2.0)}
    return Decision(channel=one.channel, message=one, told=told)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "notifications.db"


@pytest.fixture
def spool(file: Path) -> Iterator[Spool]:
    found = Spool(file)
    yield found
    found.close()


# --- the spool ----------------------------------------------------------------------------------


def test_a_message_and_what_its_channel_knows_are_kept_together(file: Path) -> None:
    first = Spool(file)
    first.keep(decided(message()), 10.0)
    first.close()
    again = Spool(file)
    waiting = again.next("a", 0.0)
    assert waiting is not None
    assert waiting.message == message()
    assert again.told() == {"a": decided(message()).told}
    assert again.next("b", 0.0) is None
    again.close()
    assert stat.S_IMODE(file.stat().st_mode) & 0o007 == 0


def test_a_second_daemon_is_told_to_use_its_own_file(spool: Spool, file: Path) -> None:
    with pytest.raises(Unusable, match="another daemon") as raised:
        Spool(file)
    assert "notifications.directory" in (raised.value.hint or "")
    assert read_log(file, None, 10) == ([], [])


def test_a_file_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    bad = tmp_path / "notifications.db"
    bad.write_bytes(b"no database at all, " * 100)
    with pytest.raises(Unusable, match="not a database") as raised:
        Spool(bad)
    assert "move it away" in str(raised.value)
    with pytest.raises(Unusable, match="Not a directory"):
        Spool(bad / "x" / "notifications.db")
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(Unusable, match="another version"):
        Spool(newer)


def test_the_log_is_bounded_by_age_and_count(spool: Spool, file: Path) -> None:
    for n in range(10):
        spool.keep(decided(message(f"m{n}")), float(n))
        waiting = spool.next("a", 0.0)
        assert waiting is not None
        spool.end(waiting, float(n), "delivered", "ok")
    spool.tidy(before=2.0, most=5)
    assert [one.message.id for one in read_log(file, "a", 99)[1]] == ["m9", "m8", "m7", "m6", "m5"]
    spool.tidy(before=8.0)
    assert [one.message.id for one in read_log(file, None, 99)[1]] == ["m9", "m8"]
    assert read_log(file, "b", 99) == ([], [])


def test_what_waits_for_a_channel_that_is_gone_is_found(spool: Spool) -> None:
    spool.keep(decided(message("m1", "gone")), 0.0)
    spool.keep(decided(message("m2", "a")), 0.0)
    assert [one.message.id for one in spool.strays(["a"], 1.0)] == ["m1"]
    spool.forget(["a"])
    assert set(spool.told()) == {"a"}
    assert spool.counts() == {"gone": 1, "a": 1}


# --- delivery -----------------------------------------------------------------------------------


class Service:
    """Answers as it is told, in order; the last answer stays."""

    def __init__(self, *results: Result) -> None:
        self.now = 1000.0
        self.results = list(results)
        self.got: list[tuple[float, str]] = []

    def send(self, one: Message, now: float) -> Result:
        self.got.append((now, one.id))
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]

    def pump(self, delivery: Delivery, until: float, step: float = 1.0) -> None:
        """Have turns until then."""
        while self.now < until:
            if delivery.turn() > 0:
                self.now += step


@pytest.fixture
def delivering(spool: Spool) -> Callable[..., Delivery]:
    def make(service: Service, *windows: Window) -> Delivery:
        return Delivery(
            "a", spool, service.send, windows, give_up=2 * HOUR, clock=lambda: service.now
        )

    return make


def test_a_message_is_delivered_once_and_logged(
    delivering: Callable[..., Delivery], spool: Spool, file: Path
) -> None:
    service = Service(Delivered(answer="ok"))
    spool.keep(decided(message()), 1000.0)
    delivery = delivering(service)
    service.pump(delivery, 1010.0)
    assert service.got == [(1000.0, "m1")]
    assert (delivery.sent, delivery.failed) == (1, 0)
    waiting, ended = read_log(file, None, 10)
    assert waiting == []
    assert [(one.result, one.attempts, one.answer) for one in ended] == [("delivered", 1, "ok")]


def test_a_failure_is_tried_again_with_growing_pauses_then_given_up(
    delivering: Callable[..., Delivery], spool: Spool, file: Path
) -> None:
    service = Service(Deferred(reason="hooks.corp: no answer in time"))
    spool.keep(decided(message()), 1000.0)
    delivery = delivering(service)
    service.pump(delivery, 1000.0 + 3 * HOUR, step=5.0)
    times = [time for time, _ in service.got]
    pauses = [later - first for first, later in itertools.pairwise(times)]
    assert max(pauses[:2]) < 30
    assert max(pauses) <= LONGEST_PAUSE + 5
    assert max(pauses) > LONGEST_PAUSE / 2
    assert times[-1] <= 1000.0 + 2 * HOUR
    waiting, ended = read_log(file, None, 10)
    assert waiting == []
    assert [(one.result, one.answer) for one in ended] == [
        ("given up", "hooks.corp: no answer in time")
    ]
    assert delivery.failed == len(times)


def test_a_service_that_is_down_is_not_asked_for_every_message(
    delivering: Callable[..., Delivery], spool: Spool
) -> None:
    service = Service(Deferred(reason="down"), Delivered())
    for n in range(5):
        spool.keep(decided(message(f"m{n}")), 1000.0)
    delivery = delivering(service)
    assert delivery.turn() == 0
    assert delivery.turn() > 2
    service.pump(delivery, 1010.0)
    assert [id for _, id in service.got] == ["m0", "m0", "m1", "m2", "m3", "m4"]


def test_a_refused_message_does_not_hold_up_the_next(
    delivering: Callable[..., Delivery], spool: Spool, file: Path
) -> None:
    service = Service(Refused(reason="too large", cure="see"), Delivered())
    spool.keep(decided(message("m1")), 1000.0)
    spool.keep(decided(message("m2")), 1001.0)
    delivery = delivering(service)
    service.pump(delivery, 1005.0)
    assert [id for _, id in service.got] == ["m1", "m2"]
    assert read_log(file, None, 10)[0][0].error == "too large (see)"
    service.pump(delivery, 1000.0 + LONGEST_PAUSE + 5)
    assert [id for _, id in service.got] == ["m1", "m2", "m1"]


def test_a_fault_of_ours_holds_up_nobody_and_is_told_without_its_message(
    delivering: Callable[..., Delivery], spool: Spool, file: Path
) -> None:
    class Faulty(Service):
        def send(self, one: Message, now: float) -> Result:
            if one.id == "m1":
                raise RuntimeError("https://h/secret")
            return super().send(one, now)

    service = Faulty(Delivered())
    spool.keep(decided(message("m1")), 1000.0)
    spool.keep(decided(message("m2")), 1001.0)
    service.pump(delivering(service), 1005.0)
    assert [id for _, id in service.got] == ["m2"]
    assert [one.error for one in read_log(file, None, 9)[0]] == [
        "unexpected RuntimeError (report it)"
    ]


def test_names_that_are_no_text_are_kept_and_sent(spool: Spool) -> None:
    odd = Alert(
        kind=Kind.CHECK, severity=Severity.INFO, subject="t\udc80", facts={"what": "\udcff"}
    )
    notice = Notice(alert=odd, phase=Phase.BEGAN, since=1.0, time=1.0)
    one = Message(channel="a", notices=(notice,))
    told = {odd.key: Told(alert=odd, since=1.0, time=1.0)}
    spool.keep(Decision(channel="a", message=one, told=told), 1000.0)
    waiting = spool.next("a", 1000.0)
    assert waiting is not None
    assert waiting.message == one
    assert spool.told()["a"] == told
    config = WebhookChannel.model_validate(
        {"kind": "webhook", "url": "https://h/", "secret": "x" * 16}
    )
    manner = Manner(language="en", zone="UTC", instance="hub")
    assert json.loads(webhook.request(config, one, manner, 1.0).body)


def test_a_block_of_the_service_is_waited_out_also_by_the_next_process(
    delivering: Callable[..., Delivery], spool: Spool
) -> None:
    service = Service(Deferred(reason="130101", after=600.0), Delivered())
    spool.keep(decided(message("m1")), 1000.0)
    spool.keep(decided(message("m2")), 1000.0)
    service.pump(delivering(service), 1100.0)
    assert spool.paused("a") == 1600
    successor = delivering(service)
    successor.recall()
    service.pump(successor, 1700.0)
    times = [time for time, _ in service.got]
    assert times[0] == 1000
    assert min(times[1:]) >= 1600
    assert len(times) == 3


def test_limits_hold_also_over_a_restart(delivering: Callable[..., Delivery], spool: Spool) -> None:
    service = Service(Delivered())
    for n in range(12):
        spool.keep(decided(message(f"m{n}")), 1000.0)
    service.pump(delivering(service, Window(5, 60)), 1010.0)
    service.pump(delivering(service, Window(5, 60)), 1060.0)
    assert len(service.got) == 5
    service.pump(delivering(service, Window(5, 60)), 1070.0)
    assert len(service.got) == 10


def test_a_clock_that_was_set_back_delays_nothing_for_long(
    delivering: Callable[..., Delivery], spool: Spool
) -> None:
    service = Service(Delivered())
    spool.keep(decided(message()), 9e9)
    waiting = spool.next("a", 0.0)
    assert waiting is not None
    assert 0 < delivering(service).turn() <= LONGEST_PAUSE


def test_nothing_is_sent_that_could_not_be_noted(
    delivering: Callable[..., Delivery], spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a full disk would mean a message a minute."""

    def full(*_: object) -> None:
        raise Unusable("disk full")

    service = Service(Delivered())
    spool.keep(decided(message()), 1000.0)
    delivery = delivering(service)
    monkeypatch.setattr(spool, "attempt", full)
    with pytest.raises(Unusable):
        delivery.turn()
    assert service.got == []


def test_pauses_double_and_are_spread() -> None:
    assert [2.5 * 2**n <= backoff(n + 1) <= 5 * 2**n for n in range(7)] == [True] * 7
    assert backoff(10_000) <= LONGEST_PAUSE


# --- kill -9 ------------------------------------------------------------------------------------


def killed(file: Path, when: str) -> None:
    """A process that keeps a message, and is killed then or while it sends."""

    def end(*_: object) -> Result:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    spool = Spool(file)
    spool.keep(decided(message("kept")), 1000.0)
    if when == "sent":
        Delivery("a", spool, end, [], give_up=1e6, clock=lambda: 1000.0).turn()
    end()


@pytest.mark.parametrize("when", ["kept", "sent"])
def test_a_message_that_waits_is_delivered_after_kill_9(when: str, file: Path) -> None:
    """Also one that was being sent: at least once, with the same id."""
    child = os.fork()
    if child == 0:
        killed(file, when)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = Spool(file)
    service = Service(Delivered())
    delivery = Delivery("a", again, service.send, [], give_up=1e6, clock=lambda: service.now)
    service.pump(delivery, 1010.0)
    assert [id for _, id in service.got] == ["kept"]
    assert again.told().keys() == {"a"}
    again.close()


def test_the_file_holds_alerts_and_nothing_else(spool: Spool, file: Path) -> None:
    spool.keep(decided(message()), 1000.0)
    with sqlite3.connect(file) as db:
        text = db.execute("SELECT notices FROM waiting").fetchone()[0]
    assert json.loads(text)[0].keys() == {
        "kind", "severity", "pipeline", "entity", "subject", "weight", "facts", "phase", "since",
        "time",
    }  # fmt: skip
