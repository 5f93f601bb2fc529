"""Coalescing a batch must come to the same rows as its changes one by one."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.engine.fold import fold
from cdc_daemon.model.changes import UNCHANGED, Column, ColumnType, Operation, Relation, Row, Run
from cdc_daemon.model.effects import Delete, EntityRun, Key, Layout, Rename, Step, Upsert
from tests.support.tables import Table, entity, layout

RELATION = Relation(
    source="erp",
    schema="public",
    table="t_material",
    columns=tuple(Column(name=n, type=ColumnType("text")) for n in ("code", "a1", "a2")),
    identity=(0,),
)
CODES = [b"A", b"B", b"C"]


@dataclass(frozen=True)
class Change:
    """One source change: operation, the row after it, the key before it where it moved."""

    operation: Operation
    row: Row = ()
    old: Key | None = None


def changes_of(draws: list[tuple[int, int, int, int, int]]) -> list[Change]:
    """Turn random numbers into changes that a real source could have made."""
    alive: set[bytes] = set()
    found: list[Change] = []
    for kind, which, other, v1, v2 in draws:
        code, target = CODES[which], CODES[other]
        row: Row = (code, b"x%d" % v1, None if v2 == 0 else b"y%d" % v2)
        if code not in alive:
            alive.add(code)
            found.append(Change(Operation.INSERT, row))
        elif kind == 0:
            alive.remove(code)
            found.append(Change(Operation.DELETE, old=(code,)))
        elif kind == 1:
            found.append(Change(Operation.UPDATE, row))
        elif kind == 2:
            found.append(Change(Operation.UPDATE, (code, UNCHANGED, row[2])))
        elif kind == 3 and target not in alive:
            alive.remove(code)
            alive.add(target)
            found.append(Change(Operation.UPDATE, (target, *row[1:]), old=(code,)))
        elif kind == 4 and other == 0:
            alive.clear()
            found.append(Change(Operation.TRUNCATE))
    return found


def runs_of(changes: list[Change], what: Layout, *, start: int) -> list[EntityRun]:
    """Each maximal stretch of one operation as an entity run, as the mapper would give it."""
    runs: list[EntityRun] = []
    for n, change in enumerate(changes, start):
        partial = UNCHANGED in change.row
        last = runs[-1] if runs else None
        fits = (
            last is not None
            and last.operation is change.operation
            and last.partial is partial
            and (last.old_keys is None) == (change.old is None)
            and change.operation is not Operation.TRUNCATE
        )
        if not fits or last is None:
            last = EntityRun(
                layout=what,
                operation=change.operation,
                source=Run(relation=RELATION, operation=change.operation),
                sequences=[],
                partial=partial,
                old_keys=None if change.old is None else [],
            )
            runs.append(last)
        assert isinstance(last.sequences, list)
        last.sequences.append(n)
        if change.row:
            last.rows.append(change.row)
        if change.old is not None and last.old_keys is not None:
            last.old_keys.append(change.old)
    return runs


def one_by_one(table: Table, changes: list[Change], what: Layout, *, start: int) -> None:
    """The oracle: every change for itself, in order."""
    for n, change in enumerate(changes, start):
        match change.operation:
            case Operation.INSERT:
                table.write(what.key_of(change.row), change.row)
            case Operation.UPDATE if change.old is not None:
                table.rename(change.old, what.key_of(change.row), change.row)
            case Operation.UPDATE:
                table.patch(what.key_of(change.row), change.row)
            case Operation.DELETE:
                assert change.old is not None
                table.delete(change.old, 1000 + n, soft=what.soft)
            case Operation.TRUNCATE:
                table.truncate(1000 + n, soft=what.soft)


DRAWS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 9),
        st.integers(0, 2),
    ),
    max_size=30,
)


@given(DRAWS, st.booleans(), st.integers(1, 10))
def test_folded_batches_equal_single_changes(
    draws: list[tuple[int, int, int, int, int]], soft: bool, size: int
) -> None:
    """For every sequence of changes, soft or hard, cut into batches of any size."""
    what = layout(entity(soft=soft), soft=soft)
    changes = changes_of(draws)
    folded, oracle = Table(), Table()
    one_by_one(oracle, changes, what, start=0)
    for begin in range(0, len(changes), size):
        runs = runs_of(changes[begin : begin + size], what, start=begin)
        for step in fold(runs, {"material": 0}, lambda sequence: 1000 + sequence) if runs else []:
            folded.apply(step)
    assert folded.rows == oracle.rows
    assert folded.tombstones == oracle.tombstones


def steps_of(changes: list[Change], what: Layout) -> list[Step]:
    return fold(runs_of(changes, what, start=0), {"material": 0}, lambda sequence: 1000 + sequence)


def test_a_batch_of_inserts_is_one_fresh_upsert() -> None:
    """No row is looked at: the rows are the source's own list."""
    what = layout(entity())
    runs = runs_of([Change(Operation.INSERT, (c, b"x", None)) for c in CODES], what, start=0)
    (step,) = fold(runs, {"material": 0}, lambda sequence: 1000 + sequence)
    assert isinstance(step, Upsert)
    assert step.fresh
    assert step.rows is runs[0].rows


def test_insert_and_update_of_one_key_is_one_row_that_keeps_what_the_update_left_out() -> None:
    """The update's UNCHANGED column must not lose the insert's value (compaction trap of G4)."""
    what = layout(entity())
    (step,) = steps_of(
        [
            Change(Operation.INSERT, (b"A", b"long text", b"1")),
            Change(Operation.UPDATE, (b"A", UNCHANGED, b"2")),
        ],
        what,
    )
    assert isinstance(step, Upsert)
    assert step.rows == [(b"A", b"long text", b"2")]


def test_a_rename_is_a_barrier() -> None:
    """What came before it is written before it, what came after it after it."""
    what = layout(entity())
    steps = steps_of(
        [
            Change(Operation.UPDATE, (b"A", b"1", None)),
            Change(Operation.UPDATE, (b"B", b"2", None), old=(b"A",)),
            Change(Operation.UPDATE, (b"B", b"3", None)),
        ],
        what,
    )
    assert [type(step) for step in steps] == [Upsert, Rename, Upsert]


def test_deletes_that_end_a_batch_go_children_first() -> None:
    """A parent's delete stands behind its child's, whatever the log's order."""
    parent, child = layout(entity("customer")), layout(entity("sales_order"))
    runs = [
        *runs_of([Change(Operation.DELETE, old=(b"A",))], parent, start=0),
        *runs_of([Change(Operation.DELETE, old=(b"B",))], child, start=1),
    ]
    steps = fold(runs, {"customer": 0, "sales_order": 1}, lambda sequence: 1000 + sequence)
    assert [step.layout.entity.name for step in steps] == ["sales_order", "customer"]
    assert all(isinstance(step, Delete) for step in steps)
