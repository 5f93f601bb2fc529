"""The stream of a real PostgreSQL: every operation and identity, feedback, and how it ends."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from cdc_daemon.model.changes import UNCHANGED, Replica
from cdc_daemon.model.errors import PreflightRefusal, Stop, Unreachable
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres import stream as stream_module
from cdc_daemon.sources.postgres.lsn import parse_lsn
from cdc_daemon.sources.postgres.source import PostgresSource
from cdc_daemon.sources.postgres.stream import PostgresStream
from tests.conftest import DatabaseFactory, PostgresFactory, PostgresOf
from tests.support.databases import Database
from tests.support.sources import (
    PUBLICATION,
    conninfo,
    copy,
    last_position,
    make_source,
    plain,
    read_changes,
    read_until,
    streaming,
    table,
)
from tests.support.versions import VERSIONS
from tests.support.waiting import until

T = table("t", "id", "a", "b")


@pytest.fixture(params=VERSIONS)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    """An empty database on both versions, with a publication of table t."""
    found = database_factory(server=postgres_of(request.param))
    found.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text, b numeric(18,4))")
    found.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    return found


def changes_of(
    database: Database, statements: str, count: int, *tables: Table, before: str = ""
) -> list[tuple[str, object, object]]:
    """What the stream says about these statements."""
    if before:
        database.execute(before)
    source = make_source(database, *(tables or (T,)))
    position, _ = copy(source)
    database.execute(statements)
    with streaming(source, position) as stream:
        found = plain(read_changes(stream, count))
    source.close()
    return found  # type: ignore[return-value]


# --- operations and identities -------------------------------------------------------------------


def test_every_operation(database: Database) -> None:
    found = changes_of(
        database,
        "INSERT INTO t VALUES (1, 'x', 1.5), (2, NULL, NULL); UPDATE t SET a = 'y' WHERE id = 1;"
        "UPDATE t SET id = 3 WHERE id = 1; DELETE FROM t WHERE id = 2; TRUNCATE t",
        6,
    )
    assert found == [
        ("insert", (b"1", b"x", b"1.5000"), None),
        ("insert", (b"2", None, None), None),
        ("update", (b"1", b"y", b"1.5000"), None),
        ("update", (b"3", b"y", b"1.5000"), (b"1",)),
        ("delete", None, (b"2",)),
        ("truncate", None, None),
    ]


BIG = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i)"


def test_unchanged_toast(database: Database) -> None:
    """G4: left out, also when the key changes; never NULL."""
    found = changes_of(
        database,
        f"INSERT INTO t VALUES (1, {BIG}, 1); UPDATE t SET b = 2; UPDATE t SET id = 2;"
        f"UPDATE t SET a = {BIG} || 'x'",
        4,
        before="ALTER TABLE t ALTER a SET STORAGE EXTERNAL",
    )
    assert found[1] == ("update", (b"1", UNCHANGED, b"2.0000"), None)
    assert found[2] == ("update", (b"2", UNCHANGED, b"2.0000"), (b"1",))
    assert len(found[3][1][1]) == 6401  # type: ignore[index]


def test_full_identity(database: Database) -> None:
    """G4, G5: the value left out stands in the old row; the key comes from the catalogue."""
    before = "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER a SET STORAGE EXTERNAL;"
    database.execute(before + f"INSERT INTO t VALUES (1, {BIG}, 1)")
    source = make_source(database, T)
    position, rows = copy(source)
    database.execute("UPDATE t SET b = 2; DELETE FROM t")
    with streaming(source, position) as stream:
        (batch,) = read_until(stream, lambda found: sum(b.changes for b in found) >= 2)[-1:]
    update, delete = batch.runs[-2:]
    assert update.new_rows == [(b"1", rows[0][1], b"2.0000")]
    assert update.old_rows == rows
    assert update.old_full
    assert not update.partial
    assert delete.old_rows == update.new_rows
    assert update.relation.identity == (0,)
    assert update.relation.replica is Replica.FULL


def test_index_identity(database: Database) -> None:
    found = changes_of(
        database,
        "INSERT INTO t VALUES (1, 'k', 1); UPDATE t SET a = 'l'; DELETE FROM t",
        3,
        before="ALTER TABLE t ALTER a SET NOT NULL; CREATE UNIQUE INDEX t_a ON t (a);"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_a",
    )
    assert found[1:] == [
        ("update", (b"1", b"l", b"1.0000"), (b"k",)),
        ("delete", None, (b"l",)),
    ]


def test_composite_key_with_columns_that_nobody_maps(database: Database) -> None:
    ddl = "CREATE TABLE l (x text, n int, y text, o text, PRIMARY KEY (o, n));"
    found = changes_of(
        database,
        "INSERT INTO l VALUES ('x', 1, 'y', 'a'); UPDATE l SET o = 'b'; DELETE FROM l",
        3,
        table("l", "y"),
        before=ddl + f"ALTER PUBLICATION {PUBLICATION} ADD TABLE l",
    )
    assert found == [
        ("insert", (b"1", b"y", b"a"), None),
        ("update", (b"1", b"y", b"b"), (b"1", b"a")),
        ("delete", None, (b"1", b"b")),
    ]


def test_common_types_have_postgres_text_whatever_the_role_says(database: Database) -> None:
    """P12: forced session settings, also against the role's own; snapshot and stream agree."""
    database.execute(
        "CREATE TABLE v (id int PRIMARY KEY, s smallint, n numeric, v varchar(9), c char(4),"
        " o boolean, d date, t time, ts timestamp, tz timestamptz, i interval, u uuid, j json,"
        " jb jsonb, y bytea, r real, f double precision, m money, e inet);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE v;"
        "CREATE ROLE odd SUPERUSER LOGIN REPLICATION;"
        "ALTER ROLE odd SET datestyle = 'SQL, DMY'; ALTER ROLE odd SET timezone = 'Asia/Kolkata';"
        "ALTER ROLE odd SET intervalstyle = 'iso_8601'; ALTER ROLE odd SET bytea_output = 'escape';"
        "ALTER ROLE odd SET extra_float_digits = 0; ALTER ROLE odd SET search_path = 'evil'"
    )
    row = (
        "(%d, 7, 1.10, 'v', 'c', true, '2026-02-01', '08:34:05.5', '2026-02-01 08:34:05',"
        " '2026-02-01 08:34:05+00', '1 day 2 hours', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',"
        """ '{"b": 1, "a":1.10}', '{"b": 1, "a":1.10}', '\\x00ff', 0.1, 0.1, 12.34, '10.0.0.1')"""
    )
    database.execute("INSERT INTO v VALUES " + row.replace("%d", "1"))
    columns = [r[0] for r in database.query("SELECT json_object_keys(to_json(v.*)) FROM v")]
    source = make_source(database, table("v", *columns), conninfo_=conninfo(database, user="odd"))
    try:
        position, rows = copy(source)
        database.execute("INSERT INTO v VALUES " + row.replace("%d", "2"))
        with streaming(source, position) as stream:
            ((_, streamed, _),) = plain(read_changes(stream, 1))
        assert streamed is not None
        assert streamed[1:] == rows[0][1:]
        assert rows[0] == (
            b"1", b"7", b"1.10", b"v", b"c   ", b"t", b"2026-02-01", b"08:34:05.5",
            b"2026-02-01 08:34:05", b"2026-02-01 08:34:05+00", b"1 day 02:00:00",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", b'{"b": 1, "a":1.10}',
            b'{"a": 1.10, "b": 1}', b"\\x00ff", b"0.1", b"0.1", b"$12.34", b"10.0.0.1",
        )  # fmt: skip
        (relation,) = source.relations()
        streamed_relation = _relation_of(database, source, position)
        assert relation is streamed_relation, "catalogue and log describe it alike"
    finally:
        source.close()
        database.execute("DROP ROLE odd")


def _relation_of(database: Database, source: PostgresSource, position: str) -> object:
    with streaming(source, position) as stream:
        return read_changes(stream, 1)[-1].runs[0].relation


def test_names_that_need_quoting(database: Database) -> None:
    """Identifiers are data: quotes, blanks, percent signs, semicolons, other scripts."""
    name, column = 'a"b; DROP TABLE t; -- %s', "客户 名称\n"
    quoted, quoted_column = '"a""b; DROP TABLE t; -- %s"', f'"{column}"'
    database.execute(
        f"CREATE TABLE {quoted} (id int PRIMARY KEY, {quoted_column} text);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {quoted}; INSERT INTO {quoted} VALUES (1, 'x')"
    )
    source = make_source(database, table(name, column))
    position, rows = copy(source)
    assert rows == [(b"1", b"x")]
    assert source.check(None) == []
    database.execute(f"UPDATE {quoted} SET {quoted_column} = 'y'")
    with streaming(source, position) as stream:
        found = read_changes(stream, 1)
    assert plain(found) == [("update", (b"1", b"y"), None)]
    relation = found[-1].runs[0].relation
    assert source.reread(relation, [(b"1",)]) == {(b"1",): (b"1", b"y")}
    source.close()


def test_a_schema_change_in_mid_stream(database: Database) -> None:
    """Columns may come and go as long as nobody maps them; a mapped one stops by name."""
    source = make_source(database, T)
    position, _ = copy(source)
    database.execute(
        "INSERT INTO t VALUES (1, 'x', 1); ALTER TABLE t ADD c int DEFAULT 5;"
        "INSERT INTO t VALUES (2, 'y', 2, 3); ALTER TABLE t ALTER b TYPE numeric(20,2);"
        "INSERT INTO t VALUES (3, 'z', 3, 3)"
    )
    with streaming(source, position) as stream:
        batches = read_changes(stream, 3)
        assert [new for _, new, _ in plain(batches)] == [
            (b"1", b"x", b"1.0000"),
            (b"2", b"y", b"2.0000"),
            (b"3", b"z", b"3.00"),
        ]
        first, last = batches[0].runs[0].relation, batches[-1].runs[-1].relation
        assert [str(r.columns[2].type) for r in (first, last)] == ["numeric(18,4)", "numeric(20,2)"]
        database.execute("ALTER TABLE t RENAME a TO aa; INSERT INTO t VALUES (4, 'z', 3, 3)")
        with pytest.raises(Stop, match=r"erp\.public\.t.*'a'"):
            read_changes(stream, 1)
    source.close()


# --- transactions --------------------------------------------------------------------------------


def test_transactions_and_their_positions(database: Database) -> None:
    """Each commit's position and time; opening the stream there skips exactly what was before."""
    source = make_source(database, T)
    position, _ = copy(source)
    for i in range(5):
        database.execute(f"INSERT INTO t VALUES ({i}, 'x', 1), ({i + 100}, 'x', 1)")
    with streaming(source, position) as stream:
        batches = read_changes(stream, 10)
    assert sum(b.transactions for b in batches) == 5
    begins = [begin for b in batches for begin in b.begins]
    assert [begin[0] for begin in begins] == [0, 2, 4, 6, 8]
    assert all(abs(begin[2] / 1e6 - time.time()) < 60 for begin in begins)
    assert parse_lsn(last_position(batches)) > begins[-1][1]
    third = stream.render(begins[3][1])
    with streaming(source, third) as stream:
        again = read_changes(stream, 4)
    assert [new[0] for _, new, _ in plain(again) if new] == [b"3", b"103", b"4", b"104"]
    source.close()


def test_a_large_transaction_comes_in_pieces_of_bounded_size(database: Database) -> None:
    source = make_source(database, T, piece_rows=500, piece_bytes=1 << 20)
    position, _ = copy(source)
    database.execute("INSERT INTO t VALUES (-1, 'x', 1)")
    database.execute("INSERT INTO t SELECT i, repeat('x', 100), i FROM generate_series(1, 20000) i")
    with streaming(source, position) as stream:
        batches = read_until(stream, lambda found: sum(b.transactions for b in found) == 2)
    assert batches[0].position is not None
    assert batches[0].changes == 1
    pieces = batches[1:]
    assert sum(b.changes for b in pieces) == 20_000
    assert max(b.changes for b in pieces) <= 1000
    assert all(b.position is None for b in pieces[:-1])
    assert pieces[-1].position is not None
    assert len({b.begins[0] for b in pieces}) == 1
    source.close()


def test_a_rolled_back_transaction_says_nothing(database: Database) -> None:
    found = changes_of(
        database,
        "BEGIN; INSERT INTO t VALUES (1, 'x', 1); ROLLBACK; INSERT INTO t VALUES (2, 'x', 1)",
        1,
    )
    assert [new[0] for _, new, _ in found] == [b"2"]  # type: ignore[index]


# --- feedback ------------------------------------------------------------------------------------


def confirmed(database: Database, source: PostgresSource) -> int:
    """The slot's confirmed position."""
    ((found,),) = database.query(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s",
        source.slot,
    )
    return parse_lsn(found)


def _confirms(stream: PostgresStream, database: Database, source: PostgresSource, end: int) -> bool:
    """Read on, and see whether the slot has come so far."""
    stream.read(0.1)
    return confirmed(database, source) >= end


def test_only_what_was_acknowledged_is_confirmed(database: Database) -> None:
    """P5: reading is not acknowledging."""
    source = make_source(database, T, feedback_interval=0.1)
    position, _ = copy(source)
    database.execute("INSERT INTO t VALUES (1, 'x', 1)")
    with streaming(source, position) as stream:
        batches = read_changes(stream, 1)
        stream.read(0.5)
        assert confirmed(database, source) == parse_lsn(position)
        stream.acknowledge(last_position(batches))
        stream.acknowledge(position)  # moves forward only
        end = parse_lsn(last_position(batches))
        until(lambda: _confirms(stream, database, source, end))
    source.close()


def test_an_idle_source_retains_no_log(database: Database) -> None:
    """P5: traffic of other tables moves the position that may be acknowledged."""
    source = make_source(database, T, feedback_interval=0.1)
    position, _ = copy(source)
    database.execute("CREATE TABLE other (x text)")
    with streaming(source, position) as stream:
        for _ in range(3):
            _acknowledge_traffic(database, source, stream)
    source.close()


def _acknowledge_traffic(
    database: Database, source: PostgresSource, stream: PostgresStream
) -> None:
    """Write to a table that is not published, and have that acknowledged."""
    database.execute("INSERT INTO other SELECT repeat('x', 500) FROM generate_series(1, 2000)")
    ((now,),) = database.query("SELECT pg_current_wal_insert_lsn()::text")
    end = parse_lsn(now) - 4096
    batches = read_until(
        stream, lambda found: any(parse_lsn(b.position or "0/0") >= end for b in found)
    )
    assert sum(b.changes for b in batches) == 0
    stream.acknowledge(last_position(batches))
    until(lambda: _confirms(stream, database, source, end))


def test_idle_positions_are_rare_unless_asked_for(database: Database) -> None:
    source = make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        deadline = time.monotonic() + 3
        batches = []
        while time.monotonic() < deadline:
            database.execute("SELECT pg_logical_emit_message(true, 'p', 'x')")
            if batch := stream.read(0.05):
                batches.append(batch)
    assert 1 <= len(batches) <= 5
    source.close()


def test_an_idle_source_is_asked_for_a_word(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is not health: it answers every few seconds, and asks for nothing in return."""
    monkeypatch.setattr(stream_module, "_ASK", 0.3)
    source = make_source(database, T, feedback_interval=0.1)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        seen = {stream.heard}
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            stream.read(0.1)
            seen.add(stream.heard)
        assert 3 <= len(seen) <= 15
    source.close()


def test_a_server_that_asks_for_a_reply_gets_a_position_to_be_saved_at_once(
    postgres_factory: PostgresFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks after half of wal_sender_timeout; the feedback that goes first must not hide that."""
    monkeypatch.setattr(stream_module, "_IDLE", 3600.0)
    database = private(postgres_factory, wal_sender_timeout="2s")
    source = make_source(database, T, feedback_interval=3600)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        database.execute("SELECT pg_logical_emit_message(true, 'p', 'x')")
        read_until(stream, bool)
        database.execute("SELECT pg_logical_emit_message(true, 'p', 'y')")
        batches = read_until(stream, bool)
    assert [batch.urgent for batch in batches] == [True]
    source.close()


def test_requests_with_data_in_between_are_no_storm(database: Database) -> None:
    """A storm at one position is how a shutdown looks; a busy server may ask as often."""
    source = make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        for _ in range(20):
            stream._decoder.messages += 1
            stream._decoder.keepalives += 1
            stream._decoder.reply_requests += 1
            stream._watch_requests()
        assert stream._storm == 20
        stream._decoder.messages += 1
        stream._watch_requests()
        assert stream._storm == 0
    source.close()


def test_a_held_transaction_keeps_the_position(database: Database) -> None:
    """P5: no idle position while a transaction is not handed over."""
    source = make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position) as stream, psycopg.connect(database.dsn) as writer:
        writer.execute("INSERT INTO t VALUES (1, 'x', 1)")
        database.execute("SELECT pg_logical_emit_message(false, 'p', repeat('x', 100000))")
        batches = read_until(stream, bool)
        writer.commit()
        batches = read_changes(stream, 1)
    assert plain(batches) == [("insert", (b"1", b"x", b"1.0000"), None)]
    source.close()


def test_a_silent_consumer_is_kept_alive_by_its_timer(postgres_factory: PostgresFactory) -> None:
    """P4: with wal_sender_timeout=3s nobody reads for 7 s; keep_alive holds the stream."""
    database = private(postgres_factory, wal_sender_timeout="3s")
    source = make_source(database, T, feedback_interval=0.5)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        database.execute(
            "INSERT INTO t SELECT i, repeat('x', 300), i FROM generate_series(1, 50000) i"
        )
        stream.read(1.0)
        deadline = time.monotonic() + 7
        while time.monotonic() < deadline:
            stream.keep_alive()
            time.sleep(0.2)
        read_changes(stream, 45_000)
    source.close()


def test_a_consumer_that_never_replies_is_cut_off(postgres_factory: PostgresFactory) -> None:
    """What the test above guards against: without feedback the server ends the stream."""
    database = private(postgres_factory, wal_sender_timeout="1s")
    source = make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        time.sleep(3)
        with pytest.raises(Unreachable):
            read_changes(stream, 1)
    source.close()


def private(factory: PostgresFactory, **settings: str) -> Database:
    server = factory(18, settings=settings)
    server.create_database("erp")
    database = Database(server=server, name="erp")
    database.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text, b numeric(18,4))")
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    return database


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocked", [False, True], ids=["reading", "sink blocked"])
def test_a_server_that_shuts_down_is_let_go(
    postgres_factory: PostgresFactory, blocked: bool
) -> None:
    """Fault 9: nothing is acknowledged, so the server would wait for ever; we leave in time."""
    database = private(postgres_factory)
    source = make_source(database, T)
    position, _ = copy(source)
    stream = source.stream(position)
    database.execute(
        "INSERT INTO t SELECT i, repeat('x', 300), i FROM generate_series(1, 100000) i"
    )
    stream.read(1.0)
    stopper = threading.Thread(target=database.server.stop, kwargs={"timeout": 60})
    stopper.start()
    with pytest.raises(Unreachable):
        _use(stream, blocked=blocked, seconds=50)
    stopper.join(20)
    assert not database.server.running
    stream.close()
    source.close()


def _use(stream: PostgresStream, *, blocked: bool, seconds: float) -> None:
    """Read, or only keep alive, as the reader thread does when nobody takes what it read."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if blocked:
            stream.keep_alive()
            time.sleep(0.2)
        else:
            stream.read(0.2)


def test_a_killed_server_is_unreachable(postgres_factory: PostgresFactory) -> None:
    database = private(postgres_factory)
    source = make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        database.server.kill()
        with pytest.raises(Unreachable):
            read_changes(stream, 1)
    with pytest.raises(Unreachable):
        source.stream(position)
    with pytest.raises(Unreachable):
        source.check(None)
    source.close()


def test_a_terminated_walsender_is_unreachable(database: Database) -> None:
    source = make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        database.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
        with pytest.raises(Unreachable):
            read_changes(stream, 1)
    source.close()


def test_a_slot_in_use_is_to_be_tried_again(database: Database) -> None:
    """P9: the second consumer waits its turn; it never takes the slot."""
    source, other = make_source(database, T), make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position), pytest.raises(Unreachable, match="active for PID"):
        other.stream(position)
    streams: list[PostgresStream] = []

    def opened() -> bool:
        try:
            streams.append(other.stream(position))
        except Unreachable:
            return False
        return True

    until(opened)
    streams[0].close()
    source.close()
    other.close()


def test_a_slot_that_another_reader_moved_on_is_refused_once_it_is_open(database: Database) -> None:
    """P6: while he reads, a check cannot tell how far he will bring it; afterwards it must."""
    source, other = make_source(database, T), make_source(database, T, feedback_interval=0.1)
    position, _ = copy(source)
    database.execute("INSERT INTO t VALUES (1, 'x', 1)")
    with streaming(other, position) as stream:
        stream.acknowledge(last_position(read_changes(stream, 1)))
        until(lambda: _confirms(stream, database, other, parse_lsn(position) + 1))
    moved = confirmed(database, source)
    until(lambda: not _active(database, source))
    with pytest.raises(PreflightRefusal, match="the slot was advanced"):
        source.stream(position)
    assert confirmed(database, source) == moved
    source.close()
    other.close()


def _active(database: Database, source: PostgresSource) -> bool:
    ((found,),) = database.query(
        "SELECT active FROM pg_replication_slots WHERE slot_name = %s", source.slot
    )
    return bool(found)


def test_a_dropped_slot_is_refused(database: Database) -> None:
    source = make_source(database, T)
    position, _ = copy(source)
    database.execute("SELECT pg_drop_replication_slot(%s)", source.slot)
    with pytest.raises(PreflightRefusal, match="does not exist"):
        source.stream(position)
    source.close()


def test_a_publication_that_is_not_there_is_refused(database: Database) -> None:
    """G1: PostgreSQL 18 only warns, skips the changes and goes on."""
    source = make_source(database, T)
    position, _ = copy(source)
    database.execute(f"DROP PUBLICATION {PUBLICATION}; INSERT INTO t VALUES (1, 'x', 1)")
    stream = source.stream(position)
    with pytest.raises(PreflightRefusal, match="publication"):
        read_changes(stream, 1, seconds=10)
    stream.close()
    source.close()


def test_a_value_over_the_limit_stops(database: Database) -> None:
    source = make_source(database, T, max_value_bytes=100_000)
    position, _ = copy(source)
    database.execute("INSERT INTO t VALUES (1, repeat('secret', 20000), 1)")
    with streaming(source, position) as stream, pytest.raises(Stop, match="column a") as caught:
        read_changes(stream, 1)
    assert "secret" not in str(caught.value)
    source.close()


def test_a_random_workload_arrives_whole(database: Database) -> None:
    """Everything the log says, applied to a dictionary, gives the table as SQL reads it."""
    source = make_source(database, T, piece_rows=50)
    position, rows = copy(source)
    database.execute(
        """
        CREATE PROCEDURE work(n int) LANGUAGE plpgsql AS $$
        DECLARE k int; BEGIN
          PERFORM setseed(0.42);
          FOR i IN 1..n LOOP
            k := (random() * 60)::int;
            CASE (random() * 4)::int
              WHEN 0 THEN DELETE FROM t WHERE id = k;
              WHEN 1 THEN UPDATE t SET id = id + 1000 * i WHERE id = k;
              WHEN 2 THEN UPDATE t SET b = random() * 1000 WHERE id > k;
              ELSE INSERT INTO t VALUES (k, CASE WHEN random() < 0.5 THEN md5(i::text) END, i)
                   ON CONFLICT (id) DO UPDATE SET a = excluded.a;
            END CASE;
            IF random() < 0.3 THEN COMMIT; END IF;
          END LOOP;
        END $$
        """
    )
    with psycopg.connect(database.dsn, autocommit=True) as writer:
        writer.execute("CALL work(400)")
    database.execute("INSERT INTO t VALUES (-1, 'end', 0)")
    copied = {row[0]: row for row in rows}
    with streaming(source, position) as stream:
        batches = read_until(
            stream, lambda found: any(new and new[0] == b"-1" for _, new, _ in plain(found[-1:]))
        )
    for operation, new, old in plain(batches):
        if operation == "delete":
            assert old
            del copied[old[0]]
            continue
        assert new
        if old:
            del copied[old[0]]
        copied[new[0]] = new
    expected = database.query("SELECT id::text, a, b::text FROM t")
    assert {tuple(v and v.encode() for v in row) for row in expected} == set(copied.values())
    assert sum(b.changes for b in batches) == len(plain(batches))
    source.close()
