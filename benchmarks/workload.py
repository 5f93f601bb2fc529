"""The source's tables and what is done to them, all of it server-side: rows of about 240 bytes.

Every transaction also writes how many changes there were so far into the one row of `marker`: by it
a target shows how far it is. Not in here: who reads the log (`native`, `daemon`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

TRANSACTION_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Column:
    """Name, type in SQL, type as an entity attribute, value for row {i} in version {v}."""

    name: str
    sql_type: str
    attribute: str
    value: str


COLUMNS = (
    Column("id", "bigint", "bigint", "{i}"),
    Column("code", "varchar(40)", "string(40)", "'MAT-' || lpad(({i})::text, 10, '0') || '-{v}'"),
    Column(
        "name",
        "varchar(200)",
        "string(200)",
        "'内六角圆柱头螺钉 M' || ({i}) % 24 + 3 || '×' || ({i}) % 90 + 10 || ' DIN 912 zinc v{v}'",
    ),
    Column(
        "specification",
        "varchar(200)",
        "string(200)",
        "'8.8 A2K, ISO 4762, socket head, lot ' || md5(({i})::text || '{v}')",
    ),
    Column("category", "varchar(20)", "string(20)", "'C' || (({i}) + {v}) % 40"),
    Column(
        "unit",
        "varchar(10)",
        "string(10)",
        "(ARRAY['EA', 'KG', 'M', 'PCS'])[(({i}) + {v}) % 4 + 1]",
    ),
    Column("price", "numeric(18,4)", "decimal(18,4)", "(({i}) * 7919 + {v}) % 100000007 / 10000.0"),
    Column(
        "quantity", "numeric(18,4)", "decimal(18,4)", "(({i}) * 10007 + {v}) % 99999989 / 1000.0"
    ),
    Column("valid_from", "date", "date", "date '2020-01-01' + ((({i}) + {v}) % 3000)::int"),
    Column(
        "modified_at",
        "timestamp",
        "timestamp",
        "timestamp '2026-01-01' + (({i}) * 977 + {v}) % 31536000000 * interval '1 millisecond'",
    ),
    Column("active", "boolean", "boolean", "(({i}) + {v}) % 7 <> 0"),
    Column(
        "remark",
        "text",
        "text",
        "CASE WHEN (({i}) + {v}) % 4 > 0 THEN 'checked, certificate EN 10204-3.1.' || {i} END",
    ),
)

TABLES = ("item", "item_ref", "single")
"""Tables of these columns: by key, with another entity key than `id`, for one-row transactions."""

_DEFINITIONS = ", ".join(f"{column.name} {column.sql_type}" for column in COLUMNS)
TABLE_DDL = f"CREATE TABLE {{}} ({_DEFINITIONS}, PRIMARY KEY (id))"
MARKER_DDL = "CREATE TABLE marker (id integer PRIMARY KEY, number bigint NOT NULL)"

MARKER_COUNT = "SELECT number FROM marker WHERE id = 1"
SINGLE_COUNT = "SELECT coalesce(max(id), 0) FROM single"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Changes that wait in the log. `count` asks a target how far it is: from `base` to `goal`."""

    count: str
    base: int
    goal: int


class Workload:
    """What one source database has been through."""

    def __init__(self, dsn: str) -> None:
        self._connection: psycopg.Connection[TupleRow] = psycopg.connect(dsn, autocommit=True)
        self._changes = 0
        self._first, self._last = 1, 0  # the ids that stand in item
        self._refs = 0
        self._spread = 0
        self.singles = 0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def create(self, tables: Sequence[str] = TABLES) -> None:
        """Make the tables, all empty but the marker."""
        for table in tables:
            self._run(TABLE_DDL.format(table))
        self._run(f"{MARKER_DDL}; INSERT INTO marker VALUES (1, 0)")
        self._run("SET synchronous_commit = off")

    def insert(self, rows: int, per_transaction: int = TRANSACTION_ROWS) -> Backlog:
        """New rows."""
        first, self._last = self._last + 1, self._last + rows
        return self._marked(_insert("item"), first, self._last, per_transaction)

    def insert_ref(self, rows: int) -> Backlog:
        """New rows of the table whose entity is keyed by a code."""
        first, self._refs = self._refs + 1, self._refs + rows
        return self._marked(_insert("item_ref"), first, self._refs)

    def insert_spread(self, rows: int, tables: int) -> Backlog:
        """New rows of so many tables (`many_tables`), each transaction in the next one.

        Before what counts, each table gets one row: who has just started meets them all.
        """
        self._spread_over(tables, tables, 1)
        return self._spread_over(rows, tables, TRANSACTION_ROWS)

    def _spread_over(self, rows: int, tables: int, per_transaction: int) -> Backlog:
        first, self._spread = self._spread + 1, self._spread + rows
        place = f"(low - {first}) / {per_transaction} % {tables}"
        body = (
            f"EXECUTE 'INSERT INTO ' || (ARRAY[{_quoted(many_tables(tables))}])[{place} + 1]"
            f" || {_literal(_selected())} USING low::bigint, high"
        )
        return self._marked(body, first, self._spread, per_transaction)

    def missing(self, rows: int) -> int:
        """How many rows fewer than that item has."""
        return max(0, rows - (self._last - self._first + 1))

    def update(self, rows: int) -> Backlog:
        """Every column but the key, of so many rows; they must be there."""
        self._run("VACUUM (ANALYZE) item")
        return self._marked(_update(), self._first, self._first + rows - 1)

    def delete(self) -> Backlog:
        """All rows."""
        self._run("VACUUM (ANALYZE) item")
        first, self._first = self._first, self._last + 1
        return self._marked("DELETE FROM item WHERE id BETWEEN low AND high", first, self._last)

    def one_row(self, rows: int) -> Backlog:
        """One transaction a row, without the marker."""
        base, self.singles = self.singles, self.singles + rows
        body = f"INSERT INTO single VALUES ({', '.join(_values('low::bigint', 1))})"
        self._run(_loop(body, base + 1, self.singles, 1))
        return Backlog(count=SINGLE_COUNT, base=base, goal=self.singles)

    def bump(self) -> Backlog:
        """The marker alone, and before it what lets the slots forget the log behind it."""
        self._run("SELECT pg_log_standby_snapshot()")
        return self._marked("", 1, 1, 1)

    def _marked(
        self, body: str, first: int, last: int, per_transaction: int = TRANSACTION_ROWS
    ) -> Backlog:
        base, self._changes = self._changes, self._changes + last - first + 1
        mark = "UPDATE marker SET number = number + high - low + 1 WHERE id = 1"
        self._run(_loop(f"{body}; {mark}" if body else mark, first, last, per_transaction))
        return Backlog(count=MARKER_COUNT, base=base, goal=self._changes)

    def _run(self, statement: str) -> None:
        self._connection.execute(statement.encode())


def _values(row: str, version: int) -> list[str]:
    return [column.value.format(i=row, v=version) for column in COLUMNS]


def many_tables(number: int) -> list[str]:
    """Names of so many tables."""
    return [f"item_{ordinal:04}" for ordinal in range(number)]


def _insert(table: str) -> str:
    return f"INSERT INTO {table}{_selected('low::bigint', 'high')}"


def _selected(low: str = "$1", high: str = "$2") -> str:
    values = ", ".join(_values("i", 1))
    return f" SELECT {values} FROM generate_series({low}, {high}) AS i"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(_literal, names))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _update() -> str:
    values = zip(COLUMNS[1:], _values("id", 2)[1:], strict=True)
    assignments = ", ".join(f"{column.name} = {value}" for column, value in values)
    return f"UPDATE item SET {assignments} WHERE id BETWEEN low AND high"


def _loop(body: str, first: int, last: int, step: int) -> str:
    """A block that runs the body for low..high over and over, each time in its own transaction."""
    return (
        f"DO $$ DECLARE high bigint; BEGIN FOR low IN {first}..{last} BY {step} LOOP"
        f" high := least(low + {step - 1}, {last}); {body}; COMMIT; END LOOP; END $$"
    )


def single_row() -> str:
    """Insert one row by its id, the only parameter, as the latency's writer does it."""
    values = ", ".join(_values("i", 1)).replace("%", "%%")
    return f"INSERT INTO single SELECT {values} FROM (SELECT %s::bigint AS i) AS given"
