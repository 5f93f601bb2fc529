"""Statements that create, alter, rename or drop: which tables they touch, and their rows.

Tables are told by name only: whether a name stands for a view, the catalogue knows. REORGANIZE,
COALESCE and REMOVE PARTITIONING move rows and keep all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cdc_daemon.sources.mysql.statement_kinds import (
    Definition,
    Effect,
    Other,
    Statement,
    Truncate,
)
from cdc_daemon.sources.mysql.tokens import END, NotUnderstood, Reader, TableName

_OTHER_OBJECTS: Final = frozenset(
    (
        *("VIEW", "FUNCTION", "PROCEDURE", "PACKAGE", "TRIGGER", "EVENT", "LIBRARY", "SEQUENCE"),
        *("USER", "ROLE", "SERVER", "TABLESPACE", "LOGFILE", "RESOURCE", "SPATIAL", "INSTANCE"),
        *("DATABASE", "SCHEMA", "UNDO", "CATALOG"),
    )
)
_NO_COLUMNS: Final = (
    *("INDEX", "KEY", "UNIQUE", "PRIMARY", "FOREIGN", "CONSTRAINT", "CHECK", "FULLTEXT"),
    *("SPATIAL", "PARTITION", "PERIOD", "SYSTEM"),
)
"""What is added or dropped and is no column."""


def truncate(reader: Reader) -> Statement:
    """``TRUNCATE [TABLE] t``."""
    reader.has("TABLE")
    return Truncate(reader.table())


def rename(reader: Reader) -> Statement:
    """``RENAME TABLE a TO b, c TO d``."""
    if not (reader.has("TABLE") or reader.has("TABLES")):
        return Other("RENAME")
    reader.has("IF", "EXISTS")
    found: list[TableName] = []
    while True:
        found.append(reader.table())
        _pass_over_wait(reader)
        reader.must("TO")
        found.append(reader.table())
        if not reader.has(","):
            return Definition("RENAME TABLE", tuple(found), Effect.ROWS)


def drop(reader: Reader) -> Statement:
    """``DROP TABLE a, b``, ``DROP DATABASE a``, and what else can be dropped."""
    if reader.has("TEMPORARY"):
        return Other("DROP TEMPORARY")
    kind = reader.word()
    if kind in ("TABLE", "TABLES"):
        reader.has("IF", "EXISTS")
        return Definition("DROP TABLE", reader.tables(), Effect.ROWS)
    if kind in ("DATABASE", "SCHEMA"):
        reader.has("IF", "EXISTS")
        return Definition("DROP DATABASE", (), Effect.ROWS, (reader.schema(),))
    if kind == "INDEX":
        return _index(reader, "DROP INDEX")
    return _other(reader, "DROP", kind)


def create(reader: Reader) -> Statement:
    """``CREATE [OR REPLACE] TABLE t``, and what else can be created."""
    replaces = reader.has("OR", "REPLACE")
    kind = _object(reader, "TABLE", "INDEX", "TEMPORARY")
    if kind == "INDEX":
        return _index(reader, "CREATE INDEX")
    if kind != "TABLE":
        return Other(f"CREATE {kind}")
    spared = reader.has("IF", "NOT", "EXISTS")
    table = reader.table()
    effect = Effect.ROWS if replaces or not spared else _filling(reader)
    return Definition("CREATE TABLE", (table,), effect)


def _filling(reader: Reader) -> Effect:
    """A table that may have been there stays as it is, unless rows are selected into it."""
    while reader.ahead != END:
        if reader.take().says("SELECT", "VALUES", "WITH"):
            return Effect.ROWS
    return Effect.NONE


def _index(reader: Reader, verb: str) -> Statement:
    """``… name … ON table``."""
    while reader.ahead != END:
        if reader.take().says("ON"):
            return Definition(verb, (reader.table(),), Effect.NONE)
    raise NotUnderstood


def _object(reader: Reader, *more: str) -> str:
    """The kind of object that a definition is of; what may stand before it is passed over."""
    while not reader.ahead.says(*more, *_OTHER_OBJECTS):
        if reader.take() == END:
            raise NotUnderstood
    return reader.word()


def _other(reader: Reader, verb: str, kind: str) -> Statement:
    if kind not in _OTHER_OBJECTS:
        kind = _object(reader)
    return Other(f"{verb} {kind}")


# --- ALTER --------------------------------------------------------------------------------------


def alter(reader: Reader) -> Statement:
    """``ALTER [ONLINE] [IGNORE] TABLE t …``, and what else can be altered."""
    reader.has("ONLINE")
    ignoring = reader.has("IGNORE")  # rows that are twice in a new unique key go
    if not reader.has("TABLE"):
        return Other(f"ALTER {_object(reader)}")
    reader.has("IF", "EXISTS")
    found = [reader.table()]
    _pass_over_wait(reader)
    effect = Effect.ROWS if ignoring else Effect.VALUES
    columns: set[str] | None = set()
    constraints = Constraints(set())
    for clause in reader.clauses():
        match _clause(clause):
            case Columns(names):
                columns = None if columns is None or names is None else columns | names
            case Constraints(dropped, acts):
                constraints = Constraints(constraints.dropped | dropped, constraints.acts or acts)
            case others:
                effect = Effect.ROWS
                found += others
    return Definition(
        "ALTER TABLE",
        tuple(found),
        effect,
        columns=None if columns is None else frozenset(columns),
        dropped=frozenset(constraints.dropped),
        acts=constraints.acts,
    )


def _pass_over_wait(reader: Reader) -> None:
    """MariaDB's ``WAIT 5`` or ``NOWAIT`` for a lock."""
    if reader.has("WAIT"):
        reader.take()
    reader.has("NOWAIT")


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows stay; values of these columns may be others by then (None: of any)."""

    names: set[str] | None


@dataclass(frozen=True, slots=True)
class Constraints:
    """Rows and values stay; these constraints go, and a foreign key that acts may come."""

    dropped: set[str]
    acts: bool = False


def _clause(clause: Reader) -> list[TableName] | Columns | Constraints:
    """What of the rows stays; a list: rows go to these tables or come from them."""
    first = clause.take()
    if first.says("RENAME"):
        return _renaming(clause)
    if first.says("TRUNCATE", "DROP") and clause.has("PARTITION"):
        return []
    if first.says("EXCHANGE", "CONVERT") and clause.ahead.says("PARTITION", "TABLE"):
        return _exchanging(clause)
    if first.says("CONVERT"):
        return Columns(None)
    if first.says("ADD", "DROP") and clause.ahead.says("FOREIGN", "CONSTRAINT"):
        return _constraint(clause) if first.says("ADD") else _dropped(clause)
    if first.says("ADD", "DROP", "MODIFY", "CHANGE"):
        return _defining(clause, changes=first.says("CHANGE"))
    return [] if first.says("DISCARD", "IMPORT") else Columns(set())


def _defining(clause: Reader, *, changes: bool) -> Columns:
    """The column that is added, dropped, or made another one; keys and the like change no value."""
    clause.has("COLUMN")
    if clause.has("IF"):
        clause.has("NOT")
        clause.must("EXISTS")
    if clause.ahead.says(*_NO_COLUMNS):
        return Columns(set())
    if clause.ahead.says("("):
        return Columns(None)
    names = {clause.name()}
    if changes:
        names.add(clause.name())
    return Columns(names)


def _constraint(clause: Reader) -> Constraints:
    """``[CONSTRAINT [name]] FOREIGN KEY … [ON DELETE …] [ON UPDATE …]``, or another constraint."""
    acts = False
    while clause.ahead != END:
        if clause.take().says("DELETE", "UPDATE"):
            acts |= clause.ahead.says("CASCADE", "SET")
    return Constraints(set(), acts)


def _dropped(clause: Reader) -> Constraints:
    """``FOREIGN KEY name``, ``CONSTRAINT name``."""
    if clause.has("FOREIGN"):
        clause.must("KEY")
    clause.has("CONSTRAINT")
    clause.has("IF", "EXISTS")
    return Constraints({clause.name()})


def _renaming(clause: Reader) -> list[TableName] | Columns:
    if clause.has("COLUMN"):
        first = clause.name()
        clause.must("TO")
        return Columns({first, clause.name()})
    if clause.ahead.says("INDEX", "KEY"):
        return Columns(set())
    for word in ("TO", "AS", "="):
        clause.has(word)
    return [clause.table()]


def _exchanging(clause: Reader) -> list[TableName]:
    """``PARTITION p WITH TABLE t``, ``PARTITION p TO TABLE t``, ``TABLE t TO PARTITION p``."""
    while not clause.has("TABLE"):
        if clause.take() == END:
            raise NotUnderstood
    return [clause.table()]
