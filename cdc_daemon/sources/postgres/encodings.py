"""Texts in the source database's own encoding: what cannot become UTF-8 becomes INVALID.

A server converts what it sends into the client's encoding, and ends the stream at the first text
that it cannot convert, at every try again: any byte may stand in an SQL_ASCII database, and most
encodings hold bytes that stand for no character. So texts are taken as they are stored and
converted here, wherever Python's codec is the same table as PostgreSQL's (a test compares every
character). The encodings that are not in here are left to the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg import sql

from cdc_daemon.model.changes import Invalid, Row, Value
from cdc_daemon.sources.postgres.connection import Connection

CODECS: Final = {
    "SQL_ASCII": "utf-8",  # no encoding: what is UTF-8 counts as text
    "LATIN1": "iso8859-1", "LATIN2": "iso8859-2", "LATIN3": "iso8859-3", "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9", "LATIN6": "iso8859-10", "LATIN7": "iso8859-13", "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15", "LATIN10": "iso8859-16", "ISO_8859_5": "iso8859-5",
    "ISO_8859_6": "iso8859-6", "ISO_8859_7": "iso8859-7", "ISO_8859_8": "iso8859-8",
    "KOI8R": "koi8-r", "KOI8U": "koi8-u", "WIN866": "cp866", "WIN874": "cp874",
    "WIN1250": "cp1250", "WIN1251": "cp1251", "WIN1252": "cp1252", "WIN1253": "cp1253",
    "WIN1254": "cp1254", "WIN1255": "cp1255", "WIN1256": "cp1256", "WIN1257": "cp1257",
    "WIN1258": "cp1258", "EUC_CN": "gb2312",
}  # fmt: skip
"""Server encodings and the codecs that are the same."""


def codec_of(connection: Connection) -> str:
    """The codec by which the database's texts are read here; empty: the server sends UTF-8."""
    return CODECS.get(_encoding(connection), "")


def _encoding(connection: Connection) -> str:
    return connection.info.parameter_status("server_encoding") or ""


def take_bytes(connection: Connection) -> str:
    """Have texts sent as they are stored, where they are read here; their codec."""
    codec = codec_of(connection)
    if codec:
        connection.execute(f"SET client_encoding TO '{_encoding(connection)}'".encode())
    return codec


def take_text(connection: Connection) -> None:
    """Have texts sent in UTF-8 again."""
    connection.execute("SET client_encoding TO UTF8")


def in_its_encoding(query: sql.Composed, connection: Connection) -> bytes:
    """A query in the encoding that the connection speaks; UTF-8 where that is none."""
    named = connection.info.parameter_status("client_encoding")
    return query.as_bytes() if named == "SQL_ASCII" else query.as_bytes(connection)


def read_rows(rows: Sequence[Row], codec: str) -> tuple[list[Row], list[int]]:
    """The rows in UTF-8, and the indexes of those that hold INVALID."""
    found = list(rows)
    marked: list[int] = []
    for index, row in enumerate(rows):
        if all(map(_plain, row)):
            continue
        found[index] = tuple([read(value, codec) for value in row])
        if any(isinstance(value, Invalid) for value in found[index]):
            marked.append(index)
    return found, marked


def _plain(value: Value) -> bool:
    return not isinstance(value, bytes) or value.isascii()


def read(value: Value, codec: str) -> Value:
    """One value in UTF-8, or INVALID."""
    if not isinstance(value, bytes) or value.isascii():
        return value
    try:
        text = value.decode(codec)
    except UnicodeDecodeError:
        what = "valid UTF-8" if codec == "utf-8" else f"a text of the source's encoding ({codec})"
        return Invalid(value, f"the text is not {what}", codec)
    return value if codec == "utf-8" else text.encode()
