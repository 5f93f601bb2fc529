"""From what the board shows to messages in the spool: the alerts of each state, and reloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.admin.board import Board, PipelineView, Reload
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.daemon.alerts import alerts_of, is_silent, refused
from cdc_daemon.daemon.notices import Notices
from cdc_daemon.engine.status import State, WorkerStatus
from cdc_daemon.model.ports import SlotState
from cdc_daemon.notify.alert import Alert, Kind, Message, Phase, Severity
from cdc_daemon.notify.results import Deferred, Delivered, Result
from cdc_daemon.notify.senders import Send
from cdc_daemon.notify.spool import Spool, read_log
from cdc_daemon.notify.telling import Seen, Telling
from cdc_daemon.notify.watching import Watch
from tests.support.waiting import until

MAPPING, OTHER = "erp.public.t_order", "erp.public.t_customer"
APPLIED = {(MAPPING, "order", "insert"): 1, (OTHER, "customer", "insert"): 0}


def view(**fields: Any) -> PipelineView:
    status = {"pipeline": "erp", "state": State.STREAMING, "applied": APPLIED, **fields}
    return PipelineView(status=WorkerStatus(**status), alive=True)


def finding(
    state: str, check: str = "slot.active", where: str = "erp slot cdc_erp"
) -> dict[str, str]:
    return {"check": check, "state": state, "where": where, "what": "found", "cure": "mend it"}


def verification(**fields: Any) -> dict[str, Any]:
    rows = {"missing": 0, "extra": 0, "different": 0, "matching": 9}
    return {
        "state": "equal", "failed": False, "started": 1.0, "error": "", "last_run": 2.0,
        "mappings": {MAPPING: rows, OTHER: rows}, **fields,
    }  # fmt: skip


def found(**fields: Any) -> list[tuple[Kind, Severity, str | None]]:
    return [(one.kind, one.severity, one.entity) for one in alerts_of(view(**fields))]


@pytest.mark.parametrize("state", [State.STREAMING, State.IDLE, State.SNAPSHOTTING])
def test_nothing_is_amiss_with_a_pipeline_that_is_well(state: State) -> None:
    slot = SlotState(active=True, status="reserved", retained_bytes=1, safe_bytes=1, behind_bytes=1)
    assert found(state=state, slot=slot, parked={MAPPING: 0}, verification=verification()) == []


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"state": State.STOPPED}, [(Kind.STOPPED, Severity.CRITICAL, None)]),
        ({"state": State.BLOCKED}, [(Kind.BLOCKED, Severity.CRITICAL, None)]),
        (
            {"state": State.BLOCKED, "tripped": True},
            [(Kind.BREAKER, Severity.CRITICAL, None)],
        ),
        ({"state": State.STALLED}, [(Kind.STALLED, Severity.CRITICAL, None)]),
        ({"findings": (finding("problem"),)}, [(Kind.CHECK, Severity.WARNING, None)]),
        ({"findings": (finding("warning"),)}, [(Kind.CHECK, Severity.INFO, None)]),
        ({"findings": (finding("unknown"), finding("ok"))}, []),
        (
            {"findings": (finding("unreachable"),), "state": State.BLOCKED},
            [(Kind.UNREACHABLE, Severity.CRITICAL, None)],
        ),
        (
            {"findings": (finding("problem"),), "state": State.STOPPED},
            [(Kind.STOPPED, Severity.CRITICAL, None)],
        ),
        (
            {"parked": {MAPPING: 3, OTHER: 0}, "state": State.DEGRADED},
            [(Kind.PARKED, Severity.WARNING, "order")],
        ),
        (
            {"verification": verification(failed=True, error="it was broken off")},
            [(Kind.UNVERIFIED, Severity.WARNING, None)],
        ),
        (
            {"verification": verification(mappings={MAPPING: {"missing": 2}, OTHER: {"extra": 0}})},
            [(Kind.DIFFERENT, Severity.CRITICAL, "order")],
        ),
    ],
)
def test_what_is_amiss(fields: dict[str, Any], expected: object) -> None:
    assert found(**fields) == expected


@pytest.mark.parametrize("status", ["unreserved", "lost"])
def test_log_at_risk(status: str) -> None:
    slot = SlotState(active=True, status=status, retained_bytes=1, safe_bytes=1, behind_bytes=1)
    assert found(slot=slot) == [(Kind.LOG_AT_RISK, Severity.CRITICAL, None)]


def test_parked_changes_tell_figures_and_classes_and_no_value() -> None:
    failed = {"too_long": 2, "required": 7}
    alerts = alerts_of(view(parked={MAPPING: 9}, parked_since=5.0, failed=failed))
    assert [one.facts for one in alerts] == [
        {"changes": 9, "classes": "required, too_long", "oldest": 5.0}
    ]


def test_a_check_is_one_alert_however_many_tables_it_complains_of() -> None:
    many = tuple(finding("warning", "tables", f"t{n}") for n in range(9))
    (alert,) = alerts_of(view(findings=(*many, finding("problem", "tables", "t9"))))
    assert (alert.severity, alert.subject, alert.weight) == (Severity.WARNING, "tables", 10)
    assert alert.facts["where"] == "t9 (+9)"


def test_an_error_is_told_without_what_a_server_quotes() -> None:
    error = "duplicate key\nDETAIL: Key (id)=(13800138000) exists. postgresql://u:pw@h/d"
    (alert,) = alerts_of(view(state=State.BLOCKED, error=error))
    assert "13800138000" not in str(alert.facts)
    (alert,) = alerts_of(view(state=State.STOPPED, error="at postgresql://u:pw@h/d"))
    assert "pw" not in str(alert.facts)


def test_a_refused_reload_is_told_and_a_starting_pipeline_is_silent() -> None:
    assert [one.kind for one in refused(Reload(successful=False, success_time=1.0))] == [
        Kind.RELOAD
    ]
    assert list(refused(Reload(successful=True, success_time=1.0))) == []
    assert is_silent(view(state=State.STARTING))
    assert list(alerts_of(view(state=State.STARTING, parked={MAPPING: 3}))) == []


@pytest.mark.parametrize("state", [State.BLOCKED, State.STOPPED])
def test_a_worker_that_never_came_to_look_ends_no_alert(state: State) -> None:
    """It says that it does not go on, and nothing of queue, slot and verifications."""
    before = view(state=State.DEGRADED, event_time=1.0, parked={MAPPING: 3})
    watch = Watch(0.0, (), 0.0)
    watch.take(1.0, alerts_of(before), ())
    blind = view(state=state)
    watch.take(2.0, alerts_of(blind), {"erp"} if is_silent(blind) else ())
    kinds = {one.alert.kind.value for one in watch.standing().values()}
    assert kinds == {"parked", state.value}
    looked = view(state=state, event_time=1.0)
    assert not is_silent(looked)
    assert not is_silent(view(state=State.BLOCKED, tripped=True))


# --- all of it ----------------------------------------------------------------------------------


class Post:
    """Takes messages in place of services; ``down``: names of channels that fail."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.down: set[str] = set()

    def sender(self, config: NotificationsConfig, name: str) -> Send:
        def send(message: Message, now: float) -> Result:
            if name in self.down:
                return Deferred(reason="down")
            self.got.append(message)
            return Delivered()

        return send

    def told(self) -> list[tuple[str, Kind, Phase]]:
        return [(m.channel, one.alert.kind, one.phase) for m in self.got for one in m.notices]


def config(*names: str, **more: Any) -> NotificationsConfig:
    channels = {
        name: {"kind": "webhook", "url": "https://h/", "secret": "x" * 16} for name in names
    }
    quick = {"settle_seconds": 0.0, "group_wait_seconds": 0.0, **more}
    return NotificationsConfig.model_validate({"channels": channels, **quick})


Start = Callable[[Post, NotificationsConfig], Telling]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "notifications.db"


@pytest.fixture
def start(file: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(post: Post, found: NotificationsConfig) -> Telling:
            telling = Telling(found, file, make_sender=post.sender)
            stack.callback(telling.close)
            return telling

        yield begin


def alert(kind: Kind = Kind.BLOCKED, pipeline: str = "erp") -> Alert:
    return Alert(kind=kind, severity=Severity.CRITICAL, pipeline=pipeline)


BLOCKED = Seen(alerts=(alert(),))
WELL = Seen(alerts=())


def test_what_is_seen_is_told_and_so_is_its_end(start: Start) -> None:
    post = Post()
    telling = start(post, config("a"))
    telling.see(BLOCKED)
    until(lambda: post.told() == [("a", Kind.BLOCKED, Phase.BEGAN)])
    telling.see(WELL)
    until(lambda: post.told()[1:] == [("a", Kind.BLOCKED, Phase.ENDED)])
    telling.see(WELL)
    until(lambda: (telling.figures["a"].sent, telling.figures["a"].waiting) == (2, 0))


def test_a_reload_loses_nothing_that_waits_and_tells_nobody_twice(start: Start, file: Path) -> None:
    """One channel stays as it is, one changes while its service is down, one goes, one comes."""
    post = Post()
    post.down = {"changed", "gone"}
    before = config("same", "changed", "gone")
    telling = start(post, before)
    telling.see(BLOCKED)
    until(lambda: [m.channel for m in post.got] == ["same"])
    until(lambda: sum(one.attempts for one in read_log(file, None, 9)[0]) == 2)
    post.down = set()
    telling.plan(config("same", "changed", "new", language="zh"))
    telling.see(BLOCKED)
    until(lambda: {m.channel for m in post.got} == {"same", "changed", "new"})
    assert len(post.got) == 3
    assert [one.message.channel for one in read_log(file, None, 9)[0]] == ["gone"]


def test_a_restart_tells_nobody_again_and_tells_the_end(start: Start) -> None:
    post = Post()
    first = start(post, config("a"))
    first.see(BLOCKED)
    until(lambda: len(post.got) == 1)
    first.close()
    second = start(post, config("a"))
    second.see(Seen(alerts=(), silent=frozenset({"erp"})))
    second.see(BLOCKED)
    third = alert(pipeline="hr")
    second.see(Seen(alerts=(alert(), third)))
    until(lambda: len(post.got) == 2)
    assert post.got[1].notices[0].alert == third
    second.see(Seen(alerts=(third,)))
    until(lambda: post.told()[2:] == [("a", Kind.BLOCKED, Phase.ENDED)])


def test_the_daemons_end_waits_for_nothing_when_asked_to_tell_first(start: Start) -> None:
    post = Post()
    telling = start(post, config("a", group_wait_seconds=3600.0))
    telling.see(Seen(alerts=(alert(Kind.STOPPED),)))
    telling.close(patience=5.0)
    assert post.told() == [("a", Kind.STOPPED, Phase.BEGAN)]


def test_a_file_that_cannot_be_used_hinders_nobody(
    file: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is seen meanwhile is told as soon as it can be."""
    monkeypatch.setattr("cdc_daemon.notify.telling.ONCE_MORE", 0.05)
    monkeypatch.setattr("cdc_daemon.notify.telling.TURN", 0.05)
    other = Spool(file)
    post = Post()
    telling = start(post, config("a"))
    telling.see(BLOCKED)
    until(lambda: telling.complained)
    other.close()
    until(lambda: len(post.got) == 1)


def test_the_supervisors_side_looks_once_a_second_and_not_while_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Seen] = []
    monkeypatch.setattr(Telling, "see", lambda self, one: seen.append(one))
    board = Board()
    board.publish(view(state=State.BLOCKED, event_time=1.0))
    board.publish(PipelineView(status=WorkerStatus(pipeline="hr")))
    notices = Notices(None, board)
    notices.tend(0.0)
    assert seen == []
    notices.plan(config("a", directory=str(tmp_path)))
    for now in (10.0, 10.5, 11.0):
        notices.tend(now)
    assert [[one.kind for one in each.alerts] for each in seen] == [[Kind.BLOCKED]] * 2
    assert seen[0].silent == {"hr"}
    assert set(board.notifications()) == {"a"}
    notices.stop()
    notices.tend(20.0)
    notices.close()
    assert len(seen) == 2
    assert board.notifications() == {}
