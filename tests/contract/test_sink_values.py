"""Values come back as they were written, whatever they hold and however many go along."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cdc_daemon.mapping.canonical import canonical
from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Layout, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink
from tests.contract.shapes import ALL, MATERIALS
from tests.contract.targets import Target

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
SOME = st.none() | TEXTS | st.sampled_from(["\\N", "\\.", "\\", "a\\\tb\r\n", "\x01", "\x7f", ""])
WHOLE: Row = (
    b"6d6cf5e1-9d3e-4a5a-bbf5-2d0a5f8a3b11",
    "öäü€𝄞".encode(),
    b"",
    b"-2147483648",
    b"9223372036854775807",
    b"-99999999999999.9999",
    b"3.1400",
    b"1e-300",
    b"true",
    b"2026-02-28",
    b"23:59:59.999999",
    b"2026-02-28 23:59:59.000001",
    b"2026-02-28 23:59:59.999999+00",
    b"1 year 2 mons -3 days +04:05:06",
    b'{"a": [1.10, null, "x\\ny"]}',
    b"\\x00ff5c090a0d",
)
PLACE = ALL.columns.index("timestamp")


@pytest.mark.parametrize("number", [1, 30], ids=["few", "many"])
def test_every_text_comes_back(target: Target, sink: Sink, number: int) -> None:
    """Tabs, backslashes, line ends, quotes, braces, NULL against empty: in every way of writing."""

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(SOME, SOME), min_size=number, max_size=number), st.booleans())
    @example([("\\N", None)] * number, True)
    @example([("a\nb", "\t")] * number, False)
    @example([(None, "\\")] * number, False)
    def holds(texts: list[tuple[str | None, str | None]], fresh: bool) -> None:
        target.clear()
        rows: list[Row] = [
            (b"k%d" % n, *(None if t is None else t.encode() for t in pair))
            for n, pair in enumerate(texts)
        ]
        with sink.begin() as unit:
            unit.apply([Upsert(layout=MATERIALS, rows=rows, fresh=fresh)])
        assert sorted(target.living(MATERIALS)) == sorted((row[0],) for row in rows)
        assert set(target.living(MATERIALS).values()) == set(rows)

    holds()


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("number", [1, 40])
def test_every_type_comes_back(target: Target, sink: Sink, number: int, fresh: bool) -> None:
    """One value of each entity type, its edges among them, and a row of NULLs."""
    whole = tuple(target.earliest if v == WHOLE[PLACE] else v for v in WHOLE)
    rows = [(str(uuid.UUID(int=n)).encode(), *whole[1:]) for n in range(number)]
    rows.append((str(uuid.UUID(int=number)).encode(), *[None] * (len(WHOLE) - 1)))
    with sink.begin() as unit:
        unit.apply([Upsert(layout=ALL, rows=rows, fresh=fresh)])
    with sink.begin() as unit:  # over rows that are there
        unit.apply([Upsert(layout=ALL, rows=rows)])
    found = [same_text(row) for row in target.living(ALL).values()]
    assert sorted(found) == sorted(map(same_text, rows))


def same_text(row: Row) -> Row:
    """One text for each value: some databases keep a number's zeros at its end, some do not."""
    pairs = zip(ALL.attributes, row, strict=True)
    return tuple(canonical(a.type, v) if isinstance(v, bytes) else v for a, v in pairs)


BAD = [
    ("string", b"sixsix", "sqlstate_22001"),
    ("text", b"a\0b", "sqlstate_22021"),
    ("text", b"\0", "sqlstate_22021"),
    ("text", b"\xff", "sqlstate_22021"),
    ("integer", b"2147483648", "sqlstate_22003"),
    ("integer", b"one", "sqlstate_22P02"),
    ("decimal", b"123456789012345", "sqlstate_22003"),
    ("date", b"2026-02-30", "sqlstate_22008"),
    ("json", b"{", "sqlstate_22P02"),
    ("id", None, "sqlstate_23502"),
]


@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize("attribute, value, code", BAD)
def test_a_value_that_does_not_fit_is_a_data_error(
    target: Target, sink: Sink, number: int, attribute: str, value: bytes | None, code: str
) -> None:
    """It names a stable code and the attribute, never the value; the unit goes on as before."""
    good = [(str(uuid.UUID(int=n)).encode(), *WHOLE[1:]) for n in range(number)]
    place = ALL.columns.index(attribute)
    bad = (*good[0][:place], value, *good[0][place + 1 :])
    with sink.begin() as unit:
        unit.apply([Upsert(layout=ALL, rows=[WHOLE])])
        for fresh in (False, True):
            with pytest.raises(DataError) as caught:
                unit.apply([Upsert(layout=ALL, rows=[*good[1:], bad], fresh=fresh)])
            assert caught.value.code == code
            assert caught.value.attribute in (attribute, None)
            assert value is None or value.decode(errors="replace") not in str(caught.value)
    assert set(target.living(ALL)) == {ALL.key_of(WHOLE)}


@pytest.mark.parametrize("attribute, value, code", [one for one in BAD if one[1] != b"\0"])
def test_one_row_alone_tells_its_attribute(
    sink: Sink, attribute: str, value: bytes | None, code: str
) -> None:
    """The row that parks names the attribute at fault."""
    place = ALL.columns.index(attribute)
    bad = (*WHOLE[:place], value, *WHOLE[place + 1 :])
    with sink.begin() as unit, pytest.raises(DataError) as caught:
        unit.apply([Upsert(layout=ALL, rows=[bad])])
    assert caught.value.code == code
    assert caught.value.attribute == attribute


def test_columns_that_are_not_mapped_keep_what_they_have(target: Target, sink: Sink) -> None:
    """A layout of some attributes leaves the others alone."""
    some = Layout(
        mapping="erp.some", entity=MATERIALS.entity, columns=("note", "code"), key=(1,), soft=True
    )
    rows: list[Row] = [(b"k%d" % n, b"name", b"note") for n in range(30)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=rows)])
        unit.apply([Upsert(layout=some, rows=[(b"new", row[0]) for row in rows])])
        unit.apply([Upsert(layout=some, rows=[(b"newer", b"k0")])])
    living = target.living(MATERIALS)
    assert living[(b"k0",)] == (b"k0", b"name", b"newer")
    assert living[(b"k9",)] == (b"k9", b"name", b"new")
