"""Rows of a SELECT out of whatever the socket brings."""

from __future__ import annotations

import io
import struct
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql import err

from cdc_daemon.model.changes import Invalid
from cdc_daemon.model.errors import DecodeError, Stop
from cdc_daemon.sources.mysql import printed
from cdc_daemon.sources.mysql.printed import Printed
from cdc_daemon.sources.mysql.selected import Read, UnlessAscii

Row = tuple[bytes | None, ...]
LIMIT = 1 << 20
END = b"\xfe\0\0\2\0"


class Socket(io.RawIOBase):
    """Brings bytes in pieces of the sizes given, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = sizes
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._count += 1
        found = self._data.read(min(len(buffer), self._sizes[self._count % len(self._sizes)]))
        buffer[: len(found)] = found
        return len(found)


def packet(payload: bytes) -> bytes:
    """With its header; in several where it is too long for one."""
    full = (1 << 24) - 1
    head, rest = payload[:full], payload[full:]
    found = struct.pack("<I", len(head)) + head
    return found + packet(rest) if len(head) == full else found


def value(text: bytes | None) -> bytes:
    if text is None:
        return b"\xfb"
    if len(text) < 251:
        return bytes([len(text)]) + text
    if len(text) < 1 << 16:
        return b"\xfc" + struct.pack("<H", len(text)) + text
    if len(text) < 1 << 24:
        return b"\xfd" + struct.pack("<I", len(text))[:3] + text
    return b"\xfe" + struct.pack("<Q", len(text)) + text


def row(values: Row) -> bytes:
    return packet(b"".join(map(value, values)))


def refuse(column: int, length: int) -> NoReturn:
    raise Stop(f"{length} bytes in column {column}")


def select(
    data: bytes,
    readers: list[Read | None],
    sizes: list[int] | None = None,
    limit: int = LIMIT,
) -> Printed:
    """A SELECT whose rows come so."""
    file = io.BufferedReader(Socket(data, sizes or [1 << 20]))
    patch = pytest.MonkeyPatch()
    patch.setattr(printed, "unread", lambda *_: file)
    try:
        return Printed(None, "", readers, limit=limit, refuse=refuse)  # type: ignore[arg-type]
    finally:
        patch.undo()


def read_all(found: Printed) -> None:
    while found.read(9, LIMIT)[0]:
        pass


def odd(text: bytes) -> bytes | Invalid:
    return Invalid(text, "odd") if text.endswith(b"!") else text.upper()


TEXTS = st.none() | st.binary(max_size=6) | st.binary(min_size=249, max_size=258)


@given(
    st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=12),
    st.lists(st.integers(1, 700), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_rows_are_those_that_were_sent(rows: list[Row], sizes: list[int], most: int) -> None:
    """Wherever the socket cuts them; values become texts on the way."""
    data = b"".join(map(row, rows)) + packet(END)
    found = select(data, [None, odd, UnlessAscii(odd)], sizes)
    got, strange = [], False
    while piece := found.read(most, LIMIT)[0]:
        assert len(piece) <= most
        strange |= any(isinstance(one, Invalid) for values in piece for one in values)
        got += piece
    wanted = [
        (a, b if b is None else odd(b), c if c is None or c.isascii() else odd(c))
        for a, b, c in rows
    ]
    assert got == wanted
    assert found.ended
    everything = select(data, [None, odd, UnlessAscii(odd)], sizes).read(len(rows) + 1, 1 << 30)
    assert everything[0] == wanted
    assert everything[2] == strange


@pytest.mark.parametrize("size", [(1 << 16) + 3, (1 << 24) - 20, (1 << 24) - 1, (1 << 25) + 5])
def test_long_values_are_whole(size: int) -> None:
    """Also those of several packets, and one that ends where a packet does."""
    rows: list[Row] = [(b"1", b"x" * size), (b"2", None)]
    data = b"".join(map(row, rows)) + packet(END)
    found = select(data, [None, None], [70_000], limit=1 << 26)
    assert found.read(9, 1 << 30)[0] == rows
    exact = (1 << 24) - 1 - 4  # a packet with the value's length is full: an empty one follows
    data = row((b"x" * exact,)) + packet(END)
    assert select(data, [None], limit=1 << 26).read(9, 1 << 30)[0] == [(b"x" * exact,)]


def test_a_value_over_the_limit_is_refused() -> None:
    found = select(row((b"1", b"x" * 2000)) + packet(END), [None, None], limit=1000)
    with pytest.raises(Stop, match="2000 bytes in column 1"):
        found.read(9, LIMIT)
    found.drain()
    assert found.ended


def test_errors_and_lost_connections_are_told() -> None:
    """What came before an error is told, and then the error."""
    rows = row((b"1",)) + packet(b"\xff\x25\x05#70100interrupted")
    found = select(rows, [None])
    with pytest.raises(err.OperationalError, match="interrupted"):
        read_all(found)
    assert found.ended
    for end in range(len(rows)):
        lost = select(rows[:end], [None])
        with pytest.raises(err.OperationalError, match="2013"):
            read_all(lost)


@pytest.mark.parametrize(
    "payload", [b"\x05abc", b"\x01ab", b"\xfc\xff", b"\xff", b"\xfe" + b"x" * 20, b"\xfd\1\0\0"]
)
def test_what_is_no_row_is_a_decode_error(payload: bytes) -> None:
    data = packet(payload) + packet(END)
    with pytest.raises((DecodeError, err.Error)):
        select(data, [None]).read(9, LIMIT)


def test_a_select_that_nobody_wants_is_read_to_its_end() -> None:
    """Bytes of a long row that look like an end are none."""
    full = (1 << 24) - 1
    data = row((b"1",)) + packet(b"\xfd" + b"x" * (full - 1) + b"\xfe\0\0") + packet(END)
    found = select(data, [None])
    found.drain()
    assert found.ended
