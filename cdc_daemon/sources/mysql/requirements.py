"""What must hold for each mapped table, else it is a problem with a cure; pure, over its facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from cdc_daemon.model.errors import suggest
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.mysql.asked import quoted
from cdc_daemon.sources.mysql.catalog import ColumnFacts, TableFacts

What = tuple[str, str]
"""What is wrong, and the cure."""

_KINDS: Final = {
    "VIEW": ("it is a view, which has no changes in the log", "map its table"),
    "SYSTEM VIEW": ("it is a view of the server's own", "map a table"),
    "SEQUENCE": ("it is a sequence, whose steps are not in the log as rows", "map a table"),
    "SYSTEM VERSIONED": (
        "it is system-versioned: the log holds its history as rows, a DELETE as an UPDATE of its"
        " end",
        "ALTER TABLE ... DROP SYSTEM VERSIONING, or map a table without",
    ),
}
_BASE: Final = "BASE TABLE"
_TRANSACTIONAL: Final = frozenset({"innodb", "rocksdb"})
_SIMPLE: Final = frozenset({"myisam", "aria", "memory", "csv", "archive"})


def table_problems(
    table: Table, found: TableFacts, charsets: frozenset[str], account: str
) -> Iterator[What]:
    """Why its changes could not be read: the kind of table, its columns."""
    if found.kind in _KINDS:
        yield _KINDS[found.kind]
    elif found.kind != _BASE:
        yield f"it is a {found.kind}", "map a table"
    names = [column.name for column in found.columns]
    unreadable = []
    for name in sorted({*table.columns, *table.identity}):
        column = found.column(name)
        if column is None:
            yield f"column {name!r} does not exist{suggest(name, names)}", "correct the mapping"
        elif not column.readable:
            unreadable.append(name)
        elif column.charset and column.charset not in charsets:
            what = f"column {name!r} has character set {column.charset}, which is not known"
            yield what, "ALTER TABLE ... MODIFY the column with CHARACTER SET utf8mb4"
    if unreadable:
        cure = f"GRANT SELECT ON {found.spelled} TO {account}"
        yield f"no right to read {', '.join(unreadable)}", cure


def identity_problems(table: Table, found: TableFacts) -> Iterator[What]:
    """Whether nothing tells its rows apart: then an update or delete means no row."""
    if found.kind != _BASE or found.primary_key or table.identity:
        return
    unique = next(iter(found.unique_keys), None)
    hint = f" (identity: [{', '.join(unique)}])" if unique else ""
    yield (
        "it has no primary key: nothing identifies a row",
        f"add one, or name the identifying columns in the mapping{hint}",
    )


def engine_problem(found: TableFacts) -> What | None:
    """An engine whose rows are not its own, or of which nobody knows what it logs."""
    if found.kind != _BASE or found.engine.lower() in _TRANSACTIONAL | _SIMPLE:
        return None
    return (
        f"its engine is {found.engine}: its rows are elsewhere, or change without the log",
        f"ALTER TABLE {found.spelled} ENGINE = InnoDB, or map the tables that hold the rows",
    )


def engine_warning(found: TableFacts) -> What | None:
    """An engine without transactions: log and table are true to each other until a crash."""
    if found.kind != _BASE or found.engine.lower() not in _SIMPLE:
        return None
    return (
        f"its engine is {found.engine}, without transactions: a copy may hold rows that are newer"
        " than its position until the log has caught up, and after a crash of the source its table"
        " and its log may differ",
        f"ALTER TABLE {found.spelled} ENGINE = InnoDB; after a crash: cdc-daemon verify",
    )


def merging(found: TableFacts, names: Sequence[str]) -> list[ColumnFacts]:
    """Those of these columns in which different texts are equal to the server."""
    columns = (found.column(name) for name in names)
    return [column for column in columns if column is not None and column.merges]


def collated(column: ColumnFacts) -> str:
    """A column with its collation, for messages."""
    return f"{quoted(column.name)} ({column.collation})"
