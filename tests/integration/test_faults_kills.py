"""The daemon is killed where it hurts, started again, and nothing is lost, doubled or hidden.

The proof after each fault (`Erp.settled`): started again, source idle, every entity equal on both
sides by SQL of the test's own, every source transaction counted once.
"""

from __future__ import annotations

import random

import pytest

from cdc_daemon.sources.postgres.lsn import parse_lsn
from tests.support.catalogue import CONTROLS, SOURCES, fault
from tests.support.erp import Erp, Writer, survive_kills

SEED = 20_260_214


# --- between data, checkpoint and acknowledgement -------------------------------------------------


@fault("1, 2", "kill -9 before, at and after the commit", ci=True, sources=SOURCES)
def test_killed_around_the_commit(erp: Erp) -> None:
    """FAULTS 1 and 2: rows and checkpoint are one transaction, so a kill before its commit leaves
    neither; after it the log comes again, not acknowledged, and changes nothing."""
    with erp.streaming() as daemon:
        daemon.kill()
    before = erp.checkpoint()
    erp.commit(
        "INSERT INTO t_customer VALUES (1, 'C1', 'one'), (2, 'C2', 'two')",
        "INSERT INTO t_order VALUES (1, 'O1', 1, 10), (2, 'O2', 2, 20)",
        "INSERT INTO t_material VALUES (1, 'M1', 'bolt', 'PCS', 1, NULL)",
    )
    for failpoint in ("before_checkpoint", "before_checkpoint_upsert", "before_sink_commit"):
        erp.crash(failpoint)
        assert erp.target.query("SELECT count(*) FROM customer") == [(0,)], failpoint
        assert erp.references() == 0, failpoint
        after = erp.checkpoint()
        assert (after["position"], after["transactions"]) == (before["position"], 0), failpoint
    erp.crash("after_sink_commit")
    erp.agrees()
    for _, confirmed in erp.kept_there():
        assert parse_lsn(confirmed) < parse_lsn(erp.checkpoint()["position"])
    erp.commit("UPDATE t_order SET famount = 2 WHERE fid = 1", "DELETE FROM t_order WHERE fid = 1")
    erp.settled()


@pytest.mark.acceptance
@fault(1, "kill -9 after each commit, before its acknowledgement", ci=True, sources=SOURCES)
def test_each_unit_of_a_busy_stream_killed_at_its_commit(erp: Erp) -> None:
    """The supervisor starts a new worker each time, which dies at its first commit again."""
    with erp.streaming("after_sink_commit") as daemon:
        with Writer(erp, SEED):
            daemon.said("worker ended", how="signal 9", times=3, seconds=120)
        daemon.kill()
    erp.settled()


# --- the failure queue ----------------------------------------------------------------------------


@fault(4, "kill -9 while the failure queue is written", state="degraded", ci=True, targets=CONTROLS)
def test_killed_while_parking_every_bad_change_is_parked_once(erp: Erp) -> None:
    """FAULT 4: the queue is written in the unit of work; after the restart it is complete, its
    order kept, and with the cause gone a retry makes both sides equal."""
    with erp.streaming("dlq_insert:2") as daemon:
        erp.commit(
            "INSERT INTO t_order VALUES (1, 'O1', 7, 10), (2, 'O2', 7, 20), (3, 'O3', 7, 30)",
            "INSERT INTO t_material VALUES (1, 'M1', 'bolt', 'PCS', 1, NULL)",
            "UPDATE t_order SET famount = 11 WHERE fid = 1",
        )
        daemon.worker_died()
        daemon.kill()
    assert erp.parked() == []
    assert erp.target.query("SELECT count(*) FROM material") == [(0,)]
    with erp.daemon() as daemon:
        erp.caught_up(daemon)
        missing = ("reference_unresolved", "insert", "parked")
        assert erp.parked() == [missing] * 3 + [("waiting", "update", "parked")]
        assert erp.target.query("SELECT code FROM material") == [("M1",)]
        daemon.shows("degraded")
        erp.commit("INSERT INTO t_customer VALUES (7, 'C7', 'seven')")
        erp.caught_up(daemon)
        erp.retry_all()
        erp.healed(daemon)


# --- the first copy -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failpoint",
    [
        pytest.param("generation_begun", marks=pytest.mark.acceptance),
        "slot_created",
        pytest.param("snapshot_chunk:1", marks=pytest.mark.acceptance),
        "snapshot_chunk:4",
        pytest.param("handoff", marks=pytest.mark.acceptance),
    ],
)
def test_killed_during_the_first_copy_it_begins_again(erp: Erp, failpoint: str) -> None:
    """FAULT 3: whatever the kill leaves behind, a restart copies anew; rows that are gone since are
    swept, changes between the two copies are there, and none after the second is counted twice."""
    erp.source.execute(
        "INSERT INTO t_customer SELECT n, 'C' || n, 'c' FROM generate_series(1, 3000) n;"
        "INSERT INTO t_order SELECT n, 'O' || n, n, n FROM generate_series(1, 3000) n;"
        "INSERT INTO t_material SELECT n, 'M' || n, 'm', 'KG', n FROM generate_series(1, 3000) n"
    )
    with erp.daemon(failpoint) as daemon:
        daemon.worker_died()
        daemon.kill()
    begun = erp.checkpoint()
    assert begun["phase"] == "snapshotting"
    assert (begun["position"] is None) is (failpoint in ("generation_begun", "slot_created"))
    erp.source.execute(
        "DELETE FROM t_order WHERE fid % 3 = 0; DELETE FROM t_material WHERE fid % 3 = 0;"
        "UPDATE t_customer SET fnumber = 'X' || fid WHERE fid % 5 = 0"
    )
    with erp.streaming() as daemon:
        erp.commit(
            "UPDATE t_order SET famount = 0 WHERE fid = 1", "DELETE FROM t_order WHERE fid = 2"
        )
        erp.caught_up(daemon)
        erp.agrees()
    assert erp.source.query(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", erp.slot
    ) == [(1,)]


def test_killed_after_the_first_copy_the_stream_begins_where_it_ended(erp: Erp) -> None:
    """No gap and no overlap between copy and stream, with a writer at work all the time."""
    erp.source.execute(
        "INSERT INTO t_material SELECT n, 'M' || n, 'm', 'KG', n FROM generate_series(1000, 4000) n"
    )
    with Writer(erp, SEED) as writer:
        writer.wrote(5)
        with erp.streaming() as daemon:
            daemon.kill()
        writer.wrote(5)
    with erp.daemon() as daemon:
        erp.caught_up(daemon)
        erp.same_content()
        assert erp.parked() == []


@pytest.mark.acceptance
def test_terminated_during_the_first_copy_it_ends_at_once(erp: Erp) -> None:
    """TERM does not wait for the copy's end: exit code 0, and the next start copies anew."""
    erp.source.execute(
        "INSERT INTO t_material SELECT n, 'M' || n, 'm', 'KG', n FROM generate_series(1, 6000) n"
    )
    with erp.daemon() as daemon:
        with erp.locked("material"):
            erp.waiting_for_lock(daemon)
            daemon.terminate()
            daemon.said("stopping")
        assert daemon.wait() == 0
    assert daemon.events("snapshot done") == []
    assert erp.checkpoint()["phase"] == "snapshotting"
    erp.settled()


# --- one transaction in pieces --------------------------------------------------------------------


def late_failure(erp: Erp) -> None:
    """One transaction of many pieces: orders before their customers, and two whose never comes."""
    erp.commit(
        "INSERT INTO t_order VALUES (1, 'O1', 9999, 1), (2, 'O2', 9999, 2)",
        "INSERT INTO t_order SELECT n, 'O' || n, n, n FROM generate_series(10, 9000) n",
        "INSERT INTO t_customer SELECT n, 'C' || n, 'c' FROM generate_series(10, 9000) n",
        "UPDATE t_order SET famount = 0 WHERE fid IN (1, 10, 9000)",
    )


@pytest.mark.parametrize(
    "failpoint",
    [
        pytest.param(None, marks=pytest.mark.acceptance),
        "between_pieces:3",
        pytest.param("between_pieces:8", marks=pytest.mark.acceptance),
    ],
)
def test_a_huge_transaction_with_bad_references_is_whole_but_for_them(
    erp: Erp, failpoint: str | None
) -> None:
    """What is known only at its end parks those lanes alone, also when a kill comes in between;
    nobody sees a part of it before."""
    erp.configure(batch_rows=1000)
    with erp.streaming(failpoint) as daemon:
        late_failure(erp)
        if failpoint is not None:
            daemon.worker_died()
            daemon.kill()
            assert erp.target.query("SELECT count(*) FROM sales_order") == [(0,)]
            assert erp.checkpoint()["transactions"] == 0
        else:
            erp.caught_up(daemon)
    with erp.daemon() as daemon:
        erp.caught_up(daemon)
        missing = ("reference_unresolved", "insert", "parked")
        assert erp.parked() == [missing, missing, ("waiting", "update", "parked")]
        erp.same_counters()
        assert erp.target.query("SELECT count(*) FROM sales_order") == [(8991,)]
        erp.commit("INSERT INTO t_customer VALUES (9999, 'C9999', 'late')")
        erp.caught_up(daemon)
        erp.retry_all()
        erp.agrees()


def test_a_huge_transaction_that_leaves_rows_in_a_broken_reference(erp: Erp) -> None:
    """Customers deleted under their orders: known at the end, parked, and undone by a late insert
    of the right order of things."""
    erp.configure(batch_rows=1000)
    erp.source.execute(
        "INSERT INTO t_customer SELECT n, 'C' || n, 'c' FROM generate_series(1, 6000) n;"
        "INSERT INTO t_order SELECT n, 'O' || n, n, n FROM generate_series(1, 6000) n"
    )
    with erp.streaming() as daemon:
        erp.commit(
            "DELETE FROM t_customer",
            "DELETE FROM t_order WHERE fid <> 17",
        )
        erp.caught_up(daemon)
        assert erp.parked() == [("still_referenced", "delete", "parked")]
        assert erp.target.query("SELECT order_no, customer_code FROM sales_order") == [
            ("O17", "C17")
        ]
        assert erp.target.query("SELECT code FROM customer") == [("C17",)]
        erp.commit("DELETE FROM t_order")
        erp.caught_up(daemon)
        erp.retry_all()
        erp.agrees()


# --- at random ------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [4, pytest.param(12, marks=pytest.mark.acceptance)])
@fault(5, "{} random kill -9 under load", ci=True, sources=SOURCES)
def test_random_kills_while_a_writer_works(erp: Erp, kills: int) -> None:
    """FAULT 5: kill -9 at random moments, of the whole daemon or of its worker alone."""
    with erp.streaming() as daemon:
        daemon.kill()
    with Writer(erp, SEED) as writer:
        assert survive_kills(erp, writer, random.Random(SEED), kills) >= kills
    erp.settled()
