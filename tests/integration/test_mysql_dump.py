"""The binlog as MariaDB and MySQL really send it: positions, ends of streams, refusals.

Both servers are of this module's own, for they are reset and their logs are purged.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pymysql
import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB, find_mariadb
from cdc_daemon.model.errors import PreflightRefusal, Unreachable
from cdc_daemon.sources.mysql.connection import Server
from cdc_daemon.sources.mysql.coverage import end_of_log
from cdc_daemon.sources.mysql.dump import Dump, open_dump, resume, server_id_of
from cdc_daemon.sources.mysql.dump_errors import DumpRefused, Reason
from cdc_daemon.sources.mysql.events import Kind
from cdc_daemon.sources.mysql.gtid import Gtid, Triple, parse_domains, parse_set
from cdc_daemon.sources.mysql.position import (
    FilePosition,
    FromFile,
    MariadbPosition,
    MysqlPosition,
    Position,
    parse_position,
)
from cdc_daemon.sources.mysql.statements import RowStatement, TableName, Truncate, XaCommit
from cdc_daemon.sources.mysql.xid import Xid
from tests.support.binlog import Group, LogReader
from tests.support.fault_proxy import FaultProxy
from tests.support.mysql_server import PrivateMySQL, find_mysql
from tests.support.waiting import until

Private = PrivateMariaDB | PrivateMySQL
ID = server_id_of("hr", "test")
REREAD = server_id_of("hr", "test", "reread")
X1 = Xid(1, b"x1", b"")


@pytest.fixture(scope="module")
def own_mariadb() -> Iterator[PrivateMariaDB]:
    """One to be reset."""
    require("MariaDB", find_mariadb())
    with PrivateMariaDB() as server:
        yield server


@pytest.fixture(scope="module")
def own_mysql() -> Iterator[PrivateMySQL]:
    """One to be reset."""
    require("MySQL 9", find_mysql())
    with PrivateMySQL() as server:
        yield server


def require(name: str, found: object) -> None:
    """Skip where a server is not installed; in CI that is a failure."""
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")


@pytest.fixture(params=["own_mariadb", "own_mysql"])
def server(request: pytest.FixtureRequest) -> Private:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, PrivateMariaDB | PrivateMySQL)
    return found


def settings_of(server: Private, **others: str) -> dict[str, str]:
    return {name: str(value) for name, value in server.address.items()} | others


def here(server: Private) -> MariadbPosition | MysqlPosition:
    """Behind everything that the server has."""
    if isinstance(server, PrivateMariaDB):
        return MariadbPosition(domains=parse_domains(server.gtid()))
    return MysqlPosition(executed=parse_set(server.gtid()))


def advance(position: Position, groups: list[Group]) -> None:
    for group in groups:
        match position, group.place:
            case MysqlPosition(), Gtid() as gtid:
                position.advance(gtid, group.time)
            case MariadbPosition(), Triple() as triple:
                position.advance(triple, group.time)
            case FilePosition(), FromFile() as place:
                position.advance(place, last=group.last, time=group.time)
            case _:
                raise AssertionError(group)


@contextmanager
def reading(server: Private, position: Position, **others: str) -> Iterator[LogReader]:
    """The log behind a position; the witness, where there is one, is confirmed and left out."""
    dump, witness = resume(Server("hr", settings_of(server, **others)), position, server_id=ID)
    with closing(dump):
        reader = LogReader(dump)
        if witness is not None:
            [first] = reader.groups(1)
            assert first.place is not None
            assert witness.meets(first.place)
            witness.confirm(first.time)
        yield reader


@pytest.fixture
def table(server: Private) -> Iterator[str]:
    """An empty table, by which tests tell their own transactions."""
    server.execute("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY, b LONGTEXT)")
    yield "d.t"
    server.execute("DROP DATABASE d")


def rows_of(group: Group) -> list[Kind]:
    return [kind for kind in group.kinds if "ROWS" in kind.name]


# --- reading on -----------------------------------------------------------------------------------


def test_every_kind_of_transaction_comes_with_its_place(server: Private, table: str) -> None:
    """M1, M17, M18, M19: rows, compressed or not, statements, XA, TRUNCATE."""
    position = here(server)
    compress = (
        "SET GLOBAL log_bin_compress = {0}, GLOBAL log_bin_compress_min_len = 10"
        if isinstance(server, PrivateMariaDB)
        else "SET SESSION binlog_transaction_compression = {0}"
    )
    server.execute(
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'); UPDATE t SET b = 'c';"
        f"{compress.format('ON')}; INSERT INTO t VALUES (3, REPEAT('long', 99));"
        f"UPDATE t SET b = REPEAT('b', 99) WHERE a = 3; DELETE FROM t WHERE a = 3;"
        f"{compress.format('OFF')};"
        "SET SESSION binlog_format = STATEMENT; INSERT INTO t VALUES (4, 's');"
        "SET SESSION binlog_format = ROW; XA START 'x1'; INSERT INTO t VALUES (5, 'x');"
        "XA END 'x1'; XA PREPARE 'x1'; XA COMMIT 'x1'; TRUNCATE t",
        database="d",
    )
    with reading(server, position) as reader:
        groups = reader.groups(9)
    shown = [len(rows_of(group)) for group in groups]
    assert shown == [1, 1, 1, 1, 1, 0, 1, 0, 0]
    assert RowStatement("INSERT", (TableName("d", "t"),)) in groups[5].said
    assert groups[6].kinds[-1] is Kind.XA_PREPARE
    assert groups[7].said == [XaCommit(X1)]
    assert groups[8].said == [Truncate(TableName("d", "t"))]
    advance(position, groups)
    assert position.start(witness=False) == here(server).start()
    assert parse_position(str(position)) == position


def test_a_reader_goes_on_behind_what_it_has_read(server: Private, table: str) -> None:
    position = here(server)
    server.execute("INSERT INTO d.t VALUES (1, ''); INSERT INTO d.t VALUES (2, '')")
    with reading(server, position) as reader:
        advance(position, reader.groups(1))
    with reading(server, parse_position(str(position))) as reader:
        advance(position, reader.groups(1))
        server.execute("INSERT INTO d.t VALUES (3, '')")
        advance(position, reader.groups(1))
    assert position.start(witness=False) == here(server).start()


def test_m24_m32_a_position_with_tags_is_read_on(own_mysql: PrivateMySQL) -> None:
    """One tagged GTID in the executed set made mysql-replication fail; MySQL takes ours."""
    own_mysql.execute("CREATE DATABASE IF NOT EXISTS tagged; CREATE TABLE tagged.t (a INT)")
    position = here(own_mysql)
    insert = "SET gtid_next = 'AUTOMATIC:{0}'; INSERT INTO tagged.t VALUES (1);"
    own_mysql.execute(
        insert.format("blue") + insert.format("a_very_long_tag") + insert.format("blue")
    )
    with reading(own_mysql, position) as reader:
        groups = reader.groups(2)
    advance(position, groups)
    assert [str(group.place).split(":", 1)[1] for group in groups] == [
        "blue:1",
        "a_very_long_tag:1",
    ]
    with reading(own_mysql, parse_position(str(position))) as reader:
        [last] = reader.groups(1)
    assert str(last.place).endswith(":blue:2")


def test_m17_a_prepared_transaction_is_read_again(server: Private, table: str) -> None:
    """By a second stream that ends with the log; the first one goes on."""
    position = here(server)
    server.execute(
        "INSERT INTO t VALUES (1, ''); XA START 'x1'; INSERT INTO t VALUES (5, 'x'); XA END 'x1';"
        "XA PREPARE 'x1'; XA COMMIT 'x1'",
        database="d",
    )
    with reading(server, position) as reader:
        first, prepare, commit = reader.groups(3)
        advance(position, [first])
        before = first.place
        advance(position, [prepare, commit])
        if isinstance(position, MysqlPosition):
            assert isinstance(prepare.place, Gtid)
            position.prepared[X1] = prepare.place
        else:
            assert isinstance(prepare.place, Triple)
            assert isinstance(before, Triple)
            position.prepared[X1] = prepare.place, before
        start = parse_position(str(position)).again(X1)
        second = Server("hr", settings_of(server))
        with closing(open_dump(second, start, server_id=REREAD, until_end=True)) as dump:
            again = LogReader(dump)
            assert again.groups(1)[0].place == prepare.place
            again.groups(100)
            assert dump.read(5) == []
        server.execute("INSERT INTO d.t VALUES (6, '')")
        assert len(reader.groups(1)) == 1


def test_files_with_and_without_checksums_follow_each_other(server: Private, table: str) -> None:
    """M12, M15: each says for itself whether its events have one."""
    position = here(server)
    server.execute(
        "INSERT INTO t VALUES (1, ''); SET GLOBAL binlog_checksum = NONE;"
        "INSERT INTO t VALUES (2, ''); SET GLOBAL binlog_checksum = CRC32;"
        "INSERT INTO t VALUES (3, '')",
        database="d",
    )
    with reading(server, position) as reader:
        advance(position, reader.groups(3))
    assert position.start(witness=False) == here(server).start()


def test_events_of_several_packets_are_joined(server: Private, table: str) -> None:
    """A packet has at most 16 MiB."""
    server.execute("SET GLOBAL max_allowed_packet = 1 << 26")
    position = here(server)
    server.execute("INSERT INTO d.t VALUES (1, REPEAT('x', 17 << 20))")
    server.execute("INSERT INTO d.t VALUES (2, '')")
    with reading(server, position) as reader:
        groups = reader.groups(2)
    assert [rows_of(group) for group in groups] == [rows_of(groups[0])] * 2
    advance(position, groups)
    assert position.start(witness=False) == here(server).start()


def test_a_reader_needs_one_right(server: Private, table: str) -> None:
    """REPLICATION SLAVE is enough for the log, and to see whether it is the one that was read."""
    position = here(server)
    server.execute("INSERT INTO d.t VALUES (1, '')")
    server.create_account("reader", "pw", "REPLICATION SLAVE ON *.*")
    tls = {"sslmode": "require"} if isinstance(server, PrivateMySQL) else {}
    with reading(server, position, user="reader", password="pw", **tls) as reader:
        assert len(reader.groups(1)) == 1
    server.execute("DROP USER reader@'%'")


# --- ends of a stream -----------------------------------------------------------------------------


def test_m3_a_broken_connection_ends_the_reader_and_loses_nothing(
    server: Private, table: str
) -> None:
    """Nobody reconnects behind its back: what comes next is asked for from the position."""
    position = here(server)
    with FaultProxy(server.port) as proxy:
        for number, broken in enumerate((proxy.cut, proxy.reset)):
            with reading(server, position, port=str(proxy.port)) as reader:
                server.execute(f"INSERT INTO d.t VALUES ({number}, '')")
                advance(position, reader.groups(1))
                server.execute(f"INSERT INTO d.t VALUES ({number + 10}, '')")
                accepted = proxy.accepted
                broken()
                with pytest.raises(Unreachable, match="source hr"):
                    reader.groups(9)
                assert proxy.accepted == accepted
            with reading(server, position) as reader:
                advance(position, reader.groups(1))
    assert position.start(witness=False) == here(server).start()


def test_m28_a_server_that_is_only_silent_is_heard_and_a_dead_one_given_up(server: Private) -> None:
    with FaultProxy(server.port) as proxy:
        through = Server("hr", settings_of(server, port=str(proxy.port)))
        start = here(server).start()
        with closing(open_dump(through, start, server_id=ID, silent=0.4)) as dump:
            heard = dump.heard
            until(lambda: dump.read(0.1) is None and dump.heard > heard + 2, what="heartbeats")
            proxy.freeze()
            with pytest.raises(Unreachable, match=r"silent for 0\.4 s"):
                read_on(dump)


def read_on(dump: Dump, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        dump.read(0.2)


def test_closing_ends_a_read_that_waits(server: Private) -> None:
    dump = open_dump(Server("hr", settings_of(server)), here(server).start(), server_id=ID)
    timer = threading.Timer(0.2, dump.close)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="closed"):
        read_on(dump)
    assert time.monotonic() - begun < 2
    timer.join()


def test_m27_a_second_reader_with_our_server_id_is_told(server: Private) -> None:
    """The older one is ended by the server, and says why."""
    target = Server("hr", settings_of(server))
    with closing(open_dump(target, here(server).start(), server_id=ID)) as first:
        with (
            closing(open_dump(target, here(server).start(), server_id=ID)),
            pytest.raises(DumpRefused, match="server_id of this source") as refused,
        ):
            read_on(first)
        assert refused.value.reason is Reason.CLASH
        with closing(open_dump(target, here(server).start(), server_id=REREAD)) as another:
            another.read(0.1)


def test_server_ids_are_of_their_reader() -> None:
    found = {server_id_of(source, "a", purpose) for source in "abc" for purpose in ("x", "y")}
    assert len(found) == 6
    assert all(1 << 31 <= one <= (1 << 32) - 2 for one in found)
    assert server_id_of("hr", "test") == ID


def test_a_server_that_goes_away_is_unreachable(server: Private) -> None:
    dump = open_dump(Server("hr", settings_of(server)), here(server).start(), server_id=ID)
    with closing(dump):
        server.kill()
        with pytest.raises(Unreachable):
            read_on(dump)
        with pytest.raises(Unreachable, match="refused"):
            resume(Server("hr", settings_of(server)), here_of(server), server_id=ID)
    server.start()


def here_of(server: Private) -> Position:
    return MariadbPosition() if isinstance(server, PrivateMariaDB) else MysqlPosition()


# --- refusals -------------------------------------------------------------------------------------


def purge(server: Private) -> None:
    """Only the newest file stays; MariaDB keeps, in silence, one that somebody reads."""
    dumps = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%%'"
    for (reader,) in server.query(dumps):
        with suppress(pymysql.err.OperationalError):
            server.execute(f"KILL {reader}")
    server.execute("FLUSH BINARY LOGS")

    def alone() -> bool:
        [(first, *_), *others] = server.query("SHOW BINARY LOGS")
        if others:
            server.execute("PURGE BINARY LOGS TO %s", others[-1][0])
        return not others and bool(first)

    until(alone, what="the other files are purged")


def reset(server: Private) -> None:
    word = "MASTER" if isinstance(server, PrivateMariaDB) else "BINARY LOGS AND GTIDS"
    server.execute(f"RESET {word}")


def test_m27_log_that_is_needed_and_purged_is_refused(server: Private, table: str) -> None:
    position = here(server)
    server.execute("INSERT INTO d.t VALUES (1, '')")
    purge(server)
    with pytest.raises(PreflightRefusal, match="snapshot start"), reading(server, position):
        pass


def test_a_witness_that_was_purged_is_no_obstacle(server: Private, table: str) -> None:
    """Nothing behind it is missing."""
    position = here(server)
    server.execute("INSERT INTO d.t VALUES (1, '')")
    with reading(server, position) as reader:
        advance(position, reader.groups(1))
    purge(server)
    server.execute("INSERT INTO d.t VALUES (2, '')")
    dump, witness = resume(Server("hr", settings_of(server)), position, server_id=ID)
    with closing(dump):
        assert witness is None
        advance(position, LogReader(dump).groups(1))
    assert position.start(witness=False) == here(server).start()


def test_a_server_that_was_reset_is_refused(server: Private, table: str) -> None:
    """MariaDB itself would keep the next transactions from us until their numbers catch up."""
    position = here(server)
    server.execute("INSERT INTO d.t VALUES (1, '')")
    with reading(server, position) as reader:
        advance(position, reader.groups(1))
    reset(server)
    with pytest.raises(PreflightRefusal, match="does not have"), reading(server, position):
        pass


def test_another_history_under_the_same_numbers_is_refused(server: Private, table: str) -> None:
    """It is told by the time of the transaction that was read last."""
    reset(server)
    server.execute("INSERT INTO d.t VALUES (1, '')")
    position = here_of(server)
    with reading(server, position) as reader:
        advance(position, reader.groups(1))
    reset(server)
    later = "SET timestamp = UNIX_TIMESTAMP() + 5;"  # a header's time is of a second
    server.execute(f"{later} INSERT INTO d.t VALUES (2, ''); INSERT INTO d.t VALUES (3, '')")
    with pytest.raises(PreflightRefusal, match="another time"), reading(server, position):
        pass


# --- fail-over ------------------------------------------------------------------------------------


@pytest.mark.acceptance
def test_a_replica_takes_over_without_loss(server: Private) -> None:
    """The witness is the same transaction with the same time in the replica's own log."""
    primary = server
    kind: Callable[[], Private] = type(primary)
    reset(primary)
    with kind() as replica:
        reset(replica)
        replica.follow(primary)
        primary.execute("CREATE DATABASE f; CREATE TABLE f.t (a INT PRIMARY KEY)")
        position = here(primary)
        primary.execute(
            "SET timestamp = UNIX_TIMESTAMP() - 9; BEGIN; INSERT INTO f.t VALUES (1);"
            "SET timestamp = UNIX_TIMESTAMP() + 4; INSERT INTO f.t VALUES (2);"
            "SET timestamp = DEFAULT; COMMIT"
        )
        with reading(primary, position) as reader:
            advance(position, reader.groups(1))
        primary.execute("INSERT INTO f.t VALUES (3)")
        replica.wait_for(primary)
        replica.promote()
        replica.execute("INSERT INTO f.t VALUES (4)")
        with reading(replica, parse_position(str(position))) as reader:
            advance(position, reader.groups(2))
        assert position.start(witness=False) == here(replica).start()
        with pytest.raises(PreflightRefusal, match="does not have"), reading(primary, position):
            pass
    primary.execute("DROP DATABASE f")


# --- MySQL without GTIDs --------------------------------------------------------------------------


def test_m2_without_gtids_a_file_and_an_offset_are_the_position(own_mysql: PrivateMySQL) -> None:
    with PrivateMySQL(gtid=False) as server:
        server.execute("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY)")
        target = Server("hr", settings_of(server))
        with closing(target.connect()) as connection:
            end = end_of_log(target, connection)
        [(uuid,)] = server.query("SELECT @@server_uuid")
        position = FilePosition(server=uuid, at=end)
        server.execute("INSERT INTO d.t VALUES (1); INSERT INTO d.t VALUES (2)")
        with reading(server, position) as reader:
            advance(position, reader.groups(1))
        server.execute("FLUSH BINARY LOGS; INSERT INTO d.t VALUES (3)")
        with reading(server, parse_position(str(position))) as reader:
            advance(position, reader.groups(2))
        with closing(target.connect()) as connection:
            assert position.at == end_of_log(target, connection)
        assert position.at.file > end.file

        ahead = FilePosition(server=uuid, at=FromFile(position.at.file, position.at.offset + 99))
        with pytest.raises(PreflightRefusal, match="ends at"), reading(server, ahead):
            pass
        within = inside_of_a_transaction(server)
        with pytest.raises(PreflightRefusal, match="there"), reading(server, within):  # M4
            pass
        wrong = FilePosition(
            server=uuid, at=position.at, last=position.last, time=position.time + 1
        )
        with pytest.raises(PreflightRefusal, match="another time"), reading(server, wrong):
            pass
        beyond = FromFile(position.at.file, 1 << 32)
        with pytest.raises(PreflightRefusal, match="beyond 4 GiB"):  # M26
            open_dump(target, beyond, server_id=ID)
        purge(server)
        with pytest.raises(DumpRefused) as refused, reading(server, position):
            pass
        assert refused.value.reason is Reason.PURGED
        with pytest.raises(PreflightRefusal, match="this one is"), reading(own_mysql, position):
            pass


def inside_of_a_transaction(server: PrivateMySQL) -> FilePosition:
    """Behind the first of a transaction's two changes."""
    server.execute("BEGIN; INSERT INTO d.t VALUES (7); INSERT INTO d.t VALUES (8); COMMIT")
    [*_, (last, *_)] = server.query("SHOW BINARY LOGS")
    events = server.query("SHOW BINLOG EVENTS IN %s", last)
    assert [row[2] for row in events[-4:]] == ["Write_rows", "Table_map", "Write_rows", "Xid"]
    file, begin, _, _, end, _ = events[-4]
    [(uuid,)] = server.query("SELECT @@server_uuid")
    return FilePosition(server=uuid, at=FromFile(file, end), last=begin)


def test_a_server_of_the_other_kind_is_refused(server: Private) -> None:
    wrong = MysqlPosition() if isinstance(server, PrivateMariaDB) else MariadbPosition()
    with pytest.raises(PreflightRefusal, match="and this is M"), reading(server, wrong):
        pass


def test_m25_a_file_is_no_position_of_mariadb(own_mariadb: PrivateMariaDB) -> None:
    target = Server("hr", settings_of(own_mariadb))
    with pytest.raises(PreflightRefusal, match="no position of MariaDB"):
        open_dump(target, FromFile("binlog.000001", 4), server_id=ID)
