"""Logs that are not the one that was read, or no longer there, and servers that take over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB, find_mariadb
from cdc_daemon.demo.mysql_family import FamilyServer
from cdc_daemon.model.errors import PreflightRefusal
from cdc_daemon.sources.mysql.source import MysqlSource
from tests.support.mysql_server import PrivateMySQL, find_mysql
from tests.support.mysql_sources import Schema, copy, read_from
from tests.support.sources import last_position, plain
from tests.support.waiting import until

TABLE = "CREATE TABLE t (id int PRIMARY KEY, name varchar(40))"
Start = Callable[..., FamilyServer]


@pytest.fixture(params=["mariadb", "mysql9"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts servers of one kind, gone after the test."""
    find, kind = {
        "mariadb": (find_mariadb, PrivateMariaDB),
        "mysql9": (find_mysql, PrivateMySQL),
    }[request.param]
    if find() is None:
        request.getfixturevalue(request.param)  # says so
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(kind(settings=settings))


def filled(server: FamilyServer, rows: int = 3) -> Schema:
    """A schema with a table, a transaction for each row."""
    server.create_database("hr")
    schema = Schema(server, "hr")
    schema.execute(TABLE)
    for number in range(rows):
        schema.execute("INSERT INTO t VALUES (%s, 'x')", number)
    return schema


def read_to_end_of(schema: Schema) -> tuple[MysqlSource, str]:
    """A source that has read all, and its position, which has a witness."""
    source = schema.source(schema.table("t", "id", "name"))
    position, _ = copy(source)
    schema.execute("INSERT INTO t VALUES (100, 'last')")
    return source, last_position(read_from(source, position))


def reset(server: FamilyServer) -> None:
    """Forget the log and its numbers."""
    newer = isinstance(server, PrivateMySQL)
    server.execute("RESET BINARY LOGS AND GTIDS" if newer else "RESET MASTER")


def refused(schema: Schema, position: str) -> str:
    """Why a new source does not go on from there."""
    source = schema.source(schema.table("t", "id", "name"))
    with pytest.raises(PreflightRefusal) as found:
        read_from(source, position)
    assert str(found.value).startswith("source hr (127.0.0.1:")
    assert "snapshot start" in str(found.value)
    return str(found.value)


def test_a_server_that_was_reset_is_refused(start: Start) -> None:
    """Fewer numbers than were read, then more than those, with other transactions under them."""
    server = start()
    begun = time.time()
    schema = filled(server)
    until(lambda: int(time.time()) > int(begun), what="the log's first second is over")
    _, position = read_to_end_of(schema)
    reset(server)
    assert "reset" in refused(schema, position)
    for number in range(200, 220):
        schema.execute("INSERT INTO t VALUES (%s, 'other')", number)
    assert "reset" in refused(schema, position)


def test_log_that_was_removed_is_refused(start: Start) -> None:
    """M27: what follows is gone; where only the witness is gone, reading goes on."""
    server = start()
    schema = filled(server)
    source, position = read_to_end_of(schema)
    server.execute("FLUSH BINARY LOGS")
    remove_old_logs(server)
    schema.execute("INSERT INTO t VALUES (101, 'behind')")
    assert plain(read_from(source, position)) == [("insert", (b"101", b"behind"), None)]
    server.execute("FLUSH BINARY LOGS")
    remove_old_logs(server)
    assert "not" in refused(schema, position)


def remove_old_logs(server: FamilyServer) -> None:
    """Keep only the newest file; one that somebody still reads stays for a moment."""

    def removed() -> bool:
        newest = server.query("SHOW BINARY LOGS")[-1][0]
        server.execute(f"PURGE BINARY LOGS TO '{newest}'")
        return len(server.query("SHOW BINARY LOGS")) == 1

    until(removed, what="old logs are removed")


def test_another_server_takes_over_without_loss(start: Start) -> None:
    """A replica goes on with the GTIDs of its primary, though its files and its id are others."""
    primary, replica = start(), start()
    schema = filled(primary, rows=0)
    replica.follow(primary)
    _, position = read_to_end_of(schema)
    schema.execute("INSERT INTO t VALUES (101, 'before')")
    replica.wait_for(primary)
    primary.kill()
    replica.promote()
    after = Schema(replica, "hr")
    after.execute("INSERT INTO t VALUES (102, 'after')")
    source = after.source(after.table("t", "id", "name"))
    rows = [row for _, row, _ in plain(read_from(source, position))]
    assert rows == [(b"101", b"before"), (b"102", b"after")]
    source.close()


def test_a_replica_that_lacks_what_was_read_is_refused(start: Start) -> None:
    primary, replica = start(), start()
    schema = filled(primary, rows=0)
    replica.follow(primary)
    replica.wait_for(primary)
    replica.promote()
    _, position = read_to_end_of(schema)
    lagging = Schema(replica, "hr")
    assert "fail-over" in refused(lagging, position)


def test_a_server_without_gtids_is_read_by_its_files(
    request: pytest.FixtureRequest,
) -> None:
    """MySQL only; a reset, and another server, are told by the witness and the server's name."""
    if find_mysql() is None:
        request.getfixturevalue("mysql9")
    with PrivateMySQL(settings={"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}) as server:
        schema = filled(server)
        source, position = read_to_end_of(schema)
        assert position.startswith("binlog/1 server=")
        server.execute("FLUSH BINARY LOGS")
        rotated = last_position(read_from(source, position))  # an idle log is wholly behind
        assert source.passed(rotated, source.mark())
        schema.execute("INSERT INTO t VALUES (101, 'next file'); UPDATE t SET name = 'y'")
        assert sum(batch.changes for batch in read_from(source, rotated)) == 6
        batches = read_from(source, position)
        assert sum(batch.changes for batch in batches) == 6
        position = last_position(batches)
        with schema.connect() as session, session.cursor() as cursor:
            session.begin()
            cursor.execute("INSERT INTO t VALUES (103, 'thinks')")
            cursor.execute("SET timestamp = 1900000000")
            session.commit()
        position = last_position(read_from(source, position))
        schema.execute("XA START 'x'; INSERT INTO t VALUES (102, 'x'); XA END 'x'; XA PREPARE 'x'")
        position = last_position(read_from(source, position))
        schema.execute("XA COMMIT 'x'")
        assert plain(read_from(source, position)) == [("insert", (b"102", b"x"), None)]
        position = last_position(read_from(source, position))
        reset(server)
        assert "binlog" in refused(schema, position)
