"""The way from any SQLite database to the configured one: what is done, and what is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cdc_daemon.model.effects import Layout, ReferenceTable
from cdc_daemon.model.entities import Attribute, Entity, EntityType, Kind
from cdc_daemon.model.errors import ConfigurationError, Stop
from cdc_daemon.model.findings import refusals
from cdc_daemon.sinks.sqlite import SqliteSink, apply_plan, plan
from cdc_daemon.sinks.versions import LEDGER_VERSION

TEXT = EntityType(Kind.TEXT)


def string(length: int) -> EntityType:
    return EntityType(Kind.STRING, length)


def attribute(name: str, type_: EntityType = TEXT, **more: object) -> Attribute:
    return Attribute(name=name, type=type_, **more)  # type: ignore[arg-type]


CODE = attribute("code", string(40), required=True)
PARENT = Entity(name="parent", key=("code",), attributes=(CODE, attribute("name")))
CHILD = Entity(
    name="child",
    key=("code",),
    attributes=(CODE, attribute("up", string(40), references="parent")),
    soft_delete=True,
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.db")


def entities(*given: Entity) -> dict[str, Entity]:
    return {entity.name: entity for entity in given}


def described(path: str, wanted: Mapping[str, Entity]) -> list[str]:
    made = plan(path, wanted, [])
    assert made.refusals == ()
    return [change.description for change in made.changes]


def refused(path: str, wanted: Mapping[str, Entity]) -> list[str]:
    """What a plan refuses; applying it refuses the same, and so does a worker's start."""
    made = plan(path, wanted, [])
    with pytest.raises(ConfigurationError) as caught:
        apply_plan(path, wanted, [])
    assert caught.value.problems == made.refusals
    assert refusals(SqliteSink(path, "erp", wanted, []).examine()) != []
    return [str(one) for one in made.refusals]


def run(path: str, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_tables_are_strict_and_carry_their_keys(path: str) -> None:
    """Primary key, references that follow and are checked late, an index on each of them."""
    apply_plan(path, entities(PARENT, CHILD), [])
    with closing(sqlite3.connect(path)) as connection:
        sql = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL"))
    assert sql["child"] == (
        'CREATE TABLE "child" (\n'
        '"code" TEXT NOT NULL CONSTRAINT "code: string(40)" CHECK (length("code") <= 40),\n'
        '"up" TEXT CONSTRAINT "up: string(40)" CHECK (length("up") <= 40)'
        ' REFERENCES "parent" ("code") ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED,\n'
        '"last_sync_time" TEXT NOT NULL,\n'
        '"deleted_at" TEXT,\n'
        'PRIMARY KEY ("code")\n) STRICT'
    )
    assert sql["cdc_child_up"] == 'CREATE INDEX "cdc_child_up" ON "child" ("up")'
    assert refusals(SqliteSink(path, "erp", entities(PARENT, CHILD), []).examine()) == []


def test_columns_that_may_be_null_are_added(path: str) -> None:
    """Also to a table with rows; a reference with its index, and what soft deletes need."""
    small = replace(CHILD, attributes=(CODE,), soft_delete=False)
    apply_plan(path, entities(PARENT, small), [])
    run(path, "INSERT INTO child (code, last_sync_time) VALUES ('a', '')")
    wanted = entities(PARENT, CHILD)
    assert described(path, wanted) == [
        "add column up to child",
        "add column deleted_at to child",
        "index child.up, which refers to parent",
    ]
    apply_plan(path, wanted, [])
    assert described(path, wanted) == []
    assert refusals(SqliteSink(path, "erp", wanted, []).examine()) == []


def test_an_empty_table_is_made_anew_and_one_with_rows_is_not(path: str) -> None:
    """SQLite alters no constraint; nothing that holds a row is dropped."""
    apply_plan(path, entities(PARENT), [])
    wider = replace(CODE, type=string(60))
    wanted = entities(replace(PARENT, attributes=(wider, attribute("name", required=True))))
    assert described(path, wanted) == [
        "drop table parent, which is empty",
        "create table parent",
    ]
    run(path, "INSERT INTO parent (code, last_sync_time) VALUES ('a', '')")
    assert refused(path, wanted) == [
        "parent: column code was not made for string(60)"
        " (drop the table, run cdc-daemon apply and take a new snapshot)",
    ]
    more = replace(PARENT, attributes=(*PARENT.attributes, attribute("new", required=True)))
    assert refused(path, entities(more)) == [
        "parent: column new is missing, is required, and the table has rows"
        " (make the attribute not required first, or make the table anew)"
    ]


def test_a_new_reference_of_a_column_with_rows_is_refused(path: str) -> None:
    plain = replace(CHILD, attributes=(CODE, attribute("up", string(40))))
    apply_plan(path, entities(PARENT, plain), [])
    run(path, "INSERT INTO child (code, last_sync_time) VALUES ('a', '')")
    (problem,) = refused(path, entities(PARENT, CHILD))
    assert problem.startswith("child: column up does not refer to parent")


@pytest.mark.parametrize(
    "wanted, what",
    [
        (entities(replace(PARENT, name="cdc_command")), "a table cannot be called cdc_command"),
        (entities(replace(PARENT, name="sqlite_x")), "a table cannot be called sqlite_x"),
        (
            entities(PARENT, replace(PARENT, name="Parent")),
            "SQLite does not tell it from parent: case does not count",
        ),
        (
            entities(replace(PARENT, attributes=(CODE, attribute("Code")))),
            "attribute Code has the name of attribute code",
        ),
        (
            entities(replace(PARENT, attributes=(CODE, attribute("Deleted_At")))),
            "attribute Deleted_At has the name of a column that every entity table has",
        ),
    ],
)
def test_names_that_sqlite_cannot_have(path: str, wanted: dict[str, Entity], what: str) -> None:
    assert any(what in str(problem) for problem in plan(path, wanted, []).refusals)
    with pytest.raises(ConfigurationError):
        apply_plan(path, wanted, [])


def test_a_table_of_somebody_elses_is_not_taken(path: str) -> None:
    """A view, a table that is not STRICT, another key, a column that nobody fills."""
    apply_plan(path, {}, [])
    run(
        path,
        "CREATE VIEW parent AS SELECT 1 AS code",
        "CREATE TABLE child (code TEXT, up INTEGER, more TEXT NOT NULL, PRIMARY KEY (up))",
        "INSERT INTO child VALUES ('a', 1, 'x')",
    )
    found = refused(path, entities(PARENT, CHILD))
    assert found[0] == "parent: is not a table (move it out of the way)"
    assert any("is not a STRICT table" in one for one in found)
    assert any("its primary key is (up), not (code)" in one for one in found)
    assert any("column up is INTEGER, not TEXT" in one for one in found)
    assert any('ALTER TABLE "child" DROP COLUMN "more"' in one for one in found)


def test_a_surrogate_id_is_the_rows_number(path: str) -> None:
    """And the entity's key stays unique."""
    wanted = entities(replace(PARENT, surrogate_id=True))
    apply_plan(path, wanted, [])
    assert refusals(SqliteSink(path, "erp", wanted, []).examine()) == []
    run(path, "INSERT INTO parent (code, last_sync_time) VALUES ('a', ''), ('b', '')")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id, code FROM parent").fetchall() == [(1, "a"), (2, "b")]
    with pytest.raises(sqlite3.IntegrityError):
        run(path, "INSERT INTO parent (code, last_sync_time) VALUES ('a', '')")


def test_a_reference_table_made_for_another_key_is_refused(path: str) -> None:
    def layout(kind: str) -> Layout:
        table = ReferenceTable(name="reference_parent", columns=(("id", kind),))
        return Layout(
            mapping="erp.parent", entity=PARENT, columns=("code", "name"), key=(0,), reference=table
        )

    apply_plan(path, entities(PARENT), [layout("bigint")])
    assert plan(path, entities(PARENT), [layout("bigint")]).changes == ()
    (problem,) = plan(path, entities(PARENT), [layout("text")]).refusals
    assert problem.where == "cdc_reference_parent"


def test_a_newer_ledger_is_left_alone(path: str) -> None:
    """Backward is refused; what an older program does not know it does not touch."""
    apply_plan(path, {}, [])
    run(path, "UPDATE cdc_meta SET version = 99")
    (problem,) = plan(path, {}, []).refusals
    assert problem.what == f"the ledger has version 99, this program needs {LEDGER_VERSION}"
    with pytest.raises(ConfigurationError, match="version 99"):
        SqliteSink(path, "erp", {}, []).acquire()


def test_a_failed_apply_leaves_nothing(path: str) -> None:
    """One transaction: an index that is in the way takes everything back."""
    apply_plan(path, {}, [])
    run(path, 'CREATE INDEX "cdc_child_up" ON cdc_command (actor)')
    with pytest.raises(Stop, match=r"Could not index child\.up"):
        apply_plan(path, entities(PARENT, CHILD), [])
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema")]
    assert "child" not in names
    assert "parent" not in names
