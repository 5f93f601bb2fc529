"""PostgreSQL → SQLite: the real daemon, killed where it hurts, and an operator's commands."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from cdc_daemon.config.load import load
from cdc_daemon.verify import content_hashes, verify
from tests.conftest import DatabaseFactory
from tests.support.embedded import EmbeddedErp, SqliteFile
from tests.support.erp import Writer, survive_kills
from tests.support.waiting import until

SEED = 20_261_127
KILLS = 20
acceptance = pytest.mark.acceptance


@pytest.fixture
def erp(database_factory: DatabaseFactory, tmp_path: Path) -> EmbeddedErp:
    """An ERP database and a file, applied, with no daemon yet."""
    made = EmbeddedErp(database_factory(), SqliteFile(tmp_path / "control.db"), tmp_path)
    made.set_up()
    return made


@pytest.fixture
def filled(erp: EmbeddedErp) -> EmbeddedErp:
    """Some customers, orders and materials at the source."""
    erp.source.execute(
        "INSERT INTO t_customer SELECT n, 'C' || n, 'c' FROM generate_series(1, 300) n;"
        "INSERT INTO t_order SELECT n, 'O' || n, n, n FROM generate_series(1, 300) n;"
        "INSERT INTO t_material SELECT n, 'M' || n, 'm', 'KG', n FROM generate_series(1, 300) n"
    )
    return erp


def hashes_agree(erp: EmbeddedErp) -> None:
    """Verification finds both sides equal, and its hash is the control database's own."""
    configuration = load([erp.configuration], environ={})
    report = verify(configuration, timeout=5)
    assert report.equal, report
    hashes = content_hashes(configuration.target, configuration.entities.values())
    for one in report.mappings:
        assert one.source_hash == one.target_hash == hashes[one.entity]


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.acceptance
def test_killed_around_the_commit(erp: EmbeddedErp) -> None:
    """FAULTS 1 and 2: rows and checkpoint are one transaction; what is committed stays so."""
    with erp.streaming() as daemon:
        daemon.kill()
    before = erp.checkpoint()
    erp.commit(
        "INSERT INTO t_customer VALUES (1, 'C1', 'one'), (2, 'C2', 'two')",
        "INSERT INTO t_order VALUES (1, 'O1', 1, 10), (2, 'O2', 2, 20)",
        "INSERT INTO t_material VALUES (1, 'M1', 'bolt', 'PCS', 1, NULL)",
    )
    for failpoint in ("before_checkpoint_upsert", "before_sink_commit"):
        erp.crash(failpoint)
        assert erp.file.query("SELECT count(*) FROM customer") == [(0,)], failpoint
        assert erp.references() == 0, failpoint
        after = erp.checkpoint()
        assert (after["position"], after["transactions"]) == (before["position"], 0), failpoint
    erp.crash("after_sink_commit")
    erp.agrees()
    erp.commit("UPDATE t_order SET famount = 2 WHERE fid = 1", "DELETE FROM t_order WHERE fid = 1")
    erp.settled()
    hashes_agree(erp)


@acceptance
def test_killed_while_parking_every_bad_change_is_parked_once(erp: EmbeddedErp) -> None:
    """FAULT 4: the queue is complete after the restart, in order, and a retry makes all equal."""
    with erp.streaming("dlq_insert:2") as daemon:
        erp.commit(
            "INSERT INTO t_order VALUES (1, 'O1', 7, 10), (2, 'O2', 7, 20), (3, 'O3', 7, 30)",
            "INSERT INTO t_material VALUES (1, 'M1', 'bolt', 'PCS', 1, NULL)",
            "UPDATE t_order SET famount = 11 WHERE fid = 1",
        )
        daemon.worker_died()
        daemon.kill()
    assert erp.parked() == []
    with erp.daemon() as daemon:
        erp.caught_up(daemon)
        missing = ("reference_unresolved", "insert", "parked")
        assert erp.parked() == [missing] * 3 + [("waiting", "update", "parked")]
        erp.commit("INSERT INTO t_customer VALUES (7, 'C7', 'seven')")
        erp.caught_up(daemon)
        erp.retry_all()
        erp.agrees()


@acceptance
@pytest.mark.parametrize("failpoint", ["generation_begun", "snapshot_chunk:1", "handoff"])
def test_killed_during_the_first_copy_it_begins_again(filled: EmbeddedErp, failpoint: str) -> None:
    """FAULT 3: a restart copies anew; rows that are gone since are swept."""
    with filled.daemon(failpoint) as daemon:
        daemon.worker_died()
        daemon.kill()
    assert filled.checkpoint()["phase"] == "snapshotting"
    filled.source.execute(
        "DELETE FROM t_order WHERE fid % 3 = 0; DELETE FROM t_material WHERE fid % 3 = 0;"
        "UPDATE t_customer SET fnumber = 'X' || fid WHERE fid % 5 = 0"
    )
    with filled.streaming() as daemon:
        filled.commit(
            "UPDATE t_order SET famount = 0 WHERE fid = 1", "DELETE FROM t_order WHERE fid = 2"
        )
        filled.caught_up(daemon)
        filled.agrees()


@acceptance
@pytest.mark.parametrize("failpoint", [None, "between_pieces:3"])
def test_a_huge_transaction_with_bad_references_is_whole_but_for_them(
    erp: EmbeddedErp, failpoint: str | None
) -> None:
    """Orders before their customers in one transaction of many pieces; two never get one."""
    erp.configure(batch_rows=1000)
    with erp.streaming(failpoint) as daemon:
        erp.commit(
            "INSERT INTO t_order VALUES (1, 'O1', 9999, 1), (2, 'O2', 9999, 2)",
            "INSERT INTO t_order SELECT n, 'O' || n, n, n FROM generate_series(10, 9000) n",
            "INSERT INTO t_customer SELECT n, 'C' || n, 'c' FROM generate_series(10, 9000) n",
            "UPDATE t_order SET famount = 0 WHERE fid IN (1, 10, 9000)",
        )
        if failpoint is None:
            erp.caught_up(daemon)
        else:
            daemon.worker_died()
            daemon.kill()
            assert erp.file.query("SELECT count(*) FROM sales_order") == [(0,)]
    with erp.daemon() as daemon:
        erp.caught_up(daemon)
        missing = ("reference_unresolved", "insert", "parked")
        assert erp.parked() == [missing, missing, ("waiting", "update", "parked")]
        erp.same_counters()
        assert erp.file.query("SELECT count(*) FROM sales_order") == [(8991,)]
        erp.commit("INSERT INTO t_customer VALUES (9999, 'C9999', 'late')")
        erp.caught_up(daemon)
        erp.retry_all()
        erp.agrees()


@acceptance
@pytest.mark.timeout(900)
def test_random_kills_while_a_writer_works(erp: EmbeddedErp) -> None:
    """FAULT 5: kill -9 at random moments, of the whole daemon or of its worker alone."""
    with erp.streaming() as daemon:
        daemon.kill()
    with Writer(erp, SEED) as writer:
        kills = survive_kills(erp, writer, random.Random(SEED), KILLS)
    assert kills >= KILLS
    erp.settled()
    hashes_agree(erp)


# --- an operator at work --------------------------------------------------------------------------


def test_commands_beside_a_running_daemon(filled: EmbeddedErp) -> None:
    """Reads go on, commands reach the worker, differences are found; another daemon is refused."""
    with filled.worker():
        filled.commit("INSERT INTO t_order VALUES (900, 'O900', 999, 1)")
        until(filled.parked, what="the order without a customer is parked")
        (status,) = json.loads(filled.ask("status", "-o", "json").stdout)
        assert (status["pipeline"], status["parked"]) == ("erp", 1)
        assert "O900" not in filled.ask("failures", "list").output
        (failure,) = json.loads(filled.ask("failures", "list", "-o", "json").stdout)
        assert failure["error_code"] == "reference_unresolved"
        (checkpoint,) = json.loads(filled.ask("checkpoint", "show", "-o", "json").stdout)
        assert checkpoint["phase"] == "streaming"
        assert checkpoint["seen_at"] is not None
        filled.commit("INSERT INTO t_customer VALUES (999, 'C999', 'late')")
        filled.caught_up()
        filled.retry_all()
        filled.agrees()
        found = filled.ask("verify", "--timeout", "10")
        assert found.exit_code == 0, found.output
        preview = filled.ask("mappings", "preview", "erp.t_order.sales_order", "-o", "json")
        assert preview.exit_code == 0, preview.output
        assert all(one["same"] for one in json.loads(preview.stdout))
        filled.file.execute("UPDATE material SET price = '7.0000' WHERE code = 'M7'")
        filled.file.execute("UPDATE material SET price = '7.0001' WHERE code = 'M8'")
        filled.file.execute("DELETE FROM sales_order WHERE order_no = 'O9'")
        filled.file.execute("UPDATE customer SET code = 'Z' WHERE code = 'C200'")
        found = filled.ask("verify", "--timeout", "2", "-o", "json")
        assert found.exit_code == 3, found.output
    plan = filled.ask("plan")
    assert (plan.exit_code, "nothing to do" in plan.stderr) == (0, True), plan.output
    assert filled.ask("apply", "--admin-dsn", "target=x").exit_code == 2
    doctor = filled.ask("doctor")
    assert "Traceback" not in doctor.output
    assert doctor.exit_code in (0, 3), doctor.output  # warnings of the source's settings


@acceptance
def test_the_first_copy_can_be_asked_for_again(filled: EmbeddedErp) -> None:
    """``snapshot start`` with no daemon: the command line holds the pipeline meanwhile."""
    with filled.worker():
        filled.caught_up()
    filled.file.execute("UPDATE material SET name = 'wrong' WHERE code = 'M1'")
    filled.file.execute("DELETE FROM material WHERE code = 'M2'")
    done = filled.ask("snapshot", "start", "erp", "--yes")
    assert done.exit_code == 0, done.output
    with filled.worker():
        filled.caught_up()
        assert filled.checkpoint()["generation"] > 1
        filled.same_content()
