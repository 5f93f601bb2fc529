"""Triggers, collations and conflict clauses that somebody gave an SQLite control database."""

from __future__ import annotations

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Upsert
from cdc_daemon.model.errors import Fenced, Stop
from cdc_daemon.model.findings import refusals
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sinks.sqlite import SqliteSink, plan
from cdc_daemon.sinks.sqlite.clauses import deviations, silences
from tests.contract.shapes import ENTITIES, LAYOUTS, MATERIALS
from tests.contract.sqlite_target import SqliteTarget

A: Row = (b"a", None, None)
BAD: Row = (b"bad", None, None)
C: Row = (b"c", None, None)


def anew(target: SqliteTarget, change: tuple[str, str]) -> None:
    """The table of materials, which is empty, made with another clause."""
    with target._reading() as connection:
        sql = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE name = 'material'"
        ).fetchone()[0]
        assert change[0] in sql
        connection.execute("DROP TABLE material")
        connection.execute(sql.replace(*change, 1))


ROLLING_BACK = (
    "CREATE TRIGGER guard BEFORE INSERT ON material WHEN new.code = 'bad'"
    " BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
)
UNIQUE_NAME = ("PRIMARY KEY", "UNIQUE (name) ON CONFLICT ROLLBACK,\nPRIMARY KEY")


def roll_back(target: SqliteTarget, how: str) -> None:
    if how == "trigger":
        target.sqlite(ROLLING_BACK)
    else:
        anew(target, UNIQUE_NAME)


ROLLBACKS = pytest.mark.parametrize("how", ["trigger", "constraint"])


@ROLLBACKS
@pytest.mark.parametrize("call", ["apply", "faults", "savepoint"])
def test_what_rolls_a_unit_back_stops_it(target: SqliteTarget, how: str, call: str) -> None:
    """It is no row's fault: what stood before it in the unit is gone, and must not be skipped."""
    roll_back(target, how)
    sink = target.sink()
    sink.acquire()
    first, bad = ((b"a", b"x", None), (b"bad", b"x", None))
    with pytest.raises(Stop, match="rolled back"), sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[first])])
        step = Upsert(layout=MATERIALS, rows=[bad, C])
        if call == "apply":
            unit.apply([step])
        elif call == "faults":
            unit.faults([step])
        else:
            with unit.savepoint():
                unit.apply([step])
        pytest.fail("not reached")
    assert target.living(MATERIALS) == {}
    assert target.control().checkpoints()[0].position is None


def test_a_unit_that_was_rolled_back_goes_on_with_nothing(
    target: SqliteTarget, sink: SqliteSink
) -> None:
    """Whatever became of the error: the rest of the unit is not committed alone."""
    with pytest.raises(Stop, match="rolled back"), sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[A])])
        sink._live().execute("ROLLBACK")
        for go_on in (
            lambda: unit.apply([Upsert(layout=MATERIALS, rows=[C])]),
            lambda: unit.dangling([]),
        ):
            with pytest.raises(Stop, match="rolled back"):
                go_on()
        unit.save_checkpoint("0/9", commit_time=None, transactions=1, changes=1)
        pytest.fail("not reached")
    assert target.living(MATERIALS) == {}
    with pytest.raises(Stop, match="rolled back"), sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[A])])
        sink._live().execute("ROLLBACK")  # and nobody asks for anything before its COMMIT


def test_a_checkpoint_moves_only_under_our_epoch(target: SqliteTarget, sink: SqliteSink) -> None:
    """Nobody can raise it inside our transaction; were it so, nothing would be written."""
    identity = SourceIdentity(system="1", timeline=1, database="d", publication="p")
    raised = "UPDATE cdc_checkpoint SET epoch = epoch + 1"
    with pytest.raises(Fenced), sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[A])])
        sink._live().execute(raised)
        unit.save_checkpoint("0/9", commit_time=None, transactions=1, changes=1)
        pytest.fail("not reached")
    with pytest.raises(Fenced), sink.begin() as unit:  # noqa: PT012
        unit.apply([Upsert(layout=MATERIALS, rows=[A])])
        sink._live().execute(raised)
        unit.finish_snapshot([MATERIALS], identity, "0/9")
        pytest.fail("not reached")
    assert target.control().checkpoints()[0].position is None


# --- refused at the start -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, what",
    [
        (('"code" TEXT', '"code" TEXT COLLATE NOCASE'), "COLLATE NOCASE"),
        (('"name" TEXT', '"name" TEXT collate "rtrim"'), "COLLATE RTRIM"),
        (('PRIMARY KEY ("code")', 'PRIMARY KEY ("code" COLLATE NOCASE)'), "COLLATE NOCASE"),
        (('"note" TEXT', '"note" TEXT UNIQUE ON CONFLICT REPLACE'), "ON CONFLICT REPLACE"),
        (
            ("PRIMARY KEY", 'UNIQUE ("name") /* x */ ON\nCONFLICT Ignore,\nPRIMARY KEY'),
            "ON CONFLICT IGNORE",
        ),
        (UNIQUE_NAME, "ON CONFLICT ROLLBACK"),
    ],
)
def test_a_clause_that_merges_or_drops_rows_is_refused(
    target: SqliteTarget, change: tuple[str, str], what: str
) -> None:
    """'abc' and 'ABC' are two keys, and a conflict is an error: by plan and at each start."""
    anew(target, change)
    target.sqlite("INSERT INTO material (code, last_sync_time) VALUES ('a', '')")
    (problem,) = plan(str(target.path), ENTITIES, LAYOUTS).refusals
    assert problem.where == "material"
    assert what in problem.what
    (found,) = refusals(target.sink().examine())
    assert found.what == problem.what


@pytest.mark.parametrize(
    "sql",
    [
        ROLLING_BACK,
        "CREATE TRIGGER guard BEFORE UPDATE ON MATERIAL BEGIN SELECT raise ( /**/ ignore ); END",
    ],
)
def test_a_trigger_that_undoes_in_silence_is_refused(target: SqliteTarget, sql: str) -> None:
    """By plan, which drops no trigger of somebody else's, and at each start."""
    target.sqlite(sql)
    (problem,) = plan(str(target.path), ENTITIES, LAYOUTS).refusals
    assert problem.where == "material"
    assert "trigger guard" in problem.what
    assert 'DROP TRIGGER "guard"' in problem.cure
    (found,) = refusals(target.sink().examine())
    assert found.what == problem.what


def test_what_does_no_harm_is_let_alone(target: SqliteTarget) -> None:
    """A trigger that aborts is a row's fault, an index of another order is nobody's."""
    target.sqlite(
        "CREATE TRIGGER guard BEFORE INSERT ON material WHEN new.code = 'x'"
        " BEGIN SELECT RAISE(ABORT, 'RAISE(IGNORE)'); END"
    )
    target.sqlite("CREATE INDEX by_name ON material (name COLLATE NOCASE)")
    assert plan(str(target.path), ENTITIES, LAYOUTS).refusals == ()
    assert refusals(target.sink().examine()) == []


@pytest.mark.parametrize(
    "sql, found",
    [
        ("x TEXT COLLATE BINARY, UNIQUE (x) ON CONFLICT ABORT", []),
        ("x TEXT DEFAULT 'it''s COLLATE NOCASE' -- ON CONFLICT IGNORE\n", []),
        ('"COLLATE NOCASE" TEXT, [ON CONFLICT IGNORE] TEXT, `a COLLATE b` TEXT', []),
        ('x TEXT REFERENCES "on" ("conflict") ON UPDATE CASCADE', []),
        ("x TEXT COLLATE -- which\n nocase", ["COLLATE NOCASE"]),
        (
            "x TEXT COLLATE [NOCASE] UNIQUE ON CONFLICT FAIL, y TEXT COLLATE 'rtrim'",
            ["COLLATE NOCASE", "ON CONFLICT FAIL", "COLLATE RTRIM"],
        ),
    ],
)
def test_clauses_are_told_from_names_and_texts(sql: str, found: list[str]) -> None:
    assert deviations(f"CREATE TABLE t ({sql}) STRICT") == found


def test_what_a_trigger_does_is_told_from_texts() -> None:
    assert silences("BEGIN SELECT RAISE(IGNORE); SELECT raise(Rollback, 'x'); END") == [
        "RAISE(IGNORE)",
        "RAISE(ROLLBACK)",
    ]
    assert silences("BEGIN SELECT RAISE(ABORT, 'raise(ignore)'); END") == []
