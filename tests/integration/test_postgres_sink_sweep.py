"""A sweep spares what tables of somebody else's refer to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Outcome, Upsert
from cdc_daemon.model.position import SourceIdentity
from cdc_daemon.sinks.postgres import PostgresSink
from tests.contract.postgres_target import PostgresTarget
from tests.contract.shapes import CUSTOMERS, ENTITIES, LAYOUTS
from tests.support.databases import Database

IDENTITY = SourceIdentity(system="1", timeline=1, database="d", publication="p")
ROWS: list[Row] = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


@pytest.fixture
def target(database: Database) -> Iterator[PostgresTarget]:
    target = PostgresTarget(database, ENTITIES, LAYOUTS)
    database.execute('CREATE SCHEMA "the group"')
    yield target
    target.close()


def swept(target: PostgresTarget, sink: PostgresSink) -> Outcome:
    with sink.begin() as unit:
        unit.apply([Upsert(layout=CUSTOMERS, rows=ROWS)])
    target.database.execute(
        """CREATE TABLE "the group"."Contract" ("Customer" text REFERENCES customer);
           INSERT INTO "the group"."Contract" VALUES ('b'), (NULL)"""
    )
    for row in ROWS:
        target.age(CUSTOMERS, CUSTOMERS.key_of(row))
    sink.begin_generation("slot", IDENTITY)
    with sink.begin() as unit:
        return unit.finish_snapshot([CUSTOMERS], IDENTITY, "0/9")


def test_a_row_that_another_table_refers_to_stays(target: PostgresTarget) -> None:
    """Or the snapshot would fail until somebody removes the reference."""
    sink = target.sink()
    sink.acquire()
    counts = swept(target, sink).counts
    assert counts == {(CUSTOMERS.mapping, "delete"): 2, (CUSTOMERS.mapping, "noop"): 1}
    assert set(target.living(CUSTOMERS)) == {(b"b",)}


def test_a_reference_that_follows_deletes_holds_nothing(target: PostgresTarget) -> None:
    """Its owner wants it to go along."""
    sink = target.sink()
    sink.acquire()
    target.database.execute(
        'CREATE TABLE "the group".note (customer text REFERENCES customer ON DELETE CASCADE)'
    )
    with sink.begin() as unit:
        unit.apply([Upsert(layout=CUSTOMERS, rows=ROWS)])
    target.database.execute("""INSERT INTO "the group".note VALUES ('a'), ('b')""")
    counts = swept(target, sink).counts
    assert counts == {(CUSTOMERS.mapping, "delete"): 2, (CUSTOMERS.mapping, "noop"): 1}
    assert target.database.query('SELECT customer FROM "the group".note') == [("b",)]


def test_a_reference_to_another_column_counts_too(target: PostgresTarget) -> None:
    """A unique column that an administrator added, say."""
    target.alter(CUSTOMERS, "ADD number int GENERATED ALWAYS AS IDENTITY UNIQUE")
    target.database.execute(
        'CREATE TABLE "the group".visit (customer int REFERENCES customer (number))'
    )
    sink = target.sink()
    sink.acquire()
    with sink.begin() as unit:
        unit.apply([Upsert(layout=CUSTOMERS, rows=ROWS)])
    target.database.execute(
        """INSERT INTO "the group".visit SELECT number FROM customer WHERE code = 'c'"""
    )
    assert swept(target, sink).counts[CUSTOMERS.mapping, "noop"] == 2
    assert set(target.living(CUSTOMERS)) == {(b"b",), (b"c",)}
