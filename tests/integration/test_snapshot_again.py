"""`cdc-daemon snapshot start`: the first copy again, beside a running daemon and without one.

That it cures what a start is refused for is shown where the refusals are.
"""

from __future__ import annotations

import json

from tests.support.erp import Erp, Writer
from tests.support.waiting import until

SEED = 20_261_127


def test_a_running_worker_copies_again_while_the_source_is_written(erp: Erp) -> None:
    """Rows that were wrong, missing or surplus in the control database are right at its end."""
    with erp.streaming() as daemon:
        erp.insert_materials(1, 200)
        erp.caught_up(daemon)
        with Writer(erp, SEED) as writer:
            writer.wrote(30)
            erp.target.execute(
                "DELETE FROM material WHERE code = 'M150.0';"
                "UPDATE material SET name = 'wrong' WHERE code = 'M151.0';"
                "INSERT INTO material (code, name, last_sync_time)"
                " VALUES ('surplus', 'never there', now() - interval '1 day')"
            )
            done = erp.ask("snapshot", "start", "erp", "--yes", "-o", "json")
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout) == [{"pipeline": "erp", "snapshot": "copying"}]
            daemon.said("snapshot done", times=2, seconds=90)
            writer.wrote(30)
        erp.caught_up(daemon)
        erp.same_content()
        assert erp.parked() == []
        assert daemon.events("worker ended") == []
        assert daemon.stop() == 0
    (status,) = json.loads(erp.ask("snapshot", "status", "-o", "json").stdout)
    assert status["phase"] == "streaming"
    assert status["generation"] == erp.checkpoint()["generation"] > 1
    assert status["rows"]["erp.t_material.material"] > 100
    assert "erp.t_material.material" in erp.ask("snapshot", "status").stdout


def test_what_is_parked_is_void_with_a_new_copy(erp: Erp) -> None:
    with erp.streaming() as daemon:
        erp.commit("INSERT INTO t_material VALUES (1, 'M1', NULL, 'PCS', 1, NULL)")
        until(erp.parked, what="it is parked")
        erp.commit("UPDATE t_material SET fname = 'named' WHERE fid = 1")
        assert erp.ask("snapshot", "start", "--yes").exit_code == 0
        daemon.said("snapshot done", times=2, seconds=90)
        erp.caught_up(daemon)
        assert erp.parked() == []
        erp.same_content()


def test_a_dry_run_and_a_no_change_nothing(erp: Erp) -> None:
    """Nor does asking before the first copy, or a second time."""
    done = erp.ask("snapshot", "start", "--yes", "-o", "json")
    assert json.loads(done.stdout) == [{"pipeline": "erp", "snapshot": "pending"}]
    with erp.worker():
        erp.insert_materials(1, 3)
        erp.caught_up()
    before = erp.checkpoint()
    assert "next start" in erp.ask("snapshot", "start", "--dry-run").stdout
    assert erp.ask("snapshot", "start", "--no-input").exit_code == 2
    assert erp.ask("snapshot", "start", "crm", "--yes").exit_code == 78
    assert erp.checkpoint() == before
    assert erp.ask("snapshot", "start", "--yes").exit_code == 0
    begun = erp.checkpoint()
    assert (begun["phase"], begun["generation"]) == ("snapshotting", 2)
    assert "pending" in erp.ask("snapshot", "start", "--yes").stdout
    assert erp.checkpoint()["generation"] == 2


def test_a_slot_that_is_not_the_checkpoints_is_never_replaced(erp: Erp) -> None:
    """Another slot's name in the configuration does not make that slot ours."""
    with erp.worker():
        erp.insert_materials(1, 3)
        erp.caught_up()
    own, other = erp.slot, f"{erp.slot}_other"
    erp.source.execute(f"SELECT pg_create_logical_replication_slot('{other}', 'pgoutput')")
    erp.slot = other
    erp.configure()
    assert erp.ask("snapshot", "start", "--yes").exit_code == 0
    with erp.daemon() as daemon:
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error="no checkpoint belongs to it")
    names = erp.source.query(
        "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1"
    )
    assert names == [(own,), (other,)]
