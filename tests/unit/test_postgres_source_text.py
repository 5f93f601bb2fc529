"""The small pure parts of the PostgreSQL source: positions, types, COPY text, fingerprints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.errors import Stop
from cdc_daemon.model.ports import Table
from cdc_daemon.sources.postgres.copytext import parse_rows
from cdc_daemon.sources.postgres.fingerprint import compare, name_mark
from cdc_daemon.sources.postgres.lsn import format_lsn, parse_lsn
from cdc_daemon.sources.postgres.types import Types


@given(st.integers(0, 2**64 - 1))
def test_positions_come_back(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


def test_positions_are_written_as_the_server_does() -> None:
    assert format_lsn(0x16_B374_D848) == "16/B374D848"
    assert format_lsn(0x16_0000_0001) == "16/1"


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/1", "g/1", "1/123456789", " 1/1", "1/1\n", "1/1; DROP", "１/1"]
)
def test_a_position_is_never_guessed(text: str) -> None:
    with pytest.raises(Stop):
        parse_lsn(text)


NUMERIC = 1700


@pytest.mark.parametrize(
    "oid, modifier, expected",
    [
        (20, -1, ColumnType("bigint", native="bigint")),
        (NUMERIC, -1, ColumnType("numeric", native="numeric")),
        (NUMERIC, (18 << 16 | 4) + 4, ColumnType("numeric", 18, 4, "numeric(18,4)")),
        (NUMERIC, (5 << 16 | 0x7FE) + 4, ColumnType("numeric", 5, -2, "numeric(5,-2)")),
        (NUMERIC, (3 << 16 | 5) + 4, ColumnType("numeric", 3, 5, "numeric(3,5)")),
        (1043, 44, ColumnType("varchar", 40, native="character varying(40)")),
        (1043, -1, ColumnType("varchar", native="character varying")),
        (1042, 7, ColumnType("char", 3, native="character(3)")),
        (790, -1, ColumnType("money", None, 2, "money")),
        (26, -1, ColumnType("oid", 10, native="oid")),
        (
            1231,
            (10 << 16 | 2) + 4,
            ColumnType(
                "array",
                native="numeric(10,2)[]",
                element=ColumnType("numeric", 10, 2, "numeric(10,2)"),
            ),
        ),
        (600, -1, ColumnType("other", native="type 600")),
    ],
)
def test_types(oid: int, modifier: int, expected: ColumnType) -> None:
    assert Types().column_type(oid, modifier) == expected


def test_a_domain_is_what_it_is_based_on() -> None:
    """G11: also a domain over a domain, which has its modifier from below."""
    types = Types()
    types.learn([(90001, "public.code", 1043, 24), (90002, "public.strict_code", 90001, -1)])
    assert types.column_type(90002, -1) == types.column_type(1043, 24)


def test_a_type_has_the_catalogues_name_before_the_logs() -> None:
    types = Types()
    types.name(90003, "public.mood")
    assert types.column_type(90003, -1) == ColumnType("other", native="public.mood")
    types.learn([(90003, 'public."Mood"', 0, -1)])
    types.name(90003, "public.mood")
    assert types.column_type(90003, -1).native == 'public."Mood"'


def escaped(value: bytes | None) -> bytes:
    """A value as COPY TO writes it."""
    if value is None:
        return b"\\N"
    letters = {b"\\": b"\\\\", b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r", b"\b": b"\\b"}
    return b"".join(letters.get(bytes([byte]), bytes([byte])) for byte in value)


@given(st.lists(st.lists(st.none() | st.binary(), min_size=3, max_size=3)))
def test_copy_text_comes_back(rows: list[list[bytes | None]]) -> None:
    lines = [b"\t".join(map(escaped, row)) + b"\n" for row in rows]
    assert parse_rows(lines) == [tuple(row) for row in rows]


def fingerprint(publication: str, *tables: tuple[Table, str]) -> str:
    return " ".join([publication, *(name_mark(table) + mark for table, mark in tables)])


def test_fingerprints_tell_what_has_changed() -> None:
    a, b, c = (Table(schema="s", name=name, columns=frozenset()) for name in "abc")
    one, two = "1" * 12, "2" * 12
    then = fingerprint(one, (a, one), (b, one))
    assert not compare(then, then, [a, b])
    assert not compare(then, fingerprint(one, (a, one)), [a]), "a table that went does not matter"
    now = fingerprint(two, (a, two), (b, one), (c, one))
    difference = compare(then, now, [a, b, c])
    assert (difference.publication, difference.changed, difference.added) == (True, (a,), (c,))
