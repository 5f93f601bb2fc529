"""The rows of a SELECT as a server prints them, read from the socket in large pieces.

PyMySQL reads a packet and a value at a time. Here its connection sends the query and takes in what
the result's columns are; the rows behind them are cut out of whatever the socket brings, by code
that is made for the columns and that turns each value into the log's text on the way.

A row is a packet (three bytes of length, a number, and so many bytes) of values, each behind its
length: one byte below 251, 251 for NULL, or 252, 253, 254 and two, three, eight bytes. A packet of
2^24 - 1 bytes goes on in the next one. The last packet begins with 254 and has less than nine
bytes, or with 255 and is an error (MySQL's internals: "Protocol::ProtocolText::Resultset").
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn, cast

from pymysql import err
from pymysql.constants import CR

from cdc_daemon.model.changes import Row
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.connection import Connection, Server, drop, unread
from cdc_daemon.sources.mysql.selected import Read, UnlessAscii

Refuse = Callable[[int, int], NoReturn]
"""Raises for a value of so many bytes in the column at that position."""

_AT_ONCE: Final = 1 << 16  # bytes that are asked of the socket
_HEADER: Final = 4
_FULL: Final = (1 << 24) - 1  # bytes of a packet that goes on in the next one
_END, _ERROR, _LAST = 254, 255, b"\xfe"
_SHORT: Final = 9  # an end has fewer bytes
_LENGTHS: Final = {252: 2, 253: 3, 254: 8}
_TAKE: Final = """
def take(d, o, most, append):
    odd = False
    e = len(d) - 4
    for _ in range(most):
        if o >= e: break
        end = o + 4 + (d[o] | d[o + 1] << 8 | d[o + 2] << 16)
        if end > e + 4 or end == o + 16777219 or d[o + 4] > 253: break
        p = o + 4
{0}
        if p != end: raise ValueError
        append(({1}))
        o = end
    return o, odd

def one(d, append):
    p, odd = 0, False
    for _ in "1":
{0}
    if p != len(d): raise ValueError
    append(({1}))
    return odd
"""


def connect_for_rows(server: Server) -> Connection:
    """A connection that only reads, and reads bytes. Raises as ``Server.connect``."""
    connection = server.connect()
    try:
        with server.errors("setting the session up"), connection.cursor() as cursor:
            cursor.execute("SET SESSION character_set_results = NULL")
    except BaseException:
        connection.close()
        raise
    connection.use_unicode = False
    connection.decoders = {}
    return connection


class Printed:
    """The rows of one SELECT. No other query may be sent until they have ``ended``.

    ``readers``: how each column's values become texts (None: they are); ``limit``: bytes that a
    value may have, at least 250, before ``refuse`` is called. Raises PyMySQL's errors.
    """

    def __init__(
        self,
        connection: Connection,
        statement: str,
        readers: Sequence[Read | None],
        *,
        limit: int,
        refuse: Refuse,
    ) -> None:
        self._limit = limit
        self._refuse = refuse
        self._take, self._one = _compiled(readers, self._long)
        self._connection = connection
        self._data = b""
        self._offset = 0
        self.ended = False
        self._file = unread(connection, statement)

    def read(self, most: int, most_bytes: int) -> tuple[list[Row], int, bool]:
        """The next rows, their bytes, and whether any holds INVALID; none: there are no more.

        As many as ``most``, or as take ``most_bytes`` and what came with them.
        """
        rows: list[Row] = []
        size, odd = 0, False
        while not self.ended and len(rows) < most and size < most_bytes:
            before = len(rows), self._offset
            odd |= self._rows(rows, most)
            size += self._offset - before[1]
            if len(rows) == before[0]:
                strange, taken = self._other(rows)
                odd, size = odd | strange, size + taken
        return rows, size, odd

    def drain(self) -> None:
        """Read what is left of a SELECT that nobody wants any more."""
        whole = True
        while not self.ended:
            packet = self._packet()
            if whole and packet[:1] >= _LAST and (len(packet) < _SHORT or packet[0] == _ERROR):
                self.ended = True
            whole = len(packet) < _FULL

    def _rows(self, rows: list[Row], most: int) -> bool:
        """Whole rows that are there; whether any holds INVALID."""
        try:
            self._offset, odd = self._take(self._data, self._offset, most - len(rows), rows.append)
        except (LookupError, ValueError):
            raise self._malformed() from None
        return cast("bool", odd)

    def _other(self, rows: list[Row]) -> tuple[bool, int]:
        """What stands there in place of a whole row: part of one, one of several packets, the end,
        an error."""
        if len(self._data) - self._offset <= _HEADER:
            self._more(_HEADER + 1)
        length = int.from_bytes(self._data[self._offset : self._offset + 3], "little")
        first = self._data[self._offset + _HEADER]
        if length == _FULL:
            return self._long_row(rows)
        if first < _END:
            self._more(_HEADER + length)
            return False, 0
        packet = self._packet()
        if length >= _SHORT and first != _ERROR:
            raise self._malformed()
        self.ended = True
        if first == _ERROR:
            self._raise(packet)
        return False, 0

    def _raise(self, packet: bytes) -> None:
        """The error that the server sent."""
        try:
            err.raise_mysql_exception(packet)
        except struct.error:
            raise self._malformed() from None

    def _long_row(self, rows: list[Row]) -> tuple[bool, int]:
        """A row of several packets."""
        parts = [self._packet()]
        while len(parts[-1]) == _FULL:
            parts.append(self._packet())
        whole = b"".join(parts)
        try:
            return self._one(whole, rows.append), len(whole)
        except (LookupError, ValueError):
            raise self._malformed() from None

    def _packet(self) -> bytes:
        """The next packet without its header."""
        self._more(_HEADER)
        length = int.from_bytes(self._data[self._offset : self._offset + 3], "little")
        self._more(_HEADER + length)
        start = self._offset + _HEADER
        self._offset = start + length
        return self._data[start : start + length]

    def _more(self, wanted: int) -> None:
        """At least so many bytes behind the offset; as many again as come along with them."""
        rest = self._data[self._offset :]
        while len(rest) < wanted:
            missing = wanted - len(rest)
            rest += self._received(missing)
        self._data, self._offset = rest, 0

    def _received(self, missing: int) -> bytes:
        try:
            read = self._file.read if missing > _AT_ONCE else self._file.read1
            found = read(max(missing, _AT_ONCE))
        except OSError as exc:
            drop(self._connection)
            raise err.OperationalError(CR.CR_SERVER_LOST, f"connection lost ({exc})") from exc
        if not found:
            drop(self._connection)
            raise err.OperationalError(CR.CR_SERVER_LOST, "connection lost")
        return found

    def _long(self, data: bytes, offset: int, kind: int, column: int) -> tuple[bytes, int]:
        """A value of more than 250 bytes, and the offset behind it."""
        start = offset + _LENGTHS[kind]
        length = int.from_bytes(data[offset:start], "little")
        if length > self._limit:
            self._refuse(column, length)
        return data[start : start + length], start + length

    def _malformed(self) -> DecodeError:
        drop(self._connection)
        return DecodeError("a row of a SELECT is malformed", kind="row", offset=self._offset)


# --- the code -----------------------------------------------------------------------------------


def _compiled(
    readers: Sequence[Read | None], long: Callable[[bytes, int, int, int], tuple[bytes, int]]
) -> tuple[Callable[..., Any], Callable[..., bool]]:
    """Code that takes rows out of packets, and a row out of one that was put together."""
    names: dict[str, Any] = {"long": long}
    lines: list[str] = []
    for place, reader in enumerate(readers):
        lines += _value(place, reader)
        if reader is not None:
            names[f"r{place}"] = reader.read if isinstance(reader, UnlessAscii) else reader
    row = "".join(f"v{place}, " for place in range(len(readers)))
    source = _TAKE.format("\n".join(f"        {line}" for line in lines), row)
    exec(compile(source, "<rows of a SELECT>", "exec"), names)  # noqa: S102 - positions only
    return names["take"], names["one"]


def _value(place: int, reader: Read | None) -> Iterator[str]:
    """Lines that read one value."""
    text = [f"    {line}" for line in _text(place, reader)]
    yield from ("n = d[p]", "p += 1", "if n < 251:", f"    v{place} = d[p:p + n]", "    p += n")
    yield from text
    yield from ("elif n == 251:", f"    v{place} = None", "else:")
    yield f"    v{place}, p = long(d, p, n, {place})"
    yield from text


def _text(place: int, reader: Read | None) -> Iterator[str]:
    """Lines that make a text of it; a value that is none makes its row an odd one."""
    if reader is None:
        return
    indent = ""
    if isinstance(reader, UnlessAscii):
        yield f"if not v{place}.isascii():"
        indent = "    "
    yield f"{indent}v{place} = r{place}(v{place})"
    yield f"{indent}if v{place}.__class__ is not bytes: odd = True"
