"""Verification of MySQL and MariaDB sources: what is equal is equal, every difference is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.model.errors import EXIT_DIFFERENCE, ConfigurationError
from cdc_daemon.verify import MappingReport, content_hashes, preview, verify
from cdc_daemon.verify.progress import await_applied
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
    params=["mariadb-postgres18", "mysql9-postgres18", "mariadb-mariadb"],
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
        applied = made.ask("apply", "--yes")
        assert applied.exit_code == 0, applied.output
        stack.enter_context(made.worker())
        yield made


@pytest.fixture(autouse=True)
def as_before(hr: Hr) -> Iterator[None]:
    """Each test ends with the rows that it began with, on both sides."""
    yield
    hr.change(f"DELETE FROM employee; DELETE FROM department; DELETE FROM grade; {ROWS}")
    verified(hr)
    hr.forget_failures()
    hr.asked("verify", "--repair", "--yes", "--timeout", "20")


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
