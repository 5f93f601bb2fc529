"""Checkpoints of older daemons: their identities tell less, and what they tell is still true."""

from __future__ import annotations

import dataclasses
import re

import pytest

from cdc_daemon.model.findings import refusals
from cdc_daemon.model.ports import Table
from cdc_daemon.model.position import Checkpoint
from cdc_daemon.sources.postgres.fingerprint import compare
from cdc_daemon.sources.postgres.source import PostgresSource
from tests.conftest import DatabaseFactory, PostgresOf
from tests.support.databases import Database
from tests.support.old_fingerprints import old_fingerprint
from tests.support.sources import PUBLICATION, checkpoint_of, make_source, table, whats
from tests.support.versions import NEWEST

DDL = (
    "CREATE TABLE plain (b int, a int, x text, PRIMARY KEY (a, b));"
    "CREATE TABLE whole (id int PRIMARY KEY, x text); ALTER TABLE whole REPLICA IDENTITY FULL;"
    "CREATE TABLE bare (id int, x text); ALTER TABLE bare REPLICA IDENTITY FULL;"
    "CREATE TABLE by_index (id int PRIMARY KEY, x text NOT NULL, u int NOT NULL);"
    "CREATE UNIQUE INDEX by_index_x ON by_index (x);"
    "ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_x;"
    "CREATE TABLE p (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
    "CREATE TABLE p2 (LIKE p INCLUDING ALL); INSERT INTO p2 VALUES (11, 'brought');"
    "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);"
)
PLAIN = (
    table("plain", "a", "b", "x"),
    table("whole", "id", "x"),
    table("bare", "id", "x", identity=("id",)),
    table("by_index", "id", "x"),
)
P = table("p", "id", "a")
WAYS = {
    "via root": (
        (*PLAIN, P),
        "FOR TABLE plain, whole, bare, by_index, p WITH (publish_via_partition_root = true)",
    ),
    "a partition by itself": ((*PLAIN, table("p2", "id", "a")), "FOR ALL TABLES"),
    "a partition of a member": (
        (*PLAIN, table("p2", "id", "a")),
        "FOR TABLE plain, whole, bare, by_index, p",
    ),
}
OF_A_SCHEMA = ((*PLAIN, P), "FOR TABLES IN SCHEMA public")
BROUGHT = (
    "CREATE TABLE q (LIKE p INCLUDING ALL); INSERT INTO q VALUES (21, 'x');"
    "ALTER TABLE p ATTACH PARTITION q FOR VALUES FROM (20) TO (30)"
)


@pytest.fixture(params=NEWEST)
def database(
    request: pytest.FixtureRequest, postgres_of: PostgresOf, database_factory: DatabaseFactory
) -> Database:
    found = database_factory(server=postgres_of(request.param))
    found.execute(DDL)
    return found


def old_checkpoint(
    database: Database, source: PostgresSource, tables: tuple[Table, ...]
) -> Checkpoint:
    """As an older daemon left it, in a process that has not seen the database yet."""
    checkpoint = checkpoint_of(source)
    source.close()
    assert checkpoint.identity
    identity = dataclasses.replace(
        checkpoint.identity, publication=old_fingerprint(database, tables)
    )
    return dataclasses.replace(checkpoint, identity=identity)


def problems(source: PostgresSource, checkpoint: Checkpoint) -> str:
    """What is refused at a start; while running it is the same."""
    found = whats(source.check(checkpoint))
    assert whats(refusals(source.watch(checkpoint, None))) == found
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_same_database_is_as_it_was(way: str, database: Database) -> None:
    tables, published = WAYS[way]
    database.execute(f"CREATE PUBLICATION {PUBLICATION} {published}")
    checkpoint = old_checkpoint(database, make_source(database, *tables), tables)
    source = make_source(database, *tables)
    assert problems(source, checkpoint) == ""
    assert checkpoint.identity
    now = source.identify()
    assert source.compare(checkpoint.identity, now) == []
    assert now != checkpoint.identity, "what is stored next tells more"
    assert not compare(checkpoint.identity.publication, now.publication, tables)
    assert problems(source, dataclasses.replace(checkpoint, identity=now)) == ""
    source.close()


@pytest.mark.parametrize("way", [WAYS["a partition of a member"], OF_A_SCHEMA])
def test_what_joins_a_table_to_the_publication_is_noted_first(
    way: tuple[tuple[Table, ...], str], database: Database
) -> None:
    """Identities of daemons that knew partitions do not tell it: first noted, then compared."""
    tables, published = way
    if "SCHEMA" in published and database.server.version < 15:
        pytest.skip("there are no publications of a schema")
    database.execute(f"CREATE PUBLICATION {PUBLICATION} {published}")
    source = make_source(database, *tables)
    checkpoint = checkpoint_of(source)
    source.close()
    assert checkpoint.identity
    older = re.sub(r"\+\w+", "", checkpoint.identity.publication)
    identity = dataclasses.replace(checkpoint.identity, publication=older)
    source = make_source(database, *tables)
    assert problems(source, dataclasses.replace(checkpoint, identity=identity)) == ""
    now = source.identify()
    assert now.publication == checkpoint.identity.publication != older
    assert source.compare(identity, now) == []
    checkpoint = dataclasses.replace(checkpoint, identity=now)
    assert problems(source, checkpoint) == ""
    if "SCHEMA" in published:
        database.execute("CREATE SCHEMA z; ALTER TABLE p SET SCHEMA z")
        database.execute("ALTER TABLE z.p SET SCHEMA public")
    else:
        database.execute("ALTER TABLE p DETACH PARTITION p2")
        database.execute("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)")
    assert "was taken out, put back" in problems(source, checkpoint)
    source.close()


CHANGED = {
    "plain": "ALTER TABLE plain REPLICA IDENTITY FULL",
    "whole": "ALTER TABLE whole REPLICA IDENTITY DEFAULT",
    "bare": f"ALTER PUBLICATION {PUBLICATION} DROP TABLE bare;"
    f"ALTER PUBLICATION {PUBLICATION} ADD TABLE bare",
    "p": "DROP TABLE p; CREATE TABLE p (id int PRIMARY KEY, a text);"
    f"ALTER PUBLICATION {PUBLICATION} ADD TABLE p",
}


def test_what_an_old_identity_tells_is_still_compared(database: Database) -> None:
    tables, published = WAYS["via root"]
    database.execute(f"CREATE PUBLICATION {PUBLICATION} {published}")
    checkpoint = old_checkpoint(database, make_source(database, *tables), tables)
    source = make_source(database, *tables)
    for name, ddl in CHANGED.items():
        database.execute(ddl)
        assert f"table public.{name} was taken out, put back" in problems(source, checkpoint), name
    source.close()


def test_once_noted_more_is_told(database: Database) -> None:
    """With the identity that takes an old one's place, keys under FULL and partitions count."""
    tables, published = WAYS["via root"]
    database.execute(f"CREATE PUBLICATION {PUBLICATION} {published}")
    checkpoint = old_checkpoint(database, make_source(database, *tables), tables)
    source = make_source(database, *tables)
    assert problems(source, checkpoint) == ""
    checkpoint = dataclasses.replace(checkpoint, identity=source.identify())
    source.close()
    source = make_source(database, *tables)
    assert problems(source, checkpoint) == ""
    database.execute(BROUGHT)
    database.execute("ALTER TABLE whole DROP CONSTRAINT whole_pkey, ADD PRIMARY KEY (x)")
    found = problems(source, checkpoint)
    assert "attached with rows or changes that it had before (public.q)" in found
    assert "table public.whole was taken out, put back" in found
    source.close()
