"""What a worker counts and reports."""

import datetime as dt
import os
import threading
import time

import pytest

from cdc_daemon.engine import meter as meter_module
from cdc_daemon.engine.growth import WINDOW, Growth
from cdc_daemon.engine.meter import Meter, report
from cdc_daemon.engine.status import LATENCY_BUCKETS, State, WorkerStatus
from cdc_daemon.model.changes import Batch, Begin
from cdc_daemon.model.ports import SlotState
from tests.support.waiting import until


def _micros(age: float = 0.0) -> int:
    return int((time.time() - age) * 1e6)


def _begins(*ages: float) -> list[Begin]:
    return [(number, 0, _micros(age)) for number, age in enumerate(ages)]


@pytest.fixture
def meter() -> Meter:
    """A pipeline that streams and has read its log."""
    found = Meter("erp", {"erp.public.t_order": "sales_order"})
    found.phase(State.STREAMING)
    found.received(Batch(transactions=2, changes=5))
    return found


def test_a_status_survives_the_way_through_json(meter: Meter) -> None:
    meter.committed(
        "0/1A",
        begins=_begins(0.2),
        commit_time=_micros(0.2),
        transactions=1,
        changes=3,
        counts={("erp.public.t_order", "insert"): 3},
        seconds=0.02,
    )
    meter.filtered("erp.public.t_order", "where", 2)
    since = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    meter.failures.holds({("erp.public.t_order", "required"): 1}, oldest=since, lanes=2)
    meter.failures.replayed("erp.public.t_order", "too_long", applied=False)
    meter.slot(
        SlotState(active=True, status="reserved", retained_bytes=9, safe_bytes=None, behind_bytes=7)
    )
    meter.failed("required")
    meter.retrying("geht nicht: 没有")
    status = meter.status()
    assert status.lag_bytes == 7
    line = status.to_json()
    assert "\n" not in line
    assert WorkerStatus.from_json(line) == status


def test_a_line_carries_only_counters_that_have_grown_and_none_is_lost(meter: Meter) -> None:
    first = meter.status()
    meter.applied({("erp.public.t_order", "insert"): 3})
    meter.filtered("erp.public.t_order", "where", 2)
    second = meter.status()
    news = second.since(first)
    assert list(news.applied.values()) == [3]
    assert list(news.filtered.values()) == [2]
    assert news.after(first) == second
    assert not second.since(second).applied
    assert second.since(None) is second


@pytest.mark.parametrize("line", ["", "{}", "[]", "null", '{"state": "odd"}', b"\xff", '"x"'])
def test_anything_else_is_a_value_error(line: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        WorkerStatus.from_json(line)


def test_every_operation_of_every_mapping_is_there_before_its_first_row(meter: Meter) -> None:
    assert meter.status().applied == {
        ("erp.public.t_order", "sales_order", op): 0
        for op in ("insert", "update", "delete", "noop")
    }


def test_commits_add_up(meter: Meter) -> None:
    for _ in range(2):
        counts = {("erp.public.t_order", "insert"): 3, ("erp.public.t_order", "noop"): 1}
        meter.committed("0/2", transactions=2, changes=4, counts=counts)
    status = meter.status()
    assert (status.applied_transactions, status.applied_changes, status.commits) == (4, 8, 2)
    assert (status.received_transactions, status.received_changes) == (2, 5)
    assert status.applied["erp.public.t_order", "sales_order", "insert"] == 6
    assert status.position == "0/2"


def test_progress_is_of_the_log_and_turns_are_of_the_appliers_loop(meter: Meter) -> None:
    """A reader that hears the source does not hide an applier that hangs, nor the reverse."""
    steps = [
        (meter.log_read, 1, 0),
        (lambda: meter.checkpointed("0/3"), 1, 1),
        (meter.progressed, 1, 1),
        (meter.turned, 0, 1),
        (lambda: meter.retrying("connection refused"), 0, 1),
    ]
    for step, progress, turns in steps:
        before = meter.status()
        step()
        after = meter.status()
        assert after.progress == before.progress + progress
        assert after.turns == before.turns + turns


def test_work_in_hand_that_does_not_move_is_stalled_though_the_log_is_read(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter.applying(_begins(0.1))
    monkeypatch.setattr(meter_module, "STALLED_AFTER", 0.05)
    until(lambda: meter.status().state is State.STALLED)
    meter.log_read()
    assert meter.status().state is State.STALLED
    meter.progressed()
    assert meter.status().state is State.STREAMING


def test_a_failed_attempt_blocks_until_the_next_checkpoint(meter: Meter) -> None:
    meter.retrying("disk full")
    assert meter.status().state is State.BLOCKED
    assert meter.status().error == "disk full"
    meter.checkpointed("0/4")
    assert meter.status().state is State.STREAMING


def test_parked_rows_degrade(meter: Meter) -> None:
    meter.failures.holds({("erp.public.t_order", code): 1 for code in ("required", "waiting")})
    assert meter.status().state is State.DEGRADED
    assert meter.status().parked_rows == 2
    meter.failures.holds({})
    assert meter.status().state is State.STREAMING
    assert meter.status().parked == {"erp.public.t_order": 0}


def test_an_opening_after_a_loss_is_a_reconnect_and_the_first_one_is_none(meter: Meter) -> None:
    meter.lost()  # nothing was open yet
    meter.opened()
    assert (meter.status().connected, meter.status().reconnects) == (True, 0)
    meter.lost()
    meter.lost()
    assert meter.status().connected is False
    meter.opened()
    assert (meter.status().connected, meter.status().reconnects) == (True, 1)


def test_without_transactions_a_pipeline_is_idle_and_without_progress_stalled(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter_module, "IDLE_AFTER", 0.0)
    assert meter.status().state is State.IDLE
    meter.applying(_begins(0.1))
    assert meter.status().state is State.STREAMING
    monkeypatch.setattr(meter_module, "STALLED_AFTER", 0.0)
    assert meter.status().state is State.STALLED
    with meter.patience(60):
        assert meter.status().state is State.STREAMING
        assert meter.status().patience == 60


def test_lag_is_the_age_of_the_oldest_transaction_in_hand_and_0_without_one(meter: Meter) -> None:
    assert meter.status().lag_seconds == 0
    meter.applying(_begins(30, 20))
    meter.applying(_begins(10))
    assert meter.status().lag_seconds == pytest.approx(30, abs=1)
    meter.committed("0/5", transactions=3)
    assert meter.status().lag_seconds == 0


def _behind(behind: int) -> SlotState:
    return SlotState(
        active=True, status="reserved", retained_bytes=9, safe_bytes=None, behind_bytes=behind
    )


def test_a_log_that_the_source_has_and_does_not_send_is_lag(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers all the while; what tells is that its log is longer and our place the same."""
    monkeypatch.setattr(meter_module, "STALLED_AFTER", 0.05)
    meter.checkpointed("0/4")
    meter.slot(_behind(100))
    until(lambda: hears(meter).lag_seconds, seconds=5)
    meter.checkpointed("0/5")
    assert hears(meter).lag_seconds == 0
    meter.slot(_behind(100))
    meter.slot(_behind(0))
    time.sleep(0.06)
    assert hears(meter).lag_seconds == 0
    fresh = Meter("erp")  # since its start the source has said nothing at all
    fresh.phase(State.STREAMING)
    fresh.slot(_behind(100))
    until(lambda: fresh.status().lag_seconds, seconds=5)


def hears(meter: Meter) -> WorkerStatus:
    """Its status just after the source has answered."""
    meter.log_read()
    return meter.status()


def test_lag_is_not_known_before_the_log_was_read() -> None:
    assert Meter("erp").status().lag_seconds is None


def test_latencies_fall_into_cumulative_buckets(meter: Meter) -> None:
    ages = [1000.0, 2.0, 2.0, 0.2, 0.0]
    meter.committed("0/6", begins=_begins(*ages), transactions=5)
    histogram = meter.status().end_to_end_latency
    below = dict(zip([*LATENCY_BUCKETS, float("inf")], histogram.counts, strict=True))
    assert below[0.1] == 1
    assert below[0.25] == 2
    assert below[1.0] == 2
    assert below[5.0] == below[600.0] == 4
    assert below[float("inf")] == 5
    assert histogram.total == pytest.approx(sum(ages), abs=1)


def test_the_reporter_writes_at_once_when_the_state_changes_and_once_more_at_its_end() -> None:
    read_fd, write_fd = os.pipe()
    meter, stopped = Meter("erp"), threading.Event()
    reporter = threading.Thread(
        target=report, args=(meter, write_fd, stopped), kwargs={"every": 3600}
    )
    with os.fdopen(read_fd, "rb") as lines:
        reporter.start()
        assert WorkerStatus.from_json(lines.readline()).state is State.STARTING
        meter.phase(State.SNAPSHOTTING)
        assert WorkerStatus.from_json(lines.readline()).state is State.SNAPSHOTTING
        meter.error("the last word")
        stopped.set()
        meter.changed.set()
        assert WorkerStatus.from_json(lines.readlines()[-1]).error == "the last word"
    reporter.join()


def test_the_reporter_ends_when_nobody_reads() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    report(Meter("erp"), write_fd, threading.Event(), every=3600)


# --- the source's log -----------------------------------------------------------------------------


def slot(written: int, safe: int | None = None, status: str = "reserved") -> SlotState:
    return SlotState(
        active=True,
        status=status,
        retained_bytes=0,
        safe_bytes=safe,
        behind_bytes=0,
        written_bytes=written,
    )


def test_how_long_the_daemon_may_be_away(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the slot's bound at the rate at which the log grows."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    meter.slot(slot(0, 5000))
    assert meter.status().slot_seconds_if_stopped is None
    clock[0] += 10
    meter.slot(slot(1000, 4000))
    status = meter.status()
    assert (status.log_bytes_per_second, status.slot_seconds_if_stopped) == (100.0, 40.0)
    assert WorkerStatus.from_json(status.to_json()) == status
    meter.slot(slot(1000, None))
    assert meter.status().slot_seconds_if_stopped is None


def test_growth_is_that_of_the_last_minutes() -> None:
    growth = Growth()
    for now, written in [(0.0, 0), (100.0, 100_000), (200.0, 100_000), (200.0 + WINDOW, 100_000)]:
        growth.note(written, now)
    assert growth.rate == 0
    growth.note(5, 600.0)  # a restored server
    assert growth.rate is None


@pytest.mark.parametrize("status", ["unreserved", "lost"])
def test_a_slot_at_risk_degrades(meter: Meter, status: str) -> None:
    meter.committed("0/1", begins=_begins(0.1), transactions=1)
    meter.slot(slot(0))
    assert meter.status().state is State.STREAMING
    meter.slot(slot(0, status=status))
    assert meter.status().state is State.DEGRADED
