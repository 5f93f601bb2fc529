"""What is particular to a control database on MySQL and MariaDB."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Key, Rename, Truncate, Upsert
from cdc_daemon.model.entities import Attribute, Entity
from cdc_daemon.model.errors import CdcError, DataError, Retryable, Unreachable
from cdc_daemon.model.findings import refusals
from cdc_daemon.model.position import Phase, SourceIdentity
from cdc_daemon.sinks.mysql import MysqlSink, apply_plan, session
from cdc_daemon.sinks.mysql.unit import MysqlUnit
from tests.contract.mysql_target import MysqlTarget
from tests.contract.shapes import CUSTOMERS, MATERIALS, ORDERS, _layout, string

PAGE = Path(__file__).parents[3] / "docs" / "operations" / "clock-set-back.md"
IDENTITY = SourceIdentity(system="1", timeline=1, database="d", publication="p")
A: Row = (b"a", b"1", None)
B: Row = (b"b", b"2", None)


End = Callable[[MysqlUnit], None]


def _hold(_: MysqlUnit) -> None:
    """A unit that moves no checkpoint."""


def write(sink: MysqlSink, *rows: Row, fresh: bool = False, end: End = _hold) -> None:
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=list(rows), fresh=fresh)])
        end(unit)


@contextmanager
def beside(target: MysqlTarget, *statements: str) -> Iterator[Any]:
    """Another client with an open transaction in which it ran these statements."""
    with target.server.connect(target.database, autocommit=False) as connection:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield connection
        connection.rollback()


# --- transactions that the server ends ------------------------------------------------------------


def test_a_deadlock_ends_the_unit_and_is_never_a_rows_fault(
    target: MysqlTarget, sink: MysqlSink
) -> None:
    """The server has taken the whole transaction back: what the unit does after it commits nothing,
    also where somebody caught the error."""
    write(sink, A, B)
    heavy = "INSERT INTO material (code, last_sync_time) VALUES "  # the lighter one is taken back
    heavy += ", ".join(f"('x{n}', '2020-01-01')" for n in range(300))
    with beside(target, heavy, "UPDATE material SET note = 'x' WHERE code = 'b'") as other:
        with pytest.raises(Retryable, match="1213"), sink.begin() as unit:
            _meet(unit, threading.Thread(target=lambda: other.query("DELETE FROM material")))
        other.rollback()
    assert target.living(MATERIALS) == {(b"a",): A, (b"b",): B}
    write(sink, (b"c", None, None))  # the session is as good as before


def _meet(unit: MysqlUnit, other: threading.Thread) -> None:
    """Each wants what the other has; then the unit goes on as though nothing had happened."""
    unit.apply([Upsert(layout=MATERIALS, rows=[(b"a", b"new", None)])])
    other.start()
    try:
        with suppress(Retryable), unit.savepoint():
            unit.apply([Upsert(layout=MATERIALS, rows=[(b"b", b"new", None)])])
        unit.apply([Upsert(layout=MATERIALS, rows=[(b"c", b"late", None)])])
    finally:
        other.join()


def test_a_lock_that_is_not_to_be_had_ends_the_unit(
    target: MysqlTarget, sink: MysqlSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the server has taken only the statement back: another try begins anew."""
    write(sink, A)
    monkeypatch.setitem(session._SETTINGS, "innodb_lock_wait_timeout", "1")
    sink.recover()
    with beside(target, "SELECT * FROM material WHERE code = 'a' FOR UPDATE"):
        with pytest.raises(Retryable, match="1205"), sink.begin() as unit:  # noqa: PT012
            unit.apply([Upsert(layout=MATERIALS, rows=[B])])
            with suppress(Retryable):
                unit.apply([Upsert(layout=MATERIALS, rows=[(b"a", b"new", None)])])
            unit.save_checkpoint("9", commit_time=None, transactions=1, changes=1)
        assert target.living(MATERIALS) == {(b"a",): A}
    write(sink, B)


def test_a_lost_connection_is_recovered(target: MysqlTarget, sink: MysqlSink) -> None:
    """Nothing of the unit stays; the epoch is raised, and the former session is gone."""
    with pytest.raises(Unreachable), sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[A])])
        target.execute(f"KILL {sink._live().number}")
        unit.apply([Upsert(layout=MATERIALS, rows=[B])])
    with pytest.raises(Unreachable):
        write(sink, A)
    assert sink.recover().epoch == 2
    write(sink, A)
    assert set(target.living(MATERIALS)) == {(b"a",)}


def test_recovery_ends_the_former_session_and_waits_for_its_transaction(
    target: MysqlTarget, sink: MysqlSink
) -> None:
    """It may still hold its locks when the network has forgotten it."""
    former = sink._live()
    former.run("START TRANSACTION")
    former.run("UPDATE cdc_checkpoint SET changes = 99")
    sink._session = None
    assert sink.recover().changes == 0
    with pytest.raises(CdcError), session.translated():
        former.run("COMMIT")


def test_a_read_only_server_is_waited_for(target: MysqlTarget, sink: MysqlSink) -> None:
    """A replica, or a primary that is being switched over."""
    live = sink._live()
    live.run("SET SESSION TRANSACTION READ ONLY")
    with pytest.raises(Retryable, match="read-only"):
        write(sink, A)
    live.run("SET SESSION TRANSACTION READ WRITE")
    write(sink, A)


# --- keys and values ------------------------------------------------------------------------------


def test_keys_differ_by_case_accents_and_blanks_at_the_end(
    target: MysqlTarget, sink: MysqlSink
) -> None:
    """As they do on PostgreSQL; most collations here take some of them for the same."""
    keys = ["a", "A", "a ", "a  ", "ä", "Ä", "ａ", "ß", "ss", "1", "01", ""]
    rows: list[Row] = [(key.encode(), b"%d" % n, None) for n, key in enumerate(keys)]
    for fresh in (True, False):
        write(sink, *rows, fresh=fresh)
    assert target.living(MATERIALS) == {(row[0],): row for row in rows}


@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize("fresh", [True, False])
def test_another_unique_key_is_never_written_over(
    target: MysqlTarget, sink: MysqlSink, number: int, fresh: bool
) -> None:
    """ON DUPLICATE KEY UPDATE would write the row that has the name, under whatever key it has."""
    rows: list[Row] = [(b"k%d" % n, b"name %d" % n, None) for n in range(number)]
    target.execute("ALTER TABLE material ADD UNIQUE KEY named (name(40))")
    try:
        write(sink, *rows, fresh=True)
        clash: list[Row] = [*rows[1:], (b"other", b"name 0", None)]
        with sink.begin() as unit, pytest.raises(DataError) as caught:
            unit.apply([Upsert(layout=MATERIALS, rows=clash, fresh=fresh)])
        assert caught.value.code == "sqlstate_23505"
        assert "name 0" not in str(caught.value)
        write(sink, *[(key, b"%s!" % name, None) for key, name, _ in rows], fresh=fresh)
    finally:
        target.execute("ALTER TABLE material DROP KEY named")
    assert {row[1] for row in target.living(MATERIALS).values()} == {
        b"name %d!" % n for n in range(number)
    }


def test_a_row_that_is_too_large_for_a_packet_parks_alone(
    target: MysqlTarget, sink: MysqlSink
) -> None:
    """A statement that is, is divided; a single row is told, and the connection lives on."""
    sink._live().longest = 20_000
    rows: list[Row] = [(b"k%d" % n, b"x" * 500, None) for n in range(200)]
    for fresh in (True, False):
        write(sink, *rows, fresh=fresh)
    with sink.begin() as unit:
        steps = [Upsert(layout=MATERIALS, rows=[*rows, (b"l", b"x" * 30_000, None)])]
        for fresh in (True, False):
            with pytest.raises(DataError) as caught:
                unit.apply([replace(steps[0], fresh=fresh)])
            assert caught.value.code == "sqlstate_54000"
        assert set(unit.faults(steps)[MATERIALS.mapping]) == {(b"l",)}
    assert set(target.living(MATERIALS).values()) == set(rows)


REGION = _layout(
    Entity(
        name="region",
        key=("code",),
        attributes=(Attribute(name="code", type=string(10), required=True, references="customer"),),
    )
)
TOWN = _layout(
    Entity(
        name="town",
        key=("region", "name"),
        attributes=(
            Attribute(name="region", type=string(10), required=True, references="region"),
            Attribute(name="name", type=string(10), required=True),
        ),
    )
)


def test_a_renamed_key_is_carried_through_all_that_refer_to_it(target: MysqlTarget) -> None:
    """Where the key that refers is a key itself, those who refer to that follow too."""
    customer = _layout(
        Entity(
            name="customer",
            key=("code",),
            attributes=(Attribute(name="code", type=string(40), required=True),),
        )
    )
    layouts = (customer, REGION, TOWN)
    entities = {layout.entity.name: layout.entity for layout in layouts}
    name = f"{target.database}_renames"
    target.server.create_database(name)
    try:
        other = MysqlTarget(target.server, name, entities, layouts)
        sink = other.sink()
        sink.acquire()
        with sink.begin() as unit:
            unit.apply([Upsert(layout=layout, rows=[(b"a",), (b"b",)]) for layout in layouts[:2]])
            unit.apply([Upsert(layout=TOWN, rows=[(b"a", b"x"), (b"b", b"x")])])
        swap: list[tuple[Key, Row]] = [((b"a",), (b"b",)), ((b"b",), (b"c",))]
        with sink.begin() as unit:
            unit.apply([Rename(layout=customer, pairs=swap)])
            unit.save_checkpoint("1", commit_time=None, transactions=1, changes=1)
        assert set(other.living(REGION)) == {(b"b",), (b"c",)}
        assert set(other.living(TOWN)) == {(b"b", b"x"), (b"c", b"x")}
        other.close()
    finally:
        target.server.drop_database(name)


def test_somebody_elses_foreign_key_is_a_rows_fault(target: MysqlTarget, sink: MysqlSink) -> None:
    """The server checks it at once; a sweep holds the row back."""
    with sink.begin() as unit:
        unit.apply([Upsert(layout=CUSTOMERS, rows=[(b"c", b"n"), (b"d", b"n")])])
    for key in ((b"c",), (b"d",)):
        target.age(CUSTOMERS, key)
    collation = sink._live().collation
    target.execute(
        f"CREATE TABLE audit (customer varchar(40) COLLATE {collation}, FOREIGN KEY (customer)"
        " REFERENCES customer (code)) ENGINE = InnoDB; INSERT INTO audit VALUES ('c')"
    )
    try:
        with sink.begin() as unit, pytest.raises(DataError) as caught:
            unit.apply([Rename(layout=CUSTOMERS, pairs=[((b"c",), (b"x", b"n"))])])
        assert caught.value.code == "sqlstate_23503"
        sink.begin_generation("slot", IDENTITY)
        with sink.begin() as unit:
            counts = unit.finish_snapshot([CUSTOMERS, ORDERS], IDENTITY, "1").counts
    finally:
        target.execute("DROP TABLE audit")
    assert counts == {(CUSTOMERS.mapping, "delete"): 1, (CUSTOMERS.mapping, "noop"): 1}
    assert set(target.living(CUSTOMERS)) == {(b"c",)}


# --- the session ----------------------------------------------------------------------------------


HOSTILE = {
    "sql_mode": "'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'",
    "time_zone": "'+07:00'",
    "character_set_server": "latin1",
    "autocommit": "0",
    "innodb_lock_wait_timeout": "1",
    "completion_type": "'CHAIN'",
    "sql_select_limit": "1",
    "max_join_size": "1",
}


def test_no_server_talks_us_out_of_our_settings(target: MysqlTarget) -> None:
    """Global settings that would cut, round or shift values in silence."""
    before = {name: target.query(f"SELECT @@GLOBAL.{name}")[0][0] for name in HOSTILE}
    try:
        for name, value in HOSTILE.items():
            target.execute(f"SET GLOBAL {name} = {value}")
        sink = target.sink()
        sink.acquire()
        assert refusals(sink.examine()) == []
        with sink.begin() as unit:
            with pytest.raises(DataError):
                unit.apply([Upsert(layout=MATERIALS, rows=[(b"x" * 41, None, None)])])
            unit.apply([Upsert(layout=MATERIALS, rows=[(b'"', "ü€😀".encode(), b"\\"), A, B])])
            unit.apply([Upsert(layout=CUSTOMERS, rows=[(b"a", b"n"), (b"b", b"n")])])
            unit.apply([Upsert(layout=ORDERS, rows=[(b"1", b"a"), (b"2", b"b")])])
            unit.apply([Truncate(layout=ORDERS, time=0), Truncate(layout=CUSTOMERS, time=0)])
        assert len(target.living(MATERIALS)) == 3
        [(off,)] = target.query(
            "SELECT MAX(ABS(TIMESTAMPDIFF(SECOND, last_sync_time, UTC_TIMESTAMP()))) FROM material"
        )
        assert int(off or 99) < 60
    finally:
        for name, found in before.items():
            text = (found or b"").decode()
            target.execute(f"SET GLOBAL {name} = {text if text.isdigit() else repr(text)}")


def test_commits_that_a_crash_would_take_back_are_refused(
    target: MysqlTarget, sink: MysqlSink
) -> None:
    """With the cure; the binary log's part of it is a warning."""
    target.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2, GLOBAL sync_binlog = 0")
    try:
        found = {one.check.name: one for one in sink.watch()}
    finally:
        target.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1")
    assert found["target.flush"].check.refuses
    assert found["target.flush"].cure.startswith("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert "sync_binlog is 0" in found["target.durability"].what


# --- the clock ------------------------------------------------------------------------------------


def _save(unit: MysqlUnit) -> None:
    unit.save_checkpoint("9", commit_time=None, transactions=1, changes=1)


def _finish(unit: MysqlUnit) -> None:
    unit.finish_snapshot([MATERIALS], IDENTITY, "9")


def set_back(target: MysqlTarget, *, seconds: int) -> None:
    """The clock goes back, or, with a negative number, is put right again."""
    moved = ", ".join(
        f"{name} = {name} + INTERVAL {seconds} SECOND"
        for name in ("generation_started", "updated_at")
    )
    target.execute(f"UPDATE cdc_checkpoint SET {moved}")
    target.execute(
        f"UPDATE material SET last_sync_time = last_sync_time + INTERVAL {seconds} SECOND"
    )


@pytest.mark.parametrize("end", [_hold, _save, _finish])
def test_a_clock_that_was_set_back_is_refused(
    target: MysqlTarget, sink: MysqlSink, end: End
) -> None:
    """No unit commits before its copy began, and no copy begins before what was written."""
    sink.begin_generation("slot", IDENTITY)
    write(sink, A)
    set_back(target, seconds=30)
    with pytest.raises(Retryable, match=r"clock stands \d\d\.\d s before .*copy began"):
        write(sink, B, end=end)
    assert set(target.living(MATERIALS)) == {(b"a",)}
    with pytest.raises(Retryable, match="last wrote"):
        sink.begin_generation("slot", IDENTITY)
    assert target.control().checkpoints()[0].generation == 1
    set_back(target, seconds=-30)
    write(sink, B)
    with sink.begin() as unit:
        _finish(unit)
    assert target.control().checkpoints()[0].phase is Phase.STREAMING
    assert set(target.living(MATERIALS)) == {(b"a",), (b"b",)}


def test_the_cure_of_a_clock_that_was_ahead(target: MysqlTarget, sink: MysqlSink) -> None:
    """What the page says for a clock that is right now: nothing is swept that was written."""
    sink.begin_generation("slot", IDENTITY)
    write(sink, A, B)
    write(sink, end=_finish)
    set_back(target, seconds=86_400)
    (script,) = re.findall(r"```mysql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    target.execute(script.strip().removesuffix(";"))
    write(sink, A)
    sink.begin_generation("slot", IDENTITY)
    write(sink, A)
    write(sink, end=_finish)
    assert set(target.living(MATERIALS)) == {(b"a",)}


def test_applied_twice_is_applied_once(target: MysqlTarget) -> None:
    """A plan over what is there is empty."""
    made = apply_plan(target.conninfo, target._entities, target._layouts)
    assert (made.changes, made.refusals) == ((), ())
