"""The control databases that the contract suite runs against."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.ports import Sink
from tests.contract.mysql_target import MysqlTarget
from tests.contract.postgres_target import PostgresTarget
from tests.contract.shapes import ENTITIES, LAYOUTS
from tests.contract.sqlite_target import SqliteTarget
from tests.contract.targets import Target
from tests.support.databases import Database


@pytest.fixture(scope="session", params=["postgres18", "postgres15", "sqlite", "mariadb", "mysql9"])
def kept_target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """One control database of every kind that there is a sink for, with the suite's entities."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("contract") / "control.db"
        with closing(SqliteTarget(path, ENTITIES, LAYOUTS)) as embedded:
            yield embedded
        return
    server = request.getfixturevalue(request.param)
    name = f"contract_{os.getpid()}"
    with ExitStack() as stack:
        server.create_database(name)
        stack.callback(server.drop_database, name)
        if isinstance(server, FamilyServer):
            kept: Target = MysqlTarget(server, name, ENTITIES, LAYOUTS)
        else:
            kept = PostgresTarget(Database(server=server, name=name), ENTITIES, LAYOUTS)
        stack.callback(kept.close)
        yield kept


@pytest.fixture
def target(kept_target: Target) -> Iterator[Target]:
    """The control database, empty, with no ledger entries."""
    kept_target.clear(ledger=True)
    yield kept_target
    kept_target.close()


@pytest.fixture
def sink(target: Target) -> Sink:
    """A sink that holds pipeline ``erp`` on it."""
    sink = target.sink()
    sink.acquire()
    return sink
