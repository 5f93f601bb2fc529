"""Rows at fault are told as sets, with the very error that each alone would give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from cdc_daemon.model.changes import UNCHANGED, Row
from cdc_daemon.model.effects import Delete, Key, Patch, Rename, Step, Truncate, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink, UnitOfWork
from tests.contract.shapes import ALL, CUSTOMERS, MATERIALS, REFERRED
from tests.contract.targets import Alteration, Target

NUMBER = 5000
Told = tuple[str, str, str | None]


def checked(name: str, condition: str, *, only_postgres: bool = False) -> Alteration:
    """A CHECK constraint."""
    constraint = f"CONSTRAINT {name} CHECK ({condition})"
    ticked = constraint.replace('"', "`").replace("length(", "char_length(")
    return Alteration(
        postgres=f"ADD {constraint}",
        back=f"DROP CONSTRAINT {name}",
        sqlite=None if only_postgres else constraint,
        mysql=None
        if only_postgres
        else (f"ADD {ticked}", f"DROP CONSTRAINT {name}".replace('"', "`")),
    )


def narrowed(kind: str) -> Alteration:
    """A name of six characters; SQLite knows lengths only as constraints."""
    limit = """CONSTRAINT "name: string(6)" CHECK (length(rtrim(name, ' ')) <= 6)"""
    return Alteration(
        postgres=f"ALTER name TYPE {kind}",
        back="ALTER name TYPE text",
        sqlite=limit,
        mysql=(f"MODIFY name {kind}", "MODIFY name longtext"),
    )


NOT_NULL = Alteration(
    postgres="ALTER note SET NOT NULL",
    back="ALTER note DROP NOT NULL",
    sqlite=("note", "NOT NULL"),
    mysql=("MODIFY note longtext NOT NULL", "MODIFY note longtext"),
)
NARROW = narrowed("varchar(6)")
PADDED = narrowed("char(6)")
SHORT = checked("short", "length(note) < 8")
TWO = checked('"a b"', "name <= note")
DIVIDES = checked("divides", "1 / length(note) >= 0")
WHOLE = checked("whole", "material IS NOT NULL", only_postgres=True)  # no others have row values
SMALL = Alteration(
    postgres='ALTER "integer" TYPE smallint',
    back='ALTER "integer" TYPE integer',
    sqlite="""CONSTRAINT "integer: integer" CHECK ("integer" BETWEEN -32768 AND 32767)""",
    mysql=("MODIFY `integer` smallint", "MODIFY `integer` int"),
)
OTHER = checked("other", "deleted_at > '2000-01-01'")


@contextmanager
def altered(target: Target, *changes: Alteration) -> Iterator[None]:
    """The materials' table altered for a while; it must be empty at the end."""
    with ExitStack() as stack:
        for change in changes:
            if not target.knows(change):
                pytest.skip("the database has no such constraint")
            target.alter(MATERIALS, change)
            stack.callback(target.alter, MATERIALS, change, back=True)
        stack.callback(target.clear)
        yield


def materials(*values: tuple[bytes | None, bytes | None], number: int = 40) -> list[Row]:
    """Good rows, with these names and notes among them under the keys ``bad0``, ``bad1`` ..."""
    rows: list[Row] = [(b"k%d" % n, b"a", b"b") for n in range(number)]
    for n, (name, note) in enumerate(values):
        rows.insert((n * 37) % len(rows), (b"bad%d" % n, name, note))
    return rows


def told(error: DataError) -> Told:
    return error.code, error.message, error.attribute


def singly(unit: UnitOfWork, rows: list[Row]) -> dict[Key, Told]:
    """What each row alone gives, where it gives an error."""
    found: dict[Key, Told] = {}
    for row in rows:
        try:
            with unit.savepoint():
                unit.apply([Upsert(layout=MATERIALS, rows=[row])])
        except DataError as error:
            found[MATERIALS.key_of(row)] = told(error)
    return found


def asked(unit: UnitOfWork, *steps: Step) -> dict[Key, Told]:
    """What is told after the steps failed."""
    with pytest.raises(DataError):
        unit.apply(steps)
    found = unit.faults(steps).get(MATERIALS.mapping, {})
    return {key: told(error) for key, error in found.items()}


CASES: dict[str, tuple[list[Alteration], list[tuple[bytes | None, bytes | None]]]] = {
    "not null": ([NOT_NULL], [(b"x", None), (None, None)]),
    "narrowed": ([NARROW], [(b"seven77", b"x"), ("äöüßäöü".encode(), None), (b"12345678", b"")]),
    "padded": ([PADDED], [(b"seven77", b"x")]),
    "check": ([SHORT], [(b"x", b"12345678"), (None, b"123456789")]),
    "quoted check": ([TWO], [(b"b", b"a"), (b"b", b"B"), ("ä".encode(), b"b")]),
    "no text": ([SHORT], [(b"a\0b", b"x"), (b"\xff", b"12345678"), (b"x", b"\0")]),
    "several": (
        [NOT_NULL, NARROW, SHORT, TWO],
        [
            (b"x", None),
            (b"seven77", b"x"),
            (b"seven77", None),
            (b"a", b"12345678"),
            (b"z", b"123456789"),
            (b"z", b"y"),
            (b"a\0b", None),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fresh", [True, False])
def test_what_is_told_is_what_each_row_alone_gives(
    target: Target, sink: Sink, case: str, fresh: bool
) -> None:
    """The same rows, codes, words and attributes; and the unit goes on as before."""
    changes, values = CASES[case]
    rows = materials(*values)
    with altered(target, *changes):
        with sink.begin() as unit:
            found = asked(unit, Upsert(layout=MATERIALS, rows=rows, fresh=fresh))
            assert found == singly(unit, rows)
            assert set(found) == {(b"bad%d" % n,) for n in range(len(values))}
        assert len(target.living(MATERIALS)) == 40


def test_values_that_fit_are_not_told(target: Target, sink: Sink) -> None:
    """NULL passes a check, spaces beyond the end are cut, and a text of the whole length fits."""
    fitting: list[tuple[bytes | None, bytes | None]] = [
        (None, None),
        (b"123456   ", None),
        ("äöüäöü".encode(), "öööööüü".encode()),
    ]
    with altered(target, NARROW, SHORT), sink.begin() as unit:
        found = asked(unit, Upsert(layout=MATERIALS, rows=materials((b"seven77", b"x"), *fitting)))
        assert set(found) == {(b"bad0",)}


def test_several_at_once_in_many_rows(target: Target, sink: Sink) -> None:
    """One row in a hundred, of every kind; the rest then goes in as a set."""
    bad: list[tuple[bytes | None, bytes | None]] = [
        (b"x", None),
        (b"seven77", b"x"),
        (b"x", b"12345678"),
    ]
    rows = materials(*bad * 17, number=NUMBER)
    with altered(target, NOT_NULL, NARROW, SHORT):
        with sink.begin() as unit:
            found = asked(unit, Upsert(layout=MATERIALS, rows=rows, fresh=True))
            assert set(found) == {(b"bad%d" % n,) for n in range(51)}
            assert {code for code, _, _ in found.values()} == {
                "sqlstate_23502",
                "sqlstate_22001",
                "sqlstate_23514",
            }
            good = [row for row in rows if MATERIALS.key_of(row) not in found]
            unit.apply([Upsert(layout=MATERIALS, rows=good, fresh=True)])
        assert len(target.living(MATERIALS)) == NUMBER


def test_nothing_is_told_of_good_rows(target: Target, sink: Sink) -> None:
    """Nor of steps that write no rows, nor where another source row holds the key."""
    with sink.begin() as unit:
        good = Upsert(layout=MATERIALS, rows=materials())
        unit.apply([good])
        steps: list[Step] = [
            good,
            Delete(layout=MATERIALS, keys=[(b"k1",)], times=[1]),
            Truncate(layout=MATERIALS, time=1),
            Rename(layout=MATERIALS, pairs=[((b"k2",), (b"k3", None, None))]),
            Upsert(layout=REFERRED, rows=[(b"k4", None, None)], source_keys=[(b"1",)]),
            Upsert(layout=CUSTOMERS, rows=[]),
        ]
        assert unit.faults(steps) == {}
        assert unit.faults([]) == {}


@pytest.mark.parametrize("change", [DIVIDES, WHOLE, OTHER], ids=["fails", "whole row", "other"])
def test_a_check_that_cannot_be_told_leaves_the_others(
    target: Target, sink: Sink, change: Alteration
) -> None:
    """One that fails over some row, or looks at more than the row carries."""
    values: list[tuple[bytes | None, bytes | None]] = [(b"seven77", b"x"), (b"x", b"")]
    with altered(target, NARROW, change), sink.begin() as unit:
        rows = materials(*values)
        found = asked(unit, Upsert(layout=MATERIALS, rows=rows))
        assert (b"bad0",) in found
        assert found.items() <= singly(unit, rows).items()


def test_a_patch_is_told_by_the_columns_it_carries(target: Target, sink: Sink) -> None:
    """Only of rows that live: others would be missing, not at fault."""
    rows = materials((b"x", b"y"), (b"x", b"y"), (b"x", b"y"))
    patched: list[Row] = [(row[0], UNCHANGED, b"n") for row in rows]
    patched += [(b"bad0", UNCHANGED, None), (b"bad1", UNCHANGED, b"12345678")]
    patched += [(b"absent", UNCHANGED, None), (b"\0", UNCHANGED, b"x")]
    step = Patch(
        layout=MATERIALS,
        unchanged=frozenset({1}),
        rows=list({MATERIALS.key_of(row): row for row in patched}.values()),
    )
    with altered(target, NOT_NULL, NARROW, SHORT, TWO), sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=[(key, b"a", b"b") for key, *_ in rows])])
        unit.apply([Delete(layout=MATERIALS, keys=[(b"bad2",)], times=[1])])
        found = asked(unit, step)
        codes = {key: (code, attribute) for key, (code, _, attribute) in found.items()}
        assert codes == {
            (b"bad0",): ("sqlstate_23502", "note"),
            (b"bad1",): ("sqlstate_23514", None),
            (b"\0",): ("sqlstate_22021", "code"),
        }


def test_a_widened_column_takes_what_it_refused(target: Target, sink: Sink) -> None:
    """In the same session: no statement remembers what the column was."""
    row: list[bytes | None] = [None] * len(ALL.columns)
    row[0] = b"6d6cf5e1-9d3e-4a5a-bbf5-2d0a5f8a3b11"
    row[ALL.columns.index("integer")] = b"40000"
    steps = [Upsert(layout=ALL, rows=[tuple(row)])]
    target.alter(ALL, SMALL)
    try:
        with sink.begin() as unit, pytest.raises(DataError) as raised, unit.savepoint():
            unit.apply(steps)
        assert raised.value.code == "sqlstate_22003"
    finally:
        target.alter(ALL, SMALL, back=True)
    with sink.begin() as unit:
        unit.apply(steps)
    assert len(target.living(ALL)) == 1
