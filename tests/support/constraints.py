"""Constraints that an administrator puts on entity tables, in the words of each kind.

By SQL; on SQLite, which alters no constraints, by another text of the statement that made the
table, as SQLite's own documentation does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from tests.support.catalogue import MARIADB, MYSQL, POSTGRES, SQLITE
from tests.support.control_kinds import ControlDatabase
from tests.support.sqlite_database import SqliteDatabase


@dataclass(frozen=True, slots=True)
class Constraint:
    """SQL that makes it, and that takes it away again."""

    made: str
    dropped: str


@dataclass(frozen=True, slots=True)
class Clause:
    """What becomes of a table's text where it is made, and where it is taken away again."""

    made: tuple[str, str]
    dropped: tuple[str, str]
    table: str = "part"


def _clause(constraint: str, table: str = "part", key: str = "code") -> Clause:
    """One of the table's constraints."""
    end = f'\nPRIMARY KEY ("{key}")'
    return Clause((end, f"\n{constraint},{end}"), (f"\n{constraint},", ""), table)


UNITS: Final = (
    "CREATE TABLE units AS SELECT unit FROM part;"
    "ALTER TABLE units ADD PRIMARY KEY (unit); INSERT INTO units VALUES ('KG')"
)
UNIQUE: Final = "CREATE UNIQUE INDEX only_one ON part (name)"
NOTED: Final = "SELECT code FROM part WHERE code LIKE 'B7%'"
NOTES: Final = (
    f"CREATE TABLE note AS {NOTED};"
    "ALTER TABLE note ADD CONSTRAINT noted FOREIGN KEY (code) REFERENCES part (code)"
)
OPEN: Final = "CONSTRAINT open CHECK (customer_code NOT LIKE 'D%')"
OTHERS: Final = {
    "notes": Constraint(NOTES, "DROP TABLE note"),
    "orders": Constraint(
        f"ALTER TABLE sales_order ADD {OPEN}", "ALTER TABLE sales_order DROP CONSTRAINT open"
    ),
}
"""Of other tables: a reference to a part, and a check of what a customer's key becomes there."""

_POSTGRES: Final = {
    **OTHERS,
    "unique": Constraint(UNIQUE, "DROP INDEX only_one"),
    "foreign key": Constraint(
        f"{UNITS}; ALTER TABLE part ADD CONSTRAINT known FOREIGN KEY (unit) REFERENCES units",
        "ALTER TABLE part DROP CONSTRAINT known",
    ),
    "check": Constraint(
        "ALTER TABLE part ADD CONSTRAINT cheap CHECK (price < 1000)",
        "ALTER TABLE part DROP CONSTRAINT cheap",
    ),
    "not null": Constraint(
        "ALTER TABLE part ALTER stock SET NOT NULL", "ALTER TABLE part ALTER stock DROP NOT NULL"
    ),
    "length": Constraint(
        "ALTER TABLE part ALTER name TYPE varchar(20)",
        "ALTER TABLE part ALTER name TYPE varchar(100)",
    ),
    "range": Constraint(
        "ALTER TABLE part ALTER grade TYPE smallint", "ALTER TABLE part ALTER grade TYPE integer"
    ),
}
_FAMILY: Final = {
    **OTHERS,
    "unique": Constraint(UNIQUE, "DROP INDEX only_one ON part"),
    "foreign key": Constraint(
        f"{UNITS};ALTER TABLE part ADD CONSTRAINT known FOREIGN KEY (unit) REFERENCES units (unit)",
        "ALTER TABLE part DROP FOREIGN KEY known",
    ),
    "check": Constraint(
        "ALTER TABLE part ADD CONSTRAINT cheap CHECK (price < 1000)",
        "ALTER TABLE part DROP CONSTRAINT cheap",
    ),
    "not null": Constraint(
        "ALTER TABLE part MODIFY stock int NOT NULL COMMENT 'integer'",
        "ALTER TABLE part MODIFY stock int COMMENT 'integer'",
    ),
    "length": Constraint(
        "ALTER TABLE part MODIFY name varchar(20) NOT NULL COMMENT 'string(100)'",
        "ALTER TABLE part MODIFY name varchar(100) NOT NULL COMMENT 'string(100)'",
    ),
    "range": Constraint(
        "ALTER TABLE part MODIFY grade smallint COMMENT 'integer'",
        "ALTER TABLE part MODIFY grade int COMMENT 'integer'",
    ),
}
_FILE: Final[Mapping[str, Constraint | Clause]] = {
    "notes": Constraint(
        f"CREATE TABLE note (code TEXT REFERENCES part (code)); INSERT INTO note {NOTED}",
        "DROP TABLE note",
    ),
    "orders": _clause(OPEN, "sales_order", "order_no"),
    "unique": Constraint(UNIQUE, "DROP INDEX only_one"),
    "foreign key": _clause("CONSTRAINT known FOREIGN KEY (unit) REFERENCES units (unit)"),
    "check": _clause("CONSTRAINT cheap CHECK (CAST(price AS REAL) < 1000)"),
    "not null": Clause(
        ('\n"stock" INTEGER', '\n"stock" INTEGER NOT NULL'),
        ('\n"stock" INTEGER NOT NULL', '\n"stock" INTEGER'),
    ),
    "length": _clause('CONSTRAINT "name: string(20)" CHECK (length(name) <= 20)'),
    "range": _clause('CONSTRAINT "grade: integer" CHECK (grade BETWEEN -32768 AND 32767)'),
}
CONSTRAINTS: Final[Mapping[str, Mapping[str, Constraint | Clause]]] = {
    POSTGRES: _POSTGRES,
    MARIADB: _FAMILY,
    MYSQL: _FAMILY,
    SQLITE: _FILE,
}


def make(database: ControlDatabase, kind: str, names: Sequence[str]) -> None:
    """Put these constraints on their tables."""
    for name in names:
        one = CONSTRAINTS[kind][name]
        if isinstance(one, Clause):
            _rewrite(database, one.table, *one.made)
        else:
            database.execute(one.made)


def drop(database: ControlDatabase, kind: str, names: Sequence[str]) -> None:
    """Take them away."""
    for name in names:
        one = CONSTRAINTS[kind][name]
        if isinstance(one, Clause):
            _rewrite(database, one.table, *one.dropped)
        else:
            database.execute(one.dropped)


def _rewrite(database: ControlDatabase, table: str, before: str, after: str) -> None:
    """https://www.sqlite.org/lang_altertable.html: changes that touch nothing on disk."""
    assert isinstance(database, SqliteDatabase)
    with closing(database.connect()) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS units (unit TEXT PRIMARY KEY) STRICT")
        connection.execute("INSERT OR IGNORE INTO units VALUES ('KG')")
        ((version,),) = connection.execute("PRAGMA schema_version")
        connection.execute("PRAGMA writable_schema = ON")
        done = connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ?, ?)"
            " WHERE type = 'table' AND name = ? AND instr(sql, ?)",
            (before, after, table, before),
        )
        assert done.rowcount == 1, f"{before!r} is not in the table's statement"
        connection.execute(f"PRAGMA schema_version = {version + 1}")
        connection.execute("PRAGMA writable_schema = OFF")
        connection.execute("COMMIT")
