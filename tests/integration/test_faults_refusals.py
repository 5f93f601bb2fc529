"""States in which going on would skip changes in silence: refused with 78, the cure named.

Each test streams, breaks something while the daemon is away (or under its eyes), and starts it
again. It must write nothing and move nothing before it refuses.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest

from cdc_daemon.config.load import load
from cdc_daemon.engine.meter import Meter
from cdc_daemon.engine.reading import Stopping
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sources.postgres.source import PostgresSource
from cdc_daemon.worker import Worker
from tests.conftest import DatabaseFactory, ErpFactory, PostgresFactory
from tests.support.catalogue import fault
from tests.support.erp import PUBLICATION, TABLES, Erp
from tests.support.refusals import CURE, cured, refused, streamed
from tests.support.waiting import until

# --- the slot -------------------------------------------------------------------------------------


@fault(17, "slot dropped while the daemon is away", state="exit 78", ci=True)
def test_the_slot_was_dropped(erp: Erp) -> None:
    """FAULT 17, HAZARD P9: it is never created again in silence."""
    streamed(erp)
    erp.source.execute(f"SELECT pg_drop_replication_slot('{erp.slot}')")
    erp.insert_materials(4, 1)
    refused(erp, "the slot is gone", CURE)
    cured(erp)


@fault(17, "slot dropped while it streams", state="exit 78", ci=True)
def test_the_slot_is_dropped_under_the_daemons_eyes(erp: Erp) -> None:
    """FAULT 17: the stream ends, and the next try finds out why."""
    with erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        until(lambda: dropped(erp), what="the slot is dropped")
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error=CURE)


def dropped(erp: Erp) -> bool:
    """End whoever uses the slot and drop it before he is back."""
    try:
        erp.source.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            f" WHERE slot_name = '{erp.slot}' AND active_pid IS NOT NULL;"
            f"SELECT pg_drop_replication_slot('{erp.slot}')"
        )
    except psycopg.errors.ObjectInUse:
        return False
    return True


@fault(18, "slot advanced by somebody else", state="exit 78", ci=True)
def test_the_slot_was_advanced(erp: Erp) -> None:
    """FAULT 18, HAZARD P6: the server would go on from the slot's position without a word."""
    streamed(erp)
    erp.insert_materials(4, 1)
    erp.commit("DELETE FROM t_material WHERE fid = 1")
    erp.source.execute(
        f"SELECT pg_replication_slot_advance('{erp.slot}', pg_current_wal_insert_lsn())"
    )
    refused(erp, "the slot was advanced", CURE)
    cured(erp)


@fault(19, "slot lost: max_slot_wal_keep_size", state="exit 78", ci=True)
def test_the_slot_lost_its_log(postgres_factory: PostgresFactory, make_erp: ErpFactory) -> None:
    """HAZARD P9: invalidated by the server, which has removed what we have not read."""
    server = postgres_factory(settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB"})
    erp = make_erp(source=server)
    streamed(erp)
    erp.insert_materials(4, 1)

    def lost() -> bool:
        erp.source.execute("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
        erp.source.execute("CHECKPOINT")
        return erp.source.query("SELECT wal_status FROM pg_replication_slots") == [("lost",)]

    until(lost, what="the slot is lost")
    refused(erp, "the server has removed the log", CURE)
    cured(erp)


def test_somebody_else_reads_the_slot(erp: Erp) -> None:
    """HAZARD P9: that may pass, so it is tried again, naming the reader."""
    streamed(erp)
    erp.insert_materials(4, 1)
    with psycopg.connect(f"{erp.source.dsn}?replication=database", autocommit=True) as other:
        other.execute(
            f"START_REPLICATION SLOT {erp.slot} LOGICAL 0/0"
            " (proto_version '1', publication_names 'cdc_erp')".encode()
        )
        with erp.daemon() as daemon:
            daemon.said("will try again", error=f"active for PID {other.info.backend_pid}")
            other.close()
            erp.caught_up(daemon)
            erp.agrees()


# --- the server -----------------------------------------------------------------------------------


@fault(24, "source restored to an earlier state", state="exit 78", ci=True)
def test_the_source_was_restored_to_an_earlier_state(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """HAZARD P7: from a position ahead of the log, all that is written would be skipped."""
    server = postgres_factory()
    erp = make_erp(source=server)
    streamed(erp)
    server.stop()
    backup = server.data_dir.with_name("backup")
    shutil.copytree(server.data_dir, backup)
    server.start()
    with erp.worker():
        for n in range(5):
            erp.insert_materials(100 + 1000 * n, 1000)
        erp.caught_up()
    server.stop()
    owner = server.data_dir.stat()
    shutil.rmtree(server.data_dir)
    shutil.move(backup, server.data_dir)
    for path in (server.data_dir, *server.data_dir.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    server.start()
    refused(erp, "is ahead of the server's log", "restored to an earlier state", CURE)
    cured(erp)


@fault(24, "another server answers under its name", state="exit 78", ci=True)
def test_another_server_answers(
    postgres_factory: PostgresFactory,
    database_factory: DatabaseFactory,
    make_erp: ErpFactory,
    tmp_path: Path,
) -> None:
    """A server of the same name and content, but not the one that the checkpoint belongs to."""
    erp = make_erp()
    streamed(erp)
    folder = tmp_path / "other"
    folder.mkdir()
    other = Erp(database_factory(server=postgres_factory()), erp.target, folder)
    other.source.execute(f"{TABLES}; {PUBLICATION}")
    other.slot = erp.slot
    other.configure()
    other.source.execute(f"SELECT pg_create_logical_replication_slot('{erp.slot}', 'pgoutput')")
    refused(other, "is not the one that the checkpoint belongs to", CURE)
    cured(other)


# --- the publication ------------------------------------------------------------------------------

GAPS = {
    "G1: created again": (
        "DROP PUBLICATION cdc_erp",
        PUBLICATION,
        "it was dropped, created again or altered",
    ),
    "G2: a table taken out and put back": (
        "ALTER PUBLICATION cdc_erp DROP TABLE t_material",
        "ALTER PUBLICATION cdc_erp ADD TABLE t_material",
        "table public.t_material was taken out, put back",
    ),
    "deletes not published for a while": (
        "ALTER PUBLICATION cdc_erp SET (publish = 'insert')",
        "ALTER PUBLICATION cdc_erp SET (publish = 'insert, update, delete, truncate')",
        "it was dropped, created again or altered",
    ),
    "replica identity changed": (
        "ALTER TABLE t_material REPLICA IDENTITY FULL",
        "SELECT 1",
        "or its key or replica identity changed",
    ),
}
NAMES = list(GAPS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.acceptance] * (not name.startswith("G1")))
        for name in NAMES
    ],
)
@fault(20, "publication altered while the daemon is away", state="exit 78", ci=True)
def test_a_gap_in_the_publication_while_the_daemon_was_away(erp: Erp, name: str) -> None:
    """Healed again, it leaves no trace in the stream but the missing rows."""
    there, back, words = GAPS[name]
    streamed(erp)
    erp.source.execute(there)
    erp.insert_materials(4, 1)
    erp.source.execute(back)
    refused(erp, words, CURE)
    cured(erp)


def test_a_gap_between_the_check_and_the_noting_of_the_identity(
    erp: Erp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G2: what is noted for the next start must not bless what this one did not see."""
    streamed(erp)
    before = erp.checkpoint()
    identify = PostgresSource.identify

    def late(source: PostgresSource) -> SourceIdentity:
        erp.source.execute("ALTER PUBLICATION cdc_erp DROP TABLE t_material")
        erp.insert_materials(4, 1)
        erp.source.execute("ALTER PUBLICATION cdc_erp ADD TABLE t_material")
        return identify(source)

    monkeypatch.setattr(PostgresSource, "identify", late)
    configuration = load([erp.configuration], environ={})
    assert Worker(configuration, "erp", Meter("erp"), Stopping(5.0)).run() == 78
    after = erp.checkpoint()
    assert {n: after[n] for n in ("publication", "position")} == {
        n: before[n] for n in ("publication", "position")
    }


@fault(20, "publication dropped while the daemon is away", state="exit 78", ci=True)
def test_no_publication(erp: Erp) -> None:
    """HAZARD G1: PostgreSQL 18 would stream nothing, with a warning."""
    streamed(erp)
    erp.source.execute("DROP PUBLICATION cdc_erp")
    refused(erp, "it does not exist", "cdc-daemon apply")


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "gap",
    [
        pytest.param("DROP PUBLICATION cdc_erp", id="G1"),
        pytest.param("ALTER PUBLICATION cdc_erp DROP TABLE t_material", id="G2"),
    ],
)
@fault(20, "publication altered while it streams", state="exit 78", ci=True)
def test_a_gap_in_the_publication_under_the_daemons_eyes(erp: Erp, gap: str) -> None:
    """It looks again every few seconds; what was skipped by then is told, and it ends."""
    with erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        erp.caught_up(daemon)
        erp.source.execute(gap)
        erp.insert_materials(4, 1)
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error="publication")
    refused(erp)


# --- slot and checkpoint do not belong together ---------------------------------------------------


def test_a_slot_without_a_checkpoint(erp: Erp) -> None:
    """It may be somebody's; it is neither used nor dropped."""
    erp.source.execute(f"SELECT pg_create_logical_replication_slot('{erp.slot}', 'pgoutput')")
    with erp.daemon() as daemon:
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error="pg_drop_replication_slot")
    assert erp.source.query(
        "SELECT slot_name FROM pg_replication_slots WHERE database = %s", erp.source.name
    ) == [(erp.slot,)]
    assert erp.checkpoint()["phase"] == "new"
