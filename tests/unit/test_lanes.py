"""A parked change holds back its own row and key, in order, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.engine import blocked as blocked_lanes
from cdc_daemon.engine.blocked import Lanes
from cdc_daemon.engine.cutting import apart
from cdc_daemon.engine.dividing import Divider
from cdc_daemon.engine.faults import AtFault
from cdc_daemon.engine.lanes import WAITING, Division, entity_lane, lanes_of
from cdc_daemon.engine.touched import touches_of
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
    assert len(set(lanes_of(touches_of(run), 0))) == 2
    assert entity_lane("material", (b"A", b"BC")) != entity_lane("material", (b"AB", b"C"))
    assert entity_lane("material", (b"A",)) != entity_lane("customer", (b"A",))


# --- only what has to do with a closed lane is looked at ------------------------------------------

CODES = st.sampled_from([b"A", b"B", b"C", b"D", b"E", b"F"])
CHANGES = st.lists(
    st.one_of(st.tuples(st.just("insert"), CODES, CODES), st.tuples(st.just("move"), CODES, CODES)),
    min_size=1,
    max_size=14,
)


def runs_of(changes: list[tuple[str, bytes, bytes]], start: int) -> list[EntityRun]:
    """A run for each change; a rejected one is left out by the caller."""
    return [
        inserts([old], start + n) if kind == "insert" else rename(old, new, start + n)
        for n, (kind, old, new) in enumerate(changes)
    ]


def everything(lanes: Lanes, runs: list[EntityRun], rejected: list[Rejected]) -> Division:
    """A walk over every change."""
    divider = Divider(lanes.blocked, {}, set(), {})
    every = [range(len(run)) for run in runs]
    return divider.divide(runs, [touches_of(run) for run in runs], every, rejected)


@given(CHANGES, st.sets(CODES, max_size=2), st.sets(st.integers(0, 13), max_size=3), st.booleans())
def test_a_division_is_that_of_a_walk_over_everything(
    changes: list[tuple[str, bytes, bytes]], before: set[bytes], bad: set[int], restarted: bool
) -> None:
    """Whatever is blocked, rejected or moved, and whether this process knows the lanes' marks."""
    lanes = Lanes()
    blocked(lanes, *(inserts([code], n) for n, code in enumerate(sorted(before))))
    if restarted:
        lanes = Lanes(dict(lanes.blocked))
    runs = runs_of(changes, 10)
    rejected = [
        Rejected(layout=LAYOUT, source=run.source, sequence=run.sequences[0], error=BAD)
        for n, run in enumerate(runs)
        if n in bad
    ]
    runs = [run for n, run in enumerate(runs) if n not in bad]
    found, expected = lanes.divide(runs, rejected), everything(lanes, runs, rejected)
    assert held(found) == held(expected)
    assert codes(found) == codes(expected)
    assert [one.lanes for one in found.held] == [one.lanes for one in expected.held]


def test_a_long_chain_of_moves_is_looked_at_as_a_whole() -> None:
    """What belongs together has no end in sight; nothing is held but what touches the lane."""
    lanes = Lanes()
    blocked(lanes, inserts([b"0"], 0))
    chain = [rename(b"%d" % n, b"%d" % (n + 1), 100 - n) for n in range(20)][::-1]
    division = lanes.divide([*chain, inserts([b"Z"], 200)])
    assert held(division) == [(100, WAITING)]
    assert len(division.ready) == 20


def test_lanes_of_a_process_before_are_found_and_forgotten_again() -> None:
    """They have no marks here; with them gone, marks do."""
    lanes = Lanes()
    blocked(lanes, inserts([b"A"], 0))
    again = Lanes()
    again.reload(dict(lanes.blocked))
    assert held(again.divide([inserts([b"A", b"B"], 1)])) == [(1, WAITING)]
    blocked(again, inserts([b"C"], 3))
    again.reload({lane: name for lane, name in again.blocked.items() if lane not in lanes.blocked})
    assert held(again.divide([inserts([b"A", b"C"], 4)])) == [(5, WAITING)]


def test_a_lane_is_blocked_as_the_open_unit_sees_it() -> None:
    """What it parks is, what its truncate undoes is not; a rollback takes both back."""
    lanes = Lanes()
    blocked(lanes, inserts([b"A"], 0))
    (before, _) = lanes_of(touches_of(inserts([b"A"], 0)), 0)
    (parked, _) = lanes_of(touches_of(inserts([b"B"], 0)), 0)
    lanes.block(lanes.divide([truncate(1)]))
    bad = inserts([b"B"], 2)
    rejected = Rejected(layout=LAYOUT, source=bad.source, sequence=2, error=BAD)
    lanes.block(lanes.divide([], [rejected]))
    assert (before in lanes, parked in lanes) == (False, True)
    lanes.forget()
    assert (before in lanes, parked in lanes) == (True, False)


def test_marks_of_lanes_that_are_open_again_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many they are given up, and what is blocked is still found; with none, too."""
    monkeypatch.setattr(blocked_lanes, "_MARKS", 10)
    lanes = Lanes()
    blocked(lanes, inserts([b"kept"], 0))
    for n in range(40):
        bad = inserts([b"%d" % n], 1)
        blocked(lanes, bad)
        lanes.open(lanes_of(touches_of(bad), 0))
        assert len(lanes._marks) <= 10 + 2 * 2 + 2
        assert held(lanes.divide([inserts([b"kept"], 2)])) == [(2, WAITING)]
    lanes.open(lanes_of(touches_of(inserts([b"kept"], 0)), 0))
    assert (len(lanes), len(lanes._marks), len(lanes._unmarked)) == (0, 0, 0)


# --- rows at fault, told as sets ------------------------------------------------------------------


def test_a_change_is_held_untried_where_nothing_else_has_to_do_with_its_row() -> None:
    """A key that is written twice, or was moved to, is tried by itself."""
    wrong: list[Key] = [(b"A",), (b"B",), (b"D",)]
    errors = {LAYOUT.mapping: dict.fromkeys(wrong, BAD)}
    runs = [inserts([b"A", b"B", b"B", b"C"], 0), rename(b"C", b"D", 4)]
    found = AtFault({"material": set(errors[LAYOUT.mapping])}, errors)
    rest, alone = apart(runs, found.keys)
    assert codes(Division(rest)) == []
    told, others = found.told(alone)
    assert [(one.sequence, one.error, one.lanes) for one in told] == [
        (0, BAD, lanes_of(touches_of(runs[0]), 0))
    ]
    assert [list(run.sequences) for run in others] == [[1, 2, 3], [4]]
