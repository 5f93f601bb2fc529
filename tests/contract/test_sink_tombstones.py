"""Softly deleted rows never stand in the way of the rows that they refer to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cdc_daemon.model.changes import Row
from cdc_daemon.model.effects import Delete, Key, Layout, Rename, Step, Truncate, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink, UnitOfWork
from tests.contract.shapes import CUSTOMERS, DELIVERIES, INVOICES, ORDERS, PLANTS, SHELVES
from tests.contract.targets import Target

NUMBER = 40
PARENTS: list[Key] = [(b"c%d" % n,) for n in range(NUMBER)]
CHILDREN: list[Key] = [(b"%d" % n,) for n in range(NUMBER)]
NO_CUSTOMERS = Truncate(layout=CUSTOMERS, time=9)
LATE = [DELIVERIES, INVOICES]


def gone(layout: Layout, keys: Sequence[Key]) -> Delete:
    return Delete(layout=layout, keys=list(keys), times=[7] * len(keys))


def children_end(how: str) -> list[Step]:
    """Every delivery and invoice deleted, one way or another."""
    if how == "truncate":
        return [Truncate(layout=layout, time=8) for layout in LATE]
    return [gone(layout, CHILDREN) for layout in LATE]


def parents_end(how: str) -> list[Step]:
    return [NO_CUSTOMERS] if how == "truncate" else [gone(CUSTOMERS, PARENTS)]


ENDS = pytest.mark.parametrize("parents", ["truncate", "delete"])
CHILD_ENDS = pytest.mark.parametrize("children", ["truncate", "delete"])


@pytest.fixture
def family(sink: Sink) -> Sink:
    """Customers, each with a delivery (which need not name it) and an invoice (which must)."""
    rows: list[Row] = [(*child, *parent) for child, parent in zip(CHILDREN, PARENTS, strict=True)]
    with sink.begin() as unit:
        steps: list[Step] = [
            Upsert(layout=CUSTOMERS, rows=[(*key, b"name") for key in PARENTS]),
            *(Upsert(layout=layout, rows=rows) for layout in LATE),
        ]
        unit.apply(steps)
        save(unit)
    return sink


def save(unit: UnitOfWork) -> None:
    unit.save_checkpoint("0/1", commit_time=None, transactions=1, changes=1)


def only_tombstones_without_parents(target: Target) -> None:
    """Nothing lives; a tombstone that cannot do without its parent went with it."""
    assert target.living(CUSTOMERS) == {}
    assert target.living(DELIVERIES) == target.living(INVOICES) == {}
    assert {row for row, _ in target.tombstones(DELIVERIES).values()} == {
        (*key, None) for key in CHILDREN
    }
    assert target.tombstones(INVOICES) == {}


@ENDS
@CHILD_ENDS
def test_parents_go_after_their_children(
    target: Target, family: Sink, parents: str, children: str
) -> None:
    """The tombstones of an earlier unit let go of them."""
    with family.begin() as unit:
        unit.apply(children_end(children))
        save(unit)
    assert {row[1] for row, _ in target.tombstones(DELIVERIES).values()} == {
        key[0] for key in PARENTS
    }
    with family.begin() as unit:
        steps = parents_end(parents)
        unit.apply(steps)
        assert unit.dangling(steps) == {}
        save(unit)
    only_tombstones_without_parents(target)


@ENDS
@CHILD_ENDS
@pytest.mark.parametrize("first", ["parents", "children"])
def test_parents_and_children_go_together(
    target: Target, family: Sink, parents: str, children: str, first: str
) -> None:
    """In either order, inside one set of steps."""
    steps = [*parents_end(parents), *children_end(children)]
    if first == "children":
        steps = [*children_end(children), *parents_end(parents)]
    with family.begin() as unit:
        unit.apply(steps)
        assert unit.dangling(steps) == {}
        save(unit)
    only_tombstones_without_parents(target)


@ENDS
@CHILD_ENDS
def test_parents_and_children_go_in_one_unit_piece_by_piece(
    target: Target, family: Sink, parents: str, children: str
) -> None:
    """The children only after their parents, and each by a call of its own."""
    with family.begin() as unit:
        unit.apply(parents_end(parents))
        unit.apply(children_end(children))
        save(unit)
    only_tombstones_without_parents(target)


@ENDS
def test_without_a_checkpoint_too(target: Target, family: Sink, parents: str) -> None:
    """A repair is a unit that moves no checkpoint."""
    with family.begin() as unit:
        unit.apply(parents_end(parents))
        for step in children_end("delete"):
            unit.apply([step])
    only_tombstones_without_parents(target)


def test_what_lives_is_never_let_go(target: Target, family: Sink) -> None:
    """A living row in a broken reference is told, and tombstones keep parents that stay."""
    with family.begin() as unit:
        unit.apply([gone(DELIVERIES, CHILDREN[:3]), gone(INVOICES, CHILDREN)])
        save(unit)
    with family.begin() as unit:
        steps: list[Step] = [gone(CUSTOMERS, PARENTS[1:5])]
        with pytest.raises(RuntimeError), unit.savepoint():  # noqa: PT012
            unit.apply(steps)
            assert unit.dangling(steps) == {CUSTOMERS.mapping: set(PARENTS[3:5])}
            raise RuntimeError
        unit.apply([Upsert(layout=ORDERS, rows=[(b"1", b"c7")])])
        save(unit)
    kept = {key: row for key, (row, _) in target.tombstones(DELIVERIES).items()}
    assert kept == {CHILDREN[n]: (*CHILDREN[n], *PARENTS[n]) for n in range(3)}


THROUGH = Rename(layout=PLANTS, pairs=[((b"a",), (b"b",)), ((b"b",), (b"c",))])
"""Plant a goes to c by way of the tombstone b, which makes room."""


@pytest.mark.parametrize("whole", [True, False])
def test_a_rename_passes_through_the_key_of_a_tombstone(
    target: Target, sink: Sink, *, whole: bool
) -> None:
    """Its own tombstones let go of it; a living row that refers to it is told at the checkpoint."""
    with sink.begin() as unit:
        unit.apply(
            [
                Upsert(layout=PLANTS, rows=[(b"a",), (b"b",)]),
                Upsert(layout=SHELVES, rows=[(b"1", b"b"), (b"2", b"a")]),
            ]
        )
        unit.apply([gone(PLANTS, [(b"b",)])])
        if whole:
            unit.apply([gone(SHELVES, [(b"1",)])])
        save(unit)
    with sink.begin() as unit:
        if whole:
            unit.apply([THROUGH])
            save(unit)
        else:
            with pytest.raises(DataError) as caught, unit.savepoint():  # noqa: PT012
                unit.apply([THROUGH])
                save(unit)
            assert caught.value.code == "sqlstate_23503"
    assert set(target.living(PLANTS)) == {(b"c",) if whole else (b"a",)}
    shelves = {
        **target.living(SHELVES),
        **{k: row for k, (row, _) in target.tombstones(SHELVES).items()},
    }
    assert shelves == {
        (b"1",): (b"1", None if whole else b"b"),
        (b"2",): (b"2", b"c" if whole else b"a"),
    }
