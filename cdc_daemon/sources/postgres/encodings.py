"""Databases whose texts have no encoding (SQL_ASCII): what is not UTF-8 becomes INVALID.

A server converts what it sends into the client's encoding, and ends the stream at the first text
that it cannot convert, at every try again. So from an SQL_ASCII database, which takes any bytes,
everything is taken as it is, and looked at here. Other databases hold only texts of their encoding,
and the server makes UTF-8 of them; nothing is checked again.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc_daemon.model.changes import Invalid, Row, Value
from cdc_daemon.sources.postgres.connection import Connection

NO_ENCODING = "SQL_ASCII"
_REASON = "the text is not valid UTF-8"


def takes_any_bytes(connection: Connection) -> bool:
    """Whether the database's texts may hold any bytes."""
    return connection.info.parameter_status("server_encoding") == NO_ENCODING


def take_bytes(connection: Connection) -> bool:
    """Have such a database's texts sent as they are; whether it is one."""
    found = takes_any_bytes(connection)
    if found:
        connection.execute("SET client_encoding TO SQL_ASCII")
    return found


def take_text(connection: Connection) -> None:
    """Have texts sent in UTF-8 again."""
    connection.execute("SET client_encoding TO UTF8")


def checked_rows(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """The rows with INVALID for what is not UTF-8, and the indexes of those that hold any."""
    found = list(rows)
    marked: list[int] = []
    for index, row in enumerate(rows):
        if not all(map(_sound, row)):
            found[index] = tuple(map(checked, row))
            marked.append(index)
    return found, marked


def _sound(value: Value) -> bool:
    return not isinstance(value, bytes) or value.isascii() or _is_utf8(value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def checked(value: Value) -> Value:
    """A value, or INVALID."""
    return value if _sound(value) or not isinstance(value, bytes) else Invalid(value, _REASON)
