"""A control database on PostgreSQL, and a sink that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from cdc_daemon.sinks.postgres import PostgresSink
from tests.contract.postgres_target import PostgresTarget
from tests.contract.shapes import ENTITIES, LAYOUTS
from tests.support.databases import Database


@pytest.fixture
def target(database: Database) -> Iterator[PostgresTarget]:
    """A control database of one test's own."""
    with closing(PostgresTarget(database, ENTITIES, LAYOUTS)) as made:
        yield made


@pytest.fixture
def sink(target: PostgresTarget) -> PostgresSink:
    """A sink that holds it."""
    made = target.sink()
    made.acquire()
    return made
