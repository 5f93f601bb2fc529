"""Conversions agree with PostgreSQL: what it stores, and what the SQL template gives."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.mapping.conversion_rule import Lossy
from cdc_daemon.mapping.convert import (
    Conversion,
    ConversionUnsupported,
    canonical,
    conversion,
)
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import DataError
from tests.support.oracle import Oracle, Refused

INTEGERS = ["0", "1", "-1", "32767", "-32768"]
LARGE = ["2147483647", "-2147483648", "99999999"]
HUGE = ["9223372036854775807", "-9223372036854775808", "9007199254740993", "9007199254740992"]
NUMBERS = ["0", "0.00", "-0.5", "0.5", "1.5", "2.5", "-2.5", "12345.6789", "99999999.99", "0.1"]
TIMES = ["2024-02-29 12:34:56.789", "2024-01-01 00:00:00", "1999-12-31 23:59:59.999999"]
FAR = ["infinity", "-infinity", "0044-03-15 00:00:00 BC", "294276-12-31 00:00:00"]
DATES = ["2024-02-29", "0001-01-01", "9999-12-31", "0044-03-15 BC", "infinity", "-infinity"]
TEXTS = [
    "", " ", "a", "  padded  ", "schön", "客户名称", "😀", "x" * 40, "'\"\\", "tab\there", "12",
    "-7", " 12 ", "007", "+5", "1.50", "-0.00", ".5", "5.", "1e3", "1.5E-3", "1e20", "NaN",
    "Infinity", "-inf", "1_000", "0x1F", "abc", "t", "TRUE", "no", "off", "2", "2024-02-29",
    "2023-02-29", "20240229", "0044-03-15 BC", "infinity", "2024-02-29T10:11:12",
    "2024-02-29 10:11:12.120", "2024-02-29 00:00", "2024-02-29 10:11:12+08:00",
    "2024-02-29T10:11:12Z", "2024-02-29 10:11:12-0330", "29.02.2024", "24:00:00", "12:34",
    "12:34:56.7890000", "25:00:00", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
    "{a0eebc999c0b4ef8bb6d6bb9bd380a11}", "a0eebc99", "{\"b\": 1.10, \"a\": [null, true, 1e2]}",
    "{\"a\":1,\"a\":2}", "[1", "\"\\u0000\"", "\"\\ud800\"", "\"\\u00e9\"", "nan",
    "\\xDEADbeef", "\\xABC", "1 year 2 mons -3 days +04:05:06.7", "1 mon", "-00:00:01",
    "13 mons", "9" * 30, "0.1234567890123456789", "1e400", "1e-400", "9223372036854775808",
]  # fmt: skip


class Source:
    """A source type with values in SQL text."""

    def __init__(self, type_: ColumnType, sql: str, values: list[str]) -> None:
        self.type, self.sql, self.values = type_, sql, values

    def __repr__(self) -> str:
        return self.sql


def numeric(precision: int | None = None, scale: int | None = None) -> ColumnType:
    return ColumnType("numeric", precision, scale)


SOURCES = [
    Source(ColumnType("smallint"), "smallint", INTEGERS),
    Source(ColumnType("integer"), "integer", INTEGERS + LARGE),
    Source(ColumnType("bigint"), "bigint", INTEGERS + LARGE + HUGE),
    Source(numeric(10, 2), "numeric(10,2)", [*NUMBERS, "NaN"]),
    Source(numeric(4, 0), "numeric(4,0)", ["0", "9999", "-9999"]),
    Source(numeric(3, 5), "numeric(3,5)", ["0.00999", "-0.00001"]),
    Source(numeric(2, -3), "numeric(2,-3)", ["99000", "-1000"]),
    Source(
        numeric(), "numeric", [*NUMBERS, *HUGE, "NaN", "Infinity", "-Infinity", "1e-30", "1e40"]
    ),
    Source(ColumnType("real"), "real", ["0.1", "1e20", "-1.5", "NaN", "Infinity", "1e-10", "3"]),
    Source(
        ColumnType("double"),
        "double precision",
        ["0.1", "1e15", "1e14", "-0", "1e-5", "0.0001", "1.7976931348623157e308", "5e-324", "NaN",
         "-Infinity", "123456789012345680", "2.5", "1e23", "9007199254740993", "-7"],
    ),
    Source(ColumnType("boolean"), "boolean", ["t", "f"]),
    Source(ColumnType("date"), "date", [*DATES, "5874897-12-31"]),
    Source(ColumnType("time"), "time", ["00:00:00", "24:00:00", "12:34:56.789"]),
    Source(ColumnType("timetz"), "timetz", ["12:34:56+02", "00:00:00+00"]),
    Source(ColumnType("timestamp"), "timestamp", TIMES + FAR),
    Source(ColumnType("timestamptz"), "timestamptz", [*TIMES, *FAR, "2024-02-29 01:02:03+08"]),
    Source(
        ColumnType("interval"), "interval",
        ["1 day", "0", "-1 year -2 mons +3 days -04:05:06.7", "1 mon -1 day", "100000:00:00",
         "-5 days", "1 year 1 sec ago", "0.000001 sec", "-14 mons"],
    ),
    Source(
        ColumnType("duration"), "interval",
        ["00:00:00", "12:34:56.5", "23:59:59.999999", "24:00:00", "838:59:59.999999",
         "-838:59:59", "-00:00:01.1"],
    ),
    Source(ColumnType("uuid"), "uuid", ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
    Source(
        ColumnType("json"), "json",
        ['{"b": 1.10, "a": 1e2}', ' [1, -0, 0.0] ', '"\\u0041"', '{"a":1,"a":{"x":null}}', "null",
         '"\\u0000"', '"\\ud83d\\ude00"', '{"é":"客\\n\\u001f/"}'],
    ),
    Source(
        ColumnType("jsonb"), "jsonb",
        ['{"b": 1.10, "a": 1e2}', "[1, -0, 0.0, 1e-7]", '"A"', "null", "12.50", '{"bb":1,"a":2}'],
    ),
    Source(ColumnType("bytes"), "bytea", ["\\x", "\\xDEADBEEF"]),
    Source(ColumnType("char", 6), "char(6)", ["", "a", "12", "1.5", "t", "a b", "  x", "客户"]),
    Source(ColumnType("varchar", 20), "varchar(20)", ["", "x" * 20, "客" * 20, "trailing  "]),
    Source(ColumnType("text"), "text", TEXTS),
    Source(ColumnType("other", native="inet"), "inet", ["10.0.0.1", "::1/64"]),
]  # fmt: skip

TARGETS = [
    (EntityType(Kind.STRING, 5), "varchar(5)"),
    (EntityType(Kind.STRING, 20), "varchar(20)"),
    (EntityType(Kind.STRING, 40), "varchar(40)"),
    (EntityType(Kind.TEXT), "text"),
    (EntityType(Kind.INTEGER), "integer"),
    (EntityType(Kind.BIGINT), "bigint"),
    (EntityType(Kind.DECIMAL, 18, 4), "numeric(18,4)"),
    (EntityType(Kind.DECIMAL, 5, 1), "numeric(5,1)"),
    (EntityType(Kind.DECIMAL, 3, 3), "numeric(3,3)"),
    (EntityType(Kind.DECIMAL, 38, 0), "numeric(38,0)"),
    (EntityType(Kind.NUMERIC), "numeric"),
    (EntityType(Kind.DOUBLE), "double precision"),
    (EntityType(Kind.BOOLEAN), "boolean"),
    (EntityType(Kind.DATE), "date"),
    (EntityType(Kind.TIME), "time"),
    (EntityType(Kind.TIMESTAMP), "timestamp"),
    (EntityType(Kind.TIMESTAMPTZ), "timestamptz"),
    (EntityType(Kind.INTERVAL), "interval"),
    (EntityType(Kind.UUID), "uuid"),
    (EntityType(Kind.JSON), "jsonb"),
    (EntityType(Kind.BYTES), "bytea"),
]

NUMBER_TYPES = {"smallint", "integer", "bigint", "numeric", "real", "double"}
ANY = {Kind.STRING, Kind.TEXT}
NUMERIC = {Kind.INTEGER, Kind.BIGINT, Kind.DECIMAL, Kind.NUMERIC, Kind.DOUBLE}
SUPPORTED = {
    "smallint": ANY | NUMERIC | {Kind.BOOLEAN},
    "integer": ANY | NUMERIC | {Kind.BOOLEAN},
    "bigint": ANY | NUMERIC | {Kind.BOOLEAN},
    "numeric": ANY | NUMERIC,
    "real": ANY | NUMERIC,
    "double": ANY | NUMERIC,
    "boolean": ANY | {Kind.BOOLEAN, Kind.INTEGER, Kind.BIGINT},
    "date": ANY | {Kind.DATE, Kind.TIMESTAMP},
    "time": ANY | {Kind.TIME},
    "timetz": ANY,
    "timestamp": ANY | {Kind.TIMESTAMP, Kind.DATE},
    "timestamptz": ANY | {Kind.TIMESTAMPTZ},
    "interval": ANY | {Kind.INTERVAL},
    "duration": ANY | {Kind.TIME, Kind.INTERVAL},
    "uuid": ANY | {Kind.UUID},
    "json": ANY | {Kind.JSON},
    "jsonb": ANY | {Kind.JSON},
    "bytes": ANY | {Kind.BYTES},
    "char": set(Kind),
    "varchar": set(Kind),
    "text": set(Kind),
    "other": ANY,
}


@pytest.fixture(scope="module")
def oracle(postgres18: PrivatePostgres) -> Iterator[Oracle]:
    with Oracle(postgres18.dsn()) as found:
        yield found


def rule(source: ColumnType, target: EntityType, lossy: Lossy | None) -> Conversion | None:
    try:
        return conversion(source, target, lossy=lossy)
    except ConversionUnsupported:
        return None


def applied(found: Conversion, text: bytes) -> bytes:
    return text if found.convert is None else found.convert(text)


@pytest.mark.parametrize("lossy", [None, "round", "truncate"])
@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_every_accepted_value_is_the_one_postgresql_gives(
    source: Source, lossy: Lossy | None, oracle: Oracle
) -> None:
    """Stored as the target type, converted text equals the template's value on the server."""
    for target, stored in TARGETS:
        found = rule(source.type, target, lossy)
        if found is None:
            continue
        for value in source.values:
            text = oracle.value(f"SELECT $1::{source.sql}", [value.encode()])
            assert text is not None
            try:
                mine = applied(found, text)
            except DataError:
                continue
            case = f"{source.sql} {value!r} -> {target} {lossy}"
            template = found.sql.format("x")
            expected = oracle.value(
                f"SELECT ({template})::{stored} FROM (SELECT $1::{source.sql} AS x) s",
                [value.encode()],
            )
            kept = oracle.value(f"SELECT $1::{stored}", [mine])
            assert expected is not None
            assert kept is not None
            assert canonical(target, mine) == canonical(target, expected), case
            assert canonical(target, kept) == canonical(target, expected), case


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_without_lossy_nothing_is_lost(source: Source, oracle: Oracle) -> None:
    """What a strict conversion accepts can be told apart afterwards."""
    for target, _ in TARGETS:
        found = rule(source.type, target, None)
        if found is None or source.type.name in ("text", "varchar", "char", "json"):
            continue
        outcomes: dict[bytes, bytes] = {}
        for value in source.values:
            text = oracle.value(f"SELECT $1::{source.sql}", [value.encode()])
            assert text is not None
            try:
                mine = canonical(target, applied(found, text))
            except DataError:
                continue
            before = outcomes.setdefault(mine, text)
            number = source.type.name in NUMBER_TYPES
            same = oracle.value(
                f"SELECT $1::{source.sql}::text = $2::{source.sql}::text"
                f" OR {'$1::numeric = $2::numeric' if number else 'false'}",
                [before, text],
            )
            assert same == b"t", f"{source.sql} {before!r} and {text!r} -> {target}"


def test_the_supported_pairs_are_these() -> None:
    for source in SOURCES:
        for target, _ in TARGETS:
            expected = target.kind in SUPPORTED[source.type.name]
            assert (rule(source.type, target, None) is not None) == expected, (source, target)


LOSSLESS = [
    ("smallint", EntityType(Kind.INTEGER)),
    ("smallint", EntityType(Kind.BIGINT)),
    ("smallint", EntityType(Kind.DECIMAL, 9, 4)),
    ("smallint", EntityType(Kind.DOUBLE)),
    ("integer", EntityType(Kind.INTEGER)),
    ("integer", EntityType(Kind.BIGINT)),
    ("integer", EntityType(Kind.DECIMAL, 10, 0)),
    ("integer", EntityType(Kind.DOUBLE)),
    ("bigint", EntityType(Kind.BIGINT)),
    ("bigint", EntityType(Kind.DECIMAL, 19, 0)),
    ("bigint", EntityType(Kind.NUMERIC)),
    ("real", EntityType(Kind.DOUBLE)),
    ("double", EntityType(Kind.DOUBLE)),
    ("boolean", EntityType(Kind.BOOLEAN)),
    ("date", EntityType(Kind.DATE)),
    ("time", EntityType(Kind.TIME)),
    ("timestamp", EntityType(Kind.TIMESTAMP)),
    ("timestamptz", EntityType(Kind.TIMESTAMPTZ)),
    ("interval", EntityType(Kind.INTERVAL)),
    ("duration", EntityType(Kind.INTERVAL)),
    ("uuid", EntityType(Kind.UUID)),
    ("uuid", EntityType(Kind.STRING, 36)),
    ("jsonb", EntityType(Kind.JSON)),
    ("bytes", EntityType(Kind.BYTES)),
    ("text", EntityType(Kind.TEXT)),
    ("other", EntityType(Kind.TEXT)),
]
CONVERTED = [
    ("bigint", EntityType(Kind.INTEGER)),
    ("bigint", EntityType(Kind.DOUBLE)),
    ("integer", EntityType(Kind.DECIMAL, 9, 0)),
    ("json", EntityType(Kind.JSON)),
    ("text", EntityType(Kind.STRING, 40)),
    ("char", EntityType(Kind.TEXT)),
    ("boolean", EntityType(Kind.TEXT)),
    ("uuid", EntityType(Kind.STRING, 35)),
    ("double", EntityType(Kind.NUMERIC)),
]


@pytest.mark.parametrize("name, target", LOSSLESS, ids=str)
def test_lossless_pairs_have_no_converter(name: str, target: EntityType) -> None:
    found = conversion(ColumnType(name), target)
    assert found.lossless
    assert found.convert is None


@pytest.mark.parametrize("name, target", CONVERTED, ids=str)
def test_other_pairs_convert(name: str, target: EntityType) -> None:
    found = conversion(ColumnType(name), target)
    assert not found.lossless
    assert found.convert is not None


@pytest.mark.parametrize(
    "source, target, lossless",
    [
        (numeric(10, 2), EntityType(Kind.DECIMAL, 18, 4), True),
        (numeric(10, 2), EntityType(Kind.DECIMAL, 10, 2), True),
        (numeric(10, 2), EntityType(Kind.DECIMAL, 11, 4), False),  # one whole digit too few
        (numeric(10, 2), EntityType(Kind.DECIMAL, 18, 1), False),
        (numeric(), EntityType(Kind.DECIMAL, 18, 4), False),
        (numeric(), EntityType(Kind.NUMERIC), True),
        (numeric(10, 2), EntityType(Kind.STRING, 12), True),
        (numeric(10, 2), EntityType(Kind.STRING, 11), False),
        (ColumnType("varchar", 40), EntityType(Kind.STRING, 40), True),
        (ColumnType("varchar", 41), EntityType(Kind.STRING, 40), False),
        (ColumnType("varchar"), EntityType(Kind.STRING, 40), False),
    ],
    ids=str,
)
def test_length_and_precision_decide_what_is_lossless(
    source: ColumnType, target: EntityType, lossless: bool
) -> None:
    assert conversion(source, target).lossless is lossless


REJECTED = [
    (ColumnType("text"), EntityType(Kind.INTEGER), "7" * 5000, None, "out_of_range"),
    (ColumnType("text"), EntityType(Kind.BIGINT), "-" + "7" * 5000, "round", "out_of_range"),
    (numeric(), EntityType(Kind.INTEGER), "7" * 5000 + ".5", "truncate", "out_of_range"),
    (numeric(), EntityType(Kind.DECIMAL, 18, 4), "7" * 5000, None, "out_of_range"),
    (ColumnType("text"), EntityType(Kind.INTERVAL), "7" * 5000 + " days", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.INTERVAL), "7" * 5000 + ":00:00", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.INTERVAL), "2147483648 days", None, "out_of_range"),
    (ColumnType("text"), EntityType(Kind.INTERVAL), "178956971 years", None, "out_of_range"),
    (ColumnType("text"), EntityType(Kind.INTERVAL), "2562047789:00:00", None, "out_of_range"),
    (ColumnType("text"), EntityType(Kind.DATE), "7" * 5000, None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.JSON), "1e" + "7" * 5000, None, "out_of_range"),
    (ColumnType("text"), EntityType(Kind.JSON), "[1e-20000]", None, "out_of_range"),
    (ColumnType("json"), EntityType(Kind.JSON), "[1e-20000]", None, "out_of_range"),
    (ColumnType("json"), EntityType(Kind.JSON), "[" * 301 + "]" * 301, None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.JSON), "[" * 5000 + "]" * 5000, None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.STRING, 3), "客户名称", None, "too_long"),
    (ColumnType("text"), EntityType(Kind.STRING, 3), "a\0b", None, "nul_byte"),
    (ColumnType("char", 9), EntityType(Kind.STRING, 3), "abcd     ", None, "too_long"),
    (ColumnType("boolean"), EntityType(Kind.STRING, 4), "f", None, "too_long"),
    (ColumnType("bigint"), EntityType(Kind.INTEGER), "2147483648", None, "out_of_range"),
    (ColumnType("integer"), EntityType(Kind.DECIMAL, 4, 1), "1000", None, "out_of_range"),
    (ColumnType("bigint"), EntityType(Kind.DOUBLE), "9007199254740993", None, "loss"),
    (numeric(), EntityType(Kind.DECIMAL, 18, 4), "1.23456789", None, "loss"),
    (numeric(), EntityType(Kind.DECIMAL, 5, 1), "99999.95", "round", "out_of_range"),
    (numeric(), EntityType(Kind.DECIMAL, 5, 1), "9999.95", "round", "out_of_range"),
    (numeric(), EntityType(Kind.DECIMAL, 5, 1), "NaN", None, "out_of_range"),
    (numeric(), EntityType(Kind.DECIMAL, 5, 1), "-Infinity", "round", "out_of_range"),
    (numeric(), EntityType(Kind.INTEGER), "1.5", None, "loss"),
    (numeric(), EntityType(Kind.DOUBLE), "0.1234567890123456789", None, "loss"),
    (ColumnType("double"), EntityType(Kind.INTEGER), "1e+20", None, "out_of_range"),
    (ColumnType("timestamp"), EntityType(Kind.DATE), "2024-01-01 00:00:00.5", None, "loss"),
    (ColumnType("date"), EntityType(Kind.TIMESTAMP), "5874897-12-31", None, "out_of_range"),
    (ColumnType("integer"), EntityType(Kind.BOOLEAN), "2", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.INTEGER), "1_000", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.INTEGER), "", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.DATE), "2023-02-29", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.DATE), "0000-00-00", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.DATE), "00000000", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.TIMESTAMP), "2024-01-01 00:00:00+01", None,
     "invalid_value"),
    (ColumnType("text"), EntityType(Kind.TIMESTAMPTZ), "2024-01-01 00:00:00", None,
     "invalid_value"),
    (ColumnType("text"), EntityType(Kind.TIMESTAMP), "2024-01-01 00:00:00.1234567", None, "loss"),
    (ColumnType("text"), EntityType(Kind.UUID), "a0eebc99", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.BYTES), "deadbeef", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.JSON), "{'a': 1}", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.JSON), "NaN", None, "invalid_value"),
    (ColumnType("text"), EntityType(Kind.JSON), "[" * 100_000, None, "invalid_value"),
    (ColumnType("json"), EntityType(Kind.JSON), '"\\u0000"', None, "invalid_value"),
    (ColumnType("json"), EntityType(Kind.JSON), "1e200000", None, "out_of_range"),
    (ColumnType("text"), EntityType(Kind.BOOLEAN), "2", None, "invalid_value"),
]  # fmt: skip


@pytest.mark.parametrize("source, target, value, lossy, code", REJECTED)
def test_what_does_not_fit_is_a_data_error(
    source: ColumnType, target: EntityType, value: str, lossy: Lossy | None, code: str
) -> None:
    convert = conversion(source, target, lossy=lossy).convert
    assert convert is not None
    with pytest.raises(DataError) as caught:
        convert(value.encode())
    assert caught.value.code == code


@pytest.mark.parametrize(
    "source, target, words",
    [
        (ColumnType("timestamp"), EntityType(Kind.TIMESTAMPTZ), "time zone"),
        (ColumnType("timestamptz"), EntityType(Kind.DATE), "time zone"),
        (ColumnType("other", native="inet"), EntityType(Kind.INTEGER), "inet can only become text"),
        (ColumnType("uuid"), EntityType(Kind.INTEGER), "uuid cannot become integer"),
    ],
)
def test_types_that_never_fit_are_refused_in_a_sentence(
    source: ColumnType, target: EntityType, words: str
) -> None:
    with pytest.raises(ConversionUnsupported, match=words):
        conversion(source, target)


def test_a_date_can_be_truncated_but_not_rounded() -> None:
    convert = conversion(ColumnType("timestamp"), EntityType(Kind.DATE), lossy="truncate").convert
    assert convert is not None
    assert convert(b"2024-02-29 23:59:59.9") == b"2024-02-29"
    with pytest.raises(ConversionUnsupported, match="not rounded"):
        conversion(ColumnType("timestamp"), EntityType(Kind.DATE), lossy="round")


@given(
    digits=st.integers(-(10**40), 10**40),
    scale=st.integers(0, 30),
    precision=st.integers(1, 38),
    target_scale=st.integers(0, 12),
    lossy=st.sampled_from([None, "round", "truncate"]),
)
def test_decimals_fit_or_fail_as_postgresql_says(
    digits: int,
    scale: int,
    precision: int,
    target_scale: int,
    lossy: Lossy | None,
    oracle: Oracle,
) -> None:
    target_scale = min(target_scale, precision)
    target = EntityType(Kind.DECIMAL, precision, target_scale)
    text = format(Decimal(digits).scaleb(-scale), "f").encode()
    found = conversion(ColumnType("numeric"), target, lossy=lossy)
    expression = found.sql.format("$1::numeric")
    try:
        expected = oracle.value(f"SELECT {expression}", [text])
    except Refused:
        expected = None
    changed = expected is not None and Decimal(expected.decode()) != Decimal(text.decode())
    assert found.convert is not None
    code = ""
    mine = b""
    try:
        mine = found.convert(text)
    except DataError as error:
        code = error.code
    if code:
        assert expected is None or (code == "loss" and changed)
        return
    assert expected is not None
    assert not changed or lossy is not None
    assert canonical(target, mine) == canonical(target, expected)


@pytest.mark.parametrize(
    "source, value, cut",
    [
        (ColumnType("text"), "abcdef", "abc"),
        (ColumnType("text"), "深圳市龙", "深圳市"),
        (ColumnType("varchar", 40), "ab", "ab"),
        (ColumnType("char", 10), "a         ", "a"),
        (ColumnType("integer"), "12345", "123"),
        (ColumnType("boolean"), "f", "fal"),
    ],
)
def test_a_text_is_cut_to_its_length_where_that_is_allowed(
    source: ColumnType, value: str, cut: str
) -> None:
    """By characters; what was cut identifies nothing any longer."""
    found = conversion(source, EntityType(Kind.STRING, 3), lossy="truncate")
    assert applied(found, value.encode()) == cut.encode()
    assert not found.injective


@pytest.mark.parametrize(
    "text, scale, number",
    [
        ("$1,234.50", 2, "1234.50"),
        ("-$92,233,720,368,547,758.08", 2, "-92233720368547758.08"),
        ("$12.34", 0, "1234"),  # yen
        ("-$0.05", 3, "-0.005"),  # dinars
        ("$0.00", 3, "0.000"),
    ],
)
def test_money_has_the_digits_of_its_database(text: str, scale: int, number: str) -> None:
    money = ColumnType("money", None, scale)
    found = conversion(money, EntityType(Kind.NUMERIC)).convert
    assert found is not None
    assert found(text.encode()) == number.encode()
