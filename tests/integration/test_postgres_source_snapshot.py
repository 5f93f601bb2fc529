"""The first copy: exact where it joins the stream, in the log's own text, and never for ever."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from contextlib import closing

import psycopg
import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.errors import (
    ConfigurationError,
    PreflightRefusal,
    Stop,
    Unreachable,
)
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.sources.postgres.lsn import parse_lsn
from cdc_daemon.sources.postgres.source import PostgresSource
from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.databases import Database
from tests.support.sources import (
    PUBLICATION,
    asked_for,
    copy,
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
NOT_OURS = "the slot exists, but no checkpoint belongs to it"


@pytest.fixture(params=VERSIONS)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    """An empty database on both versions, with a publication of table t."""
    found = database_factory(server=postgres_of(request.param))
    found.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text, b int)")
    found.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    return found


def slots(database: Database) -> list[str]:
    rows = database.query(
        "SELECT slot_name FROM pg_replication_slots WHERE database = %s", database.name
    )
    return [row[0] for row in rows]


def active(database: Database) -> bool:
    query = "SELECT bool_or(active) FROM pg_replication_slots WHERE database = %s"
    return bool(database.query(query, database.name)[0][0])


def test_pieces_run_on_in_one_numbering(database: Database) -> None:
    database.execute("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1), (2)")
    database.execute("INSERT INTO t SELECT i, 'x', i FROM generate_series(1, 2500) i")
    source = make_source(database, T, table("u", "id"), piece_rows=1000)
    with source.snapshot(source.slot) as snapshot:
        batches = list(snapshot.read(source.tables))
        assert [(b.changes, b.runs[0].sequence) for b in batches] == [
            (1000, 0),
            (1000, 1000),
            (500, 2000),
            (2, 2500),
        ]
        assert {b.begins[0][:2] for b in batches} == {(0, parse_lsn(snapshot.position))}
    assert {b.position for b in batches} == {None}
    assert [b.runs[0].relation for b in batches[-2:]] == source.relations()
    source.close()


def test_values_are_what_the_stream_would_say(database: Database) -> None:
    """Escapes, NULL against text that looks like it, blanks, line ends, other scripts."""
    texts = ["", "\\N", "N", "\\", "\\\\", "\t", "\n", "\r", "a\tb\\tc\nd", "\b\f\v", "名称 ä", " "]
    source = make_source(database, T)
    with psycopg.connect(database.dsn, autocommit=True) as writer:
        for i, text in enumerate(texts):
            writer.execute("INSERT INTO t VALUES (%s, %s, NULL)", (i, text))
        position, rows = copy(source)
        assert rows == [(b"%d" % i, text.encode(), None) for i, text in enumerate(texts)]
        writer.execute("UPDATE t SET b = NULL")
    with streaming(source, position) as stream:
        found = plain(read_changes(stream, len(texts)))
    assert [new for _, new, _ in found] == rows
    source.close()


def test_snapshot_and_stream_join_without_gap_while_writers_run(database: Database) -> None:
    """Each row that a writer commits is in the copy or in the stream, and never in both."""
    stop = threading.Event()
    written: list[list[int]] = [[], []]

    def write(which: int) -> None:
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            key = which
            while not stop.is_set():
                key += 2
                connection.execute("INSERT INTO t VALUES (%s, 'x', 1)", (key,))
                written[which].append(key)

    writers = [threading.Thread(target=write, args=(which,)) for which in (0, 1)]
    for writer in writers:
        writer.start()
    until(lambda: all(len(keys) > 50 for keys in written))
    source = make_source(database, T)
    position, rows = copy(source)
    so_far = max(map(len, written))
    until(lambda: all(len(keys) > so_far + 50 for keys in written))
    stop.set()
    for writer in writers:
        writer.join()
    everything = sorted(written[0] + written[1])
    with streaming(source, position) as stream:
        batches = read_changes(stream, len(everything) - len(rows))
    copied = [int(row[0]) for row in rows]  # type: ignore[arg-type]
    streamed = [int(new[0]) for _, new, _ in plain(batches) if new]  # type: ignore[arg-type]
    assert sorted(copied + streamed) == everything
    assert copied
    assert streamed
    source.close()


def test_changes_during_the_copy_are_not_in_it(database: Database) -> None:
    """P10: the snapshot is imported before anything else, and holds while others write."""
    database.execute("INSERT INTO t VALUES (1, 'old', 1)")
    source = make_source(database, T)
    with source.snapshot(source.slot) as snapshot:
        database.execute("UPDATE t SET a = 'new'; INSERT INTO t VALUES (2, 'new', 2)")
        rows = [row for b in snapshot.read([T]) for run in b.runs for row in run.new_rows]
    assert rows == [(b"1", b"old", b"1")]
    with streaming(source, snapshot.position) as stream:
        assert [new for _, new, _ in plain(read_changes(stream, 2))] == [
            (b"1", b"new", b"1"),
            (b"2", b"new", b"2"),
        ]
    source.close()


def test_a_table_can_be_read_again_after_it_was_given_up(database: Database) -> None:
    """A group that failed late is copied once more from the same snapshot."""
    database.execute(
        "INSERT INTO t SELECT i, repeat('x', 1000), i FROM generate_series(1, 20000) i"
    )
    source = make_source(database, T, piece_rows=10)
    with source.snapshot(source.slot) as snapshot:
        reading = snapshot.read([T])
        next(reading)
        reading.close()  # type: ignore[attr-defined]
        database.execute("INSERT INTO t VALUES (0, 'later', 0)")
        rows = sum(b.changes for b in snapshot.read([T]))
    assert rows == 20000
    source.close()


def test_only_the_table_itself_is_copied(database: Database) -> None:
    """Rows of tables that inherit from it come under their own name, in log and copy alike."""
    database.execute(
        "CREATE TABLE heir () INHERITS (t); INSERT INTO t VALUES (1, 'x', 1);"
        "INSERT INTO heir VALUES (2, 'x', 1)"
    )
    source = make_source(database, T)
    assert copy(source)[1] == [(b"1", b"x", b"1")]
    relation = source.relations()[0]
    assert list(source.reread(relation, [(b"1",), (b"2",)])) == [(b"1",)]
    source.close()


def test_a_partitioned_table_is_one_table(database: Database) -> None:
    """G7: with publish_via_partition_root, moves between partitions are a delete and an insert."""
    database.execute(
        "CREATE TABLE p (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE p;"
        f"ALTER PUBLICATION {PUBLICATION} SET (publish_via_partition_root = true);"
        "INSERT INTO p VALUES (1, 'x'), (11, 'y')"
    )
    source = make_source(database, table("p", "id", "a"))
    assert source.check(None) == []
    position, rows = copy(source)
    assert sorted(rows) == [(b"1", b"x"), (b"11", b"y")]
    database.execute("UPDATE p SET id = 12 WHERE id = 1; TRUNCATE p")
    with streaming(source, position) as stream:
        found = plain(read_changes(stream, 3))
    assert found == [
        ("delete", None, (b"1",)),
        ("insert", (b"12", b"x"), None),
        ("truncate", None, None),
    ]
    relation = source.relations()[0]
    database.execute("INSERT INTO p VALUES (3, 'z')")
    assert source.reread(relation, [(b"3",)]) == {(b"3",): (b"3", b"z")}
    source.close()


# --- the slot ------------------------------------------------------------------------------------


def test_a_slot_that_exists_is_refused(database: Database) -> None:
    """Section 4: it may be somebody's; it is never taken, nor dropped."""
    source = make_source(database, T)
    database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", source.slot)
    with pytest.raises(PreflightRefusal, match="no checkpoint belongs to it"):
        copy(source)
    assert slots(database) == [source.slot]
    source.close()


def test_a_slot_of_a_broken_try_is_replaced(database: Database) -> None:
    source = make_source(database, T)
    first, _ = copy(source)
    database.execute("INSERT INTO t VALUES (1, 'x', 1)")
    second, rows = copy(source, replace=True)
    assert parse_lsn(second) > parse_lsn(first)
    assert rows == [(b"1", b"x", b"1")]
    assert slots(database) == [source.slot]
    copy(source, replace=True)
    source.close()


def test_replacing_a_slot_that_is_not_there_is_fine(database: Database) -> None:
    source = make_source(database, T)
    copy(source, replace=True)
    assert slots(database) == [source.slot]
    source.close()


def test_who_is_in_the_way_of_a_slot_is_named(database: Database) -> None:
    """P10: creating it waits for every running transaction; not for ever, and not in silence."""
    source = make_source(database, T, slot_timeout=1.0)
    with psycopg.connect(database.dsn, application_name="nightly job") as blocker:
        blocker.execute("INSERT INTO t VALUES (1, 'secret', 1)")
        pid = blocker.info.backend_pid
        with pytest.raises(Unreachable, match=rf"pid {pid} .*nightly job") as caught:
            copy(source)
        assert "secret" not in str(caught.value)
    until(lambda: slots(database) == [], what="the cancelled slot is gone")
    copy(source)
    source.close()


def test_a_kill_between_slot_and_copy_leaves_a_slot_to_replace(database: Database) -> None:
    source = make_source(database, T)
    with source.snapshot(source.slot):
        pass
    assert slots(database) == [source.slot]
    copy(source, replace=True)
    source.close()


# --- whose slot it is ----------------------------------------------------------------------------


def begun(source: PostgresSource, position: str | None = None) -> Checkpoint:
    """What the ledger holds of a copy that broke off; ``position``: with its slot."""
    asked = asked_for(source)
    assert asked.identity is not None
    identity = dataclasses.replace(asked.identity, publication="")
    return dataclasses.replace(asked, identity=identity, position=position)


def test_a_copy_that_broke_off_replaces_its_own_slot_only(database: Database) -> None:
    """Another installation of the same files has made the slot since, and copies."""
    source = make_source(database, T)
    first, _ = copy(source)
    assert source.check(begun(source, first)) == []
    source.make_room(source.slot, begun(source, first))
    assert slots(database) == []
    copy(source)
    assert [each.what for each in source.check(begun(source, first))] == [NOT_OURS]
    with pytest.raises(PreflightRefusal, match="no checkpoint belongs to it") as caught:
        source.make_room(source.slot, begun(source, first))
    assert "pg_drop_replication_slot" in str(caught.value)
    assert slots(database) == [source.slot]
    source.close()


def test_a_slot_that_was_read_is_not_one_that_a_kill_left(database: Database) -> None:
    """Another installation made it after a copy of ours broke off before it had one; that it has
    only just begun to read makes no difference."""
    source = make_source(database, T)
    unread, _ = copy(source)
    assert source.check(begun(source)) == []
    with streaming(source, unread):
        until(lambda: source.check(begun(source)), what="it counts as read")
        assert [each.what for each in source.check(begun(source))] == [NOT_OURS]
    with pytest.raises(PreflightRefusal, match="no checkpoint belongs to it"):
        source.make_room(source.slot, begun(source))
    assert slots(database) == [source.slot]
    source.close()


def test_a_slot_in_use_is_waited_for_and_not_dropped(database: Database) -> None:
    """The server may still be making it for a worker that was killed."""
    source = make_source(database, T)
    with psycopg.connect(database.dsn) as blocker:
        blocker.execute("INSERT INTO t VALUES (1, 'x', 1)")
        walsender = psycopg.connect(f"{database.dsn}?replication=database", autocommit=True)
        with closing(walsender) as other:
            make = f"CREATE_REPLICATION_SLOT {source.slot} LOGICAL pgoutput"
            other.pgconn.send_query(make.encode())
            until(lambda: slots(database), what="it is being made")
            assert source.check(begun(source)) == []
            with pytest.raises(Unreachable, match=r"process \d+ of the server is at slot"):
                source.make_room(source.slot, begun(source))
            blocker.rollback()
            assert other.pgconn.get_result() is not None
    until(lambda: not active(database), what="it is made and free")
    source.make_room(source.slot, begun(source))
    assert slots(database) == []
    source.close()


def test_two_that_copy_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot of a copy that goes on, which nobody has read yet, is left alone."""
    monkeypatch.setattr("cdc_daemon.sources.postgres.snapshot.DROP_TIMEOUT", 0.2)
    source, other = make_source(database, T), make_source(database, T)
    with other.snapshot(other.slot):
        with pytest.raises(Unreachable, match="somebody takes a copy with slot"):
            source.make_room(source.slot, begun(source))
        assert slots(database) == [source.slot]
    source.make_room(source.slot, begun(source))
    assert slots(database) == []
    source.close()
    other.close()


def test_a_stream_from_another_server_than_the_answers_is_closed(
    database: Database, database_factory: DatabaseFactory, postgres_of: PostgresOf
) -> None:
    """An address that has moved: the SQL connection still asks the server that it led to before,
    which has such a table and publication as well."""
    source = make_source(database, T)
    position, _ = copy(source)
    elsewhere = next(one for one in VERSIONS if one != database.server.version)
    stale = database_factory(server=postgres_of(elsewhere))
    stale.execute("CREATE TABLE t (id bigint PRIMARY KEY, a text, b int)")
    stale.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t")
    stale_source = make_source(stale, T)
    source._connection = stale_source._sql()
    with pytest.raises(Unreachable, match="another server"):
        source.stream(position)
    with streaming(source, position):
        assert source.identify().database == database.name
    source.close()
    stale_source.close()


# --- what cannot be copied -----------------------------------------------------------------------


def test_a_missing_table_and_column_are_named_with_suggestions(database: Database) -> None:
    source = make_source(database, table("tt", "id"), table("t", "idd"))
    with pytest.raises(ConfigurationError) as caught:
        source.relations()
    assert "did you mean 'public.t'" in str(caught.value)
    assert "did you mean 'id'" in str(caught.value)
    source.close()


def test_a_table_dropped_in_between_is_an_error_of_ours(database: Database) -> None:
    source = make_source(database, T)
    with source.snapshot(source.slot) as snapshot:
        database.execute("DROP TABLE t")
        with pytest.raises((Stop, PreflightRefusal), match="copying public"):
            list(snapshot.read([T]))
    source.close()


# --- rows again ----------------------------------------------------------------------------------


def keys(*ids: int) -> Sequence[tuple[bytes]]:
    return [(b"%d" % i,) for i in ids]


def test_rows_are_read_again_by_identity(database: Database) -> None:
    """In the stream's text form; gone ones are left out; any number at once."""
    database.execute("INSERT INTO t SELECT i, 'n\\t' || i, NULL FROM generate_series(1, 2000) i")
    source = make_source(database, T)
    relation = source.relations()[0]
    found = source.reread(relation, [*keys(1, 99999), *keys(*range(1, 1601))])
    assert len(found) == 1600
    assert found[b"7",] == (b"7", b"n\\t7", None)
    assert source.reread(relation, []) == {}
    source.close()


def test_rows_are_read_again_by_a_composite_key(database: Database) -> None:
    database.execute(
        "CREATE TABLE l (o varchar(5), n int, x numeric(9,2), d timestamptz, PRIMARY KEY (n, o));"
        "INSERT INTO l VALUES ('a''b', 1, 1.5, '2026-01-01 00:00:00+08'), ('a', 2, 2, NULL)"
    )
    source = make_source(database, table("l", "x", "d"))
    relation = source.relations()[0]
    found = source.reread(relation, [(b"a'b", b"1"), (b"a", b"1")])
    row: Row = (b"a'b", b"1", b"1.50", b"2025-12-31 16:00:00+00")
    assert found == {(b"a'b", b"1"): row}
    source.close()


def test_a_key_may_be_spelt_otherwise_than_its_row(database: Database) -> None:
    """The server says which key names which row; 2 keys for one row have it both."""
    database.execute(
        "CREATE DOMAIN amount AS numeric(10,2);"
        "CREATE TABLE n (a numeric(10,2), b amount, c char(4), d timestamptz, e boolean, x text,"
        " PRIMARY KEY (a, b, c, d, e));"
        "INSERT INTO n SELECT i + 0.5, i, 'c', '2026-01-01 00:00+00', true, 'x' || i"
        " FROM generate_series(1, 3) i"
    )
    source = make_source(database, table("n", "x"))
    relation = source.relations()[0]

    def key(a: str, b: str) -> tuple[bytes, ...]:
        return (a.encode(), b.encode(), b"c   ", b"2026-01-01 01:00:00+01", b"true")

    row: Row = (b"1.50", b"1.00", b"c   ", b"2026-01-01 00:00:00+00", b"t", b"x1")
    asked = [key("1.5", "1"), key("1.50", "1.0"), row[:5], key("2.5", "2"), key("9", "9")]
    found = source.reread(relation, asked)  # type: ignore[arg-type]
    assert list(found) == asked[:4]
    assert [found[one] for one in asked[:3]] == [row] * 3  # type: ignore[index]
    assert found[asked[3]][-1] == b"x2"  # type: ignore[index]
    source.close()


def test_the_connection_is_opened_anew_when_it_was_lost(database: Database) -> None:
    database.execute("INSERT INTO t VALUES (1, 'x', 1)")
    source = make_source(database, T)
    relation = source.relations()[0]
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'cdc_daemon:erp' AND datname = current_database()"
    )
    with pytest.raises(Unreachable):
        source.reread(relation, keys(1))
    assert len(source.reread(relation, keys(1))) == 1
    source.close()


def test_a_table_that_fills_while_it_streams_keeps_its_order(database: Database) -> None:
    """Snapshot rows come first, the stream's numbering starts anew, commits stay in order."""
    database.execute("INSERT INTO t VALUES (1, 'x', 1)")
    source = make_source(database, T)
    position, _ = copy(source)
    with streaming(source, position) as stream:
        for i in range(2, 30):
            database.execute(f"INSERT INTO t VALUES ({i}, 'x', 1)")
        batches = read_until(stream, lambda found: sum(b.changes for b in found) >= 28)
    marks = [begin[1] for b in batches for begin in b.begins]
    assert marks == sorted(marks)
    assert batches[0].runs[0].sequence == 0
    source.close()
