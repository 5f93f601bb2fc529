"""Private servers of the MySQL family hold committed data through a crash, and leave nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal

import pymysql
import pytest

from cdc_daemon.demo.installation import ServerError
from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.demo.processes import lives
from tests.support.chinook import load_mysql_shop
from tests.support.mysql_server import PrivateMySQL

Server = PrivateMariaDB | PrivateMySQL
PASSWORD = "it's \"\\ %"


@pytest.fixture(params=["mariadb", "mysql9"])
def server(request: pytest.FixtureRequest) -> Server:
    """The shared one of either kind."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, PrivateMariaDB | PrivateMySQL)
    return found


@pytest.fixture
def second(server: Server) -> Iterator[Server]:
    """Another of its kind, with a password."""
    kind: Callable[..., AbstractContextManager[Server]] = type(server)
    with kind(password=PASSWORD, settings={"max_connections": 77}) as another:
        yield another


def test_it_is_set_up_as_a_source_in_utf8_and_utc(server: Server) -> None:
    [found] = server.query(
        "SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata,"
        " @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@time_zone, @@character_set_server,"
        " @@server_id"
    )
    assert found == (1, "ROW", "FULL", "FULL", 1, 1, "+00:00", "utf8mb4", server.server_id)


def test_databases_are_made_and_dropped_in_spite_of_clients(server: Server) -> None:
    server.create_database("we`ird")
    server.execute("CREATE TABLE one (id int); INSERT INTO one VALUES (1)", database="we`ird")
    busy = server.connect("we`ird", autocommit=False)
    with busy.cursor() as cursor:
        cursor.execute("INSERT INTO one VALUES (2)")
    assert server.query("SELECT id FROM one WHERE id = %s", 1, database="we`ird") == [(1,)]
    server.drop_database("we`ird")
    server.drop_database("we`ird")
    assert server.query("SHOW DATABASES LIKE 'we`ird'") == []


@pytest.mark.acceptance
def test_a_second_one_follows_by_gtid_takes_over_and_comes_back_after_a_kill(
    server: Server, second: Server
) -> None:
    """On its port, with all rows, accounts and passwords, and with another setting.

    That it follows says that it has an identity of its own: a server takes nothing from itself.
    """
    server.create_database("followed")
    server.execute("CREATE TABLE t (id int PRIMARY KEY)", database="followed")
    second.follow(server)
    server.execute("INSERT INTO t VALUES (1)", database="followed")
    second.wait_for(server)
    assert second.gtid() == server.gtid()
    second.promote()
    second.execute("INSERT INTO t VALUES (2)", database="followed")
    reader = second.create_account("cdc", "p%ss", "SELECT ON `fol%`.*", "REPLICATION SLAVE ON *.*")
    before, pid = second.address, second.pid

    second.kill()
    assert not lives(pid)
    second.configure(max_connections=78)
    second.start()

    assert second.address == before
    assert second.query("SELECT @@max_connections") == [(78,)]
    with second.connect("followed", **reader) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM t ORDER BY id")
        assert cursor.fetchall() == ((1,), (2,))
    for wrong in ({"password": ""}, {**reader, "password": "wrong"}):
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            second.connect(**wrong)
    server.drop_database("followed")


def test_chinook_loads(server: Server) -> None:
    server.create_database("chinook")
    load_mysql_shop(server, "chinook")
    count = "SELECT (SELECT count(*) FROM Track), (SELECT sum(Total) FROM Invoice)"
    assert server.query(count, database="chinook") == [(3503, Decimal("2328.60"))]
    server.drop_database("chinook")


def test_leaving_the_context_leaves_no_process_and_no_file() -> None:
    with PrivateMariaDB() as server:
        pid, folder = server.pid, server.folder
        server.stop()
        server.stop()
        with pytest.raises(ServerError, match="not running"):
            _ = server.pid
    assert not lives(pid)
    assert not folder.exists()
    assert not server.running


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(ServerError, match="no_such_setting"),
        PrivateMariaDB(settings={"no_such_setting": 1}),
    ):
        pass
