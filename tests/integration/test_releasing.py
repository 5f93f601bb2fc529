"""Parked changes that take effect by themselves: their reference arrives, their lane is freed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cdc_daemon import build, worker
from cdc_daemon.engine import replay, snapshot
from cdc_daemon.engine.breaker import BreakerLimits
from cdc_daemon.engine.status import State
from tests.support.catalogue import POSTGRES, SQLITE
from tests.support.erp import Erp
from tests.support.waiting import until


@pytest.fixture(params=[POSTGRES, SQLITE])
def target_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parked(erp: Erp, *codes: str) -> None:
    """Until these errors stand in the failure queue, in this order."""
    table = "cdc.failure" if erp.embedded is None else "cdc_failure"
    query = f"SELECT error_code FROM {table} WHERE state = 'parked' ORDER BY id"
    until(lambda: erp.target.query(query) == [(code,) for code in codes], what=str(codes))


def test_a_change_waits_for_the_row_that_it_refers_to(erp: Erp) -> None:
    """And what was changed of it meanwhile follows in order; a restart forgets nothing."""
    with erp.worker():
        erp.commit("INSERT INTO t_order VALUES (1, 'O1', 77, 1)")
        parked(erp, "reference_unresolved")
        erp.commit("UPDATE t_order SET famount = 2", "UPDATE t_order SET fbillno = 'O1b'")
        parked(erp, "reference_unresolved", "waiting", "waiting")
    with erp.worker():
        erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'late')")
        parked(erp)
        erp.caught_up()
        erp.agrees()


@pytest.mark.parametrize("target_kind", [POSTGRES])
def test_a_change_waits_for_a_row_that_is_parked_itself(erp: Erp) -> None:
    """It goes on when that one was skipped over or cured; what it waits for comes from a replay."""
    erp.target.execute("ALTER TABLE customer ADD CONSTRAINT poison CHECK (name <> 'poison')")
    with erp.worker():
        erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'poison')")
        parked(erp, "sqlstate_23514")
        erp.commit("INSERT INTO t_order VALUES (1, 'O1', 77, 1)")
        parked(erp, "sqlstate_23514", "reference_unresolved")
        erp.target.execute("ALTER TABLE customer DROP CONSTRAINT poison")
        assert erp.ask("failures", "retry", "--all", "--yes").exit_code in (0, 3)
        parked(erp)
        erp.caught_up()
        erp.agrees()


@pytest.mark.parametrize("target_kind", [POSTGRES])
def test_a_row_that_is_written_without_a_daemon_is_waited_for_too(erp: Erp) -> None:
    """By a command that did the work itself: the next worker goes on from there."""
    erp.target.execute("ALTER TABLE customer ADD CONSTRAINT poison CHECK (name <> 'poison')")
    with erp.worker():
        erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'poison')")
        parked(erp, "sqlstate_23514")
        erp.commit("INSERT INTO t_order VALUES (1, 'O1', 77, 1)")
        parked(erp, "sqlstate_23514", "reference_unresolved")
    erp.target.execute("ALTER TABLE customer DROP CONSTRAINT poison")
    assert erp.ask("failures", "retry", "1").exit_code == 0
    parked(erp, "reference_unresolved")
    with erp.worker():
        parked(erp)
        erp.agrees()


def test_the_size_of_the_queue_follows_what_goes_by_itself(erp: Erp) -> None:
    """Also where the lane stays blocked, so that as many lanes are as before."""
    with erp.worker() as meter:
        erp.commit("INSERT INTO t_order VALUES (1, 'O1', 77, 1)")
        parked(erp, "reference_unresolved")
        erp.commit("UPDATE t_order SET famount = 2", "UPDATE t_order SET fcustid = 78")
        until(lambda: meter.status().parked_rows == 3, what="three are told")
        erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'late')")
        parked(erp, "reference_unresolved")
        until(lambda: meter.status().parked_rows == 1, seconds=10, what="one is told")


# --- the breaker --------------------------------------------------------------------------------


def resume(erp: Erp) -> None:
    done = erp.ask("failures", "resume", "erp", "--for", "60", "-o", "json")
    assert (done.exit_code, '"resumed": true' in done.stdout) == (0, True)  # beside the log
    done = erp.ask("failures", "resume", "erp")
    assert (done.exit_code, "had not stopped erp" in done.stderr) == (0, True)
    assert erp.ask("failures", "resume", "epr").exit_code == 2


KINDS = pytest.mark.parametrize(
    "target_kind", [POSTGRES, pytest.param(SQLITE, marks=pytest.mark.acceptance)]
)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    found = BreakerLimits(parked=5, share=0.0)
    monkeypatch.setattr(build, "breaker_limits", lambda _: found)


@KINDS
@pytest.mark.usefixtures("limits")
def test_too_much_at_once_stops_the_pipeline_until_somebody_says_resume(erp: Erp) -> None:
    """Nothing of the unit that was too much is parked; a restart changes nothing; commands are
    carried out meanwhile."""
    with erp.worker() as meter:
        erp.commit("INSERT INTO t_order VALUES (1, 'O1', 77, 1)")
        parked(erp, "reference_unresolved")
        erp.commit("INSERT INTO t_order SELECT n, 'O' || n, 77, 1 FROM generate_series(2, 9) n")
        until(lambda: "the breaker has stopped" in meter.status().error, what="it tripped")
        assert meter.status().state is State.BLOCKED
        parked(erp, "reference_unresolved")
    with erp.worker(streams=False) as meter:
        until(lambda: "9 changes parked (limit 5)" in meter.status().error, what="it is stopped")
        assert meter.status().state is State.BLOCKED
        done = erp.ask("failures", "resync", "1", "--reason", "r", "--yes")
        assert (done.exit_code, "failures resume erp" in done.stderr) == (1, True)
        assert erp.ask("failures", "skip", "1", "--reason", "r", "--yes").exit_code == 0
        resume(erp)
        parked(erp, *["reference_unresolved"] * 8)
        erp.commit("INSERT INTO t_customer VALUES (77, 'C77', 'late')")
        parked(erp)
        erp.caught_up()
        assert meter.status().state is not State.BLOCKED
    with erp.worker():  # it is let go on for a minute, whoever works
        erp.commit("INSERT INTO t_order SELECT n, 'O' || n, 78, 1 FROM generate_series(11, 19) n")
        parked(erp, *["reference_unresolved"] * 9)


@pytest.mark.parametrize("target_kind", [POSTGRES])
@pytest.mark.usefixtures("limits")
def test_the_log_is_watched_while_the_pipeline_is_stopped(
    erp: Erp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows with nobody to read it: that is when its end is near."""
    monkeypatch.setattr(worker, "RECHECK", 0.2)

    def retained() -> int:
        slot = meter.status().slot
        return 0 if slot is None else slot.retained_bytes or 0

    with erp.worker() as meter:
        erp.commit("INSERT INTO t_order SELECT n, 'O' || n, 77, 1 FROM generate_series(2, 9) n")
        until(lambda: meter.status().tripped, what="it tripped")
        before = retained()
        erp.source.execute("SELECT pg_logical_emit_message(false, 't', repeat('x', 3000000))")
        until(lambda: retained() > before + 1_000_000, seconds=10, what="more log is told")


@KINDS
@pytest.mark.usefixtures("limits")
def test_a_first_copy_is_stopped_too(erp: Erp, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when it is let go on, it is said to copy, for however long that takes."""
    states: list[State] = []
    copy_once = snapshot._copy_once

    def watched(*arguments: Any) -> int:
        states.append(meter.status().state)
        return copy_once(*arguments)

    erp.source.execute(
        "INSERT INTO t_order SELECT n, 'O' || n, 77, 1 FROM generate_series(1, 9) n;"
        "INSERT INTO t_customer VALUES (7, 'C7', 'seven')"
    )
    with erp.worker(streams=False) as meter:
        until(lambda: "the breaker has stopped" in meter.status().error, what="it tripped")
        parked(erp)
        monkeypatch.setattr(snapshot, "_copy_once", watched)
        resume(erp)
        parked(erp, *["reference_unresolved"] * 9)
        erp.caught_up()
    assert set(states) == {State.SNAPSHOTTING}


@pytest.mark.acceptance
@KINDS
def test_the_stream_goes_on_between_the_turns_of_a_long_retry(
    erp: Erp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn takes one change here; what was settled otherwise meanwhile is left alone."""
    monkeypatch.setattr(replay, "_SECONDS", 0.0)
    with erp.worker():
        for n in range(6):
            erp.commit(f"INSERT INTO t_order VALUES ({n}, 'O{n}', {n}, 1)")
        parked(erp, *["reference_unresolved"] * 6)
        with ThreadPoolExecutor(1) as somebody:
            retry = somebody.submit(erp.ask, "failures", "retry", "--all", "--yes", "-o", "json")
            until(lambda: attempted(erp) > 0, what="the first was tried")
            erp.commit(*(f"INSERT INTO t_customer VALUES ({n}, 'C{n}', 'late')" for n in range(6)))
            until(lambda: erp.target.query("SELECT count(*) FROM customer") == [(6,)])
            assert not retry.done()
            assert retry.result(60).exit_code in (0, 3)
        parked(erp)
        erp.caught_up()
        erp.agrees()


def attempted(erp: Erp) -> int:
    """How many parked changes were tried more than once."""
    table = "cdc.failure" if erp.embedded is None else "cdc_failure"
    ((number,),) = erp.target.query(f"SELECT count(*) FROM {table} WHERE attempts > 1")
    return int(number)


# --- a new copy ---------------------------------------------------------------------------------


@KINDS
def test_a_new_copy_keeps_what_it_cannot_write_anew(erp: Erp) -> None:
    """The source has these rows: their values do not go in, and what was there before stays."""
    with erp.worker():
        erp.insert_materials(1, 3)
        erp.commit("INSERT INTO t_customer VALUES (7, 'C7', 'seven'), (8, 'C8', 'eight')")
        erp.caught_up()
        erp.commit(
            "UPDATE t_material SET fname = NULL WHERE fid = 1",
            "UPDATE t_customer SET fname = NULL WHERE fid = 7",
            "DELETE FROM t_customer WHERE fid = 8",
        )
        parked(erp, "required", "required")
        erp.caught_up()
    assert erp.ask("snapshot", "start", "erp", "--yes").exit_code == 0
    with erp.worker():
        parked(erp, "required", "required")
        erp.caught_up()
        living = "SELECT code FROM material WHERE deleted_at IS NULL ORDER BY code"
        assert erp.target.query(living) == [("M1.0",), ("M2.0",), ("M3.0",)]
        assert erp.target.query("SELECT code, name FROM customer") == [("C7", "seven")]
