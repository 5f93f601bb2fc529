"""Every type and value of MariaDB and MySQL 9: copied, streamed, read again, and selected alike.

The oracle is the server: what its SELECT shows of the same row. ``-s`` shows how many cells (type ×
value × way) were compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import cast

import pytest

from cdc_daemon.demo.mariadb import PrivateMariaDB
from cdc_daemon.model.changes import UNCHANGED, Batch, Invalid, Relation, Row, Run
from cdc_daemon.model.effects import Key
from cdc_daemon.sources.mysql.source import MysqlSource
from tests.support.mysql_matrix import Keyed, Tables, Wide, shows
from tests.support.mysql_sources import Schema, read_from, schema_on

Runs = dict[tuple[str, str], list[Run]]


class Matrix:
    """The tables on one server, and what was compared."""

    def __init__(self, tables: Tables, source: MysqlSource) -> None:
        self.tables = tables
        self.source = source
        self.cells: Counter[str] = Counter()
        self.differences: list[str] = []

    def compare(
        self, way: str, what: str, found: Sequence[object], wanted: Sequence[object]
    ) -> None:
        """Count the values of one type, and note where they differ."""
        self.cells[way] += sum(value is not None for value in wanted)
        differ = [(f, w) for f, w in zip_longest(found, wanted) if f != w]
        if differ:
            one, other = differ[0]
            self.differences.append(
                f"{way}: {what}: {one!r:.200} is not {other!r:.200}"
                f" ({len(differ)} of {len(wanted)})"
            )

    def compare_wide(
        self, way: str, wide: Wide, found: Sequence[Row], wanted: Sequence[Row]
    ) -> None:
        """Rows column by column."""
        assert [row[0] for row in found] == [row[0] for row in wanted], (way, wide.name)
        for n, case in enumerate(wide.cases, 1):
            self.compare(
                way, case.sql_type, *([row[n] for row in rows] for rows in (found, wanted))
            )

    def compare_shown(self, wide: Wide, found: Sequence[Row]) -> None:
        """What SELECT shows of them."""
        shown = ", ".join(case.shown.format(c=f"c{i}") for i, case in enumerate(wide.cases))
        told = self.tables.schema.query(f"SELECT {shown} FROM {wide.name} ORDER BY id")
        for n, case in enumerate(wide.cases):
            pairs = [(row[n + 1], text(other[n])) for row, other in zip(found, told, strict=True)]
            self.cells["select"] += sum(value is not None for value, _ in pairs)
            self.differences += [
                f"select: {case.sql_type}: {value!r:.200} is not {other!r:.200}"
                for value, other in pairs
                if not shows(case, value, other)
            ]

    def report(self) -> str:
        """How many cells there were, by way."""
        ways = ", ".join(f"{way} {count}" for way, count in self.cells.items())
        return (
            f"type matrix on {self.tables.schema.server!r}: {len(self.tables.cases)} types, "
            f"{sum(self.cells.values())} cells ({ways})"
        )


def text(shown: object) -> str | None:
    if shown is None:
        return None
    return shown.decode() if isinstance(shown, bytes) else str(shown)


@pytest.fixture(params=["mariadb", "mysql9"])
def schema(request: pytest.FixtureRequest) -> Iterator[Schema]:
    """One on either server."""
    with schema_on(request.getfixturevalue(request.param)) as found:
        yield found


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.acceptance)])
def test_copy_stream_rereading_and_select_agree(schema: Schema, every: bool) -> None:
    """Prints how many cells were compared; ``every``: a table for each type that can be a key."""
    tables = Tables(schema, mariadb=isinstance(schema.server, PrivateMariaDB), every=every)
    tables.create()
    tables.insert()
    matrix = Matrix(tables, schema.source(*tables.asked()))
    position, copied = copy_all(matrix)
    wanted = {name: rows_of(copied, name, "insert") for name in tables.names}
    for wide in matrix.tables.wide:
        matrix.cells["copied"] += sum(v is not None for row in wanted[wide.name] for v in row[1:])
        matrix.compare_shown(wide, wanted[wide.name])
    relations = {name: copied[name, "insert"][0].relation for name in tables.names}
    compare_rereads(matrix, relations, wanted)
    compare_stream(matrix, position, relations, wanted)
    print(f"\n{matrix.report()}")
    assert not matrix.differences, "\n".join(matrix.differences)
    assert sum(matrix.cells.values()) > 5_000


def test_a_key_names_no_row_that_is_only_like_its_own(schema: Schema) -> None:
    """A text would be compared with a number as a float, which has 16 digits."""
    whole = "12345678901234567890123456789012345678"
    schema.execute(
        f"CREATE TABLE d (v decimal(38,0) PRIMARY KEY); INSERT INTO d VALUES ({whole});"
        "CREATE TABLE u (v bigint unsigned PRIMARY KEY, w float);"
        "INSERT INTO u VALUES (18446744073709551615, 1)"
    )
    source = schema.source(schema.table("d", "v"), schema.table("u", "v", "w"))
    for relation, key in zip(source.relations(), (whole, "18446744073709551615"), strict=True):
        there, gone = (key.encode(),), (f"{key[:-1]}4".encode(),)
        assert list(source.reread(relation, [gone, there])) == [there]


def copy_all(matrix: Matrix) -> tuple[str, Runs]:
    with matrix.source.snapshot("") as snapshot:
        return snapshot.position, by_table(snapshot.read(matrix.source.tables))


def by_table(batches: Iterable[Batch]) -> Runs:
    """The runs of each table and operation; who promises to have only values has only values."""
    found: Runs = {}
    for run in (run for batch in batches for run in batch.runs):
        values = [value for row in run.new_rows for value in row]
        assert UNCHANGED not in values
        assert run.partial or not any(isinstance(value, Invalid) for value in values)
        found.setdefault((run.relation.table, run.operation.value), []).append(run)
    return found


def rows_of(runs: Runs, name: str, operation: str) -> list[Row]:
    """The new rows, in order of their numbers."""
    found = [row for run in runs.get((name, operation), ()) for row in run.new_rows]
    place = -1 if name[0] in "km" else 0
    return sorted(found, key=lambda row: int(row[place]))  # type: ignore[arg-type]


# --- read again -----------------------------------------------------------------------------------


def compare_rereads(
    matrix: Matrix, relations: dict[str, Relation], wanted: dict[str, list[Row]]
) -> None:
    """Rows are found by their numbers, and by keys of every type, alone and together."""
    for wide in matrix.tables.wide:
        rows = wanted[wide.name]
        again = read_again(matrix, relations[wide.name], rows)
        matrix.compare_wide("read again", wide, again, rows)
    for keyed in matrix.tables.keyed:
        compare_keys(matrix, keyed, relations[keyed.name], wanted[keyed.name])


def read_again(matrix: Matrix, relation: Relation, rows: Sequence[Row]) -> list[Row]:
    """Those rows, by their identities."""
    keys = [key_of(relation, row) for row in rows]
    found = matrix.source.reread(relation, keys)
    return [found[key] for key in keys]


def key_of(relation: Relation, row: Row) -> Key:
    return cast("Key", tuple([row[i] for i in relation.identity]))


def compare_keys(matrix: Matrix, keyed: Keyed, relation: Relation, rows: Sequence[Row]) -> None:
    """Keys that are no values cannot be asked for: their rows park."""
    askable = [row for row in rows if not any(isinstance(value, Invalid) for value in row)]
    keys = [key_of(relation, row) for row in askable]
    found = matrix.source.reread(relation, keys)
    way = "read by key" if len(keyed.cases) == 1 else "read by keys of several"
    what = " and ".join(case.sql_type for case in keyed.cases)
    again = [found.get(key, ()) for key in keys]
    matrix.compare(way, what, again, askable)


# --- the stream -----------------------------------------------------------------------------------


def compare_stream(
    matrix: Matrix, position: str, relations: dict[str, Relation], wanted: dict[str, list[Row]]
) -> None:
    """The same rows inserted again, taken from each other, and deleted."""
    tables = matrix.tables
    tables.delete()
    tables.insert()
    tables.rotate()
    streamed = by_table(read_from(matrix.source, position))
    assert all(
        run.relation is relations[name] for (name, _), runs in streamed.items() for run in runs
    )
    for wide in tables.wide:
        rows = wanted[wide.name]
        matrix.compare_wide("inserted", wide, rows_of(streamed, wide.name, "insert"), rows)
        rotated = rows_of(streamed, wide.name, "update")
        again = read_again(matrix, relations[wide.name], rotated)
        matrix.compare_wide("updated", wide, rotated, again)
    for keyed in tables.keyed:
        what = " and ".join(case.sql_type for case in keyed.cases)
        rows = wanted[keyed.name]
        matrix.compare("key inserted", what, rows_of(streamed, keyed.name, "insert"), rows)
        keys = [key_of(relations[keyed.name], row) for row in rows]
        old = [row for run in streamed[keyed.name, "delete"] for row in run.old_rows or ()]
        matrix.compare("key deleted", what, sorted(old, key=repr), sorted(keys, key=repr))
