"""Verification of MySQL and MariaDB sources: what is equal is equal, every difference is found."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cdc_daemon.daemon.verifying import COMMAND
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.model.errors import EXIT_DIFFERENCE, ConfigurationError
from cdc_daemon.verify import MappingReport, content_hashes, preview, verify
from cdc_daemon.verify.progress import await_applied
from cdc_daemon.worker_document import document
from tests.support.databases import Database
from tests.support.hr import Hr
from tests.support.mysql_sources import schema_on

ROWS = """
    INSERT INTO department VALUES (1, 'Ä1', 'Müller', 'C'), (2, 'b', 'Straße', 'C'),
        (3, 'C', 'closed', 'A'), (4, 'D', NULL, 'C');
    INSERT INTO employee VALUES
        (1, '10', 'Ann', 1, '1970-02-03', NULL, '2020-01-02 03:04:05.600', 1234.50, 0.1, '深圳'),
        (2, '9', 'Bea', 2, '0000-00-00', NULL, NULL, -0.00, -0.0, ''),
        (18446744073709551615, 'a', '李', NULL, NULL, NULL, NULL, NULL, 1e22, NULL),
        (4, 'B', '😀', 1, NULL, '2024-02-29', '1000-01-01 00:00:00.001', 9999999999.99, 1e-5, ' ');
    INSERT INTO grade VALUES ('de', 1.5, 'one', 'C'), ('de', 10, 'ten', 'C'), ('at', 2, 'x', 'C')
"""
REJECTED = """
    INSERT INTO employee (id, number, name, department, left_on) VALUES
        (20, 'E20', 'longer than twenty characters', 1, NULL), (21, 'E21', NULL, 1, NULL),
        (22, 'E22', 'n', 1, '2020-00-10'), (23, 'E23', 'n', 3, NULL), (24, 'E24', 'n', 77, NULL),
        (25, NULL, 'n', 1, NULL)
"""


@pytest.fixture(
    scope="module",
    params=["mysql9-postgres18", "mariadb-mariadb"],
)
def hr(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hr]:
    """A source with some rows and a control database that follows it."""
    source, target = map(request.getfixturevalue, request.param.split("-"))
    assert isinstance(source, FamilyServer)
    with ExitStack() as stack:
        there = stack.enter_context(schema_on(source))
        if isinstance(target, PrivatePostgres):
            control = Database(server=target, name=f"verify_{request.param.replace('-', '_')}")
            target.create_database(control.name)
            stack.callback(target.drop_database, control.name)
            made = Hr(there, control, tmp_path_factory.mktemp("hr"))
        else:
            here = stack.enter_context(schema_on(target))
            made = Hr(there, here, tmp_path_factory.mktemp("hr"))
        made.change(ROWS)
        made.apply()
        stack.enter_context(made.worker())
        yield made


@pytest.fixture
def restored(hr: Hr) -> Iterator[None]:
    """The rows as they were, on both sides; what is parked stays so."""
    yield
    hr.change(f"DELETE FROM employee; DELETE FROM department; DELETE FROM grade; {ROWS}")
    assert all(one.equal for one in verified(hr).values())


def verified(hr: Hr, **how: float) -> dict[str, MappingReport]:
    """The report, by table."""
    report = verify(hr.configuration, **{"timeout": 20, **how})  # type: ignore[arg-type]
    assert report.behind == ()
    return {one.entity: one for one in report.mappings}


def numbers(hr: Hr) -> list[tuple[int, ...]]:
    """Rows in the source, in the target, equal, parked; by table."""
    return [(one.source, one.target, one.match, one.parked) for one in verified(hr).values()]


def test_what_was_carried_is_equal_with_equal_hashes(hr: Hr) -> None:
    assert numbers(hr) == [(3, 3, 3, 0), (4, 4, 4, 0), (3, 3, 3, 0)]
    configuration = hr.configuration
    hashes = content_hashes(configuration.target, configuration.entities.values())
    for one in verified(hr).values():
        assert one.source_hash == one.target_hash == hashes[one.entity]
        assert (one.equal, one.examples) == (True, ())


MUTATIONS = {
    "department": [
        "UPDATE department SET name = 'Muller' WHERE code = 'Ä1'",
        "UPDATE department SET deleted_at = last_sync_time WHERE code = 'D'",
    ],
    "employee": [
        "INSERT INTO employee (number, name, last_sync_time)"
        " SELECT 'x', 'n', max(last_sync_time) FROM employee",
        "UPDATE employee SET born = '2000-01-01', remark = NULL WHERE number = '9'",
        "UPDATE employee SET name = 'ann', department_code = 'D', pay = pay - 0.01,"
        " hired = '2020-01-02 03:04:05.601' WHERE number = '10'",
        "DELETE FROM employee WHERE number = 'B'",
    ],
    "grade": ["UPDATE grade SET level = 1.5001 WHERE level = 1.5"],
}
FOUND = {
    "department": {("missing", ("D",), ()), ("different", ("Ä1",), ("name",))},
    "employee": {
        ("extra", ("x",), ()),
        ("different", ("9",), ("born", "remark")),
        ("different", ("10",), ("name", "department_code", "hired", "pay")),
        ("missing", ("B",), ()),
    },
    "grade": {("missing", ("de", "1.5000"), ()), ("extra", ("de", "1.5001"), ())},
}


@pytest.mark.parametrize("hr", ["mysql9-postgres18"], indirect=True)
def test_a_run_of_the_daemon_compares_them_too(hr: Hr) -> None:
    sent = json.dumps(document(hr.configuration, "hr")) + "\n"
    command = [*COMMAND, "--parent", str(os.getpid()), "--pipeline", "hr"]
    ended = subprocess.run(command, input=sent, text=True, timeout=60, check=False)
    assert ended.returncode == 0


@pytest.mark.usefixtures("restored")
def test_every_mutation_of_the_target_is_found(hr: Hr) -> None:
    """A letter's accent and size, a NULL for an empty text, a date for a zero date, a cent, …"""
    hr.spoil("; ".join(sql for some in MUTATIONS.values() for sql in some))
    report = verified(hr)
    found = {
        entity: {(e.kind, e.key, e.attributes) for e in one.examples}
        for entity, one in report.items()
    }
    assert found == FOUND
    assert all(one.source_hash != one.target_hash for one in report.values())
    hr.spoil("DELETE FROM employee WHERE number = 'x'; DELETE FROM grade WHERE level = 1.5001")


GHOST = """
    INSERT INTO grade (country, level, last_sync_time)
    SELECT 'ch', 7, max(last_sync_time) FROM grade
"""


@pytest.mark.usefixtures("restored")
def test_what_stays_on_purpose_is_kept(hr: Hr) -> None:
    """A child of a department that was deleted softly; a row that left the filter, not a deleted
    one."""
    hr.change(
        "DELETE FROM department WHERE id = 2; UPDATE grade SET status = 'A' WHERE country = 'at'"
    )
    assert numbers(hr) == [(2, 2, 2, 0), (4, 4, 4, 0), (2, 3, 2, 0)]
    hr.spoil(GHOST)
    report = verified(hr)["grade"]
    assert (report.kept, report.extra, report.match) == (1, 1, 2)
    hr.spoil("DELETE FROM grade WHERE country = 'ch'")


@pytest.mark.usefixtures("restored")
def test_rows_that_keep_changing_are_moving(hr: Hr, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*_: object) -> bool:
        hr.spoil("UPDATE employee SET pay = coalesce(pay, 0) + 1 WHERE number = '9'")
        return True

    monkeypatch.setattr("cdc_daemon.verify.pipeline.await_applied", moved)
    report = verified(hr)["employee"]
    assert (report.equal, report.moving, report.match) == (True, 1, 3)
    assert report.examples[0].kind == "moving"


@pytest.mark.usefixtures("restored")
def test_it_waits_until_the_pipeline_has_applied_what_the_source_said(
    hr: Hr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes after the first reading is read again."""
    calls = 0

    def late(*arguments: object) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            hr.change("UPDATE employee SET pay = 7, number = 'moved' WHERE id = 1")
        return await_applied(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cdc_daemon.verify.pipeline.await_applied", late)
    report = verified(hr)["employee"]
    assert (report.equal, report.source, report.moving) == (True, 4, 0)


def test_differences_are_shown_then_put_right(hr: Hr) -> None:
    hr.spoil(
        "DELETE FROM employee WHERE number = 'B'; UPDATE employee SET name = 'forged', pay = 1"
    )
    planned = hr.asked("verify", "--repair", "--dry-run", code=EXIT_DIFFERENCE)["repair"]
    assert {(row["kind"], row["would"]) for row in planned["rows"]} == {
        ("missing", "write"),
        ("different", "write"),
    }
    done = hr.asked("verify", "--repair", "--yes", "--reason", "tidy up")
    assert done["repair"]["outcomes"] == {"written": 4}
    found = hr.asked("verify")
    assert found["equal"]
    assert "forged" not in json.dumps(found)
    ((state,),) = hr.target.query(
        f"SELECT state FROM {hr.ledger}verification ORDER BY id DESC LIMIT 1"
    )
    assert state == "equal"


@pytest.mark.usefixtures("restored")
def test_preview_shows_what_the_mapping_does_and_what_the_target_holds(hr: Hr) -> None:
    hr.change(REJECTED)
    one, two, *_ = found = preview(hr.configuration, hr.mapping("employee"), limit=10)
    assert one.source["name"] == "Ann"
    assert one.result is not None
    assert (one.result["department_code"], one.same) == ("Ä1", True)
    assert two.source["born"] == "0000-00-00"
    assert two.result is not None
    assert (two.result["born"], two.same) == (None, True)
    errors = [shown.error for shown in found if shown.error]
    assert len(errors) == 6
    closed = preview(hr.configuration, hr.mapping("department"))[2]
    assert (closed.passes, closed.result) == (False, None)


def test_what_cannot_be_verified_says_why(hr: Hr) -> None:
    name = hr.mapping("employee")
    with pytest.raises(ConfigurationError, match="did you mean"):
        verify(hr.configuration, mappings=[name[:-1]])
    configuration = hr.configuration
    source = configuration.sources["hr"]
    source._parsed = {**source.conninfo, "user": "nobody_there"}
    with pytest.raises(ConfigurationError, match="password"):
        verify(configuration)


def test_rows_that_the_mapping_rejects_are_parked_or_a_difference(hr: Hr) -> None:
    """Too long, not there, no date, a department that is not carried, none at all, no key, and
    another row's key."""
    hr.change(f"{REJECTED}; INSERT INTO employee (id, number, name) VALUES (90, '10', 'again')")
    report = verified(hr)["employee"]
    assert (report.source, report.match, report.parked, report.differences) == (11, 4, 7, 0)
    reasons = sorted(example.reason for example in report.examples)
    assert reasons == [
        "",
        "department_code: reference_unresolved",
        "department_code: reference_unresolved",
        "left_on: invalid_value",
        "name: required",
        "name: too_long",
        "number: required",
    ]
    hr.forget_failures()
    report = verified(hr)["employee"]
    assert (report.missing, report.parked, report.match) == (7, 0, 4)
    assert [one.key for one in report.examples if one.of_source] == [("25",)]


def test_mysql_a_mark_is_behind_what_is_shown_before_it_is_listed(mysql9: FamilyServer) -> None:
    """A transaction that has its number counts as soon as it has it."""
    with schema_on(mysql9) as schema, schema.connect() as one, schema.connect() as other:
        schema.execute("CREATE TABLE t (id int PRIMARY KEY)")
        ((uuid,),) = schema.query("SELECT @@server_uuid")
        for connection, gtid in ((one, f"{uuid}:7000001"), (other, f"{uuid}:a_tag:3")):
            connection.cursor().execute(f"SET gtid_next = '{gtid}'")
            connection.cursor().execute("BEGIN")
        source = schema.source(schema.table("t", "id"))
        mark = source.mark()
        for connection in (one, other):
            connection.cursor().execute("ROLLBACK")
        assert "7000001" in mark
        assert "a_tag:3" in mark
        assert not source.passed(source.mark(), mark)
