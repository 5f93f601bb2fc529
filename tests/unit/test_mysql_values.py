"""Columns of log text as MySQL takes them, and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.mapping.canonical import canonical
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.mysql.values import (
    literal,
    literal_column,
    shown,
    stored_column,
    unfolded,
)


def attribute(kind: Kind, *sizes: int) -> Attribute:
    return Attribute(name="a", type=EntityType(kind, *sizes))


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
@settings(max_examples=60)
def test_literals_end_where_their_text_does(texts: list[str | None]) -> None:
    """Quotes are doubled, backslashes are themselves: read back as the server reads it."""
    made = literal_column(
        [None if t is None else t.replace("\0", "") for t in texts], attribute(Kind.TEXT)
    )
    for one, text in zip(made, texts, strict=True):
        if text is None:
            assert one == "NULL"
        else:
            assert (one[0], one[-1]) == ("'", "'")
            assert "'" not in one[1:-1].replace("''", "")
            assert one[1:-1].replace("''", "'") == text.replace("\0", "")


def test_a_json_text_is_one_literal() -> None:
    """Rows by column; quotes doubled behind JSON's own escapes."""
    made = unfolded([["a'b", None], ["\\", '"']])
    assert made[0] == made[-1] == "'"
    assert json.loads(made[1:-1].replace("''", "'")) == [["a'b", "\\"], [None, '"']]
    assert literal(b"\x00\xff") == "x'00ff'"
    assert literal(True) == "1"
    assert literal(None) == "NULL"


@pytest.mark.parametrize(
    "kind, text, code",
    [
        (Kind.INTEGER, b"1.5", "22P02"),
        (Kind.BIGINT, b"", "22P02"),
        (Kind.BIGINT, b"1,2", "22P02"),
        (Kind.DOUBLE, b"NaN", "22003"),
        (Kind.DOUBLE, b"-Infinity", "22003"),
        (Kind.DATE, b"infinity", "22008"),
        (Kind.DATE, b"10000-01-01", "22008"),
        (Kind.DATE, b"0001-01-01 BC", "22008"),
        (Kind.TIMESTAMP, b"-infinity", "22008"),
        (Kind.TIMESTAMPTZ, b"0044-03-15 00:00:00+00 BC", "22008"),
        (Kind.TEXT, b"a\0", "22021"),
    ],
)
def test_what_mysql_cannot_hold_or_would_change_is_the_rows_error(
    kind: Kind, text: bytes, code: str
) -> None:
    """With the attribute's name; 1.5 would become 2 without a word."""
    for column in ([text], [b"1", text] if kind in (Kind.INTEGER, Kind.BIGINT) else [None, text]):
        with pytest.raises(DataError) as caught:
            stored_column(column, attribute(kind))
        assert (caught.value.code, caught.value.attribute) == (f"sqlstate_{code}", "a")


def test_blanks_beyond_a_texts_length_are_cut_as_on_postgresql() -> None:
    """Anything else there is too long; length is in characters."""
    string = attribute(Kind.STRING, 3)
    assert stored_column(["äöü  ".encode(), b"ab ", None, b"abc "], string) == [
        "äöü",
        "ab ",
        None,
        "abc",
    ]
    with pytest.raises(DataError, match="too long"):
        stored_column([b"abc d"], string)


@pytest.mark.parametrize(
    "kind, printed, text",
    [
        (Kind.BOOLEAN, b"1", b"true"),
        (Kind.DOUBLE, b"1e15", b"1e+15"),
        (Kind.DOUBLE, b"-0", b"0"),
        (Kind.TIME, b"24:00:00.000000", b"24:00:00"),
        (Kind.TIMESTAMP, b"2026-01-01 00:00:00.500000", b"2026-01-01 00:00:00.5"),
        (Kind.TIMESTAMPTZ, b"0001-01-01 00:00:00.000000", b"0001-01-01 00:00:00+00"),
        (Kind.BYTES, b"\x00\xff", rb"\x00ff"),
        (Kind.TEXT, b"x", b"x"),
    ],
)
def test_what_mysql_prints_becomes_what_postgresql_prints(
    kind: Kind, printed: bytes, text: bytes
) -> None:
    """So content hashes are those of the other control databases."""
    show = shown(EntityType(kind))
    found = printed if show is None else show(printed)
    assert found == text
    assert canonical(EntityType(kind), found) == canonical(EntityType(kind), text)
