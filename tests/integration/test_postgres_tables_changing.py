"""Tables that change while the log is read: renamed, created again, with other columns and keys.

What the log says is decided by a table's oid and by the columns of that moment; whatever would be
left out or taken for something else is refused, also where it was undone before anybody looked.
"""

from __future__ import annotations

import dataclasses

import pytest

from cdc_daemon.model.errors import PreflightRefusal, Stop
from cdc_daemon.model.findings import refusals
from cdc_daemon.sources.postgres.source import PostgresSource
from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.databases import Database
from tests.support.sources import (
    PUBLICATION,
    checkpoint_of,
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

T = table("t", "id", "a", "b", schema="s")
SNAPSHOT = "cdc-daemon snapshot start"


@pytest.fixture(params=NEWEST)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    """Table s.t of a publication of all tables, as in an old installation."""
    found = database_factory(server=postgres_of(request.param))
    found.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id bigint PRIMARY KEY, a text NOT NULL, b int);"
        f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES"
    )
    return found


def news(source: PostgresSource, position: str, count: int) -> list[object]:
    """The new rows of so many changes."""
    with streaming(source, position) as stream:
        return [new for _, new, _ in plain(read_changes(stream, count))]


# --- names ---------------------------------------------------------------------------------------


def test_renamed_and_renamed_back_nothing_is_left_out(database: Database) -> None:
    """Schema and table, inside a transaction and between two: the log names them as they were."""
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    assert checkpoint.position
    for name, statements in {
        "schema, in one transaction": (
            "BEGIN; INSERT INTO s.t VALUES (1, 'x'); ALTER SCHEMA s RENAME TO z;"
            "INSERT INTO z.t VALUES (2, 'x'); ALTER SCHEMA z RENAME TO s;"
            "INSERT INTO s.t VALUES (3, 'x'); COMMIT"
        ),
        "schema": (
            "ALTER SCHEMA s RENAME TO z; INSERT INTO z.t VALUES (4, 'x');"
            "ALTER SCHEMA z RENAME TO s; INSERT INTO s.t VALUES (5, 'x')"
        ),
        "table": (
            "ALTER TABLE s.t RENAME TO u; INSERT INTO s.u VALUES (6, 'x');"
            "ALTER TABLE s.u RENAME TO t; INSERT INTO s.t VALUES (7, 'x')"
        ),
        "moved": (
            "ALTER TABLE s.t SET SCHEMA public; INSERT INTO t VALUES (8, 'x');"
            "ALTER TABLE t SET SCHEMA s; INSERT INTO s.t VALUES (9, 'x')"
        ),
    }.items():
        for statement in [statements] if "BEGIN" in statements else statements.split(";"):
            database.execute(statement)
        assert source.check(checkpoint) == [], name
    keys = [row[0] for row in news(source, checkpoint.position, 9) if isinstance(row, tuple)]
    assert keys == [b"%d" % i for i in range(1, 10)]
    source.close()


def test_a_table_that_keeps_its_new_name_is_carried_until_it_is_refused(
    database: Database,
) -> None:
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    assert checkpoint.position
    assert checkpoint.identity
    with streaming(source, checkpoint.position) as stream:
        database.execute("ALTER TABLE s.t RENAME TO u; INSERT INTO s.u VALUES (1, 'x')")
        assert plain(read_changes(stream, 1)) == [("insert", (b"1", b"x", None), None)]
    assert "renamed" in whats(refusals(source.watch(checkpoint, None)))
    assert "the table does not exist" in whats(source.check(checkpoint))
    source.close()


@pytest.mark.parametrize(
    "ddl",
    [
        "DROP TABLE s.t; CREATE TABLE s.t (id bigint PRIMARY KEY, a text, b int)",
        "CREATE TABLE s.n (LIKE s.t INCLUDING ALL); ALTER TABLE s.t RENAME TO o;"
        "ALTER TABLE s.n RENAME TO t",
    ],
    ids=["created again", "swapped"],
)
def test_another_table_of_that_name_is_refused_at_once(database: Database, ddl: str) -> None:
    """Its rows are no continuation of the old one's."""
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    assert checkpoint.position
    with streaming(source, checkpoint.position) as stream:
        database.execute("INSERT INTO s.t VALUES (1, 'x')")
        position = last_position(read_changes(stream, 1))
        database.execute(f"{ddl}; INSERT INTO s.t VALUES (2, 'y')")
        with pytest.raises(PreflightRefusal, match="another table has its name") as caught:
            read_changes(stream, 1)
    assert SNAPSHOT in str(caught.value)
    assert "created again" in whats(source.check(checkpoint))
    assert position
    source.close()


def test_a_table_that_becomes_unlogged_is_refused(database: Database) -> None:
    """In a publication of all tables nothing keeps an administrator from it; and what was written
    meanwhile stays missing after it is logged again."""
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    assert checkpoint.identity
    database.execute("ALTER TABLE s.t SET UNLOGGED")
    assert "table s.t" in whats(refusals(source.watch(checkpoint, None)))
    assert "it is unlogged" in whats(source.check(checkpoint))
    seen = dataclasses.replace(checkpoint, identity=source.remember(checkpoint.identity))
    database.execute("ALTER TABLE s.t SET LOGGED")
    assert "s.t was unlogged" in whats(source.check(seen))
    source.close()


def test_a_table_that_left_its_published_schema_is_refused(
    postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> None:
    """While it was in another one it was not published; other things than its schema may change."""
    database = database_factory(server=postgres_of(18))
    database.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id bigint PRIMARY KEY, a text NOT NULL, b int);"
        "CREATE TABLE s.p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF s.p DEFAULT; CREATE SCHEMA attic;"
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLES IN SCHEMA s"
    )
    tables = (T, table("p", "id", schema="s"))
    source = make_source(database, *tables)
    checkpoint = checkpoint_of(source)
    database.execute("GRANT SELECT ON s.t, s.p TO PUBLIC")
    database.execute("ALTER SCHEMA s RENAME TO z; ALTER SCHEMA z RENAME TO s; TRUNCATE s.t")
    database.execute("VACUUM FULL s.t")
    assert source.check(checkpoint) == []
    for name in ("t", "p"):
        database.execute(f"ALTER TABLE s.{name} SET SCHEMA attic")
        database.execute(f"ALTER TABLE attic.{name} SET SCHEMA s")
        found = whats(source.check(checkpoint))
        assert f"table s.{name} was taken out" in found, name
    checkpoint = dataclasses.replace(checkpoint, identity=source.identify())
    database.execute("ALTER TABLE p1 SET SCHEMA attic; ALTER TABLE attic.p1 SET SCHEMA public")
    assert source.check(checkpoint) == [], "its table publishes it"
    source.close()


# --- columns -------------------------------------------------------------------------------------


def test_columns_that_come_go_and_change_places(database: Database) -> None:
    """By name, whatever their order is by now; with the types of that moment."""
    source = make_source(database, T)
    position, _ = copy(source)
    database.execute(
        "INSERT INTO s.t VALUES (1, 'x', 1); ALTER TABLE s.t ADD c int DEFAULT 7;"
        "INSERT INTO s.t VALUES (2, 'x', 2);"
        "ALTER TABLE s.t ADD n text; UPDATE s.t SET n = a || id;"
        "ALTER TABLE s.t DROP a; ALTER TABLE s.t RENAME n TO a;"
        "INSERT INTO s.t (id, a, b) VALUES (3, 'y', 3); ALTER TABLE s.t DROP c;"
        "ALTER TABLE s.t ALTER b TYPE text; INSERT INTO s.t VALUES (4, 'four', 'z')"
    )
    with streaming(source, position) as stream:
        batches = read_changes(stream, 6)
    found = [
        {c.name: v for c, v in zip(run.relation.columns, row, strict=True)}
        for batch in batches
        for run in batch.runs
        for row in run.new_rows
    ]
    assert found[0] == {"id": b"1", "a": b"x", "b": b"1"}
    assert found[2] == {"id": b"1", "a": b"x", "b": b"1"}, "n is not a yet"
    assert found[4] == {"id": b"3", "a": b"y", "b": b"3"}
    assert found[5] == {"id": b"4", "a": b"z", "b": b"four"}
    types = [str(run.relation.columns[-1].type) for batch in batches for run in batch.runs]
    assert types[0] == "integer"
    source.close()


def test_a_mapped_column_that_is_gone_stops_by_name(database: Database) -> None:
    source = make_source(database, T)
    for ddl in ("RENAME b TO bb", "DROP b"):
        position, _ = copy(source, replace=True)
        with streaming(source, position) as stream:
            database.execute(f"ALTER TABLE s.t {ddl}; INSERT INTO s.t VALUES (1, 'x')")
            with pytest.raises(Stop, match=r"erp\.s\.t: the log no longer carries the column 'b'"):
                read_changes(stream, 1)
        assert "column 'b' does not exist" in whats(source.check(None))
        database.execute("DELETE FROM s.t")
        if "RENAME" in ddl:
            database.execute("ALTER TABLE s.t RENAME bb TO b")
    source.close()


# --- keys ----------------------------------------------------------------------------------------

KEYS = {
    "a wider key": "ALTER TABLE s.t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, a)",
    "another key": "ALTER TABLE s.t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)",
    "by index": (
        "CREATE UNIQUE INDEX t_id ON s.t (id); ALTER TABLE s.t REPLICA IDENTITY USING INDEX t_id"
    ),
    "full": "ALTER TABLE s.t REPLICA IDENTITY FULL",
}


def test_another_identity_is_refused_in_the_log(database: Database) -> None:
    """Changed and changed back before anybody looks: a row known by another key is not the same."""
    source = make_source(database, T)
    for name, ddl in KEYS.items():
        checkpoint = checkpoint_of(source, replace=True)
        assert checkpoint.position
        with streaming(source, checkpoint.position) as stream:
            database.execute("INSERT INTO s.t VALUES (1, 'x')")
            read_changes(stream, 1)
            database.execute(f"{ddl}; UPDATE s.t SET b = 2; DELETE FROM s.t")
            with pytest.raises(PreflightRefusal) as caught:
                read_changes(stream, 1000)
        assert "primary key or replica identity is another one" in str(caught.value), name
        assert SNAPSHOT in str(caught.value)
        assert caught.value.exit_code == 78
        assert "key or replica identity changed" in whats(source.check(checkpoint)), name
    source.close()


def test_a_key_that_a_table_gets_later(database: Database) -> None:
    """FULL, known by what the mapping says, then with a primary key: rows are known anew."""
    database.execute("CREATE TABLE k (id int, a text); ALTER TABLE k REPLICA IDENTITY FULL")
    source = make_source(database, table("k", "id", "a", identity=("a",)))
    checkpoint = checkpoint_of(source)
    assert source.check(checkpoint) == []
    database.execute("INSERT INTO k VALUES (1, 'x')")
    database.execute("ALTER TABLE k ADD PRIMARY KEY (a)")
    assert source.check(checkpoint) == [], "the same columns: nothing has changed"
    database.execute("ALTER TABLE k DROP CONSTRAINT k_pkey, ADD PRIMARY KEY (id)")
    assert "its key or replica identity changed" in whats(source.check(checkpoint))
    source.close()


def test_a_key_with_another_type_or_name_of_its_constraint(database: Database) -> None:
    """The same columns identify: nothing is lost, nothing refused."""
    source = make_source(database, T)
    checkpoint = checkpoint_of(source)
    assert checkpoint.position
    database.execute("ALTER TABLE s.t RENAME CONSTRAINT t_pkey TO other")
    database.execute("ALTER TABLE s.t ALTER id TYPE numeric; INSERT INTO s.t VALUES (1.5, 'x')")
    database.execute("ALTER TABLE s.t DROP CONSTRAINT other, ADD PRIMARY KEY (id)")
    database.execute("DELETE FROM s.t")
    assert source.check(checkpoint) == []
    assert news(source, checkpoint.position, 2)[0] == (b"1.5", b"x", None)
    source.close()
