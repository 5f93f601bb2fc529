"""A parked change holds back its own row and key, in order, and nothing else."""

from __future__ import annotations

from cdc_daemon.engine.lanes import WAITING, Division, Lanes, entity_lane, lanes_of
from cdc_daemon.model.changes import Column, ColumnType, Operation, Relation, Row, Run
from cdc_daemon.model.effects import EntityRun, Key, Rejected
from cdc_daemon.model.errors import DataError
from tests.support.tables import entity, layout

RELATION = Relation(
    source="erp",
    schema="public",
    table="t_material",
    columns=tuple(Column(name=n, type=ColumnType("text")) for n in ("code", "a1", "a2")),
    identity=(0,),
)
LAYOUT = layout(entity())
BAD = DataError("too long", code="too_long")


def inserts(codes: list[bytes], start: int) -> EntityRun:
    """An insert run of rows with these codes."""
    rows: list[Row] = [(code, b"x", None) for code in codes]
    source = Run(relation=RELATION, operation=Operation.INSERT, new_rows=rows, sequence=start)
    return EntityRun(
        layout=LAYOUT,
        operation=Operation.INSERT,
        source=source,
        sequences=range(start, start + len(rows)),
        rows=rows,
    )


def rename(old: bytes, new: bytes, sequence: int) -> EntityRun:
    """An update that moves one row to another key."""
    rows: list[Row] = [(new, b"x", None)]
    keys: list[Key | None] = [(old,)]
    source = Run(
        relation=RELATION,
        operation=Operation.UPDATE,
        new_rows=rows,
        old_rows=[(old,)],
        sequence=sequence,
    )
    return EntityRun(
        layout=LAYOUT,
        operation=Operation.UPDATE,
        source=source,
        sequences=[sequence],
        rows=rows,
        old_keys=keys,
    )


def truncate(sequence: int) -> EntityRun:
    """A truncate of the table."""
    source = Run(relation=RELATION, operation=Operation.TRUNCATE, sequence=sequence)
    return EntityRun(
        layout=LAYOUT, operation=Operation.TRUNCATE, source=source, sequences=[sequence]
    )


def codes(division: Division) -> list[object]:
    """The keys that may go on, in order."""
    return [row[0] for run in division.ready for row in run.rows]


def held(division: Division) -> list[tuple[int, str]]:
    """Sequence and error code of what is held."""
    return [(one.sequence, one.error.code) for one in division.held]


def blocked(lanes: Lanes, *runs: EntityRun) -> None:
    """Reject the first change of each run and commit."""
    for run in runs:
        rejected = Rejected(layout=LAYOUT, source=run.source, sequence=run.sequences[0], error=BAD)
        lanes.block(lanes.divide([], [rejected]))
    lanes.settle()


def test_with_nothing_blocked_the_runs_are_returned_untouched() -> None:
    """The empty queue costs no look at a row."""
    run = inserts([b"A", b"B"], 0)
    division = Lanes().divide([run])
    assert division.ready[0] is run
    assert division.held == []


def test_a_rejected_change_holds_only_its_own_row() -> None:
    """Its later changes wait, those before it and of other rows go on."""
    first, later = inserts([b"A", b"B"], 0), inserts([b"A", b"C"], 3)
    bad = inserts([b"A"], 2)
    rejected = Rejected(layout=LAYOUT, source=bad.source, sequence=2, error=BAD)
    division = Lanes().divide([first, later], [rejected])
    assert codes(division) == [b"A", b"B", b"C"]
    assert held(division) == [(2, "too_long"), (3, WAITING)]


def test_a_lane_blocked_in_an_earlier_batch_holds_after_the_commit() -> None:
    """Memory follows the commit: forgotten on rollback, kept on settle."""
    lanes = Lanes()
    bad = inserts([b"A"], 0)
    rejected = Rejected(layout=LAYOUT, source=bad.source, sequence=0, error=BAD)
    lanes.block(lanes.divide([], [rejected]))
    lanes.forget()
    assert codes(lanes.divide([inserts([b"A"], 1)])) == [b"A"]
    lanes.block(lanes.divide([], [rejected]))
    lanes.settle()
    assert held(lanes.divide([inserts([b"A"], 1)])) == [(1, WAITING)]


def test_a_rename_blocked_on_either_key_blocks_both() -> None:
    """What follows on the new key waits too."""
    lanes = Lanes()
    blocked(lanes, inserts([b"A"], 0))
    division = lanes.divide([rename(b"A", b"B", 1), inserts([b"B", b"C"], 2)])
    assert codes(division) == [b"C"]
    assert held(division) == [(1, WAITING), (2, WAITING)]


def test_a_condemned_lane_parks_its_next_change_with_the_reason() -> None:
    """What failed late is known by lane when it comes again."""
    run = inserts([b"A", b"B", b"A"], 0)
    division = Lanes().divide([run], [], {entity_lane("material", (b"A",)): BAD})
    assert codes(division) == [b"B"]
    assert held(division) == [(0, "too_long"), (2, WAITING)]


def test_a_truncate_supersedes_what_was_parked_before_it() -> None:
    """Parked changes from before have no effect any longer, so their lanes open."""
    lanes = Lanes()
    blocked(lanes, inserts([b"A"], 0))
    division = lanes.divide([inserts([b"A"], 1), truncate(2), inserts([b"A"], 3)])
    assert held(division) == []
    assert codes(division) == [b"A"]
    assert division.superseded == {LAYOUT.mapping}
    lanes.block(division)
    lanes.settle()
    assert len(lanes) == 0


def test_lanes_tell_rows_and_keys_of_different_tables_apart() -> None:
    """A source row's lane and an entity key's lane never collide, nor do composite keys."""
    run = inserts([b"A"], 0)
    assert len(set(lanes_of(run, 0))) == 2
    assert entity_lane("material", (b"A", b"BC")) != entity_lane("material", (b"AB", b"C"))
    assert entity_lane("material", (b"A",)) != entity_lane("customer", (b"A",))
