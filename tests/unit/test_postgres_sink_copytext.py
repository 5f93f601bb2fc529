"""COPY text and array literals are read back as what they were made of."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.postgres.arrays import array, arrays
from cdc_daemon.sinks.postgres.copytext import CHUNK_ROWS, copy_text, feed, feed_both

Fields = tuple[bytes | None, ...]
NASTY = [b"", b"\\N", b"\\", b"\t", b"\n", b"\r", b"\\.", b"a\\\tb", b"\\x00", b"\xc3\xa9"]
VALUES = st.none() | st.sampled_from(NASTY) | st.binary(max_size=5)
BYTES = st.none() | st.binary(max_size=4).map(lambda raw: b"\\x" + raw.hex().encode())
_LETTERS = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"\\": b"\\"}


def decode(text: bytes) -> list[Fields]:
    """COPY text by the rules of its documentation."""
    assert text.endswith(b"\n")
    assert b"\r" not in text
    lines = text[:-1].split(b"\n")
    return [tuple(_field(field) for field in line.split(b"\t")) for line in lines]


def _field(raw: bytes) -> bytes | None:
    if raw == b"\\N":
        return None
    value, rest = b"", raw
    while rest:
        if rest[:1] == b"\\":
            value += _LETTERS[rest[1:2]]
            rest = rest[2:]
        else:
            value += rest[:1]
            rest = rest[1:]
    return value


@given(st.lists(st.tuples(VALUES, VALUES, BYTES), min_size=1, max_size=8))
@example([(b"\\N", None, None)])
@example([(None, b"\\", b"\\x00")])
def test_rows_survive(rows: list[Fields]) -> None:
    """NULL, empty and ``\\N`` stay three things."""
    assert decode(copy_text(rows)) == rows


def test_two_feeds_of_the_same_rows() -> None:
    """The second holds the other rows and, behind them, the columns taken of the first."""
    number = 2 * CHUNK_ROWS + 3
    rows: list[Fields] = [(b"%d" % n, b"a\tb" if n % 7 else None) for n in range(number)]
    others: list[Fields] = [(b"\\%d" % n,) for n in range(number)]
    first, second = feed_both(rows, others, (1, 0))
    assert decode(b"".join(first)) == rows
    expected = [(other, b, a) for (other,), (a, b) in zip(others, rows, strict=True)]
    assert decode(b"".join(second)) == expected


def test_rows_of_different_widths_are_refused() -> None:
    """A bug of ours must not become a row in the wrong columns."""
    with pytest.raises(ValueError, match="zip"):
        copy_text([(b"a", b"b"), (b"c",)])


def test_a_feed_comes_in_chunks() -> None:
    """Of a bounded number of rows; nothing is lost between them."""
    rows: list[Fields] = [(b"%d" % n,) for n in range(CHUNK_ROWS + 1)]
    chunks = list(feed(rows))
    assert [chunk.count(b"\n") for chunk in chunks] == [CHUNK_ROWS, 1]
    assert decode(b"".join(chunks)) == rows
    assert list(feed([])) == []


def test_array_literals_quote_every_element() -> None:
    """So neither braces, commas, quotes, backslashes nor the word NULL mean anything."""
    assert array([]) == b"{}"
    assert array([b"a", b"{,}", b"NULL", b""]) == b'{"a","{,}","NULL",""}'
    assert array([b'"', b"\\"]) == b'{"\\"","\\\\"}'
    assert array([b"a", None, b"NULL", None]) == b'{"a",NULL,"NULL",NULL}'
    assert array([None]) == b"{NULL}"
    assert array([None, b'"']) == b'{NULL,"\\""}'
    assert arrays([(b"1", None), (b"2", b"b")]) == [b'{"1","2"}', b'{NULL,"b"}']
    for values in ([b"a\0b"], [b"\0"], [None, b"\0"], [b"\0", None, b"a"]):
        with pytest.raises(DataError):
            array(values)
