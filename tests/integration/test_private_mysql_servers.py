"""Private servers of the MySQL family hold committed data through a crash, and leave nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
import pytest

from cdc_daemon.demo.installation import ServerError
from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.demo.processes import lives


@pytest.fixture
def second(mariadb: PrivateMariaDB) -> Iterator[PrivateMariaDB]:
    """A server of the test's own, with a password."""
    assert mariadb.running
    with PrivateMariaDB(password="it's \"\\ %", settings={"max_connections": 77}) as server:
        yield server


def test_it_is_set_up_as_a_source_in_utf8_and_utc(mariadb: PrivateMariaDB) -> None:
    [found] = mariadb.query(
        "SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata,"
        " @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@gtid_strict_mode, @@time_zone,"
        " @@character_set_server, @@server_id"
    )
    expected = (1, "ROW", "FULL", "FULL", 1, 1, 1, "+00:00", "utf8mb4", mariadb.server_id)
    assert found == expected


def test_databases_are_made_and_dropped_in_spite_of_clients(mariadb: PrivateMariaDB) -> None:
    mariadb.create_database("we`ird")
    mariadb.execute("CREATE TABLE one (id int); INSERT INTO one VALUES (1)", database="we`ird")
    busy = mariadb.connect("we`ird", autocommit=False)
    with busy.cursor() as cursor:
        cursor.execute("INSERT INTO one VALUES (2)")
    assert mariadb.query("SELECT id FROM one WHERE id = %s", 1, database="we`ird") == [(1,)]
    mariadb.drop_database("we`ird")
    mariadb.drop_database("we`ird")
    assert mariadb.query("SHOW DATABASES LIKE 'we`ird'") == []


def test_a_replica_follows_by_gtid_and_takes_over(
    mariadb: PrivateMariaDB, second: PrivateMariaDB
) -> None:
    """And a killed server comes back on its port, with another setting, and all its rows."""
    mariadb.create_database("followed")
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)", database="followed")
    second.follow(mariadb)
    mariadb.execute("INSERT INTO t VALUES (1)", database="followed")
    second.wait_for(mariadb)
    assert second.gtid() == mariadb.gtid()
    second.promote()
    second.execute("INSERT INTO t VALUES (2)", database="followed")
    before, pid = second.address, second.pid
    second.kill()
    assert not lives(pid)
    second.configure(max_connections=78)
    second.start()
    assert second.address == before
    assert second.query("SELECT id FROM t ORDER BY id", database="followed") == [(1,), (2,)]
    assert second.query("SELECT @@max_connections") == [(78,)]
    mariadb.drop_database("followed")


def test_accounts_have_passwords_and_only_their_rights(second: PrivateMariaDB) -> None:
    address = second.create_account("cdc", "p%ss", "SELECT ON `my%`.*", "REPLICATION SLAVE ON *.*")
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        second.connect(**{**address, "password": "wrong"})
    with second.connect(**address) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GRANTS")
        assert ("GRANT SELECT ON `my%`.* TO `cdc`@`%`",) in cursor.fetchall()
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        second.connect(password="")


def test_leaving_the_context_leaves_no_process_and_no_file() -> None:
    with PrivateMariaDB() as server:
        pid, folder = server.pid, server.folder
        server.stop()
        server.stop()
        with pytest.raises(ServerError, match="not running"):
            _ = server.pid
        server.start()
    assert not lives(pid)
    assert not folder.exists()
    assert not server.running


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(ServerError, match="no_such_setting"),
        PrivateMariaDB(settings={"no_such_setting": 1}),
    ):
        pass
