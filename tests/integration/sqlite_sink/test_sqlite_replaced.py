"""An SQLite file that somebody puts another one in the place of: nothing is mixed, nothing lost.

SQLite opens whatever log lies beside a file, also one that belongs to the file that was there
before, and writes its pages over those of the new one.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Upsert
from cdc_daemon.model.errors import (
    ConfigurationError,
    Fenced,
    PreflightRefusal,
    Retryable,
    Stop,
    Unreachable,
)
from cdc_daemon.sinks.sqlite import SqliteControl, SqliteSink, apply_plan, database, plan
from cdc_daemon.sinks.sqlite import sink as sinks
from cdc_daemon.sinks.sqlite.holder import Mark, foreign_log, path_of, sign_of
from tests.contract.shapes import ENTITIES, LAYOUTS, MATERIALS
from tests.contract.sqlite_target import SqliteTarget

REPLACED = "another file lies at its place"
NOT_ITS_OWN = "the log beside it belongs to another file"


def write(sink: SqliteSink, *codes: bytes) -> None:
    rows: list[Row] = [(code, None, None) for code in codes]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=rows)])
        unit.save_checkpoint("0/1", commit_time=None, transactions=1, changes=len(rows))


def beside(target: SqliteTarget, ending: str) -> Path:
    return target.path.with_name(target.path.name + ending)


def backed_up(target: SqliteTarget) -> Path:
    copy = target.path.with_name("copy.db")
    target.sqlite(f"VACUUM INTO '{copy}'")
    return copy


def away(target: SqliteTarget) -> Path:
    """The file and what belongs to it, moved away together."""
    folder = target.path.with_name("away")
    folder.mkdir()
    for ending in ("", "-wal", "-shm"):
        if beside(target, ending).exists():
            beside(target, ending).rename(folder / beside(target, ending).name)
    return folder / target.path.name


def codes(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT code FROM material ORDER BY code")]


# --- under a running worker -----------------------------------------------------------------------


def test_a_database_that_was_replaced_is_neither_written_nor_opened(
    target: SqliteTarget, sink: SqliteSink
) -> None:
    """A backup put in its place: the log there is the other file's, and would be played into it."""
    write(sink, b"old")
    backup = backed_up(target)
    write(sink, b"later")
    backup.rename(target.path)
    with pytest.raises(Unreachable, match="moved or replaced"):
        write(sink, b"lost")
    with pytest.raises(Stop, match=REPLACED) as caught:
        sink.recover()
    assert "-wal" in str(caught.value)
    openers: list[Callable[[], object]] = [
        target.sink().acquire,
        target.sink().examine,
        target.control().checkpoints,
        lambda: plan(str(target.path), ENTITIES, LAYOUTS),
        lambda: apply_plan(str(target.path), ENTITIES, LAYOUTS),
    ]
    for opened in openers:
        with pytest.raises(PreflightRefusal, match=NOT_ITS_OWN):
            opened()
    sink.close()  # which leaves the mark: without it nobody could tell
    with pytest.raises(PreflightRefusal, match=NOT_ITS_OWN):
        target.sink().acquire()
    for ending in ("-wal", "-shm"):
        beside(target, ending).rename(beside(target, ending + "-away"))
    assert codes(target.path) == ["old"]
    second = target.sink()
    second.acquire()
    write(second, b"new")
    assert set(target.living(MATERIALS)) == {(b"old",), (b"new",)}


def test_back_in_its_place_it_goes_on(target: SqliteTarget, sink: SqliteSink) -> None:
    """It is the same file with its own log: nothing of it is lost."""
    write(sink, b"old")
    elsewhere = target.path.with_name("elsewhere.db")
    target.path.rename(elsewhere)
    for _ in range(2):
        with pytest.raises(Unreachable):
            write(sink, b"lost")
        with pytest.raises(Unreachable):
            sink.recover()
    elsewhere.rename(target.path)
    assert sink.recover().epoch == 2
    write(sink, b"new")
    assert set(target.living(MATERIALS)) == {(b"old",), (b"new",)}


def test_a_file_that_changes_while_it_is_opened_is_opened_again(
    target: SqliteTarget, sink: SqliteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could tell which of the two the connection has."""
    sink.close()
    backup = backed_up(target)

    def late(path: str) -> database.Connection:
        connection = database.connect(path)
        if backup.exists():
            backup.rename(target.path)
        return connection

    monkeypatch.setattr(sinks, "connect", late)
    with pytest.raises(Unreachable, match="moved or replaced"):
        target.sink().acquire()
    assert sign_of(str(target.path)) is None
    assert target.sink().acquire().epoch == 2


# --- between two workers --------------------------------------------------------------------------


def test_replaced_after_a_crash_it_is_not_opened(target: SqliteTarget) -> None:
    """The dead worker's mark says which file the log belongs to."""
    crash(target, "kept")
    before = target.path.with_name("before.db")
    target.path.rename(before)
    refused_with(target, before)
    target.path.unlink()
    before.rename(target.path)
    target.sink().acquire()
    assert set(target.living(MATERIALS)) == {(b"kept",)}


def test_deleted_and_copied_after_a_crash_it_is_not_opened(target: SqliteTarget) -> None:
    """The new file may well have got the number of the inode that has just become free."""
    backup = backed_up(target)
    crash(target, "lost")
    target.path.unlink()
    refused_with(target, backup)


def refused_with(target: SqliteTarget, backup: Path) -> None:
    """Nobody opens a copy of the backup in the database's place."""
    shutil.copy(backup, target.path)
    for call in (target.sink().acquire, target.control().checkpoints):
        with pytest.raises(PreflightRefusal, match=NOT_ITS_OWN) as caught:
            call()
        assert f"{target.path}-wal" in str(caught.value)
        assert f"{target.path}-holder" in str(caught.value)


def test_none_is_made_where_the_log_of_one_lies(target: SqliteTarget) -> None:
    """SQLite would delete the log, and with it what the file that was moved away still lacks."""
    crash(target, "kept")
    before = target.path.with_name("before.db")
    target.path.rename(before)
    with pytest.raises(PreflightRefusal, match=NOT_ITS_OWN):
        apply_plan(str(target.path), ENTITIES, LAYOUTS)
    assert not target.path.exists()
    before.rename(target.path)
    target.sink().acquire()
    assert set(target.living(MATERIALS)) == {(b"kept",)}


def test_moved_together_after_a_crash_it_goes_on(target: SqliteTarget, tmp_path: Path) -> None:
    """A log that came along, on the same file system or in a copy without the mark."""
    crash(target, "kept")
    moved = away(target)
    beside(target, "-holder").rename(moved.with_name("control.db-holder"))
    copied = tmp_path / "copied"
    copied.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(moved.with_name(moved.name + ending), copied)
    for path in (moved, copied / "control.db"):
        with closing(SqliteSink(str(path), "erp", ENTITIES, LAYOUTS)) as sink:
            assert sink.acquire().epoch == 2
        assert codes(path) == ["kept"]


def test_a_log_that_a_reader_kept_is_known_after_a_clean_end(
    target: SqliteTarget, sink: SqliteSink
) -> None:
    """The mark stays as long as there is a log, and is no holder's."""
    write(sink, b"old")
    backup = backed_up(target)
    reader = SqliteControl(str(target.path))
    reader.checkpoints()
    write(sink, b"later")
    sink.close()
    sign = sign_of(str(target.path))
    assert sign is not None
    assert not sign.alive
    backup.rename(target.path)
    reader.close()
    with pytest.raises(PreflightRefusal, match=NOT_ITS_OWN):
        target.sink().acquire()


def crash(target: SqliteTarget, code: str) -> None:
    """A worker writes a row and is killed."""
    script = (
        "import os, sys; from cdc_daemon.sinks.sqlite import SqliteSink;"
        "from cdc_daemon.model.effects import Upsert;"
        "from tests.contract.shapes import ENTITIES, LAYOUTS, MATERIALS;"
        "sink = SqliteSink(sys.argv[1], 'erp', ENTITIES, LAYOUTS); sink.acquire();"
        "exec('with sink.begin() as unit:\\n unit.apply([Upsert(layout=MATERIALS,"
        " rows=[(sys.argv[2].encode(), None, None)])])');"
        "os.kill(os.getpid(), 9)"
    )
    home = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, str(target.path), code]
    done = subprocess.run(command, check=False, cwd=home, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


# --- what a writing connection needs --------------------------------------------------------------


def test_a_database_without_its_log_gets_it_back(target: SqliteTarget) -> None:
    """A file whose journal somebody changed is safe only in write-ahead mode."""
    target.sqlite("PRAGMA journal_mode = DELETE")
    sink = target.sink()
    sink.acquire()
    target_mode = sink._live().execute("PRAGMA journal_mode").fetchone()
    assert target_mode == ("wal",)


def test_a_journal_that_cannot_be_a_log_is_refused(
    target: SqliteTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite answers what it has instead, and raises nothing."""
    target.sqlite("PRAGMA journal_mode = DELETE")
    made = sqlite3.connect

    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, *params: Any) -> sqlite3.Cursor:
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode"), *params)

    def stubborn(*args: Any, **settings: Any) -> sqlite3.Connection:
        return made(*args, factory=Stubborn, **settings)

    monkeypatch.setattr(sqlite3, "connect", stubborn)
    with pytest.raises(ConfigurationError, match="journal mode is delete, not wal"):
        target.sink().acquire()


def test_recovery_looks_at_the_ledgers_version(target: SqliteTarget, sink: SqliteSink) -> None:
    """Somebody migrated it while the connection was lost."""
    target.sqlite("UPDATE cdc_meta SET version = 99")
    with pytest.raises(ConfigurationError, match="version 99"):
        sink.recover()


def test_what_does_not_fit_into_memory_goes_to_files(
    target: SqliteTarget, sink: SqliteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statement journals and sorters of a large table: 0 is what SQLite was built with, files.

    In a container where nothing may be written memory is all there is (2).
    """
    assert sink._live().execute("PRAGMA temp_store").fetchone() == (0,)
    sink.close()
    monkeypatch.setattr(database, "_TEMPORARY", ("/proc/none",))
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, "/proc/none")
    again = target.sink()
    again.acquire()
    assert again._live().execute("PRAGMA temp_store").fetchone() == (2,)


# --- the epoch ------------------------------------------------------------------------------------


class _Full:
    """A connection whose COMMITs fail as on a full disk: before or after they took effect."""

    def __init__(self, connection: database.Connection, *, took_effect: bool) -> None:
        self._connection = connection
        self._took_effect = took_effect

    def execute(self, sql: str, *params: Any) -> object:
        if sql == "COMMIT":
            self._connection.execute("COMMIT" if self._took_effect else "ROLLBACK")
            raise full()
        return self._connection.execute(sql, *params)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    return error


@pytest.mark.parametrize("took_effect", [True, False])
def test_a_recovery_that_could_not_be_committed_fences_nobody(
    target: SqliteTarget,
    sink: SqliteSink,
    monkeypatch: pytest.MonkeyPatch,
    *,
    took_effect: bool,
) -> None:
    """The disk was full at that very COMMIT: with space it goes on, whatever became of it."""
    write(sink, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(
            sinks, "connect", lambda path: _Full(database.connect(path), took_effect=took_effect)
        )
        for _ in range(2):
            with pytest.raises(Retryable, match="disk of the control database is full"):
                sink.recover()
    sink.heartbeat()
    sink.recover()
    write(sink, b"new")
    assert set(target.living(MATERIALS)) == {(b"old",), (b"new",)}


def test_one_that_took_over_with_the_epoch_that_was_tried_is_told_from_us(
    target: SqliteTarget, sink: SqliteSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two holders may come to the same number; only one of them has it."""
    with monkeypatch.context() as patched:
        patched.setattr(
            sinks, "connect", lambda path: _Full(database.connect(path), took_effect=False)
        )
        with pytest.raises(Retryable):
            sink.recover()
    assert target.take_over("erp")._lease.epoch == 2
    with pytest.raises(Fenced):
        sink.recover()


# --- the holder's mark and its heartbeat ----------------------------------------------------------


def test_a_heartbeat_never_meets_a_mark_half_way(target: SqliteTarget) -> None:
    """Another thread attests life while the mark is put anew: there is always one, and it is ours.
    A heartbeat that finds none would end the worker."""
    mark = Mark(str(target.path))
    mark.put("erp", "here")
    done = threading.Event()

    def beat() -> set[bool]:
        found: set[bool] = set()
        while not done.is_set():
            found.add(mark.ours)
            mark.touch()
        return found

    with ThreadPoolExecutor(1) as pool:
        beating = pool.submit(beat)
        for _ in range(300):
            mark.put("erp", "here")
        done.set()
        assert beating.result() == {True}
    mark.drop()
    assert not path_of(str(target.path)).exists()


def test_the_mark_names_its_file(target: SqliteTarget, sink: SqliteSink) -> None:
    assert sink is not None
    found = json.loads(path_of(str(target.path)).read_text())
    assert found["inode"] == target.path.stat().st_ino


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "no JSON", '{"inode": null, "born": 0, "pid": null}']
)
def test_a_mark_that_says_nothing_refuses_nothing(
    target: SqliteTarget, sink: SqliteSink, text: str
) -> None:
    """An older program's, or one that somebody wrote into."""
    write(sink, b"kept")
    path_of(str(target.path)).write_text(text)
    assert beside(target, "-wal").stat().st_size > 0
    assert foreign_log(str(target.path)) is None
    assert target.sink("erp").examine() != []
    sink.close()
    target.sink().acquire()
