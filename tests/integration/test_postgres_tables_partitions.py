"""Partitioned tables: one table to the daemon, whichever way they are published (HAZARD G7)."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import psycopg
import pytest

from cdc_daemon.engine.lanes import identities_of
from cdc_daemon.model.changes import Batch, Relation, Row, Value
from cdc_daemon.model.errors import PreflightRefusal, Unreachable
from cdc_daemon.model.findings import refusals
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.sources.postgres.connection import Server
from cdc_daemon.sources.postgres.partitions import Newcomers
from cdc_daemon.sources.postgres.source import PostgresSource
from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.databases import Database
from tests.support.sources import (
    PUBLICATION,
    checkpoint_of,
    conninfo,
    copy,
    last_position,
    make_source,
    plain,
    read_changes,
    streaming,
    table,
    whats,
)
from tests.support.versions import NEWEST

P = table("p", "id", "a")
DDL = (
    "CREATE TABLE p (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
    "CREATE TABLE p2 (note text, a text, id int NOT NULL PRIMARY KEY);"
    "ALTER TABLE p2 DROP COLUMN note;"
    "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);"
    "CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (100) PARTITION BY RANGE (id);"
    "CREATE TABLE p31 PARTITION OF p3 FOR VALUES FROM (20) TO (30);"
    f"CREATE PUBLICATION {PUBLICATION} FOR TABLE p"
)
ROOT = f"ALTER PUBLICATION {PUBLICATION} SET (publish_via_partition_root = true)"


@pytest.fixture(params=NEWEST)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    """A table of three partitions with different columns' order and depth, and a row in each."""
    found = database_factory(server=postgres_of(request.param))
    found.execute(DDL)
    found.execute("INSERT INTO p VALUES (1, 'x'), (11, 'y'), (21, 'z')")
    return found


def begun(source: PostgresSource) -> Checkpoint:
    checkpoint = checkpoint_of(source)
    assert source.check(checkpoint) == []
    return checkpoint


def position_of(checkpoint: Checkpoint) -> str:
    assert checkpoint.position
    return checkpoint.position


def problems(source: PostgresSource, checkpoint: Checkpoint) -> str:
    """What is refused at a start; while running it is the same."""
    assert checkpoint.identity
    found = whats(source.check(checkpoint))
    assert whats(refusals(source.watch(checkpoint, None))) == found
    return found


@pytest.mark.parametrize("publish", ["", ROOT], ids=["by leaves", "via root"])
def test_it_is_one_table(database: Database, publish: str) -> None:
    """Snapshot, every operation, moves between partitions and the truncate are the table's."""
    if publish:
        database.execute(publish)
    source = make_source(database, P)
    assert source.check(None) == []
    position, rows = copy(source)
    assert sorted(rows) == [(b"1", b"x"), (b"11", b"y"), (b"21", b"z")]
    database.execute(
        "INSERT INTO p VALUES (2, 'b'); INSERT INTO p2 VALUES ('c', 12);"
        "UPDATE p SET id = id + 20 WHERE id = 2; UPDATE p SET a = 'w' WHERE id = 21;"
        "DELETE FROM p WHERE id = 11; TRUNCATE p"
    )
    with streaming(source, position) as stream:
        batches = read_changes(stream, 7)
    named = [
        (o, _named(r, new), old)
        for r, (o, new, old) in zip(_relations(batches), plain(batches), strict=True)
    ]
    assert named == [
        ("insert", {"id": b"2", "a": b"b"}, None),
        ("insert", {"id": b"12", "a": b"c"}, None),
        ("delete", None, (b"2",)),
        ("insert", {"id": b"22", "a": b"b"}, None),
        ("update", {"id": b"21", "a": b"w"}, None),
        ("delete", None, (b"11",)),
        ("truncate", None, None),
    ]
    assert {relation.name for relation in _relations(batches)} == {"erp.public.p"}
    source.close()


def _relations(batches: list[Batch]) -> list[Relation]:
    """The relation of every change."""
    return [run.relation for batch in batches for run in batch.runs for _ in range(len(run))]


def _named(relation: Relation, row: Row | None) -> dict[str, Value] | None:
    names = [column.name for column in relation.columns]
    return None if row is None else dict(zip(names, row, strict=True))


def test_partitions_of_like_columns_make_one_run(database: Database) -> None:
    """Rows that go to different partitions in turn are as cheap as those of one."""
    source = make_source(database, P)
    position, _ = copy(source)
    database.execute(
        "INSERT INTO p SELECT 2 + i % 2 * 20 + i / 2, 'x' FROM generate_series(0, 9) i"
    )
    with streaming(source, position) as stream:
        batches = read_changes(stream, 10)
    assert sum(len(batch.runs) for batch in batches) == 1
    source.close()


def test_rows_are_known_by_the_tables_order_of_columns(database: Database) -> None:
    """A partition's columns may stand in another order; what a row is known by may not."""
    database.execute(
        "CREATE TABLE c (a int, b int, x text, PRIMARY KEY (b, a)) PARTITION BY LIST (a);"
        "CREATE TABLE c1 PARTITION OF c FOR VALUES IN (1);"
        "CREATE TABLE c2 (x text, b int NOT NULL, a int NOT NULL);"
        "ALTER TABLE c ATTACH PARTITION c2 FOR VALUES IN (2);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE c"
    )
    edits = (
        "INSERT INTO c VALUES (1, 7, 'x'), (2, 7, 'x'); UPDATE c SET b = 8; UPDATE c SET x = 'y';"
        "DELETE FROM c"
    )
    source = make_source(database, table("c", "a", "b", "x"))
    for alter in ("", "ALTER TABLE {} REPLICA IDENTITY FULL"):
        for each in ("c", "c1", "c2") if alter else ():
            database.execute(alter.format(each))
        assert source.check(None) == []
        position, _ = copy(source, replace=True)
        database.execute(edits)
        with streaming(source, position) as stream:
            batches = read_changes(stream, 8)
        runs = [(run, run.sequence + i) for b in batches for run in b.runs for i in range(len(run))]
        assert [identities_of(run, at) for run, at in runs] == [
            *([(b"1", b"7")], [(b"2", b"7")]),
            *([(b"1", b"8"), (b"1", b"7")], [(b"2", b"8"), (b"2", b"7")]),
            *([(b"1", b"8")], [(b"2", b"8")]),
            *([(b"1", b"8")], [(b"2", b"8")]),
        ]
        (now,) = source.relations()
        for relation in (now, *_relations(batches)):
            assert [relation.columns[i].name for i in relation.identity] == ["a", "b"]
    source.close()


def test_truncate_of_several_tables(database: Database) -> None:
    """One truncate for each mapped table, with what it cascades to."""
    database.execute(
        "CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p); CREATE TABLE o (id int);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE c"
    )
    source = make_source(database, P, table("c", "id"))
    position, _ = copy(source)
    database.execute("TRUNCATE o, p CASCADE; INSERT INTO p VALUES (1, 'new')")
    with streaming(source, position) as stream:
        batches = read_changes(stream, 3)
    truncated = {run.relation.table for batch in batches for run in batch.runs[:2]}
    assert truncated == {"p", "c"}
    assert plain(batches)[2][:2] == ("insert", (b"1", b"new"))
    source.close()


# --- truncates of a part -------------------------------------------------------------------------


def test_truncating_a_part_is_refused(database: Database) -> None:
    """The log names the partitions; which rows were in them, nobody can tell afterwards."""
    source = make_source(database, P)
    for which in ("p1", "p3", "p1, p2"):
        position, _ = copy(source, replace=True)
        database.execute(f"TRUNCATE {which}")
        with (
            streaming(source, position) as stream,
            pytest.raises(PreflightRefusal, match="of its 3 partitions were truncated") as caught,
        ):
            read_changes(stream, 1)
        assert "snapshot start" in str(caught.value)
    source.close()


def test_truncating_a_part_is_noticed_via_root_too(database: Database) -> None:
    """There the log says nothing at all; the partition's file does."""
    database.execute(ROOT)
    source = make_source(database, P)
    checkpoint = begun(source)
    database.execute("TRUNCATE p1")
    assert "a partition of it was truncated" in problems(source, checkpoint)
    source.close()


# --- partitions that come ------------------------------------------------------------------------

BORN = {
    "created in place": "CREATE TABLE {q} PARTITION OF p FOR VALUES FROM ({0}) TO ({1})",
    "with a default and a check": (
        "CREATE TABLE {q} PARTITION OF p (a DEFAULT 'x', CHECK (a <> 'y'))"
        " FOR VALUES FROM ({0}) TO ({1})"
    ),
    "with partitions of its own": (
        "CREATE TABLE {q}0 PARTITION OF p FOR VALUES FROM ({0}) TO ({1}) PARTITION BY RANGE (id);"
        "CREATE TABLE {q} PARTITION OF {q}0 DEFAULT"
    ),
    "attached empty": (
        "CREATE TABLE {q} (LIKE p INCLUDING ALL);"
        "ALTER TABLE p ATTACH PARTITION {q} FOR VALUES FROM ({0}) TO ({1})"
    ),
    "attached after it was emptied": (
        "CREATE TABLE {q} (LIKE p INCLUDING ALL); INSERT INTO {q} VALUES ({0}, 'x');"
        "DELETE FROM {q}; ALTER TABLE p ATTACH PARTITION {q} FOR VALUES FROM ({0}) TO ({1})"
    ),
}


def placed(ddl: str, number: int) -> tuple[str, str, int]:
    """The DDL with a partition of that number: statements, its name, its first key."""
    first = number * 100
    return ddl.format(first, first + 100, q=f"q{number}"), f"q{number}", first


@pytest.mark.parametrize("publish", ["", ROOT], ids=["by leaves", "via root"])
def test_partitions_that_came_empty(database: Database, publish: str) -> None:
    """Their place is noted in the checkpoint's identity before a change of them is carried."""
    if publish:
        database.execute(publish)
    source = make_source(database, P)
    checkpoint = begun(source)
    identity = checkpoint.identity
    assert identity
    position = position_of(checkpoint)
    for number, (name, ddl) in enumerate(BORN.items(), 2):
        statements, q, key = placed(ddl, number)
        old = database.server.version < 15 and "attached" in name
        if old and "emptied" in name:
            continue
        with streaming(source, position) as stream:
            database.execute("UPDATE p SET a = 'w' WHERE id = 1")
            position = last_position(read_changes(stream, 1))
            checkpoint = dataclasses.replace(checkpoint, position=position)
            for statement in [statements] if old else statements.split(";"):
                database.execute(statement)
            database.execute(f"INSERT INTO p VALUES ({key}, 'new')")
            with pytest.raises(Unreachable, match=rf"{q} is a new partition of public\.p"):
                read_changes(stream, 1)
        assert problems(source, checkpoint) == "", name
        assert source.compare(identity, source.identify()) == []
        with streaming(source, position) as stream:
            batches = read_changes(stream, 1)
        found = [change[:2] for change in plain(batches) if change[1]]
        assert found[-1] == ("insert", (b"%d" % key, b"new")), name
        position = last_position(batches)
        checkpoint = dataclasses.replace(checkpoint, position=position)
    source.close()


def test_a_partition_that_joins_between_check_and_identity(database: Database) -> None:
    """What is stored was looked at too: it is neither taken on trust nor refused in vain."""
    source = make_source(database, P)
    checkpoint = begun(source)
    assert checkpoint.identity
    database.execute(placed(BORN["attached empty"], 2)[0])
    assert source.compare(checkpoint.identity, source.identify()) == []
    database.execute(placed(BROUGHT["with rows"], 3)[0])
    assert "(public.q3)" in whats(source.compare(checkpoint.identity, source.identify()))
    source.close()


def test_what_14_leaves_out_is_refused(database: Database) -> None:
    """It remembers for a session's life that a table was not published, also once it is attached;
    so a table that is not as old as its attachment is taken for one that had changes."""
    if database.server.version > 14:
        pytest.skip("15 looks again")
    source = make_source(database, P)
    checkpoint = begun(source)
    statements, q, key = placed(BORN["attached after it was emptied"], 2)
    with streaming(source, position_of(checkpoint)) as stream:
        for statement in statements.split(";"):
            database.execute(statement)
        database.execute(f"INSERT INTO p VALUES ({key}, 'left out')")
        database.execute("UPDATE p SET a = 'told' WHERE id = 1")
        assert plain(read_changes(stream, 1)) == [("update", (b"1", b"told"), None)]
    assert f"rows or changes that it had before (public.{q})" in problems(source, checkpoint)
    source.close()


BROUGHT = {
    "with rows": (
        "CREATE TABLE {q} (LIKE p INCLUDING ALL); INSERT INTO {q} VALUES ({0}, 'x');"
        "ALTER TABLE p ATTACH PARTITION {q} FOR VALUES FROM ({0}) TO ({1})"
    ),
    "with rows, in one transaction": (
        "BEGIN; CREATE TABLE {q} (LIKE p INCLUDING ALL); INSERT INTO {q} VALUES ({0}, 'x');"
        "ALTER TABLE p ATTACH PARTITION {q} FOR VALUES FROM ({0}) TO ({1}); COMMIT"
    ),
    "filled as it is created, in one transaction": (
        "BEGIN; CREATE TABLE {q} AS SELECT {0} AS id, 'x'::text AS a;"
        "ALTER TABLE {q} ADD PRIMARY KEY (id);"
        "ALTER TABLE p ATTACH PARTITION {q} FOR VALUES FROM ({0}) TO ({1}); COMMIT"
    ),
    "below, with rows": (
        "CREATE TABLE {q}0 (LIKE p INCLUDING ALL) PARTITION BY RANGE (id);"
        "CREATE TABLE {q} PARTITION OF {q}0 DEFAULT; INSERT INTO {q} VALUES ({0}, 'x');"
        "ALTER TABLE p ATTACH PARTITION {q}0 FOR VALUES FROM ({0}) TO ({1})"
    ),
}


def test_partitions_that_brought_rows_are_refused(database: Database) -> None:
    source = make_source(database, P)
    checkpoint = begun(source)
    for number, (name, ddl) in enumerate(BROUGHT.items(), 2):
        statements, q, key = placed(ddl, number)
        database.execute(statements)
        database.execute(f"INSERT INTO p VALUES ({key + 1}, 'y')")
        expected = f"attached with rows or changes that it had before (public.{q})"
        assert expected in problems(source, checkpoint), name
        assert checkpoint.identity
        assert source.compare(checkpoint.identity, source.identify()) != []
        checkpoint = dataclasses.replace(checkpoint, identity=source.identify())
    source.close()


V = table("v", "id", "x", identity=("id",))
SPARE = {
    "as it is created": "CREATE TABLE v1 AS SELECT 10 AS id, 'x'::varchar AS x",
    "by an insert": "CREATE TABLE v1 (id int, x varchar(9)); INSERT INTO v1 VALUES (10, 'x')",
}


@pytest.mark.parametrize("ddl", SPARE.values(), ids=SPARE)
def test_a_table_without_key_and_toast_is_not_taken_for_one_born_in_place(
    database: Database, ddl: str
) -> None:
    """Attaching it takes no more steps than creating it in its place would have."""
    database.execute(
        "CREATE TABLE v (id int, x varchar(9)) PARTITION BY RANGE (id);"
        f"ALTER TABLE v REPLICA IDENTITY FULL; ALTER PUBLICATION {PUBLICATION} ADD TABLE v"
    )
    source = make_source(database, V)
    checkpoint = begun(source)
    database.execute(
        f"BEGIN; {ddl.replace('varchar AS', 'varchar(9) AS')};"
        "ALTER TABLE v ATTACH PARTITION v1 FOR VALUES FROM (10) TO (20);"
        "ALTER TABLE v1 REPLICA IDENTITY FULL; COMMIT"
    )
    assert "(public.v1)" in problems(source, checkpoint)
    source.close()


BORN_WITH_ROWS = {
    "in place": "CREATE TABLE {q} PARTITION OF {p} FOR VALUES FROM ({0}) TO ({1})",
    "attached": (
        "CREATE TABLE {q} (LIKE {p} INCLUDING ALL);"
        "ALTER TABLE {p} ATTACH PARTITION {q} FOR VALUES FROM ({0}) TO ({1})"
    ),
}


def test_rows_that_come_after_the_place_are_told(database: Database) -> None:
    """In one transaction too, also where every column has a default, which is one more step."""
    database.execute(
        "CREATE TABLE d (id int PRIMARY KEY DEFAULT 1, a text DEFAULT '') PARTITION BY RANGE (id);"
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE d"
    )
    source = make_source(database, P, table("d", "id", "a"))
    checkpoint = begun(source)
    for n, ddl in enumerate(BORN_WITH_ROWS.values(), 2):
        for p in ("p", "d"):
            first = n * 100
            made = ddl.format(first, first + 100, p=p, q=f"{p}_{n}")
            database.execute(f"BEGIN; {made}; INSERT INTO {p} VALUES ({first}, 'told'); COMMIT")
            assert problems(source, checkpoint) == "", (p, made)
    source.close()


def test_a_transaction_older_than_the_rows_that_it_attaches(database: Database) -> None:
    """Its number says nothing of when it attached them."""
    database.execute("CREATE TABLE o (x int); CREATE TABLE q (LIKE p INCLUDING ALL)")
    database.execute("CREATE TABLE r (LIKE p INCLUDING ALL)")
    source = make_source(database, P)
    checkpoint = begun(source)
    server = Server("erp", conninfo(database))
    with closing(server.connect()) as other, other.transaction():
        other.execute("INSERT INTO public.o VALUES (1)")
        database.execute("INSERT INTO q VALUES (200, 'lost')")
        for name, first in (("q", 200), ("r", 300)):
            where = f"FOR VALUES FROM ({first}) TO ({first + 100})"
            other.execute(f"ALTER TABLE public.p ATTACH PARTITION public.{name} {where}".encode())
    found = problems(source, checkpoint)
    assert "(public.q)" in found
    assert "(public.r)" not in found, "it had none"
    source.close()


def test_a_partition_that_was_unlogged_for_a_while_needs_a_new_copy(database: Database) -> None:
    """Logging it again does not tell what was written meanwhile: what was seen is remembered."""
    source = make_source(database, P)
    checkpoint = begun(source)
    assert checkpoint.identity
    assert source.remember(checkpoint.identity) == checkpoint.identity
    database.execute("ALTER TABLE p2 SET UNLOGGED")
    assert "p was unlogged" in whats(refusals(source.watch(checkpoint, None)))
    assert "SET LOGGED, and take a new snapshot" in whats(source.check(checkpoint))
    seen = source.remember(checkpoint.identity)
    source.close()
    assert source.remember(seen) == seen
    database.execute("ALTER TABLE p2 SET LOGGED")
    source = make_source(database, P)
    later = dataclasses.replace(checkpoint, identity=seen)
    assert "p was unlogged" in problems(source, later)
    assert "p was unlogged" in whats(source.compare(seen, source.identify()))
    assert problems(source, dataclasses.replace(checkpoint, identity=source.identify())) == ""
    source.close()


def test_partitions_published_beside_their_table_stay_logged(database: Database) -> None:
    """PostgreSQL itself then forbids it; to add them is no gap, and nothing comes twice."""
    source = make_source(database, P)
    checkpoint = begun(source)
    database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE p1, p2, p31")
    assert problems(source, checkpoint) == ""
    with pytest.raises(psycopg.Error, match="part of a publication"):
        database.execute("ALTER TABLE p2 SET UNLOGGED")
    database.execute("INSERT INTO p VALUES (2, 'b'), (12, 'c')")
    with streaming(source, position_of(checkpoint)) as stream:
        found = read_changes(stream, 2)
    assert plain(found) == [("insert", (b"2", b"b"), None), ("insert", (b"c", b"12"), None)]
    source.close()


def test_who_may_read_the_table_only_can_tell_too(database: Database) -> None:
    """The worker's role needs no right on each partition."""
    role = f"cdc_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN REPLICATION; GRANT SELECT ON p TO {role}")
    try:
        source = make_source(database, P, conninfo_=conninfo(database, user=role))
        checkpoint = begun(source)
        database.execute(placed(BORN["attached empty"], 2)[0])
        assert problems(source, checkpoint) == ""
        database.execute("INSERT INTO p VALUES (201, 'late'); ALTER TABLE p DETACH PARTITION q2")
        database.execute("ALTER TABLE p ATTACH PARTITION q2 FOR VALUES FROM (200) TO (300)")
        assert "(public.q2)" in problems(source, checkpoint)
        source.close()
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_that_was_seen_before_it_was_attached(database: Database) -> None:
    """The log described it while it was nobody's; its rows count from the attachment on."""
    database.execute(
        f"CREATE TABLE q (LIKE p INCLUDING ALL); ALTER PUBLICATION {PUBLICATION} ADD TABLE q"
    )
    source = make_source(database, P)
    checkpoint = begun(source)
    with streaming(source, position_of(checkpoint)) as stream:
        database.execute("INSERT INTO q VALUES (201, 'x'); DELETE FROM q")
        database.execute("UPDATE p SET a = 'seen' WHERE id = 1")
        read_changes(stream, 1)
        database.execute("ALTER TABLE p ATTACH PARTITION q FOR VALUES FROM (200) TO (300)")
        database.execute("INSERT INTO p VALUES (202, 'y')")
        with pytest.raises(Unreachable, match="new partition"):
            read_changes(stream, 1)
    source.close()


def test_answers_about_strangers_are_kept(database: Database) -> None:
    """An answer holds for transactions that had ended by then; nobody waits for another one long.

    While the catalogue is locked it can only come from memory.
    """
    server = Server("erp", conninfo(database))
    database.execute("CREATE TABLE q (LIKE p INCLUDING ALL)")
    p, p1, q = (_oid(database, name) for name in ("p", "p1", "q"))
    newcomers = Newcomers(server, {p: "public.p"}, frozenset({p1}), seconds=0.2)
    before, gone = _xid(database), 1
    for oid in (p, p1, q, gone):
        newcomers.ask(oid, before)
    after = _xid(database)
    attach = "ALTER TABLE public.p ATTACH PARTITION public.q FOR VALUES FROM (200) TO (300)"
    with closing(server.connect()) as other, other.transaction():
        other.execute("LOCK TABLE pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE")
        for oid in (p, p1, q):
            newcomers.ask(oid, before)
        newcomers.ask(q, (before - (1 << 31) + 10) % (1 << 32))
        for xid in (after, after + 100):
            with pytest.raises(Unreachable, match=r"looking for new partitions: .* timeout"):
                newcomers.ask(q, xid)
        other.execute(attach.encode())
    newcomers.ask(q, before)
    with pytest.raises(Unreachable, match=r"q is a new partition of public\.p"):
        newcomers.ask(q, after)
    newcomers.close()


def _oid(database: Database, name: str) -> int:
    return int(database.query(f"SELECT '{name}'::regclass::oid")[0][0])


def _xid(database: Database) -> int:
    """The number of a transaction that has ended, as the log has it."""
    return int(database.query("SELECT pg_current_xact_id()::text")[0][0]) % (1 << 32)


# --- partitions that go --------------------------------------------------------------------------

LEFT = {
    "detached and attached again": (
        "ALTER TABLE p DETACH PARTITION p1; DELETE FROM p1;"
        "ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10)"
    ),
    "the same above it": (
        "ALTER TABLE p DETACH PARTITION p3;"
        "ALTER TABLE p ATTACH PARTITION p3 FOR VALUES FROM (20) TO (100)"
    ),
    "detached": "ALTER TABLE p DETACH PARTITION p1",
    "dropped": "DROP TABLE p2",
    "detached above": "ALTER TABLE p DETACH PARTITION p3",
}


@pytest.mark.parametrize("publish", ["", ROOT], ids=["by leaves", "via root"])
def test_partitions_that_left_are_refused(database: Database, publish: str) -> None:
    if publish:
        database.execute(publish)
    source = make_source(database, P)
    checkpoint = begun(source)
    for name, ddl in LEFT.items():
        database.execute(ddl)
        assert "was detached or dropped" in problems(source, checkpoint), name
        checkpoint = dataclasses.replace(checkpoint, identity=source.identify())
    source.close()


def test_what_moves_no_row_is_no_problem(database: Database) -> None:
    source = make_source(database, P)
    checkpoint = begun(source)
    for ddl in (
        "VACUUM FULL p1",
        "CREATE INDEX ON p (a)",
        "GRANT SELECT ON p, p1 TO PUBLIC",
        "ALTER TABLE p ADD CHECK (a <> 'q')",
        "ALTER TABLE p1 RENAME TO pp1",
        "ALTER TABLE p ADD COLUMN more int DEFAULT 1",
        "ANALYZE p",
    ):
        database.execute(ddl)
        assert problems(source, checkpoint) == "", ddl
    database.execute("INSERT INTO p VALUES (3, 'c')")
    with streaming(source, position_of(checkpoint)) as stream:
        assert plain(read_changes(stream, 1)) == [("insert", (b"3", b"c"), None)]
    source.close()


# --- partitions by themselves --------------------------------------------------------------------


def test_a_partition_may_be_mapped_alone(database: Database) -> None:
    """It is published with its table, whose place in the publication is then watched for it."""
    leaf = table("p1", "id", "a")
    source = make_source(database, leaf)
    checkpoint = begun(source)
    database.execute("INSERT INTO p VALUES (2, 'b'), (12, 'c')")
    with streaming(source, position_of(checkpoint)) as stream:
        assert plain(read_changes(stream, 1)) == [("insert", (b"2", b"b"), None)]
    database.execute(f"ALTER PUBLICATION {PUBLICATION} SET TABLE p2")
    database.execute(f"ALTER PUBLICATION {PUBLICATION} SET TABLE p")
    assert "may have been skipped" in problems(source, checkpoint)
    source.close()


def test_a_partition_by_itself_that_left_its_published_table(database: Database) -> None:
    """While it was detached it was in no publication."""
    leaf = table("p31", "id", "a")
    source = make_source(database, leaf)
    checkpoint = begun(source)
    for part, whole, bounds in (("p31", "p3", "(20) TO (30)"), ("p3", "p", "(20) TO (100)")):
        database.execute(f"ALTER TABLE {whole} DETACH PARTITION {part}")
        database.execute(f"ALTER TABLE {whole} ATTACH PARTITION {part} FOR VALUES FROM {bounds}")
        assert "may have been skipped" in problems(source, checkpoint), part
        checkpoint = dataclasses.replace(checkpoint, identity=source.identify())
    source.close()


def test_a_partition_published_by_itself_may_leave_its_table(database: Database) -> None:
    """Its own place in the publication holds it, or one between the two."""
    database.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE p1, p3")
    source = make_source(database, table("p1", "id", "a"), table("p31", "id", "a"))
    checkpoint = begun(source)
    for part, bounds in (("p1", "(0) TO (10)"), ("p3", "(20) TO (100)")):
        database.execute(f"ALTER TABLE p DETACH PARTITION {part}")
        database.execute(f"ALTER TABLE p ATTACH PARTITION {part} FOR VALUES FROM {bounds}")
        assert problems(source, checkpoint) == "", part
    source.close()


def test_partitions_that_are_refused(database: Database) -> None:
    source = make_source(database, P, table("p1", "id"))
    assert "partition public.p1 is mapped too" in whats(source.check(None))
    source.close()
    source = make_source(database, P)
    database.execute("ALTER TABLE p1 REPLICA IDENTITY FULL")
    assert "partition public.p1 has another replica identity" in whats(source.check(None))
    database.execute(f"ALTER PUBLICATION {PUBLICATION} SET TABLE p2; ALTER TABLE p1 SET UNLOGGED")
    assert "partition public.p1 is unlogged" in whats(source.check(None))
    source.close()
