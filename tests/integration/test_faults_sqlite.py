"""What can happen to a control database that is a file: to its lock, rights, disk and place."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.conftest import DatabaseFactory
from tests.support.catalogue import SQLITE, fault
from tests.support.erp import Erp, Writer
from tests.support.mounts import small_disk
from tests.support.refusals import CURE, cured, refused, streamed
from tests.support.sqlite_database import SqliteDatabase
from tests.support.waiting import until

SEED = 20_260_304


def file_of(erp: Erp) -> SqliteDatabase:
    assert erp.embedded is not None
    return erp.embedded


def beside(file: Path) -> list[Path]:
    """The database's files: itself, its log, the log's index, the holder's mark."""
    return sorted(file.parent.glob(f"{file.name}*"))


@fault(
    "31, 32",
    "SQLite: somebody holds BEGIN EXCLUSIVE for longer than the busy timeout",
    state="blocked",
    ci=[SQLITE],
    targets=[SQLITE],
)
def test_the_write_lock_is_held(erp: Erp) -> None:
    with erp.streaming() as daemon:
        with file_of(erp).held("EXCLUSIVE"):
            erp.insert_materials(1, 3)
            daemon.shows("blocked", error="write lock")
        with Writer(erp, SEED) as writer:
            writer.wrote(20)
        erp.healed(daemon)


@fault(32, "SQLite: started on a read-only file system", state="blocked", targets=[SQLITE])
def test_a_read_only_file_system(database_factory: DatabaseFactory, tmp_path: Path) -> None:
    """Not by chmod, which root does not mind; nor under its eyes, for an open file forbids it."""
    with small_disk(64) as disk:
        file = SqliteDatabase(path=disk.path / "control.db")
        erp = Erp(database_factory(), file, tmp_path).set_up()
        streamed(erp)
        erp.insert_materials(4, 3)
        disk.read_only()
        with erp.daemon() as daemon:
            daemon.shows("blocked")
            disk.writable()
            erp.healed(daemon)
            assert daemon.stop() == 0


@fault(41, "SQLite: its folder is moved away and back", state="blocked", targets=[SQLITE])
def test_the_folder_is_away_for_a_while(erp: Erp) -> None:
    """It does not write on into files that nobody finds; back again, it goes on."""
    folder = file_of(erp).path.parent
    away = folder.with_name("away")
    with erp.streaming() as daemon:
        folder.rename(away)
        erp.insert_materials(11, 3)
        daemon.shows("blocked")
        away.rename(folder)
        erp.healed(daemon)


@fault(
    43,
    "SQLite: replaced by an older backup under the daemon's eyes",
    state="exit 78",
    targets=[SQLITE],
)
def test_replaced_while_it_streams(erp: Erp, tmp_path: Path) -> None:
    """It does not write into the file that is gone, and refuses the one in its place."""
    streamed(erp)
    file = file_of(erp).path
    backup = backed_up(file, tmp_path / "backup.db")
    with erp.streaming() as daemon:
        source_acknowledged(erp)
        for path in beside(file):
            path.unlink()
        shutil.copy(backup, file)
        erp.insert_materials(20, 2)
        assert daemon.wait(90) == 78, daemon.log
        daemon.said("pipeline stopped", error="the slot was advanced")
    cured(erp)


@fault(
    43,
    "SQLite: a backup moved over the file alone, with its log left behind, under the daemon's eyes",
    state="exit 78",
    targets=[SQLITE],
)
def test_replaced_with_the_log_of_another(erp: Erp, tmp_path: Path) -> None:
    """The log is not played into the backup: it opens neither, and says what to move away."""
    streamed(erp)
    file = file_of(erp).path
    backup = backed_up(file, tmp_path / "backup.db")
    with erp.streaming() as daemon:
        erp.insert_materials(4, 5)
        erp.caught_up(daemon)
        kept = file.with_name("kept.db")
        file.rename(kept)
        backup.rename(file)
        erp.insert_materials(20, 2)
        assert daemon.wait(90) == 78, daemon.log
        daemon.said("pipeline stopped", error="the log beside it belongs to another file")
    kept.rename(file)
    with erp.daemon() as daemon:
        erp.healed(daemon)
        assert daemon.stop() == 0


def source_acknowledged(erp: Erp) -> None:
    """Until the source has been told of what is written from now on."""
    ((before,),) = erp.source.query("SELECT pg_current_wal_insert_lsn()::text")
    erp.insert_materials(4, 5)
    until(
        lambda: (
            erp.source.query(
                "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots"
                " WHERE slot_name = %s",
                before,
                erp.slot,
            )
            == [(True,)]
        ),
        what="the source is told",
    )


def backed_up(file: Path, backup: Path) -> Path:
    """A backup of the database in one file."""
    with closing(sqlite3.connect(file)) as there, closing(sqlite3.connect(backup)) as here:
        there.backup(here)
    return backup


@fault(16, "SQLite: disk full", state="blocked", targets=[SQLITE])
def test_the_disk_is_full(database_factory: DatabaseFactory, tmp_path: Path) -> None:
    """Nothing is parked for it; with room again it goes on."""
    with small_disk(16) as disk:
        file = SqliteDatabase(path=disk.path / "control.db")
        erp = Erp(database_factory(), file, tmp_path).set_up()
        with erp.streaming() as daemon:
            disk.fill()
            erp.insert_materials(1, 20_000)
            daemon.shows("blocked", error="disk of the control database is full")
            disk.free()
            erp.healed(daemon, seconds=120)
            assert daemon.stop() == 0


@fault(30, "SQLite: constraint violated, then fixed", state="degraded", targets=[SQLITE])
def test_a_unique_index_is_violated(erp: Erp) -> None:
    with erp.streaming() as daemon:
        erp.target.execute("CREATE UNIQUE INDEX only_one ON material (name)")
        erp.commit(
            "INSERT INTO t_material VALUES (1, 'M1', 'bolt', 'PCS', 1, NULL),"
            " (2, 'M2', 'bolt', 'PCS', 1, NULL), (3, 'M3', 'nut', 'PCS', 1, NULL)",
            "INSERT INTO t_order VALUES (1, 'O1', 1, 5)",
        )
        erp.commit("UPDATE t_material SET fprice = 3")
        erp.caught_up(daemon)
        daemon.shows("degraded")
        assert {code for code, _, _ in erp.parked()} == {
            "sqlstate_23505",
            "reference_unresolved",
            "waiting",
        }
        erp.target.execute("DROP INDEX only_one")
        erp.commit("INSERT INTO t_customer VALUES (1, 'C1', 'one')")
        erp.caught_up(daemon)
        erp.retry_all()
        erp.healed(daemon)


@fault(43, "SQLite: older backup of the file restored", state="exit 78", targets=[SQLITE])
def test_an_older_backup(erp: Erp, tmp_path: Path) -> None:
    streamed(erp)
    file = file_of(erp).path
    backup = backed_up(file, tmp_path / "backup.db")
    with erp.streaming() as daemon:
        erp.insert_materials(4, 5)
        erp.commit("DELETE FROM t_material WHERE fid < 3")
        erp.caught_up(daemon)
        assert daemon.stop() == 0
    for path in beside(file):
        path.unlink()
    shutil.copy(backup, file)
    refused(erp, "the slot was advanced", CURE)
    cured(erp)


@fault(43, "SQLite: the file is damaged", state="exit 1", targets=[SQLITE])
def test_a_damaged_file(erp: Erp) -> None:
    """It is neither used nor written; with the file as it was, it goes on."""
    streamed(erp)
    file = file_of(erp).path
    sound = file.read_bytes()
    file.write_bytes(b"no database at all, but long enough " * 1000)
    erp.configure(max_restarts=0)
    with erp.daemon() as daemon:
        assert daemon.wait(60) == 1, daemon.log
        daemon.said("pipeline stopped", error="no SQLite database")
        assert "Traceback" not in daemon.log
    file.write_bytes(sound)
    erp.configure()
    erp.settled()
