"""What only SQLite does: its file, its one write lock, its errors, its refusals."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Truncate, Upsert
from cdc_daemon.model.errors import (
    CdcError,
    ConfigurationError,
    DataError,
    Fenced,
    Retryable,
    Stop,
    Unreachable,
)
from cdc_daemon.model.findings import Verdict, refusals
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sinks.sqlite import SqliteControl, SqliteSink, apply_plan, plan
from cdc_daemon.sinks.sqlite.errors import translate
from cdc_daemon.sinks.sqlite.holder import log_of, path_of, sign_of
from tests.contract.shapes import CUSTOMERS, ENTITIES, LAYOUTS, MATERIALS, ORDERS, UNITS
from tests.contract.sqlite_target import SqliteTarget

ROW: Row = (b"k", None, None)


def write(sink: SqliteSink, *rows: Row) -> None:
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=list(rows) or [ROW])])
        unit.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)


def pragma(sink: SqliteSink, name: str) -> object:
    assert sink._connected is not None
    return sink._connected.execute(f"PRAGMA {name}").fetchone()[0]


# --- the file -------------------------------------------------------------------------------------


def test_a_commit_is_durable_and_the_database_whole(target: SqliteTarget, sink: SqliteSink) -> None:
    """HAZARDS: ``synchronous`` is FULL (2), the journal a write-ahead log."""
    assert [pragma(sink, name) for name in ("journal_mode", "synchronous", "foreign_keys")] == [
        "wal",
        2,
        1,
    ]
    write(sink)
    with closing(sqlite3.connect(target.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA page_size").fetchone() == (8192,)


def test_a_copy_made_while_a_unit_is_open_is_whole(target: SqliteTarget, sink: SqliteSink) -> None:
    """``VACUUM INTO`` beside a running daemon: what was committed, nothing of what is under way."""
    write(sink)
    copy = target.path.with_name("copy.db")
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[(b"open", None, None)])])
        with closing(sqlite3.connect(target.path)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT code FROM material").fetchall() == [("k",)]
        assert connection.execute("SELECT position FROM cdc_checkpoint").fetchall() == [("0/1",)]


@pytest.mark.parametrize("call", ["acquire", "examine"])
def test_a_file_that_is_not_there_is_a_matter_of_configuration(tmp_path: Path, call: str) -> None:
    """And is not made; nor is its directory."""
    for path, cure in (
        (tmp_path / "no.db", "cdc-daemon apply"),
        (tmp_path / "no" / "no.db", "mkdir -p"),
    ):
        sink = SqliteSink(str(path), "erp", ENTITIES, LAYOUTS)
        with pytest.raises(ConfigurationError, match=cure):
            getattr(sink, call)()
        with pytest.raises(ConfigurationError, match=cure):
            SqliteControl(str(path)).checkpoints()
        assert not path.exists()


def test_a_plan_makes_no_file_and_an_applied_one_is_empty(tmp_path: Path) -> None:
    """``plan`` only says what would be done, in the order in which ``apply`` does it."""
    path = tmp_path / "control.db"
    made = plan(str(path), ENTITIES, LAYOUTS)
    assert made.refusals == ()
    assert made.changes[0].description == f"create the database {path}"
    assert not path.exists()
    done = apply_plan(str(path), ENTITIES, LAYOUTS)
    assert done == made
    assert plan(str(path), ENTITIES, LAYOUTS).changes == ()
    assert apply_plan(str(path), ENTITIES, LAYOUTS).changes == ()


# --- holding --------------------------------------------------------------------------------------


def test_nobody_takes_over_while_a_unit_is_open(target: SqliteTarget, sink: SqliteSink) -> None:
    """Its write lock keeps others out, so its commit stands; then it is taken over, and fails."""
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
        target.forget_holder_for("erp", 31)
        with pytest.raises(Retryable, match="write lock"):
            target.sink(instance="there").acquire()
    assert len(target.living(MATERIALS)) == 1
    second = target.sink(instance="there")
    assert second.acquire().epoch == 2
    with pytest.raises(Fenced):
        write(sink, (b"late", None, None))
    with pytest.raises(Fenced):
        sink.heartbeat()
    with pytest.raises(Fenced):
        sink.recover()
    write(second, (b"new", None, None))
    assert set(target.living(MATERIALS)) == {(b"k",), (b"new",)}


def test_a_dead_holder_is_known_to_be_dead(target: SqliteTarget) -> None:
    """However lately it was seen: its lock went with it."""
    script = (
        "import os, sys; from cdc_daemon.sinks.sqlite import SqliteSink;"
        "SqliteSink(sys.argv[1], 'erp', {}, [], instance='gone').acquire();"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(target.path)], check=False)
    sign = sign_of(str(target.path))
    assert sign is not None
    assert (sign.holder, sign.present, sign.alive) == ("gone", False, False)
    assert target.control().checkpoints()[0].holder == "gone"
    assert target.control().checkpoints()[0].seen_at is None
    assert target.sink().acquire().epoch == 2


def test_a_holders_file_that_somebody_removed_comes_back(
    target: SqliteTarget, sink: SqliteSink
) -> None:
    """With the next unit: nobody else can have taken over meanwhile without raising the epoch."""
    path_of(str(target.path)).unlink()
    with pytest.raises(Fenced):
        sink.heartbeat()
    write(sink)
    sink.heartbeat()
    with pytest.raises(Fenced, match="here"):
        target.sink(instance="there").acquire()


def test_another_name_of_the_database_meets_the_same_holder(
    target: SqliteTarget, sink: SqliteSink, tmp_path: Path
) -> None:
    """A symbolic link is no second database."""
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(target.path)
    with pytest.raises(Fenced, match="here"):
        SqliteSink(str(link), "erp", ENTITIES, LAYOUTS).acquire()
    sink.close()


def test_a_database_has_one_pipeline(target: SqliteTarget, sink: SqliteSink) -> None:
    """Another one is refused for good, whether anybody holds it or not."""
    sink.close()
    with pytest.raises(ConfigurationError, match="belongs to pipeline erp"):
        target.sink("hr").acquire()
    assert target.sink().acquire().epoch == 2


def test_moments_only_go_forward(target: SqliteTarget, sink: SqliteSink) -> None:
    """FAULT 38: a clock set back neither keeps nor sweeps what it should not."""
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW, (b"gone", None, None)])])
    sink.close()
    target.sqlite("UPDATE cdc_checkpoint SET updated_at = '2199-01-01 00:00:00.000000+00'")
    target.sqlite("UPDATE material SET last_sync_time = '2198-12-31 00:00:00.000000+00'")
    second = target.sink()
    second.acquire()
    identity = SourceIdentity(system="1", timeline=1, database="d", publication="p")
    second.begin_generation("slot", identity)
    with second.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[ROW])])
    with second.begin() as unit:
        unit.finish_snapshot([MATERIALS], identity, "0/9")
    assert set(target.living(MATERIALS)) == {(b"k",)}
    assert set(target.tombstones(MATERIALS)) == {(b"gone",)}


# --- who may read it ------------------------------------------------------------------------------


@pytest.mark.parametrize("umask, mode", [(0o022, 0o640), (0o077, 0o600)])
def test_others_may_not_read_it(tmp_path: Path, umask: int, mode: int) -> None:
    """Nor its log, index and holder: they hold what the entity tables do, and parked rows."""
    before = os.umask(umask)
    try:
        with closing(SqliteTarget(tmp_path / "control.db", ENTITIES, LAYOUTS)) as made:
            sink = made.sink()
            sink.acquire()
            write(sink, ROW)
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    names = ("control.db", "control.db-holder", "control.db-shm", "control.db-wal")
    assert modes == dict.fromkeys(names, mode)


def test_an_empty_file_of_somebody_elses_keeps_its_mode(tmp_path: Path) -> None:
    """Also behind a symbolic link; one that leads nowhere yet is followed."""
    given = tmp_path / "given.db"
    given.touch(mode=0o660)
    given.chmod(0o660)
    (tmp_path / "first.db").symlink_to(given)
    (tmp_path / "second.db").symlink_to(tmp_path / "made.db")
    for name in ("first.db", "second.db"):
        apply_plan(str(tmp_path / name), ENTITIES, LAYOUTS)
    assert given.stat().st_mode & 0o777 == 0o660
    assert (tmp_path / "made.db").stat().st_mode & 0o777 == 0o640


def test_a_file_that_others_may_read_is_a_warning() -> None:
    """Its log alone is enough; a folder that keeps them out is enough to be safe."""
    with (
        TemporaryDirectory() as folder,
        closing(SqliteTarget(Path(folder) / "control.db", ENTITIES, LAYOUTS)) as target,
    ):
        sink = target.sink()
        sink.acquire()
        write(sink, ROW)
        log = log_of(str(target.path))

        def found(*, file: int, log_file: int, place: int) -> list[tuple[Verdict, str, str]]:
            target.path.chmod(file)
            log.chmod(log_file)
            Path(folder).chmod(place)
            findings = [one for one in sink.examine() if one.check.name == "target.readers"]
            return [(one.verdict, one.what, one.cure) for one in findings]

        safe = [(Verdict.OK, "its owner and its group, nobody else", "")]
        assert found(file=0o644, log_file=0o644, place=0o700) == safe
        assert found(file=0o640, log_file=0o640, place=0o755) == safe
        both = f"{target.path} {log}"
        for modes, open_files in ((0o644, both), (0o640, f"{log}")):
            assert found(file=modes, log_file=0o644, place=0o755) == [
                (
                    Verdict.WARNING,
                    f"every user of this machine may read {open_files}",
                    f"chmod o-r {open_files}",
                )
            ]


# --- errors ---------------------------------------------------------------------------------------


def test_a_locked_database_is_worth_another_try(target: SqliteTarget, sink: SqliteSink) -> None:
    """FAULT 32: reads go on; a unit fails, and succeeds when the lock is free."""
    with closing(sqlite3.connect(target.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Retryable, match="SQLITE_BUSY"):
            write(sink)
        assert sink.failures() == []
        sink.heartbeat()
        assert target.control().holder_alive("erp")
        with pytest.raises(Retryable):
            target.control().submit("erp", "retry", {}, "ann")
    assert sink.recover().epoch == 2
    write(sink)
    assert len(target.living(MATERIALS)) == 1


def test_a_full_disk_is_worth_another_try(target: SqliteTarget, sink: SqliteSink) -> None:
    """FAULT 16: nothing of the unit stays; with space it goes through."""
    pages = pragma(sink, "page_count")
    assert isinstance(pages, int)
    pragma(sink, f"max_page_count = {pages + 2}")
    rows: list[Row] = [(b"k%d" % n, b"x" * 500, None) for n in range(500)]
    with pytest.raises(Retryable, match="the disk of the control database is full"):
        write(sink, *rows)
    assert target.living(MATERIALS) == {}
    sink.recover()
    write(sink, *rows)
    assert len(target.living(MATERIALS)) == 500


def test_a_read_only_database_is_worth_another_try() -> None:
    """FAULT 32: chmod, as the daemon's user meets it; with the rights back it goes on."""
    with TemporaryDirectory() as folder:
        target = SqliteTarget(Path(folder) / "control.db", ENTITIES, LAYOUTS)
        target.path.chmod(0o444)
        Path(folder).chmod(0o555)
        try:
            said = as_nobody(lambda: target.sink().acquire())
        finally:
            Path(folder).chmod(0o755)
            target.path.chmod(0o644)
        assert said in ("Retryable RETRY", "Unreachable RETRY")
        assert target.sink().acquire().epoch == 1
        target.close()


def as_nobody(call: Callable[[], object]) -> str:
    """The error of a call made without root's rights, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            call()
            said = "no error"
        except CdcError as error:
            said = f"{type(error).__name__} {error.disposition.name}"
        except BaseException as error:  # noqa: BLE001 - a fork must not go on as pytest
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def test_a_file_that_went_away_is_looked_for_again(target: SqliteTarget, sink: SqliteSink) -> None:
    """Recovery says so, and never makes an empty database in its place."""
    write(sink)
    away = target.path.with_name("away.db")
    sink._drop_connection()
    target.path.rename(away)
    with pytest.raises(Unreachable):
        sink.recover()
    assert not target.path.exists()
    away.rename(target.path)
    assert sink.recover().epoch == 2


@pytest.mark.parametrize("damage", [b"this is no database" * 1000, b""])
def test_what_is_no_database_stops(target: SqliteTarget, damage: bytes) -> None:
    """Nobody guesses about a damaged file."""
    target.path.with_name("other.db").write_bytes(damage)
    sink = SqliteSink(str(target.path.with_name("other.db")), "erp", ENTITIES, LAYOUTS)
    with pytest.raises((Stop, ConfigurationError)) as caught:
        sink.acquire()
    wanted = "no SQLite database" if damage else "no ledger"
    assert wanted in str(caught.value)


def test_a_corrupt_page_stops(target: SqliteTarget, sink: SqliteSink) -> None:
    """SQLITE_CORRUPT, with the way back in the hint."""
    write(sink, *[(b"k%05d" % n, b"x" * 200, None) for n in range(2000)])
    sink.close()
    with closing(sqlite3.connect(target.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'material'"
        ).fetchone()[0]
    with target.path.open("r+b") as file:
        file.seek((root - 1) * 8192)
        file.write(b"\xff" * 8192)
    again = target.sink()
    again.acquire()
    with pytest.raises(Stop, match="corrupt") as caught:
        write(again, *[(b"k%05d" % n, b"y", None) for n in range(2000)])
    assert "docs/sqlite.md" in str(caught.value)


def test_a_dropped_table_stops(target: SqliteTarget, sink: SqliteSink) -> None:
    """Somebody altered the database: see plan."""
    target.sqlite("DROP TABLE everything")
    target.sqlite("DROP TABLE material")
    with pytest.raises(Stop, match="no such table: material"):
        write(sink)
    found = [problem.where for problem in refusals(sink.examine())]
    assert found == ["material", "everything"]


def test_no_message_holds_a_value(sink: SqliteSink) -> None:
    """SQLite's own messages name columns and constraints; nothing else of them is passed on."""
    error = sqlite3.OperationalError("near 'secret': syntax error")
    assert "secret" not in str(translate(error))
    rows: list[Row] = [(b"x" * 41, b"secret", None)]
    with pytest.raises(DataError) as caught, sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=rows)])
    assert caught.value.message == "A value is too long for its column, attribute code"


# --- references -----------------------------------------------------------------------------------


def test_a_table_of_somebody_elses_may_hold_a_row(target: SqliteTarget, sink: SqliteSink) -> None:
    """Its foreign key is immediate: the delete is a data error, and the unit as before."""
    target.sqlite(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, about TEXT REFERENCES customer (code))"
    )
    with sink.begin() as unit:
        unit.apply([Upsert(layout=CUSTOMERS, rows=[(b"c", b"name"), (b"d", b"name")])])
    target.sqlite("INSERT INTO note (about) VALUES ('c')")
    with sink.begin() as unit:
        with pytest.raises(DataError) as caught:
            unit.apply([Delete(layout=CUSTOMERS, keys=[(b"d",), (b"c",)], times=[0, 0])])
        assert caught.value.code == "sqlstate_23503"
        unit.apply([Delete(layout=CUSTOMERS, keys=[(b"d",)], times=[0])])
    assert set(target.living(CUSTOMERS)) == {(b"c",)}


def test_children_before_their_parents_cost_no_more_than_a_look_each(sink: SqliteSink) -> None:
    """With a reference open SQLite looks for children of each row it adds: by an index."""
    rows: list[Row] = [(b"%06d" % n, b"%06d" % (n + 1)) for n in range(20_000)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=UNITS, rows=[*rows[:-1], (b"019999", None)], fresh=True)])
        unit.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)


def test_a_truncate_of_parents_is_noticed_at_the_checkpoint(
    target: SqliteTarget, sink: SqliteSink
) -> None:
    """Not at COMMIT, which could not say what is broken."""
    with sink.begin() as unit:
        unit.apply(
            [
                Upsert(layout=CUSTOMERS, rows=[(b"c", b"name")]),
                Upsert(layout=ORDERS, rows=[(b"1", b"c")]),
            ]
        )
    with pytest.raises(DataError) as caught, sink.begin() as unit:  # noqa: PT012
        unit.apply([Truncate(layout=CUSTOMERS, time=1)])
        unit.save_checkpoint("0/2", commit_time=None, transactions=1, changes=1)
        pytest.fail("not reached")
    assert caught.value.code == "sqlstate_23503"
    assert len(target.living(CUSTOMERS)) == 1


def test_a_reference_healed_inside_a_savepoint_is_broken_again_without_it(
    target: SqliteTarget, sink: SqliteSink
) -> None:
    """What was looked at and found whole inside is looked at again when that is taken back."""
    with pytest.raises(DataError) as caught, sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=ORDERS, rows=[(b"1", b"c")])])
        with pytest.raises(RuntimeError), unit.savepoint():  # noqa: PT012
            unit.apply([Upsert(layout=CUSTOMERS, rows=[(b"c", b"name")])])
            unit.save_checkpoint("0/1", commit_time=None, transactions=0, changes=0)
            raise RuntimeError
        unit.save_checkpoint("0/2", commit_time=None, transactions=1, changes=1)
        pytest.fail("not reached")
    assert caught.value.code == "sqlstate_23503"
    assert target.living(ORDERS) == {}


def test_the_holders_file_is_gone_after_a_clean_end(target: SqliteTarget, sink: SqliteSink) -> None:
    """Only the database stays."""
    write(sink)
    sink.close()
    assert not path_of(str(target.path)).exists()
    assert sorted(path.name for path in target.path.parent.iterdir()) == ["control.db"]
