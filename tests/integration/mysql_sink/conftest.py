"""Control databases on MariaDB and MySQL, and a sink that holds one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.sinks.mysql import MysqlSink
from tests.contract.mysql_target import MysqlTarget
from tests.contract.shapes import ENTITIES, LAYOUTS


@pytest.fixture(scope="session", params=["mariadb", "mysql9"])
def family(request: pytest.FixtureRequest) -> FamilyServer:
    """A server of each kind, shared by the tests of one worker."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, FamilyServer)
    return server


@pytest.fixture(scope="session")
def kept(family: FamilyServer) -> Iterator[MysqlTarget]:
    """A control database with the contract suite's entities."""
    name = f"sink_{os.getpid()}"
    family.create_database(name)
    yield MysqlTarget(family, name, ENTITIES, LAYOUTS)
    family.drop_database(name)


@pytest.fixture
def target(kept: MysqlTarget) -> Iterator[MysqlTarget]:
    """The same, empty."""
    kept.clear(ledger=True)
    yield kept
    kept.close()


@pytest.fixture
def sink(target: MysqlTarget) -> MysqlSink:
    """A sink that holds it."""
    made = target.sink()
    made.acquire()
    return made
