"""One function that turns a driver's error into what the engine understands.

Connections, locks, space and rights are worth another try; classes 22 and 23 are a row's fault; a
table that is not what the configuration says stops the pipeline, and so does everything unknown.
No message of the server is passed on: its primary message and DETAIL may hold row values. What is
said is the SQLSTATE, our own words, and names of tables, columns and constraints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import psycopg

from cdc_daemon.config.handshake import TLS_REFUSED, tls_problem
from cdc_daemon.model.errors import (
    CdcError,
    DataError,
    NotAdmitted,
    Problem,
    Retryable,
    Stop,
    Unreachable,
)
from cdc_daemon.sinks.rejected import data_error

_LOST = ("0800", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_AGAIN = {
    "40": "the transaction lost against another one",
    "53": "the server is short of resources",
    "25006": "the database is read-only",
    "42501": "the role lacks a right",
    "55P03": "a lock was not to be had in time",
    "55006": "an object is in use",
    "57": "the server cancelled the statement",
    "58": "the server met a system error",
}
_AGAIN_HINTS = {
    "53100": "the disk of the control database is full",
    "53300": "too many connections",
    "42501": "cdc-daemon apply --admin-dsn grants what the worker needs",
    "25006": "is it a standby, or is default_transaction_read_only on?",
}
_ROWS = ("54000", "P0001")  # too large; RAISE EXCEPTION, which is how a trigger rejects a row
_ALTERED = ("42703", "42P01", "42804", "42P10", "3F000", "42883", "42846")
_COPY_COLUMN = re.compile(r"^COPY .*, line \d+, column (.+?): (?:\"|null input)", re.M)
_URL = "see target.url"
_SECURE = "see target.sslmode and target.tls"
_REFUSED = (
    (
        r"password authentication failed|no password supplied",
        "the password is wrong or missing",
        "see target.password",
    ),
    (r'database ".*" does not exist', "the database does not exist", _URL),
    (r'role ".*" does not exist', "the role does not exist", _URL),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "pg_hba.conf does not admit the connection",
        "allow user, database and address there, or see target.url and target.sslmode",
    ),
    (r"is not permitted to log in", "the role may not log in", "ALTER ROLE … LOGIN"),
    (
        r"invalid connection option|invalid .* value|invalid port|invalid integer",
        "bad option",
        _URL,
    ),
    (TLS_REFUSED, "the encrypted connection was refused", _SECURE),
)


def translate(error: psycopg.Error, *, known: frozenset[str] = frozenset()) -> CdcError:
    """What an error of a statement means. ``known``: attribute names that a message may name."""
    code = error.sqlstate
    if code is None and not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Stop(f"The control database's driver failed: {type(error).__name__}.")
    if code is None:
        return Unreachable("The connection to the control database was lost.")
    if code.startswith(_LOST):
        return Unreachable(f"The control database ended the connection (SQLSTATE {code}).")
    again = _AGAIN.get(code) or _AGAIN.get(code[:2])
    if again is not None:
        hint = _AGAIN_HINTS.get(code)
        return Retryable(f"Not now: {again}{_names(error)} (SQLSTATE {code}).", hint=hint)
    if code[:2] in ("22", "23") or code in _ROWS:
        return _data_error(error, code, known)
    if code in _ALTERED:
        return Stop(
            f"The control database is not as configured{_where(error)} (SQLSTATE {code}).",
            hint="a table was altered, dropped or never created: see cdc-daemon plan",
        )
    return Stop(f"The control database refused a statement{_names(error)} (SQLSTATE {code}).")


def refused(error: psycopg.Error, place: str, conninfo: Mapping[str, str]) -> CdcError:
    """What a failed attempt to connect means: wrong settings, or a server that does not answer."""
    text = str(error)
    for pattern, what, cure in _REFUSED:
        if re.search(pattern, text):
            found = tls_problem(text, conninfo) or (what, cure)
            return NotAdmitted([Problem(what=found[0], where=place, cure=found[1])])
    return Unreachable(f"The control database {place} does not answer.")


def _data_error(error: psycopg.Error, code: str, known: frozenset[str]) -> DataError:
    attribute = error.diag.column_name or _copy_column(error)
    return data_error(
        code,
        table=error.diag.table_name,
        attribute=attribute if attribute in known else None,
        constraint=error.diag.constraint_name,
    )


def _copy_column(error: psycopg.Error) -> str | None:
    """The column that COPY was at: its CONTEXT names it, before the value."""
    found = _COPY_COLUMN.search(error.diag.context or "")
    return found.group(1) if found else None


def _names(error: psycopg.Error) -> str:
    """The objects that the error names in fields of their own."""
    diag = error.diag
    parts = [
        f"{word} {name}"
        for word, name in (
            ("table", diag.table_name),
            ("column", diag.column_name),
            ("constraint", diag.constraint_name),
        )
        if name
    ]
    return f": {', '.join(parts)}" if parts else _where(error)


def _where(error: psycopg.Error) -> str:
    """The primary message of errors about objects: these name objects and hold no row value."""
    if (error.sqlstate or "").startswith(("42", "3F")):
        return f": {error.diag.message_primary}"
    return ""
