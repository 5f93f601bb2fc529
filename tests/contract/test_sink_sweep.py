"""The end of a repeated snapshot: what it did not see goes, as far as it may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdc_daemon.engine.lanes import Held
from cdc_daemon.engine.sparing import spare
from cdc_daemon.model.changes import Column, ColumnType, Operation, Relation, Row, Run
from cdc_daemon.model.effects import Delete, Key, Layout, Outcome, Upsert
from cdc_daemon.model.errors import DataError
from cdc_daemon.model.ports import Sink
from cdc_daemon.model.position import SourceIdentity
from tests.contract.shapes import (
    CUSTOMERS,
    DELIVERIES,
    INVOICES,
    MATERIALS,
    ORDERS,
    REFERRED,
    UNITS,
)
from tests.contract.targets import Target

IDENTITY = SourceIdentity(system="1", timeline=1, database="d", publication="p")
RELATION = Relation(
    source="erp",
    schema="public",
    table="t_material",
    columns=(Column(name="code", type=ColumnType("text")),),
    identity=(0,),
)
NAMED: list[Row] = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


def write(target: Target, sink: Sink, *steps: Upsert, seen: frozenset[bytes] = frozenset()) -> None:
    """Rows of an earlier generation; the running copy has seen those with these keys again."""
    with sink.begin() as unit:
        unit.apply(steps)
    for step in steps:
        for key in map(step.layout.key_of, step.rows):
            target.age(step.layout, key)
    sink.begin_generation("slot", IDENTITY)
    with sink.begin() as unit:
        unit.apply([replace(s, rows=[row for row in s.rows if row[0] in seen]) for s in steps])


def finish(sink: Sink, *layouts: Layout) -> Outcome:
    with sink.begin() as unit:
        return unit.finish_snapshot(layouts, IDENTITY, "0/9")


def test_tombstones_let_go_of_swept_parents(target: Target, sink: Sink) -> None:
    """Also those that come of the same sweep."""
    children: list[Row] = [(b"1", b"a"), (b"2", b"b"), (b"3", b"c")]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=CUSTOMERS, rows=NAMED)])
    for row in NAMED[:2]:
        target.age(CUSTOMERS, CUSTOMERS.key_of(row))
    written = [Upsert(layout=layout, rows=children) for layout in (DELIVERIES, INVOICES)]
    with sink.begin() as unit:
        unit.apply(written)
        unit.apply([Delete(layout=one.layout, keys=[(b"1",)], times=[1]) for one in written])
    write(
        target, sink, *(replace(one, rows=children[1:]) for one in written), seen=frozenset({b"3"})
    )
    outcome = finish(sink, CUSTOMERS, DELIVERIES, INVOICES)
    assert outcome.counts[CUSTOMERS.mapping, "delete"] == 2
    assert set(target.living(CUSTOMERS)) == {(b"c",)}
    assert set(target.living(DELIVERIES).values()) == {(b"3", b"c")}
    found = {row for row, _ in target.tombstones(DELIVERIES).values()}
    assert found == {(b"1", None), (b"2", None)}
    assert target.tombstones(INVOICES) == {}


@pytest.mark.parametrize("number", [1, 3], ids=["one", "many"])
def test_rows_that_a_copy_could_not_write_are_touched_and_stay(
    target: Target, sink: Sink, number: int
) -> None:
    """As they were; one that was not there is nothing to touch, nor does it come."""
    rows: list[Row] = [(b"%d" % n, b"name", b"note") for n in range(5)]
    write(target, sink, Upsert(layout=MATERIALS, rows=rows))
    run = Run(relation=RELATION, operation=Operation.INSERT, new_rows=[(b"x",)])
    error = DataError("too long", code="too_long")
    with sink.begin() as unit:
        spare(
            unit,
            [
                Held(
                    layout=MATERIALS,
                    source=run,
                    sequence=0,
                    error=error,
                    lanes=(),
                    keys=((b"%d" % n,), (b"gone",)),
                )
                for n in range(number)
            ],
        )
    finish(sink, MATERIALS)
    assert set(target.living(MATERIALS).values()) == set(rows[:number])


@pytest.mark.parametrize("swept", [True, False], ids=["its own", "another pipeline's"])
def test_a_row_that_a_living_one_refers_to_stays(target: Target, sink: Sink, swept: bool) -> None:
    """Or no repeated snapshot could ever end; it is counted, and goes when nothing needs it."""
    orders = Upsert(layout=ORDERS, rows=[(b"1", b"a"), (b"2", None)])
    write(target, sink, Upsert(layout=CUSTOMERS, rows=NAMED), orders, seen=frozenset({b"1"}))
    layouts = [CUSTOMERS, ORDERS] if swept else [CUSTOMERS]
    outcome = finish(sink, *layouts)
    assert outcome.counts[CUSTOMERS.mapping, "delete"] == 2
    assert outcome.counts[CUSTOMERS.mapping, "noop"] == 1
    assert set(target.living(CUSTOMERS)) == {(b"a",)}
    assert set(target.living(ORDERS)) == ({(b"1",)} if swept else {(b"1",), (b"2",)})
    with sink.begin() as unit:
        unit.apply([Delete(layout=ORDERS, keys=[(b"1",)], times=[])])
    sink.begin_generation("slot", IDENTITY)
    assert finish(sink, CUSTOMERS).counts == {(CUSTOMERS.mapping, "delete"): 1}


def test_children_and_parents_left_behind_go_together(target: Target, sink: Sink) -> None:
    """What goes itself holds nothing: whole branches go, circles too."""
    branch: list[Row] = [(b"top", None), (b"mid", b"top"), (b"leaf", b"mid"), (b"self", b"self")]
    circle: list[Row] = [(b"x", b"y"), (b"y", b"x")]
    write(target, sink, Upsert(layout=UNITS, rows=[*branch, *circle]))
    assert finish(sink, UNITS).counts == {(UNITS.mapping, "delete"): 6}
    assert target.living(UNITS) == {}


def test_a_row_that_stays_holds_those_above_it(target: Target, sink: Sink) -> None:
    """However far up, and none of the others."""
    rows: list[Row] = [
        (b"top", None),
        (b"mid", b"top"),
        (b"low", b"mid"),
        (b"seen", b"low"),
        (b"beside", b"mid"),
    ]
    write(target, sink, Upsert(layout=UNITS, rows=rows), seen=frozenset({b"seen"}))
    counts = finish(sink, UNITS).counts
    assert counts == {(UNITS.mapping, "delete"): 1, (UNITS.mapping, "noop"): 3}
    assert {key[0] for key in target.living(UNITS)} == {b"top", b"mid", b"low", b"seen"}


def test_rows_that_outlive_their_source_are_left_alone(target: Target, sink: Sink) -> None:
    """Where deletes are ignored, a row that the copy did not see proves nothing."""
    kept = replace(REFERRED, soft=False, keeps=True)
    rows: list[Row] = [(b"a", b"1", None), (b"b", b"2", None)]
    sources: list[Key] = [(b"1",), (b"2",)]
    orders = Upsert(layout=ORDERS, rows=[(b"1", b"a")])
    written = Upsert(layout=kept, rows=rows, source_keys=sources)
    write(target, sink, written, Upsert(layout=CUSTOMERS, rows=NAMED), orders)
    outcome = finish(sink, kept, CUSTOMERS, replace(ORDERS, keeps=True))
    assert outcome.counts == {
        (CUSTOMERS.mapping, "delete"): 2,
        (CUSTOMERS.mapping, "noop"): 1,
    }
    assert set(target.living(REFERRED)) == {(b"a",), (b"b",)}
    assert set(target.references(REFERRED)) == set(sources)
    assert set(target.living(ORDERS)) == {(b"1",)}
    assert set(target.living(CUSTOMERS)) == {(b"a",)}


def test_a_hard_sweep_leaves_tombstones(target: Target, sink: Sink) -> None:
    """They are rows that left the filter, say: no copy sees such a row."""
    rows: list[Row] = [(b"a", b"1", None), (b"b", b"2", None)]
    with sink.begin() as unit:
        unit.apply([Upsert(layout=MATERIALS, rows=rows)])
        unit.apply([Delete(layout=MATERIALS, keys=[(b"a",)], times=[1])])
    for row in rows:
        target.age(MATERIALS, MATERIALS.key_of(row))
    sink.begin_generation("slot", IDENTITY)
    counts = finish(sink, replace(MATERIALS, soft=False)).counts
    assert counts == {(MATERIALS.mapping, "delete"): 1}
    assert set(target.tombstones(MATERIALS)) == {(b"a",)}
    assert target.living(MATERIALS) == {}
