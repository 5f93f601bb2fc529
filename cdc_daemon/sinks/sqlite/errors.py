"""One function that turns a driver's error into what the engine understands.

Locks, space, rights and failing devices are worth another try; constraints are a row's fault; a
file that is no database, or a table that is not what the configuration says, stops the pipeline,
and so does everything unknown. Errors of rows have the SQLSTATE that PostgreSQL gives them, so that
one failure queue reads like the other. No message of SQLite is passed on but names of tables,
columns and constraints.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection

from cdc_daemon.model.errors import CdcError, DataError, Retryable, Stop, Unreachable
from cdc_daemon.sinks.rejected import data_error

_AGAIN = {
    "SQLITE_BUSY": "somebody else holds the database's write lock",
    "SQLITE_LOCKED": "a table is locked",
    "SQLITE_FULL": "the disk of the control database is full",
    "SQLITE_READONLY": "the database is read-only",
    "SQLITE_IOERR": "reading or writing the database's files failed",
    "SQLITE_NOMEM": "there is not enough memory",
    "SQLITE_INTERRUPT": "the statement was interrupted",
    "SQLITE_PERM": "the database's files may not be accessed",
    "SQLITE_AUTH": "the operation is not allowed",
    "SQLITE_PROTOCOL": "the database's lock could not be had",
}
_HINTS = {
    "SQLITE_BUSY": "a tool with an open transaction, or a backup?",
    "SQLITE_READONLY": "the daemon's user must be able to write the file and its directory",
    "SQLITE_IOERR": "look at the device and its file system",
}
_STOP = {
    "SQLITE_CORRUPT": "the control database is corrupt",
    "SQLITE_NOTADB": "the control database is no SQLite database",
    "SQLITE_FORMAT": "the control database is no SQLite database",
}
_STOP_HINT = "stop the daemon, keep the file, and restore a backup: docs/sqlite.md"
_CONSTRAINTS = {
    "SQLITE_CONSTRAINT_NOTNULL": "23502",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "23503",
    "SQLITE_CONSTRAINT_UNIQUE": "23505",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "23505",
    "SQLITE_CONSTRAINT_ROWID": "23505",
    "SQLITE_CONSTRAINT_CHECK": "23514",
    "SQLITE_CONSTRAINT_TRIGGER": "23514",
    "SQLITE_CONSTRAINT_DATATYPE": "22P02",
    "SQLITE_MISMATCH": "22P02",
    "SQLITE_TOOBIG": "54000",
}
_CONSTRAINT_DATATYPE = 3091
_PRIMARY = {
    getattr(sqlite3, name): name for name in (*_AGAIN, *_STOP, "SQLITE_CANTOPEN", "SQLITE_ERROR")
}
_COLUMN = re.compile(r"(?:NOT NULL constraint failed: |in [A-Z]+ column )([^.]+)\.(.+)$", re.S)
_CHECK = re.compile(r"CHECK constraint failed: (.*)$", re.S)
_TYPE_CODES = {"string": "22001", "integer": "22003"}


def translate(error: sqlite3.Error, *, known: Collection[str] = ()) -> CdcError:
    """What an error of a statement means. ``known``: attribute names that a message may name."""
    name = _name_of(error)
    if not name:
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            return Unreachable("The control database was closed.")
        return Stop(f"The control database's driver failed: {type(error).__name__}.")
    if name in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DBMOVED") or name.startswith("SQLITE_CANTOPEN"):
        return Unreachable(
            f"The control database's file cannot be opened ({name}).",
            hint="was it moved, or its directory's rights changed?",
        )
    if name in _CONSTRAINTS:
        return _data_error(name, str(error), known)
    primary = "_".join(name.split("_")[:2])
    if primary in _AGAIN:
        return Retryable(f"Not now: {_AGAIN[primary]} ({name}).", hint=_HINTS.get(primary))
    if primary in _STOP:
        return Stop(f"{_STOP[primary][0].upper()}{_STOP[primary][1:]} ({name}).", hint=_STOP_HINT)
    if str(error).startswith(("no such table", "no such column", "table ")):
        return Stop(
            f"The control database is not as configured: {error} ({name}).",
            hint="a table was altered, dropped or never created: see cdc-daemon plan",
        )
    return Stop(f"The control database refused a statement ({name}).")


def rolled_back() -> Stop:
    """The error of a unit of work whose transaction SQLite has ended under it."""
    return Stop(
        "The unit of work was rolled back by the control database.",
        hint="a trigger with RAISE(ROLLBACK), or a constraint with ON CONFLICT ROLLBACK? drop it",
    )


def _name_of(error: sqlite3.Error) -> str:
    """The error's name, or its primary code's where this Python knows no name for it; or none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return ""
    name: str = getattr(error, "sqlite_errorname", "unknown")
    if code == _CONSTRAINT_DATATYPE:
        return "SQLITE_CONSTRAINT_DATATYPE"
    return name if name != "unknown" else _PRIMARY.get(code & 0xFF, f"SQLITE_{code}")


def _data_error(name: str, text: str, known: Collection[str]) -> DataError:
    code = _CONSTRAINTS[name]
    check = _CHECK.search(text)
    if check is not None:
        return _of_check(check[1], known)
    column = _COLUMN.search(text)
    if column is None:
        return data_error(code)
    if code == "22P02" and "REAL value in INTEGER" in text:  # digits beyond 64 bits
        code = "22003"
    table = column[1] if code == "23502" else None
    return data_error(code, table=table, attribute=column[2] if column[2] in known else None)


def _of_check(constraint: str, known: Collection[str]) -> DataError:
    """A constraint of an attribute's type (``attribute: type``) or somebody else's."""
    attribute, colon, type_ = constraint.rpartition(": ")
    if not colon or attribute not in known:
        return data_error("23514", constraint=constraint)
    code = _TYPE_CODES.get(type_.partition("(")[0], "22P02")
    return data_error(code, attribute=attribute)
