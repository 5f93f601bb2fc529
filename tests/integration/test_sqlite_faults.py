"""Faults of an embedded control database while the daemon is at work: it waits, and goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdc_daemon.engine.meter import Meter
from cdc_daemon.sinks.sqlite import database
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
