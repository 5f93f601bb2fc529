"""Single values of MySQL and MariaDB: character sets, numbers, times, JSON documents."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.changes import ColumnType, Invalid
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql import charsets
from cdc_daemon.sources.mysql.json_binary import json_text
from cdc_daemon.sources.mysql.json_diff import apply_diffs, path_of
from cdc_daemon.sources.mysql.moments import (
    datetime_reader,
    duration_reader,
    fraction_bytes,
    timestamp_reader,
)
from cdc_daemon.sources.mysql.texts import (
    decimal_bytes,
    decimal_groups,
    decimal_reader,
    double_text,
    geometry_text,
    inet6_text,
    real_text,
)
from cdc_daemon.sources.mysql.types import catalogue_word, column_type_of

# --- character sets -------------------------------------------------------------------------------


def test_every_character_set_can_be_read() -> None:
    """None falls back to another one (M11)."""
    for charset in charsets.known() - {charsets.BINARY}:
        assert charsets.reader_of(charset)(b"") == b""
    assert {charsets.charset_of(number) for number in (1 << 12, 5000, 300_000)} == {None}


@pytest.mark.parametrize(
    "charset, raw, text",
    [
        ("latin1", b"\x81\x80", "\u0081€"),
        ("utf16", b"\0A\0b", "Ab"),
        ("utf16", b"\xd8\x3d\xde\0", "😀"),
        ("utf16le", b"A\0", "A"),
        ("utf32", b"\0\1\xf6\0", "😀"),
        ("ucs2", b"\xfe\xff", "\ufeff"),
        ("macce", b"\x8a", "ä"),
        ("swe7", b"}{", "åä"),
        ("gb18030", b"\xa8\xbc", "ḿ"),
        ("sjis", b"\x81\x5fa", "\\a"),
        ("eucjpms", b"\xad\xa1\x8f\xf4\xfb\xf5\xa1\x8f\xfe\xfe", "①髙\ue000\ue757"),
        ("big5", b"\xf9\xd6", "碁"),
        ("euckr", b"\x94\xee", "뷁"),
    ],
)
def test_a_text_in_its_character_set(charset: str, raw: bytes, text: str) -> None:
    assert charsets.reader_of(charset)(raw) == text.encode()


@pytest.mark.parametrize(
    "charset, raw",
    [
        ("utf8mb4", b"\xed\xa0\x80"),
        ("ucs2", b"\xd8\x3d\xde\0"),
        ("ucs2", b"a"),
        ("utf16", b"\xd8\0"),
        ("big5", b"a\xa2\xcc"),
        ("gbk", b"\xd6"),
        ("cp1256", b"\x8a"),
        ("tis620", b"\xff"),
        ("swe7", b"\x80"),
        ("eucjpms", b"\x8f\xa1"),
    ],
)
def test_what_a_character_set_does_not_hold_is_invalid(charset: str, raw: bytes) -> None:
    found = charsets.reader_of(charset)(raw)
    assert isinstance(found, Invalid)
    assert found.raw == raw
    assert found.kept.decode()


# --- numbers --------------------------------------------------------------------------------------


@st.composite
def _decimals(draw: st.DrawFn) -> tuple[int, int, int]:
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(30, precision)))
    return precision, scale, draw(st.integers(-(10**precision) + 1, 10**precision - 1))


@settings(max_examples=100, deadline=None)
@given(_decimals())
def test_decimals_of_every_precision(some: tuple[int, int, int]) -> None:
    precision, scale, number = some
    raw = _packed(precision, scale, number)
    assert len(raw) == decimal_bytes(precision, scale)
    text = decimal_reader(precision, scale)(raw).decode()
    assert int(text.replace(".", "")) == number
    assert len(text.partition(".")[2]) == scale


def _packed(precision: int, scale: int, number: int) -> bytes:
    """A decimal as the server packs it."""
    digits = f"{abs(number):0{precision}}"
    before, after = decimal_groups(precision, scale)
    raw, offset = b"", 0
    for size in before + after:
        group = int(digits[offset : offset + size])
        raw += group.to_bytes((0, 1, 1, 2, 2, 3, 3, 4, 4, 4)[size], "big")
        offset += size
    whole = int.from_bytes(raw, "big")
    if number < 0:
        whole ^= (1 << 8 * len(raw)) - 1
    return (whole ^ 1 << 8 * len(raw) - 1).to_bytes(len(raw), "big")


def test_floats_as_postgresql_prints_them() -> None:
    """Compared with PostgreSQL itself in an integration test."""
    shown = {-0.0: b"-0", 1e15: b"1e+15", 1e14: b"100000000000000", 0.1: b"0.1",
             1e-4: b"0.0001", 1e-5: b"1e-05", 1.5e300: b"1.5e+300", -12.5: b"-12.5",
             float("inf"): b"Infinity", float("-inf"): b"-Infinity"}  # fmt: skip
    assert [double_text(number) for number in shown] == list(shown.values())
    assert double_text(0.0) == b"0"
    assert double_text(float("nan")) == b"NaN"
    assert [real_text(x) for x in (1e6, 123456.0, 0.1, 16777216.0)] == [
        b"1e+06", b"123456", b"0.1", b"1.6777216e+07",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "groups, text",
    [
        ("00000000000000000000000000000000", b"::"),
        ("00000000000000000000000000000001", b"::1"),
        ("00010002000300040005000600070000", b"1:2:3:4:5:6:7::"),
        ("0000000000000000000000000a000000", b"::10.0.0.0"),
        ("00000000000000000000ffff0a000001", b"::ffff:10.0.0.1"),
    ],
)
def test_inet6_as_mariadb_prints_it(groups: str, text: bytes) -> None:
    assert inet6_text(bytes.fromhex(groups)) == text


def test_a_geometry_that_is_none() -> None:
    for raw in (b"", b"\0\0\0\0\0" + b"\1" * 20, b"\0\0\0\0\1\1\0\0"):
        with pytest.raises(ValueError, match="geometry"):
            geometry_text(raw)


# --- times ----------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)),  # noqa: DTZ001 - a local time
    st.integers(0, 6),
)
def test_datetimes_of_every_precision(moment: datetime, digits: int) -> None:
    unit = 10 ** (6 - digits)
    moment = moment.replace(microsecond=moment.microsecond // unit * unit)
    packed = (moment.year * 13 + moment.month) << 22 | moment.day << 17 | moment.hour << 12
    packed |= moment.minute << 6 | moment.second
    raw = (packed + (1 << 39)).to_bytes(5, "big") + _fraction(moment.microsecond, digits)
    text = moment.isoformat(" ")
    expected = text.rstrip("0") if "." in text else text
    assert datetime_reader(digits)(raw) == expected.encode()


def _fraction(microseconds: int, digits: int) -> bytes:
    size = fraction_bytes(digits)
    return int(microseconds // 10 ** (6 - 2 * size)).to_bytes(size, "big")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, (1 << 32) - 1), st.integers(0, 999_999))
def test_timestamps_have_no_sign(seconds: int, microseconds: int) -> None:
    """M14: MariaDB 11.5 goes on after 2038."""
    raw = seconds.to_bytes(4, "big") + microseconds.to_bytes(3, "big")
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(0, seconds, microseconds)
    expected = f"{moment:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + "+00"
    assert timestamp_reader(6)(raw) == expected.encode()


@settings(max_examples=100, deadline=None)
@given(st.integers(-3_020_399_999_999, 3_020_399_999_999), st.integers(0, 6))
def test_times_of_both_signs_and_every_precision(microseconds: int, digits: int) -> None:
    """M7: a negative time's fraction belongs to the time before it."""
    unit = 10 ** (6 - digits)
    sign, left = ("-", -microseconds // unit * unit) if microseconds < 0 else (
        "", microseconds // unit * unit)  # fmt: skip
    hours, rest = divmod(left // 1_000_000, 3600)
    size = fraction_bytes(digits)
    packed = (hours << 12 | rest // 60 << 6 | rest % 60) << 8 * size
    packed |= left % 1_000_000 // 10 ** (6 - 2 * size)
    signed = -packed if sign and packed else packed
    raw = (signed + (1 << 23 + 8 * size)).to_bytes(3 + size, "big")
    text = f"{hours:02}:{rest // 60:02}:{rest % 60:02}.{left % 1_000_000:06}".rstrip("0")
    if packed == 0:
        sign = ""
    assert duration_reader(digits)(raw) == (sign + text.rstrip(".")).encode()


# --- JSON -----------------------------------------------------------------------------------------

_DOCUMENT: Final = bytes.fromhex(
    "00020029001200010013000200021500040000626161020014000b0a000c1200000000000000f03f0178"
)
"""``{"b": [1.0, "x"], "aa": null}`` of MySQL 9.7."""


def test_a_document_of_the_server() -> None:
    assert json_text(_DOCUMENT) == b'{"b": [1.0, "x"], "aa": null}'
    assert json_text(b"") == b"null"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_document_is_an_error_or_another_document(data: st.DataObject) -> None:
    raw = bytearray(_DOCUMENT)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        json_text(bytes(raw[: data.draw(st.integers(1, len(raw)))]))


def test_a_document_of_endless_levels_is_an_error() -> None:
    endless = b"\2" + b"\1\0\7\0\2\0\0"  # an array that holds itself
    with pytest.raises(ValueError, match="levels"):
        json_text(endless)


def test_paths() -> None:
    assert path_of('$.a[10]."b \\" c"."$[0]"') == [b"a", 10, b'b " c', b"$[0]"]
    for bad in ("$", "a", "$[x]", "$..a", "$[1"):
        with pytest.raises(ValueError, match="path"):
            path_of(bad)


def _diff(operation: int, path: str, value: bytes | None = None) -> bytes:
    parts = bytes([operation, len(path)]) + path.encode()
    return parts if value is None else parts + bytes([len(value)]) + value


_ONE: Final = b"\5\1\0"


def test_differences() -> None:
    both = _diff(1, "$.a", _ONE) + _diff(1, "$.b[0]", _ONE) + _diff(2, "$.aa")
    assert apply_diffs(_DOCUMENT, both) == b'{"a": 1, "b": [1, 1.0, "x"]}'
    assert apply_diffs(_DOCUMENT, _diff(0, "$.b[1]", _ONE)) == b'{"b": [1.0, 1], "aa": null}'
    assert apply_diffs(_DOCUMENT, b"") == json_text(_DOCUMENT)


@pytest.mark.parametrize(
    "diff",
    [
        _diff(0, "$.c", _ONE), _diff(2, "$.b[2]"), _diff(0, "$.b.x", _ONE),
        _diff(1, "$.aa.x", _ONE), _diff(1, "$.aa[0]", _ONE), _diff(3, "$.b", _ONE),
        _diff(0, "$", _ONE), b"\0\x10", b"\0",
    ],
)  # fmt: skip
def test_a_difference_that_does_not_fit_is_an_error(diff: bytes) -> None:
    with pytest.raises((ValueError, DecodeError)):
        apply_diffs(_DOCUMENT, diff)


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data_type, column_type, expected",
    [
        ("tinyint", "tinyint(1)", ColumnType("smallint", native="tinyint")),
        ("smallint", "smallint unsigned", ColumnType("integer", native="smallint unsigned")),
        ("bigint", "bigint(20) unsigned zerofill",
         ColumnType("oid", 20, native="bigint unsigned")),
        ("decimal", "decimal(10,2)", ColumnType("numeric", 10, 2, "decimal(10,2)")),
        ("bit", "bit(1)", ColumnType("boolean", native="bit(1)")),
        ("bit", "bit(9)", ColumnType("oid", 20, native="bit(9)")),
        ("time", "time(3)", ColumnType("duration", native="time(3)")),
        ("datetime", "datetime", ColumnType("timestamp", native="datetime")),
        ("timestamp", "timestamp(6)", ColumnType("timestamptz", native="timestamp(6)")),
        ("year", "year(4)", ColumnType("smallint", native="year")),
        ("char", "char(10)", ColumnType("varchar", 10, native="char(10)")),
        ("enum", "enum('a','it''s')", ColumnType("text", native="enum('a','it''s')")),
        ("varbinary", "varbinary(9)", ColumnType("bytes", native="varbinary(9)")),
        ("inet6", "inet6", ColumnType("other", native="inet6")),
        ("varchar", "varchar(9) /*M!100301 COMPRESSED*/",
         ColumnType("varchar", 9, native="varchar(9)")),
    ],
)  # fmt: skip
def test_types_of_the_catalogue(data_type: str, column_type: str, expected: ColumnType) -> None:
    assert column_type_of(data_type, column_type) == expected


def test_words_that_only_the_catalogue_knows() -> None:
    words = [catalogue_word(one) for one in ("uuid", "inet4", "vector(3)", "varchar(3)")]
    assert words == ["uuid", "inet4", "vector(3)", "varchar"]
