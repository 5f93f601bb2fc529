"""The control database refuses, blocks, fills up or was tampered with; nothing is lost by it."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import psycopg
import pytest

from cdc_daemon.demo.installation import server_account
from tests.conftest import ErpFactory, PostgresFactory
from tests.support.catalogue import CONTROLS, MARIADB, POSTGRES, SERVERS, fault
from tests.support.erp import Erp, Writer
from tests.support.mounts import NOISE, small_disk
from tests.support.refusals import CURE, cured, refused, streamed

SEED = 20_260_302


# --- durability -----------------------------------------------------------------------------------


@fault(
    12,
    "control database with synchronous_commit = off, kill -9",
    state="blocked",
    targets=[POSTGRES],
)
def test_what_was_acknowledged_is_durable(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """The server would lose up to half a minute; the session says `on`, whatever its default."""
    server = postgres_factory(settings={"synchronous_commit": "off", "wal_writer_delay": "10s"})
    erp = make_erp(target=server)
    with erp.streaming() as daemon:
        for n in range(3):
            erp.insert_materials(1 + 100 * n, 50)
            erp.caught_up(daemon)
            server.kill()
            daemon.shows("blocked")
            server.start()
            assert erp.target.query("SELECT count(*) FROM material") == [(50 * (n + 1),)]
        erp.healed(daemon)


# --- disks ----------------------------------------------------------------------------------------


@fault(16, "disk of the control database full", state="blocked", targets=[POSTGRES])
def test_the_control_databases_disk_is_full(
    postgres_factory: PostgresFactory, make_erp: ErpFactory
) -> None:
    """Nothing is parked for it; with room again it goes on."""
    server = postgres_factory()
    erp = make_erp(target=server)
    with small_disk(24) as disk:
        server.execute(f"CREATE TABLESPACE small LOCATION '{disk.path}'")
        server.execute(f"ALTER DATABASE {erp.target.name} SET TABLESPACE small")
        with erp.streaming() as daemon:
            disk.fill()
            erp.commit(NOISE.format(1, 2000))
            daemon.shows("blocked", error="disk of the control database is full")
            assert erp.target.query("SELECT count(*) FROM material") == [(0,)]
            disk.free()
            erp.healed(daemon)
        server.execute(f"ALTER DATABASE {erp.target.name} SET TABLESPACE pg_default")
        server.execute("DROP TABLESPACE small")


@fault(
    16,
    "disk of the source's pg_wal full: the slot keeps the log",
    state="blocked",
    targets=CONTROLS,
)
def test_the_sources_log_fills_its_disk(
    postgres_factory: PostgresFactory, make_erp: ErpFactory, tmp_path: Path
) -> None:
    """With the control database away the slot keeps all; the source stops and is enlarged."""
    server = postgres_factory(settings={"min_wal_size": "32MB", "max_wal_size": "48MB"})
    erp = make_erp(source=server)
    with small_disk(112) as disk:
        server.stop()
        shutil.move(server.data_dir / "pg_wal", disk.path / "pg_wal")
        (server.data_dir / "pg_wal").symlink_to(disk.path / "pg_wal")
        owned(disk.path / "pg_wal")
        server.start()
        with erp.streaming() as daemon:
            with erp.locked("material"):
                with pytest.raises(psycopg.Error):
                    write_without_end(erp)
                daemon.shows("blocked", seconds=90)
            if server.running:
                server.kill()
            disk.resize(512)
            server.start()
            erp.healed(daemon, seconds=180)
        server.stop()
        shutil.move(disk.path / "pg_wal", tmp_path / "pg_wal")
        (server.data_dir / "pg_wal").unlink()
        shutil.move(tmp_path / "pg_wal", server.data_dir / "pg_wal")
        owned(server.data_dir / "pg_wal")


def write_without_end(erp: Erp) -> None:
    """Until the source takes no more."""
    for n in itertools.count():
        erp.commit(NOISE.format(1 + 2000 * n, 2000 * (n + 1)))


def owned(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        server_account().own(path)


# --- constraints ----------------------------------------------------------------------------------


CONSTRAINTS = {
    POSTGRES: (
        "ALTER TABLE material ADD CONSTRAINT price_fits CHECK (price < 100),"
        " ALTER unit SET NOT NULL; CREATE UNIQUE INDEX only_one ON material (name)",
        "ALTER TABLE material DROP CONSTRAINT price_fits, ALTER unit DROP NOT NULL;"
        "DROP INDEX only_one",
    ),
    MARIADB: (
        "ALTER TABLE material ADD CONSTRAINT price_fits CHECK (price < 100),"
        " MODIFY unit varchar(10) NOT NULL; CREATE UNIQUE INDEX only_one ON material (name)",
        "ALTER TABLE material DROP CONSTRAINT price_fits,"
        " MODIFY unit varchar(10) COMMENT 'string(10)'; DROP INDEX only_one ON material",
    ),
}
"""Made, and taken away again."""


@fault(
    30,
    "constraints of the control database violated, then fixed",
    state="degraded",
    ci=True,
    targets=SERVERS,
)
def test_constraints_are_violated_and_repaired(erp: Erp, target_kind: str) -> None:
    """UNIQUE, CHECK, NOT NULL, a foreign key out of order, a text too long: each parks its key
    alone, what follows on the key waits, and a retry applies all of it in order."""
    made, taken_away = CONSTRAINTS[target_kind]
    erp.target.execute(made)
    with erp.streaming() as daemon:
        erp.commit(
            "INSERT INTO t_material VALUES (1, 'M1', 'bolt', 'PCS', 1, NULL),"
            " (2, 'M2', 'bolt', 'PCS', 1, NULL), (3, 'M3', 'nut', 'PCS', 100, NULL),"
            " (4, 'M4', 'gear', NULL, 1, NULL), (5, 'M5', 'axle', 'KG', 1, NULL),"
            " (6, 'M6', repeat('x', 300), 'KG', 1, NULL)",
            "INSERT INTO t_order VALUES (1, 'O1', 1, 5)",
            "UPDATE t_material SET fprice = 2",
        )
        erp.commit("UPDATE t_material SET fprice = 3 WHERE fid IN (2, 5)")
        erp.caught_up(daemon)
        daemon.shows("degraded")
        rows = erp.target.query("SELECT code, price FROM material ORDER BY code")
        assert [code for code, _ in rows] == ["M1", "M5"]
        codes = {code for code, _, _ in erp.parked()}
        assert codes == {
            "sqlstate_23505",
            "sqlstate_23514",
            "sqlstate_23502",
            "too_long",
            "reference_unresolved",
            "waiting",
        }
        erp.target.execute(taken_away)
        erp.commit(
            "INSERT INTO t_customer VALUES (1, 'C1', 'one')",
            "UPDATE t_material SET fname = 'short' WHERE fid = 6",
        )
        erp.caught_up(daemon)
        retried(erp)
        erp.healed(daemon)


def retried(erp: Erp) -> None:
    """Retry what can be; what never can (a name of 300 characters) is skipped, and what it held
    back is retried."""
    erp.ask("failures", "retry", "--all", "--yes")
    while found := erp.target.query(
        "SELECT id FROM cdc.failure WHERE state = 'parked' AND error_code <> 'waiting' ORDER BY id"
    ):
        reason = ("--reason", "a name too long", "--yes")
        done = erp.ask("failures", "skip", str(found[0][0]), *reason)
        assert done.exit_code == 0, done.output
        erp.ask("failures", "retry", "--all", "--yes")


# --- other transactions ---------------------------------------------------------------------------


@fault(31, "deadlock with another session", state="blocked", ci=True, targets=[POSTGRES])
def test_a_deadlock(erp: Erp) -> None:
    """The daemon is the victim; nothing is parked for it, and its unit comes again."""
    erp.insert_materials(1, 3)
    with erp.streaming() as daemon:
        with psycopg.connect(erp.target.dsn) as other:
            other.execute("SET deadlock_timeout = '60s'")
            other.execute("UPDATE material SET remark = remark WHERE code = 'M2.0'")
            erp.commit("UPDATE t_material SET fprice = 9")
            erp.waiting_for_lock(daemon)
            other.execute("UPDATE material SET remark = remark WHERE code = 'M1.0'")
            daemon.shows("blocked", error="lost against another")
        erp.caught_up(daemon)
        daemon.shows("streaming", "idle")
        erp.agrees_after_copy()


@fault(31, "LOCK TABLE for longer than the lock timeout of 30 s", state="blocked", targets=SERVERS)
def test_a_lock_that_stays(erp: Erp) -> None:
    with erp.streaming() as daemon:
        with erp.locked("material"):
            erp.insert_materials(1, 3)
            daemon.shows("blocked", error="lock was not to be had", seconds=60)
        erp.healed(daemon)


@fault(31, "serialization failures", state="blocked", targets=[POSTGRES])
def test_serialization_failures(erp: Erp) -> None:
    """It asks for READ COMMITTED, whatever the default; 40001 from elsewhere is tried again."""
    erp.target.execute(
        f"ALTER DATABASE {erp.target.name} SET default_transaction_isolation = 'serializable';"
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$;"
        "CREATE TRIGGER lose BEFORE INSERT ON material EXECUTE FUNCTION lose()"
    )
    with erp.streaming() as daemon:
        erp.insert_materials(1, 3)
        daemon.shows("blocked", error="40001")
        erp.target.execute("DROP TRIGGER lose ON material")
        with Writer(erp, SEED) as writer:
            writer.wrote(20)
        erp.healed(daemon)


# --- read-only ------------------------------------------------------------------------------------


@fault(32, "control database read-only", state="blocked", ci=True, targets=[POSTGRES])
def test_a_read_only_control_database(erp: Erp) -> None:
    """It says so, keeps trying, and goes on when it may write."""
    with erp.streaming() as daemon:
        erp.target.execute(
            f"ALTER DATABASE {erp.target.name} SET default_transaction_read_only = on"
        )
        sessions_ended(erp)
        erp.insert_materials(1, 3)
        daemon.shows("blocked", error="read-only")
        # only a session that says so may alter anything now
        with psycopg.connect(erp.target.dsn, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(
                f"ALTER DATABASE {erp.target.name} RESET default_transaction_read_only".encode()
            )
        erp.healed(daemon)


def sessions_ended(erp: Erp) -> None:
    """The daemon has to connect to the control database again."""
    erp.target.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'cdc_daemon%'"
    )


# --- the checkpoint -------------------------------------------------------------------------------

CORRUPT = {
    "position": "position = 'nonsense'",
    "no position": "position = NULL",
    "position ahead": "position = 'FFFFFF/0'",
    "position behind": "position = '0/100'",
    "publication": "publication = '{nonsense'",
    "no publication": "publication = NULL",
    "system": "system = '1'",
    "no system": "system = NULL",
    "timeline": "timeline = 77",
}


@pytest.mark.parametrize("what", CORRUPT)
@fault(43, "corrupted checkpoint row", state="exit 78")
def test_a_corrupted_checkpoint(erp: Erp, what: str) -> None:
    """Refused without a traceback, and nothing is written; with the row as it was it goes on."""
    streamed(erp)
    erp.insert_materials(4, 1)
    before = erp.checkpoint()
    erp.target.execute(f"UPDATE cdc.checkpoint SET {CORRUPT[what]}")
    refused(erp)
    erp.target.execute(
        "UPDATE cdc.checkpoint SET position = %s, publication = %s, system = %s, timeline = %s",
        *(before[name] for name in ("position", "publication", "system", "timeline")),
    )
    erp.settled()


@fault(43, "checkpoint row deleted", state="exit 78")
def test_the_checkpoint_is_gone(erp: Erp) -> None:
    streamed(erp)
    erp.target.execute("DELETE FROM cdc.checkpoint")
    with erp.daemon() as daemon:
        assert daemon.wait(60) == 78, daemon.log
        daemon.said("pipeline stopped", error="no checkpoint belongs to it")
    assert "Traceback" not in daemon.log


@fault(43, "older backup of the control database restored", state="exit 78", targets=[POSTGRES])
def test_an_older_backup_of_the_control_database(erp: Erp) -> None:
    """The source has forgotten what lies between; the copy that the refusal names heals it."""
    streamed(erp)
    server, name = erp.target.server, erp.target.name
    server.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
    with erp.streaming() as daemon:
        erp.insert_materials(4, 5)
        erp.commit("DELETE FROM t_material WHERE fid < 3", "UPDATE t_material SET fprice = 1")
        erp.caught_up(daemon)
        assert daemon.stop() == 0
    server.drop_database(name)
    server.execute(f"ALTER DATABASE {name}_backup RENAME TO {name}")
    refused(erp, "the slot was advanced", CURE)
    cured(erp)
