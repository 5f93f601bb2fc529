"""Values as SQLite keeps them: one text each, as PostgreSQL prints it; all else is refused."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.forms import stored, texts
from cdc_daemon.sinks.sqlite.names import type_constraint

DECIMAL = EntityType(Kind.DECIMAL, 6, 2)
WHOLE = EntityType(Kind.DECIMAL, 3, 0)
SMALL = EntityType(Kind.DECIMAL, 2, 2)


def attribute(type_: EntityType | Kind) -> Attribute:
    return Attribute(name="a", type=EntityType(type_) if isinstance(type_, Kind) else type_)


SAME = [
    (DECIMAL, b"0.00", "0.00"),
    (DECIMAL, b"-9999.99", "-9999.99"),
    (DECIMAL, b"1", "1.00"),
    (DECIMAL, b"1.5", "1.50"),
    (DECIMAL, b"+01.5", "1.50"),
    (DECIMAL, b"-0.00", "0.00"),
    (DECIMAL, b"1.500", "1.50"),
    (DECIMAL, b"NaN", "NaN"),
    (WHOLE, b"999", "999"),
    (WHOLE, b"0", "0"),
    (SMALL, b"0.99", "0.99"),
    (SMALL, b"-0.01", "-0.01"),
    (Kind.NUMERIC, b"3.1400", "3.14"),
    (Kind.NUMERIC, b"1e3", "1000"),
    (Kind.NUMERIC, b"-Infinity", "-Infinity"),
    (Kind.NUMERIC, b"9" * 1000, "9" * 1000),
    (Kind.DOUBLE, b"1e-300", "1e-300"),
    (Kind.DOUBLE, b"-0", "0"),
    (Kind.DOUBLE, b"NaN", "NaN"),
    (Kind.DOUBLE, b"Infinity", "Infinity"),
    (Kind.DOUBLE, b"0.1", "0.1"),
    (Kind.BOOLEAN, b"t", 1),
    (Kind.BOOLEAN, b"false", 0),
    (Kind.DATE, b"2024-02-29", "2024-02-29"),
    (Kind.DATE, b"0044-03-15 BC", "0044-03-15 BC"),
    (Kind.DATE, b"5874897-12-31", "5874897-12-31"),
    (Kind.DATE, b"-infinity", "-infinity"),
    (Kind.TIME, b"24:00:00", "24:00:00"),
    (Kind.TIME, b"01:02:03.500000", "01:02:03.5"),
    (Kind.TIMESTAMP, b"2024-02-29 01:02:03.500", "2024-02-29 01:02:03.5"),
    (Kind.TIMESTAMP, b"294276-12-31 23:59:59.999999", "294276-12-31 23:59:59.999999"),
    (Kind.TIMESTAMP, b"infinity", "infinity"),
    (Kind.TIMESTAMPTZ, b"2024-01-01 12:00:00+08", "2024-01-01 04:00:00+00"),
    (Kind.TIMESTAMPTZ, b"0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"),
    (Kind.INTERVAL, b"1 year 2 mons -3 days +04:05:06", "1 year 2 mons -3 days +04:05:06"),
    (Kind.UUID, b"6D6CF5E1-9D3E-4A5A-BBF5-2D0A5F8A3B11", "6d6cf5e1-9d3e-4a5a-bbf5-2d0a5f8a3b11"),
    (Kind.JSON, b'{"b": 1.10, "a": [null]}', '{"a":[null],"b":1.1}'),
    (Kind.BYTES, b"\\x00FF", "\\x00ff"),
    (Kind.BYTES, b"\\x", "\\x"),
]


@pytest.mark.parametrize("type_, given_text, kept", SAME)
def test_one_text_for_each_value(type_: EntityType | Kind, given_text: bytes, kept: object) -> None:
    """And the table's own constraint takes it."""
    one = attribute(type_)
    assert stored([given_text, None], one) == [kept, None]
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE TABLE t ("a" ANY {type_constraint(one)}) STRICT')
    connection.execute("INSERT INTO t VALUES (?)", (kept,))
    connection.execute("INSERT INTO t VALUES (NULL)")


@pytest.mark.parametrize(
    "type_, value, code",
    [
        (DECIMAL, b"10000.00", "22003"),
        (DECIMAL, b"1.001", "22003"),
        (DECIMAL, b"Infinity", "22003"),
        (DECIMAL, b"one", "22P02"),
        (WHOLE, b"1000", "22003"),
        (SMALL, b"1.00", "22003"),
        (Kind.NUMERIC, b"", "22P02"),
        (Kind.DOUBLE, b"1,5", "22P02"),
        (Kind.BOOLEAN, b"maybe", "22P02"),
        (Kind.DATE, b"2026-02-30", "22008"),
        (Kind.DATE, b"yesterday", "22007"),
        (Kind.TIME, b"25:00:00", "22007"),
        (Kind.TIMESTAMP, b"2026-02-30 00:00:00", "22008"),
        (Kind.TIMESTAMP, b"2026-01-01 00:00:00+00", "22008"),
        (Kind.TIMESTAMPTZ, b"2026-01-01 00:00:00", "22008"),
        (Kind.INTERVAL, b"soon", "22007"),
        (Kind.UUID, b"6d6cf5e1", "22P02"),
        (Kind.JSON, b'{"a": "\\u0000"}', "22P02"),
        (Kind.BYTES, b"\\x0", "22P02"),
        (Kind.TEXT, b"a\0b", "22021"),
        (Kind.TEXT, b"\xff", "22021"),
    ],
)
def test_what_is_no_value_is_refused(type_: EntityType | Kind, value: bytes, code: str) -> None:
    """With PostgreSQL's SQLSTATE and the attribute, never the value."""
    with pytest.raises(DataError) as caught:
        stored([None, value], attribute(type_))
    assert (caught.value.code, caught.value.attribute) == (f"sqlstate_{code}", "a")
    assert not value or value.decode(errors="replace") not in caught.value.message


@given(
    st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
)
def test_texts_stay_what_and_where_they_are(values: list[str | None]) -> None:
    """NULL against empty, any character, any number of them."""
    column = [None if value is None else value.encode() for value in values]
    assert list(texts(column)) == values


@given(st.decimals(-(10**4), 10**4, places=2, allow_nan=False).filter(lambda d: abs(d) < 10**4))
def test_decimals_are_exact(value: object) -> None:
    assert stored([str(value).encode()], attribute(DECIMAL)) == [
        str(value).lstrip("-") if not value else str(value)
    ]
