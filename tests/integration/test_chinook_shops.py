"""The Chinook shop on PostgreSQL, MariaDB and MySQL becomes the same rows, copied and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from cdc_daemon.demo.mysql_family import FamilyServer
from tests.conftest import DatabaseFactory
from tests.support.chinook_shops import Canonical, MysqlShop, PostgresShop
from tests.support.mysql_database import MysqlDatabase

SEED = 20261127
SHORT = 60  # edits


@contextmanager
def empty(server: FamilyServer, name: str) -> Iterator[MysqlDatabase]:
    """A database of this test's own."""
    server.create_database(name)
    try:
        yield MysqlDatabase(server=server, name=name)
    finally:
        server.drop_database(name)


@contextmanager
def empty_control(server: FamilyServer, name: str) -> Iterator[MysqlDatabase]:
    """The same, and an account for the worker."""
    with empty(server, name):
        server.create_account(name, "not-secret")
        try:
            yield MysqlDatabase(server=server, name=name, user=name, password="not-secret")
        finally:
            server.execute(f"DROP USER '{name}'@'%'")


@pytest.fixture
def canonical(
    request: pytest.FixtureRequest, database_factory: DatabaseFactory, tmp_path: Path
) -> Iterator[dict[str, Canonical]]:
    """Each shop into PostgreSQL, and the one on MySQL into MariaDB as well; only there in short."""
    with ExitStack() as stack:
        mariadb, mysql = (request.getfixturevalue(name) for name in ("mariadb", "mysql9"))
        on_mariadb, on_mysql = (
            stack.enter_context(empty(server, "shop")) for server in (mariadb, mysql)
        )
        control = stack.enter_context(empty_control(mariadb, "control"))
        shops: dict[str, PostgresShop | MysqlShop] = {
            "postgresql": PostgresShop(database_factory()),
            "mariadb": MysqlShop(on_mariadb),
            "mysql": MysqlShop(on_mysql),
        }
        short = request.node.callspec.params["edits"] == SHORT
        found = {
            name: Canonical(shop, database_factory(), tmp_path / name)
            for name, shop in shops.items()
            if name != "mysql" or not short
        }
        found["into mariadb"] = Canonical(shops["mysql"], control, tmp_path / "other")
        yield found


@pytest.mark.parametrize("edits", [SHORT, pytest.param(3000, marks=pytest.mark.acceptance)])
@pytest.mark.timeout(900)
def test_shops_become_the_same_rows(canonical: dict[str, Canonical], edits: int) -> None:
    """Content hashes are equal after the copies, and after the same edits of every shop."""
    with ExitStack() as stack:
        running = {name: stack.enter_context(one.running()) for name, one in canonical.items()}
        assert_equal(canonical)
        transactions = edit(canonical, edits)
        for name, one in canonical.items():
            one.caught_up(running[name])
        assert_equal(canonical)
        assert all(one.checkpoint().transactions for one in canonical.values())
        counted = {name: one.checkpoint() for name, one in canonical.items()}
        assert {n: (c.transactions, c.changes) for n, c in counted.items()} == transactions


def edit(canonical: dict[str, Canonical], edits: int) -> dict[str, tuple[int, int]]:
    """The same edits of each shop, once; what it has committed."""
    shops = {id(one.shop): one.shop for one in canonical.values()}
    found = {}
    for number, shop in shops.items():
        with closing(shop.clerk(SEED)) as clerk:
            clerk.work(edits)
            found[number] = clerk.transactions, clerk.changes
    return {name: found[id(one.shop)] for name, one in canonical.items()}


def assert_equal(canonical: dict[str, Canonical]) -> None:
    """One content of each entity."""
    hashes = {name: one.hashes() for name, one in canonical.items()}
    wanted = hashes["postgresql"]
    differ = [
        f"{entity} of {name}" for name, found in hashes.items() for entity in found
        if found[entity] != wanted[entity]
    ]  # fmt: skip
    assert not differ, differ
