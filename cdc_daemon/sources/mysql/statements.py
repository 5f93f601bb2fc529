"""What a QUERY event's statement is: the end of a transaction, XA, a definition, rows, or nothing.

What is not understood counts as a statement that changes rows of any table: nothing is passed over
because nobody knows it. Rows themselves come in events of their own; a statement that changes them
is in the log only in statement format, whose effect (triggers, functions, cascades) cannot be told
from the text: the tables it names are only the least of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cdc_daemon.sources.mysql import definitions
from cdc_daemon.sources.mysql.statement_kinds import (
    Begin,
    Commit,
    Definition,
    Effect,
    Other,
    Rollback,
    RollbackTo,
    RowStatement,
    Savepoint,
    Statement,
    Truncate,
    XaCommit,
    XaEnd,
    XaPrepare,
    XaRollback,
    XaStart,
)
from cdc_daemon.sources.mysql.tokens import END, Dialect, NotUnderstood, Reader, Sort, TableName
from cdc_daemon.sources.mysql.xid import Xid

__all__ = [
    "Begin",
    "Commit",
    "Definition",
    "Dialect",
    "Effect",
    "Other",
    "Rollback",
    "RollbackTo",
    "RowStatement",
    "Savepoint",
    "Statement",
    "TableName",
    "Truncate",
    "XaCommit",
    "XaEnd",
    "XaPrepare",
    "XaRollback",
    "XaStart",
    "statement",
]

_USUAL: Final[dict[str, Statement]] = {"BEGIN": Begin(), "COMMIT": Commit(), "ROLLBACK": Rollback()}
_OTHER: Final = frozenset(
    (
        *("ANALYZE", "BACKUP", "CACHE", "CHANGE", "CHECK", "CHECKSUM", "DEALLOCATE", "EXPLAIN"),
        *("FLUSH", "GRANT", "INSTALL", "KILL", "LOCK", "OPTIMIZE", "PREPARE", "PURGE", "RELEASE"),
        *("REPAIR", "RESET", "RESTART", "REVOKE", "SHOW", "SHUTDOWN", "SIGNAL", "STOP"),
        *("UNINSTALL", "UNLOCK", "USE"),
    )
)
_XA: Final[dict[str, Callable[[Xid], Statement]]] = {
    "START": XaStart,
    "BEGIN": XaStart,
    "END": XaEnd,
    "PREPARE": XaPrepare,
    "COMMIT": XaCommit,
    "ROLLBACK": XaRollback,
}
_MODIFIERS: Final = ("LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "QUICK", "IGNORE")


def statement(sql: str, dialect: Dialect, schema: str) -> Statement:
    """What the text is. ``schema``: the default one of its session. Never raises."""
    usual = _USUAL.get(sql)
    if usual is not None:
        return usual
    reader = Reader.of(sql, dialect, schema)
    try:
        return _read(reader)
    except NotUnderstood:
        return RowStatement("?")


def _read(reader: Reader) -> Statement:
    first = reader.word()
    try:
        return _READERS.get(first, _by_word(first))(reader)
    except NotUnderstood:
        return RowStatement(first)


def _set(reader: Reader) -> Statement:
    """MariaDB's ``SET STATEMENT name = value, … FOR`` is the statement behind it."""
    if not reader.has("STATEMENT"):
        return Other("SET")
    depth = 0
    while depth or not reader.ahead.says("FOR"):
        found = reader.take()
        if found == END:
            raise NotUnderstood
        depth += found.says("(") - found.says(")")
    reader.must("FOR")
    return _read(reader)


def _by_word(first: str) -> Callable[[Reader], Statement]:
    return lambda _: Other(first) if first in _OTHER else RowStatement(first)


# --- transactions -------------------------------------------------------------------------------


def _start(reader: Reader) -> Statement:
    return Begin() if reader.has("TRANSACTION") else Other("START")


def _rollback(reader: Reader) -> Statement:
    reader.has("WORK")
    if not reader.has("TO"):
        return Rollback()
    reader.has("SAVEPOINT")
    return RollbackTo(reader.name())


def _xa(reader: Reader) -> Statement:
    kind = _XA.get(reader.word())
    if kind is None:
        raise NotUnderstood
    return kind(_xid(reader))


def _xid(reader: Reader) -> Xid:
    first, second, number = _part(reader), b"", 1
    if reader.has(","):
        second = _part(reader)
        if reader.has(","):
            text = reader.word()
            if not (text.isascii() and text.isdigit()):
                raise NotUnderstood
            number = int(text)
    return Xid(number, first, second)


def _part(reader: Reader) -> bytes:
    found = reader.take()
    if found.sort is Sort.STRING:
        return found.text.encode()
    if found.sort is Sort.HEX and len(found.text) % 2 == 0:
        return bytes.fromhex(found.text)
    raise NotUnderstood


# --- rows ---------------------------------------------------------------------------------------


def _insert(reader: Reader) -> Statement:
    """INSERT and REPLACE."""
    return RowStatement("INSERT", (_target(reader, "INTO"),))


def _update(reader: Reader) -> Statement:
    table = _target(reader)
    return RowStatement("UPDATE", (table,) if _alone(reader, "SET") else None)


def _delete(reader: Reader) -> Statement:
    for word in _MODIFIERS:
        reader.has(word)
    if reader.has("HISTORY"):
        return RowStatement("DELETE")
    if not reader.has("FROM"):
        return RowStatement("DELETE")
    table = reader.table()
    return RowStatement("DELETE", (table,) if _alone(reader, *_AFTER_DELETE) else None)


_AFTER_DELETE: Final = ("WHERE", "ORDER", "LIMIT", "RETURNING", "PARTITION", "FOR", "")


def _target(reader: Reader, *words: str) -> TableName:
    for word in (*_MODIFIERS, *words):
        reader.has(word)
    return reader.table()


def _alone(reader: Reader, *words: str) -> bool:
    """Whether only a name for the table stands before one of the words."""
    reader.has("AS")
    if not reader.ahead.says(*words) and reader.ahead != END:
        reader.take()
    return reader.ahead.says(*words) or reader.ahead == END


def _load(reader: Reader) -> Statement:
    """LOAD DATA and LOAD XML; LOAD INDEX is no matter of rows."""
    if reader.has("INDEX"):
        return Other("LOAD INDEX")
    while reader.ahead != END:
        if reader.take().says("INTO") and reader.has("TABLE"):
            return RowStatement("LOAD DATA", (reader.table(),))
    raise NotUnderstood


_READERS: Final[dict[str, Callable[[Reader], Statement]]] = {
    "BEGIN": lambda _: Begin(),
    "START": _start,
    "COMMIT": lambda _: Commit(),
    "ROLLBACK": _rollback,
    "SAVEPOINT": lambda reader: Savepoint(reader.name()),
    "XA": _xa,
    "TRUNCATE": definitions.truncate,
    "RENAME": definitions.rename,
    "DROP": definitions.drop,
    "CREATE": definitions.create,
    "ALTER": definitions.alter,
    "INSERT": _insert,
    "REPLACE": _insert,
    "UPDATE": _update,
    "DELETE": _delete,
    "LOAD": _load,
    "SET": _set,
}
