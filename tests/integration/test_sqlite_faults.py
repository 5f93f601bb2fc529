"""Faults of an embedded control database while the daemon is at work: it waits, and goes on."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cdc_daemon.engine.meter import Meter
from cdc_daemon.sinks.sqlite import database
from cdc_daemon.sinks.sqlite.holder import path_of
from tests.conftest import DatabaseFactory
from tests.support.embedded import EmbeddedErp, SqliteFile
from tests.support.waiting import until

acceptance = pytest.mark.acceptance


def made(database_factory: DatabaseFactory, folder: Path, file: Path) -> EmbeddedErp:
    erp = EmbeddedErp(database_factory(), SqliteFile(file), folder)
    erp.set_up()
    return erp


def blocked(meter: Meter, word: str) -> None:
    """Until the pipeline says what it failed by, and tries again."""

    def holds() -> bool:
        status = meter.status()
        return word in status.error and status.retries > 0

    until(holds, seconds=60, what=f"it is blocked by {word}")


def test_locked_out_it_tries_again(
    database_factory: DatabaseFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULT 32: somebody's BEGIN EXCLUSIVE; the state says so, and nothing is lost after it."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    erp = made(database_factory, tmp_path, tmp_path / "control.db")
    with erp.worker() as meter:
        with erp.file.locked():
            erp.commit("INSERT INTO t_customer VALUES (1, 'C1', 'one')")
            blocked(meter, "SQLITE_BUSY")
        erp.caught_up()
        erp.agrees()


@acceptance
def test_moved_away_and_back_it_goes_on(database_factory: DatabaseFactory, tmp_path: Path) -> None:
    """A file that is not there is waited for; no empty one is made in its place."""
    home = tmp_path / "home"
    home.mkdir()
    erp = made(database_factory, tmp_path, home / "control.db")
    with erp.worker() as meter:
        home.rename(tmp_path / "away")
        erp.commit("INSERT INTO t_customer VALUES (1, 'C1', 'one')")
        blocked(meter, "control")
        assert not home.exists()
        (tmp_path / "away").rename(home)
        erp.caught_up()
        erp.agrees()


@acceptance
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_waited_out(database_factory: DatabaseFactory, tmp_path: Path) -> None:
    """FAULT 16: nothing of the unit stays; with space it goes through."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        erp = made(database_factory, tmp_path, disk / "control.db")
        with erp.worker() as meter:
            ballast = disk / "ballast"
            ballast.write_bytes(b"x" * (2 << 20))
            erp.insert_materials(1, 20_000)
            blocked(meter, "disk of the control database is full")
            assert erp.file.query("SELECT count(*) FROM material") == [(0,)]
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            ballast.unlink()
            erp.caught_up()
            erp.agrees()
        assert erp.file.query("PRAGMA integrity_check") == [("ok",)]


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


# --- two daemons ----------------------------------------------------------------------------------


@acceptance
def test_the_second_is_turned_away_and_works_when_the_first_dies(
    database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """FAULT 36: its worker ends with 75, naming the holder, until the first is killed."""
    erp = made(database_factory, tmp_path, tmp_path / "control.db")
    with erp.streaming() as first:
        (holder,) = first.workers
        with erp.daemon() as second:
            second.said("pipeline stopped", error=f"is held by {socket.gethostname()}:{holder}")
            second.said("worker ended", how="exit code 75")
            erp.insert_materials(1, 5)
            erp.caught_up(first)
            assert first.events("worker ended") == []
            assert erp.checkpoint()["epoch"] == 1
            first.kill()
            erp.insert_materials(6, 5)
            erp.caught_up(second)
            erp.agrees()
            assert second.stop() == 0


@acceptance
def test_a_halted_one_is_taken_over_and_can_write_no_more(
    database_factory: DatabaseFactory, tmp_path: Path
) -> None:
    """FAULT 36: halted for longer than the lease, then continued: it is fenced, and the one that
    took over is left alone."""
    erp = made(database_factory, tmp_path, tmp_path / "control.db")
    erp.source.execute(f"ALTER DATABASE {erp.source.name} SET wal_sender_timeout = '3s'")
    with erp.streaming() as first:
        (old,) = first.workers
        erp.insert_materials(1, 5)
        erp.caught_up(first)
        first.pause()
        while locked_now(erp):  # halted in a unit it could not be taken over
            first.resume()
            first.pause()
        seen = time.time() - 60
        os.utime(path_of(str(erp.file.path)), (seen, seen))
        with erp.daemon() as second:
            erp.wait_streaming(second)
            erp.insert_materials(6, 5)
            erp.caught_up(second)
            epoch = erp.checkpoint()["epoch"]
            first.resume()
            first.said("worker ended", pid=str(old), seconds=60)
            erp.insert_materials(11, 5)
            erp.caught_up(second)
            erp.agrees()
            assert erp.checkpoint()["epoch"] == epoch
            assert second.events("worker ended") == []


def locked_now(erp: EmbeddedErp) -> bool:
    """Whether somebody holds the write lock."""
    with closing(sqlite3.connect(erp.file.path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False
