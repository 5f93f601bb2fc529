"""The copy of tables of MariaDB and MySQL: what is read of it, and how it ends early."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc_daemon.model.changes import Batch
from cdc_daemon.model.errors import Stop, Unreachable
from tests.support.mysql_sources import Schema, schema_on


@pytest.fixture(params=["mariadb", "mysql9"])
def schema(request: pytest.FixtureRequest) -> Iterator[Schema]:
    """Two tables, of 4,000 rows and of one row with a large value."""
    with schema_on(request.getfixturevalue(request.param)) as found:
        rows = ", ".join(f"({n}, 'row {n} ä', REPEAT('x', 300))" for n in range(4000))
        found.execute(
            "CREATE TABLE many (id int PRIMARY KEY, name varchar(40), filling text);"
            f"INSERT INTO many VALUES {rows};"
            "CREATE TABLE large (id int PRIMARY KEY, value longblob);"
            "INSERT INTO large VALUES (1, REPEAT(x'ff00', 400000))"
        )
        yield found


def rows_of(batch: Batch) -> int:
    return sum(len(run.new_rows) for run in batch.runs)


def test_a_table_that_nobody_reads_to_its_end_is_left(schema: Schema) -> None:
    """The copy goes on with others, and sees them as they were when it began."""
    many, large = (
        schema.table("many", "id", "name", "filling"),
        schema.table("large", "id", "value"),
    )
    source = schema.source(many, large, piece_rows=100)
    with source.snapshot("") as snapshot:
        schema.execute("DELETE FROM many; DELETE FROM large")
        pieces = snapshot.read([many])
        first = next(pieces)
        assert rows_of(first) == 100
        assert first.runs[0].new_rows[7] == (b"7", "row 7 ä".encode(), b"x" * 300)
        del pieces  # which ends it
        (batch,) = snapshot.read([large])
        assert batch.runs[0].new_rows == [(b"1", b"\\x" + b"ff00" * 400_000)]
        assert sum(map(rows_of, snapshot.read([many]))) == 4000


def test_a_value_that_is_too_large_stops_the_copy(schema: Schema) -> None:
    """It is named by table and column, and its row by the columns of its key."""
    table = schema.table("large", "id", "value")
    source = schema.source(table, max_value_bytes=799_999)
    told = r"large: a value of 800000 bytes \(column value, row identified by id\)"
    with source.snapshot("") as snapshot, pytest.raises(Stop, match=told):
        list(snapshot.read([table]))


def test_a_copy_that_loses_its_server_is_tried_again(schema: Schema) -> None:
    """More is on the way than sockets hold, so that the server is still at it."""
    schema.execute("UPDATE many SET filling = REPEAT('x', 4000)")
    table = schema.table("many", "id", "name", "filling")
    source = schema.source(table, piece_rows=10)
    with source.snapshot("") as snapshot:
        pieces = snapshot.read([table])
        next(pieces)
        sending = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT `id`%'"
        ((connection,),) = schema.query(sending)
        schema.execute(f"KILL {connection}")
        with pytest.raises(Unreachable, match="reading"):
            list(pieces)
