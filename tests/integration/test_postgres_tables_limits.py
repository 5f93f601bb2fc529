"""As wide, as many and as oddly published as PostgreSQL lets them be."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from cdc_daemon.model.findings import refusals
from tests.conftest import DatabaseFactory, PostgresFactory, PostgresOf
from tests.support.databases import Database
from tests.support.pipelines import System
from tests.support.sources import (
    PUBLICATION,
    checkpoint_of,
    copy,
    make_source,
    plain,
    read_changes,
    streaming,
    table,
    whats,
)
from tests.support.versions import NEWEST

WIDEST = 1600


@pytest.fixture(params=NEWEST)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    return database_factory(server=postgres_of(request.param))


@pytest.mark.acceptance
def test_1600_columns(database_factory: DatabaseFactory, tmp_path: Path) -> None:
    """The widest table there is, as wide an entity as fits, and rows as long as fit."""
    source = database_factory()
    names = [f"c{i}" for i in range(WIDEST)]
    columns = ", ".join(
        f"{name} {'text' if i % 100 == 1 else 'int'}" for i, name in enumerate(names)
    )
    source.execute(f"CREATE TABLE wide ({columns}, PRIMARY KEY (c0))")
    attributes = {n: "text" if i % 100 == 1 else "integer" for i, n in enumerate(names[:1590])}
    entities = {"wide": {"key": ["c0"], "attributes": attributes}}
    mapping = {
        "from": "erp.public.wide",
        "to": "wide",
        "key": {"c0": "c0"},
        "fields": {name: name for name in attributes if name != "c0"},
    }
    text = f"entities: {json.dumps(entities)}\nmappings: {json.dumps([mapping])}"
    system = System(source, database_factory(), tmp_path, text)
    system.publish("wide")
    system.apply()
    values = ", ".join("repeat('x', 5000)" if i % 100 == 1 else "i" for i in range(WIDEST))
    fill = f"INSERT INTO wide SELECT {values} FROM generate_series({{}}) i"
    source.execute(fill.format("1, 6"))
    with system.running() as running:
        source.execute(fill.format("7, 12"))
        source.execute("UPDATE wide SET c1599 = 0, c1500 = NULL, c1501 = 'short' WHERE c0 % 3 = 0")
        source.execute(
            "UPDATE wide SET c0 = c0 + 1000 WHERE c0 < 5; DELETE FROM wide WHERE c0 = 10"
        )
        system.caught_up(running)
        listed = ", ".join(f'"{name}"' for name in attributes)
        query = (
            f"SELECT md5(string_agg(r::text, '' ORDER BY r.c0)) FROM (SELECT {listed} FROM wide) r"
        )
        assert system.rows(query) == source.query(query)
        assert system.rows("SELECT count(*) FROM wide") == [(11,)]


# --- published in part ---------------------------------------------------------------------------


def test_a_filter_that_is_altered_is_refused(database: Database) -> None:
    """Also where it is altered back: what came and went in between is in no log."""
    if database.server.version < 15:
        pytest.skip("row filters came with 15")
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, a text);"
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t WHERE (id > 10)"
    )
    source = make_source(database, table("t", "id", "a"))
    checkpoint = checkpoint_of(source)
    assert source.check(checkpoint) == []
    assert checkpoint.identity
    for what in ("t WHERE (id > 5)", "t WHERE (id > 10)", "t (id, a)", "t"):
        database.execute(f"ALTER PUBLICATION {PUBLICATION} SET TABLE {what}")
        assert "may have been skipped" in whats(source.check(checkpoint)), what
        assert "may have been skipped" in whats(refusals(source.watch(checkpoint, None))), what
    source.close()


def test_rows_are_read_again_only_where_they_are_published(database: Database) -> None:
    if database.server.version < 15:
        pytest.skip("row filters came with 15")
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x'), (20, 'y');"
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t WHERE (id > 10 AND id < 100)"
    )
    source = make_source(database, table("t", "id", "a"))
    (relation,) = source.relations()
    assert source.reread(relation, [(b"1",), (b"20",)]) == {(b"20",): (b"20", b"y")}
    assert copy(source)[1] == [(b"20", b"y")]
    source.close()


def test_a_partitioned_table_filtered_as_a_whole(database: Database) -> None:
    """Only via its root does the publication filter it."""
    if database.server.version < 15:
        pytest.skip("row filters came with 15")
    database.execute(
        "CREATE TABLE p (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);"
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLE p (a, id) WHERE (id % 2 = 0)"
        " WITH (publish_via_partition_root = true);"
        "INSERT INTO p VALUES (1, 'x'), (2, 'y')"
    )
    source = make_source(database, table("p", "id", "a"))
    checkpoint = checkpoint_of(source)
    assert source.check(checkpoint) == []
    assert checkpoint.position
    database.execute("UPDATE p SET id = id + 11")
    with streaming(source, checkpoint.position) as stream:
        found = sorted(plain(read_changes(stream, 2)))
    assert found == [("delete", None, (b"2",)), ("insert", (b"12", b"x"), None)]
    source.close()


# --- transactions and files ----------------------------------------------------------------------


@pytest.mark.acceptance
def test_a_prepared_transaction_comes_when_it_is_committed(
    postgres_factory: PostgresFactory, database_factory: DatabaseFactory
) -> None:
    """HAZARD G10: in commit order; one that is rolled back says nothing."""
    server = postgres_factory(settings={"max_prepared_transactions": 5})
    database = database_factory(server=server)
    database.execute(
        f"CREATE TABLE t (id bigint PRIMARY KEY); CREATE PUBLICATION {PUBLICATION} FOR TABLE t"
    )
    source = make_source(database, table("t", "id"))
    position, _ = copy(source)
    for key in (1, 2):
        database.execute(f"BEGIN; INSERT INTO t VALUES ({key}); PREPARE TRANSACTION 'x{key}'")
    database.execute("INSERT INTO t VALUES (3)")
    database.execute("ROLLBACK PREPARED 'x2'")
    database.execute("COMMIT PREPARED 'x1'")
    database.execute("INSERT INTO t VALUES (4)")
    with streaming(source, position) as stream:
        assert [new for _, new, _ in plain(read_changes(stream, 3))] == [(b"3",), (b"1",), (b"4",)]
    source.close()


def test_a_socket_beyond_the_first_thousand(database: Database) -> None:
    """HAZARD P11: select(2) ends at 1,024; a process with thousands of connections does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("the process may not open so many files")
    database.execute(
        f"CREATE TABLE t (id bigint PRIMARY KEY); CREATE PUBLICATION {PUBLICATION} FOR TABLE t"
    )
    source = make_source(database, table("t", "id"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    held = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(1050)]
    try:
        position, _ = copy(source)
        database.execute("INSERT INTO t VALUES (1)")
        with streaming(source, position) as stream:
            assert plain(read_changes(stream, 1)) == [("insert", (b"1",), None)]
    finally:
        source.close()
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
