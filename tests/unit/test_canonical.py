"""One canonical text per value, whichever way a server printed it."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.demo.server import PrivatePostgres
from cdc_daemon.mapping.convert import canonical
from cdc_daemon.mapping.decimals import print_double
from cdc_daemon.mapping.documents import jsonb_text, parse_document
from cdc_daemon.mapping.times import (
    civil,
    days_of,
    parse_timestamp,
    print_timestamp,
)
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import DataError
from tests.support.oracle import Oracle

FORMS = [
    (Kind.INTEGER, "+007", "7"),
    (Kind.INTEGER, "-0", "0"),
    (Kind.BIGINT, "-9223372036854775808", "-9223372036854775808"),
    (Kind.NUMERIC, "0001.500", "1.5"),
    (Kind.NUMERIC, "-0.00", "0"),
    (Kind.NUMERIC, "100", "100"),
    (Kind.NUMERIC, "1e3", "1000"),
    (Kind.NUMERIC, "-1.5E-3", "-0.0015"),
    (Kind.NUMERIC, "NaN", "NaN"),
    (Kind.NUMERIC, "-Infinity", "-Infinity"),
    (Kind.DOUBLE, "1.0", "1"),
    (Kind.DOUBLE, "-0", "0"),
    (Kind.DOUBLE, "1000000000000000", "1e+15"),
    (Kind.DOUBLE, "0.00001", "1e-05"),
    (Kind.BOOLEAN, "true", "t"),
    (Kind.BOOLEAN, "0", "f"),
    (Kind.TIME, "12:00:00.500", "12:00:00.5"),
    (Kind.TIMESTAMP, "2024-01-01 00:00:00.000", "2024-01-01 00:00:00"),
    (Kind.TIMESTAMP, "0044-03-15 00:00:00.10 BC", "0044-03-15 00:00:00.1 BC"),
    (Kind.TIMESTAMPTZ, "2024-01-01 08:00:00+08", "2024-01-01 00:00:00+00"),
    (Kind.TIMESTAMPTZ, "2024-01-01 05:30:00.250+05:30", "2024-01-01 00:00:00.25+00"),
    (Kind.TIMESTAMPTZ, "0001-01-01 00:00:00+01", "0001-12-31 23:00:00+00 BC"),
    (Kind.TIMESTAMPTZ, "infinity", "infinity"),
    (Kind.INTERVAL, "1 years 1 mons 1 days", "1 year 1 mon 1 day"),
    (Kind.INTERVAL, "13 mons", "1 year 1 mon"),
    (Kind.INTERVAL, "00:00:00", "00:00:00"),
    (Kind.UUID, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    (Kind.JSON, '{"b": 1.10, "a": [1e2, -0]}', '{"a":[100,0],"b":1.1}'),
    (Kind.JSON, '{"a": 1, "a": {"x": "\\u00e9"}}', '{"a":{"x":"é"}}'),
    (Kind.BYTES, "\\xDEAD", "\\xdead"),
    (Kind.TEXT, "  as it is ", "  as it is "),
]


@pytest.fixture(scope="module")
def oracle(postgres18: PrivatePostgres) -> Iterator[Oracle]:
    with Oracle(postgres18.dsn()) as found:
        yield found


@pytest.mark.parametrize("kind, text, expected", FORMS)
def test_canonical_text(kind: Kind, text: str, expected: str) -> None:
    target = EntityType(kind)
    assert canonical(target, text.encode()) == expected.encode()
    assert canonical(target, expected.encode()) == expected.encode()


@pytest.mark.parametrize("kind", [Kind.BOOLEAN, Kind.DOUBLE, Kind.JSON, Kind.INTERVAL])
def test_what_is_no_value_is_a_data_error(kind: Kind) -> None:
    with pytest.raises(DataError) as caught:
        canonical(EntityType(kind), b"nonsense")
    assert "nonsense" not in str(caught.value)


def test_deep_json_is_a_value_or_a_data_error() -> None:
    deep = b"[" * 299 + b"]" * 299
    assert canonical(EntityType(Kind.JSON), deep) == deep
    for depth in (400, 5_000, 200_000):
        with pytest.raises(DataError):
            canonical(EntityType(Kind.JSON), b"[" * depth + b"]" * depth)


@given(value=st.floats(allow_nan=False))
def test_doubles_are_printed_as_postgresql_does(value: float, oracle: Oracle) -> None:
    theirs = oracle.value("SELECT $1::float8", [repr(value).encode()])
    assert theirs is not None
    assert theirs == print_double(value)
    assert canonical(EntityType(Kind.DOUBLE), theirs) == print_double(value + 0.0)
    assert oracle.value("SELECT $1::float8 = $2::float8", [print_double(value), theirs]) == b"t"


@given(
    months=st.integers(-400, 400),
    days=st.integers(-400, 400),
    microseconds=st.integers(-(10**12), 10**12),
)
def test_intervals_are_printed_as_postgresql_does(
    months: int, days: int, microseconds: int, oracle: Oracle
) -> None:
    text = f"{months} mons {days} days {microseconds} microseconds".encode()
    theirs = oracle.value("SELECT $1::interval", [text])
    assert theirs is not None
    assert canonical(EntityType(Kind.INTERVAL), theirs) == theirs


@given(value=st.integers(-(4712 * 366 * 86_400), 290_000 * 365 * 86_400))
def test_timestamps_keep_their_value_over_the_whole_range(value: int, oracle: Oracle) -> None:
    text = print_timestamp(value * 1_000_000 + 123)
    assert parse_timestamp(text) == value * 1_000_000 + 123
    assert oracle.value("SELECT $1::timestamp", [text]) == text


@given(days=st.integers(-(10**6), 10**8))
def test_the_calendar_is_its_own_inverse(days: int) -> None:
    assert days_of(*civil(days)) == days


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text('abé"\\\n', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(document=DOCUMENTS)
def test_json_is_printed_and_compared_as_jsonb(document: object, oracle: Oracle) -> None:
    import json

    text = json.dumps(document).encode()
    theirs = oracle.value("SELECT $1::jsonb", [text])
    assert theirs is not None
    assert jsonb_text(parse_document(text)) == theirs
    target = EntityType(Kind.JSON)
    assert canonical(target, text) == canonical(target, theirs)
    assert oracle.value("SELECT $1::jsonb = $2::jsonb", [canonical(target, text), theirs]) == b"t"
