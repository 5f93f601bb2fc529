"""One function that turns a driver's error into what the engine understands.

Connections, locks, space and rights are worth another try; values and constraints are a row's
fault; a table that is not what the configuration says stops the pipeline, and so does everything
unknown. Errors of rows have the SQLSTATE that PostgreSQL gives them, so that one failure queue
reads like the other. The server's messages hold values: none is passed on but names of columns and
constraints, read from its end, where no value stands.

Numbers: Server Error Message Reference of MySQL 9; MariaDB Error Codes (from 1900, and from 4000,
they are its own).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import pymysql

from cdc_daemon.config.mysql_address import mysql_place
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

DUPLICATE = 1062

_LOST = frozenset(
    {0, 1053, 1080, 1158, 1159, 1160, 1161, 1184, 1927, 2003, 2006, 2012, 2013, 2014, 2026, 2027}
    | {2055, 3169, 4031}
)
_AGAIN = {
    1020: "the row was changed by another transaction",
    1021: "the server's disk is full",
    1026: "the server cannot write a file",
    1030: "the storage engine met an error",
    1037: "the server has not enough memory",
    1038: "the server has not enough memory to sort",
    1040: "the server has too many connections",
    1041: "the server has not enough memory",
    1044: "the account lacks a right",
    1047: "the node is not ready for queries",
    1114: "a table is full",
    1135: "the server cannot make a thread",
    1142: "the account lacks a right",
    1143: "the account lacks a right",
    1180: "the server could not commit",
    1203: "the account has too many connections",
    1205: "a lock was not to be had in time",
    1206: "the server has too many locks",
    1213: "the transaction lost against another one",
    1226: "the account has used up what it may",
    1227: "the account lacks a right",
    1290: "the server is read-only",
    1317: "the statement was interrupted",
    1370: "the account lacks a right",
    1412: "a table was altered meanwhile",
    1613: "the transaction was rolled back",
    1614: "the transaction lost against another one",
    1637: "the server has too many transactions",
    1792: "the transaction is read-only",
    1836: "the server is read-only",
    1969: "the statement took too long",
    3024: "the statement took too long",
    3100: "the group could not commit",
    3101: "the group rolled the transaction back",
    3572: "a lock was not to be had at once",
    4166: "a table is full",
}
_RIGHTS = frozenset({1044, 1142, 1143, 1227, 1370})
_AGAIN_HINTS = {
    1021: "the disk of the control database is full",
    1030: "look at the server's log: is its disk full?",
    1114: "is the disk of the control database full?",
    1142: "cdc-daemon apply --admin-dsn grants what the worker needs",
    1143: "cdc-daemon apply --admin-dsn grants what the worker needs",
    1290: "is it a replica, or is read_only on?",
    1836: "is it a replica, or is read_only on?",
}
_ROWS = {
    1048: "23502",
    1062: "23505",
    1118: "54000",
    1153: "54000",
    1169: "23505",
    1216: "23503",
    1217: "23503",
    1264: "22003",
    1265: "22P02",
    1292: "22007",
    1300: "22021",
    1364: "23502",
    1365: "22012",
    1366: "22P02",
    1367: "22P02",
    1406: "22001",
    1411: "22007",
    1441: "22008",
    1451: "23503",
    1452: "23503",
    1557: "23503",
    1586: "23505",
    1644: "23514",
    1690: "22003",
    1713: "54000",
    1761: "23503",
    1762: "23503",
    3140: "22P02",
    3819: "23514",
    3903: "22P02",
    4025: "23514",
    4078: "22P02",
}
_ALTERED = frozenset(
    {1049, 1051, 1054, 1072, 1136, 1146, 1267, 1270, 1271, 1288, 1347, 1348, 1471, 1932, 3105}
)
_STATEMENTS = 1665
LOG_ROWS = "SET GLOBAL binlog_format = ROW, and in the server's configuration file; then start anew"
"""The cure of a binary log that takes no rows: sessions that are open keep its former format."""

_COLUMN = re.compile(
    r"(?:(?:for|for the) column (?P<named>[`'].*[`']) at row \d+|^Column '(?P<null>.*)' cannot be"
    r" null|^Field '(?P<field>.*)' doesn't have a default value)$",
    re.S,
)
_CHECK = re.compile(
    r"^(?:Check constraint '(.*)' is violated\.|CONSTRAINT `(.*)` failed for .*)$", re.S
)
_URL = "see target.url"
_SECURE = "see target.sslmode and target.tls"
_UNKNOWN_WAY = (
    "the account logs in by a way that this program does not know",
    "see docs/mysql-target.md",
)
_REFUSED: dict[int, tuple[str, str]] = {
    1044: ("the account may not use the database", _URL),
    1045: (
        "user or password is wrong, or the account may not come from here",
        "see target.password",
    ),
    1049: ("the database does not exist", "create it, or see target.url"),
    1130: ("the server admits nobody from this host", "create the account for this host"),
    1227: ("the account lacks a right", "cdc-daemon plan shows what it needs"),
    1251: _UNKNOWN_WAY,
    1524: _UNKNOWN_WAY,
    1698: (
        "user or password is wrong, or the account may not come from here",
        "see target.password",
    ),
    1820: ("the account's password must be changed first", "ALTER USER … IDENTIFIED BY …"),
    1862: ("the account's password has expired", "ALTER USER … IDENTIFIED BY …"),
    3118: ("the account is locked", "ALTER USER … ACCOUNT UNLOCK"),
    3159: ("the server admits encrypted connections only", "see target.sslmode and target.tls"),
    4151: ("the account is locked", "ALTER USER … ACCOUNT UNLOCK"),
}


def translate(error: pymysql.Error, *, known: Collection[str] = ()) -> CdcError:
    """What an error of a statement means. ``known``: attribute names that a message may name."""
    number, text = number_of(error), message_of(error)
    if number is None:
        return Stop(f"The control database's driver failed: {type(error).__name__}.")
    if number in _LOST:
        return Unreachable(f"The connection to the control database was lost (error {number}).")
    if number in _AGAIN:
        words = _AGAIN[number]
        return Retryable(f"Not now: {words} (error {number}).", hint=_AGAIN_HINTS.get(number))
    if number in _ROWS:
        return _data_error(number, text, known)
    if number in _ALTERED:
        return Stop(
            f"The control database is not as configured: {text} (error {number}).",
            hint="a table was altered, dropped or never created: see cdc-daemon plan",
        )
    if number == _STATEMENTS:
        what = "binary log is in STATEMENT format, which takes no rows at READ COMMITTED"
        return Stop(f"The control database's {what} (error {number}).", hint=LOG_ROWS)
    return Stop(f"The control database refused a statement (error {number}).")


def refused(error: pymysql.Error, conninfo: Mapping[str, str]) -> CdcError:
    """What a failed attempt to connect means: wrong settings, or a server that does not answer."""
    number, text, place = number_of(error), message_of(error), mysql_place(conninfo)
    found = _REFUSED.get(number or 0) or _unencrypted(text)
    if found is not None:
        return NotAdmitted([Problem(what=found[0], where=place, cure=found[1])])
    return Unreachable(f"The control database {place} does not answer.")


def unsettled(
    error: pymysql.Error, conninfo: Mapping[str, str], setting: str = "what it begins with"
) -> CdcError:
    """What an error means that ends a session before its first use, at one of its settings."""
    number = number_of(error) or 0
    if number in _AGAIN and number not in _RIGHTS:
        return translate(error)
    if number in _LOST or (number in _REFUSED and number not in _RIGHTS):
        return refused(error, conninfo)
    cure = "let no proxy stand in between; which servers there are: docs/mysql-target.md"
    if number in _RIGHTS:
        cure = "grant the account what the server asks for that"
    what = f"the server refuses the session setting {setting} (error {number})"
    return NotAdmitted([Problem(what=what, where=mysql_place(conninfo), cure=cure)])


def number_of(error: pymysql.Error) -> int | None:
    """The error's number; 0 where the connection was closed under the driver."""
    number = error.args[0] if error.args else None
    return number if isinstance(number, int) else None


def message_of(error: pymysql.Error) -> str:
    """What the server said. It may hold values: for looking at, never for passing on."""
    return str(error.args[1]) if len(error.args) > 1 else ""


def rolled_back() -> Retryable:
    """The error of a unit of work whose transaction the server has ended under it."""
    return Retryable("Not now: the control database has rolled the unit of work back.")


def _unencrypted(text: str) -> tuple[str, str] | None:
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        if "self-signed" in text or "self signed" in text or "unable to get" in text:
            return "its certificate was not signed by an authority that is trusted", _SECURE
        if "expired" in text:
            return "its certificate has expired", "have it renewed"
        return "its certificate is not for that name, or not to be trusted", _SECURE
    if ("SSL" in text or "TLS" in text) and "EOF" not in text and "timed out" not in text:
        return "the encrypted connection was refused", _SECURE
    if "cryptography" in text:
        return "without TLS its way to log in needs a package", "turn TLS on: see target.sslmode"
    return None


def _data_error(number: int, text: str, known: Collection[str]) -> DataError:
    code = _ROWS[number]
    check = _CHECK.search(text) if code == "23514" else None
    if check is not None:
        return data_error(code, constraint=(check[1] or check[2]).rpartition("`.`")[2])
    column = _column(text)
    return data_error(code, attribute=column if column in known else None)


def _column(text: str) -> str | None:
    """The column that a message names at its end: a value that looks like it stands before it."""
    found = _COLUMN.search(text)
    if found is None:
        return None
    named = found["named"]
    if named is None:
        return found["null"] or found["field"]
    start = max(named.rfind("for column `"), named.rfind("for column '"))
    named = named[start + len("for column ") :] if start >= 0 else named
    return named[1:-1].rpartition("`.`")[2] if named[0] == "`" else named[1:-1]
