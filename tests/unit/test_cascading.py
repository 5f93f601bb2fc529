"""Changes by foreign keys, put into a batch where they were: order, ordinals, transactions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cdc_daemon.engine import cascading
from cdc_daemon.engine.cascading import Cascading
from cdc_daemon.model.cascades import Action, Cascade, Cascades, Child
from cdc_daemon.model.changes import (
    UNCHANGED,
    Batch,
    Column,
    ColumnType,
    Operation,
    Relation,
    Row,
    Run,
)
from cdc_daemon.model.errors import Stop

NUMBER = ColumnType(name="integer")
INSERT, UPDATE, DELETE = Operation.INSERT, Operation.UPDATE, Operation.DELETE


def relation(table: str, *columns: str, mapped: bool = True) -> Relation:
    return Relation(
        source="hr",
        schema="s",
        table=table,
        columns=tuple(Column(name=name, type=NUMBER) for name in columns),
        identity=(0,),
        mapped=mapped,
    )


TOP = relation("top", "id", mapped=False)
MIDDLE = relation("middle", "id", "top")
LOW = relation("low", "id", "middle", "text")
KEYS = (
    Cascade(
        child=("s", "middle"),
        columns=("top",),
        parent=("s", "top"),
        parent_columns=("id",),
        on_delete=Action.CASCADE,
        on_update=Action.CASCADE,
    ),
    Cascade(
        child=("s", "low"),
        columns=("middle",),
        parent=("s", "middle"),
        parent_columns=("id",),
        on_delete=Action.SET_NULL,
    ),
)


class Notes:
    """The ledger's part of a unit of work."""

    def __init__(self) -> None:
        self.found: dict[tuple[bytes, bytes], str] = {}

    def children(self, parents: Sequence[bytes], most: int, after: bytes = b"") -> list[str]:
        found = sorted((digest, row) for (of, digest), row in self.found.items() if of in parents)
        return [row for digest, row in found if digest > after][:most]

    def note_children(
        self, table: str, gone: Sequence[tuple[bytes, bytes]], come: Sequence[Child]
    ) -> None:
        del table
        for key in gone:
            self.found.pop(key, None)
        self.found.update({(child.parent, child.digest): child.row for child in come})


def carried(keys: Cascading, notes: Notes, batch: Batch) -> list[Batch]:
    pieces: list[tuple[Batch, bool]] = []
    keys.carry_out(batch, notes, lambda piece, last: pieces.append((piece, last)))  # type: ignore[arg-type]
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
    return [piece for piece, _ in pieces]


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def keys(notes: Notes) -> Cascading:
    """With middle 1, 2 below top 1, and low 7, 8, 9 below middle 1."""
    found = Cascading("hr", Cascades(silent=True, keys=KEYS, beside=(TOP,)), [MIDDLE, LOW])
    runs = [
        Run(relation=TOP, operation=INSERT, new_rows=[(b"1",)]),
        Run(relation=MIDDLE, operation=INSERT, new_rows=[(b"1", b"1"), (b"2", b"1")], sequence=1),
        Run(
            relation=LOW,
            operation=INSERT,
            new_rows=[(b"%d" % n, b"1", b"x") for n in (7, 8, 9)],
            sequence=3,
        ),
    ]
    [piece] = carried(found, notes, Batch(runs=runs, begins=[(0, 0, 0)], position="p"))
    assert [run.relation for run in piece.runs] == [MIDDLE, LOW], "nobody maps top"
    return found


def delete_top(sequence: int = 6, *, acts: bool = True, full: bool = True) -> Run:
    return Run(
        relation=TOP,
        operation=DELETE,
        old_rows=[(b"1",)],
        old_full=full,
        sequence=sequence,
        acts=acts,
    )


def test_changes_stand_before_their_parents_in_its_transaction(
    keys: Cascading, notes: Notes
) -> None:
    other = Run(relation=LOW, operation=UPDATE, new_rows=[(b"7", b"1", b"y")], sequence=6)
    later = Run(relation=LOW, operation=UPDATE, new_rows=[(b"7", None, b"z")], sequence=8)
    batch = Batch(
        runs=[other, delete_top(7), later],
        begins=[(6, 60, 6), (7, 70, 7), (8, 80, 8)],
        position="p",
        transactions=2,
    )
    [piece] = carried(keys, notes, batch)
    assert [(run.operation, len(run), run.sequence) for run in piece.runs] == [
        (UPDATE, 1, 6),
        (UPDATE, 3, 7),
        (DELETE, 2, 10),
        (UPDATE, 1, 13),
    ]
    assert (b"7", None, UNCHANGED) in piece.runs[1].new_rows
    assert piece.runs[1].partial
    assert set(piece.runs[2].old_rows or ()) == {(b"1",), (b"2",)}
    assert [piece.begin_of(run.sequence)[1] for run in piece.runs] == [60, 70, 70, 80]
    assert (piece.position, piece.transactions) == ("p", 2)
    assert notes.found == {}
    assert keys.added == 5


def test_a_changed_key_is_followed_behind_its_parents_change(keys: Cascading, notes: Notes) -> None:
    moved = Run(
        relation=TOP,
        operation=UPDATE,
        new_rows=[(b"5",)],
        old_rows=[(b"1",)],
        old_full=True,
        sequence=6,
        acts=True,
    )
    [piece] = carried(keys, notes, Batch(runs=[moved], begins=[(6, 0, 0)], position="p"))
    [run] = piece.runs
    assert (set(run.new_rows), run.old_rows) == ({(b"1", b"5"), (b"2", b"5")}, None)
    assert run.sequence == 7
    assert carried(keys, notes, Batch(runs=[delete_top(7)], begins=[(7, 0, 0)])) == [
        Batch(runs=[], begins=[(9, 0, 0)])
    ]


def test_a_change_that_did_not_act_is_not_followed(keys: Cascading, notes: Notes) -> None:
    before = dict(notes.found)
    [piece] = carried(keys, notes, Batch(runs=[delete_top(acts=False)], begins=[(6, 0, 0)]))
    assert (piece.runs, notes.found) == ([], before)


def test_many_are_followed_in_pieces(
    keys: Cascading, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cascading, "PIECE", 1)
    batch = Batch(runs=[delete_top()], begins=[(6, 60, 0)], position="p", changes=1)
    pieces = carried(keys, notes, batch)
    assert [len(piece.runs) for piece in pieces] == [1] * 5 + [0]
    assert [piece.runs[0].sequence for piece in pieces[:-1]] == [6, 7, 8, 9, 10]
    assert [piece.position for piece in pieces] == [None] * 5 + ["p"]
    assert {piece.begins[0][1] for piece in pieces} == {60}
    assert sum(piece.changes for piece in pieces) == 1


def test_a_row_that_is_not_told_whole_stops(keys: Cascading, notes: Notes) -> None:
    with pytest.raises(Stop, match="binlog_row_image"):
        carried(keys, notes, Batch(runs=[delete_top(full=False)], begins=[(6, 0, 0)]))
    left_out = Run(relation=LOW, operation=INSERT, new_rows=[(b"1", UNCHANGED, b"x")], sequence=6)
    with pytest.raises(Stop, match="binlog_row_image"):
        carried(keys, notes, Batch(runs=[left_out], begins=[(6, 0, 0)]))


def test_a_row_that_moves_on_is_its_last_parents_alone(keys: Cascading, notes: Notes) -> None:
    """Changes of one row that follow each other are one run."""
    moves = Run(
        relation=LOW,
        operation=UPDATE,
        new_rows=[(b"7", b"2", b"x"), (b"7", b"5", b"x")],
        old_rows=[(b"7", b"1", b"x"), (b"7", b"2", b"x")],
        old_full=True,
        sequence=6,
    )
    carried(keys, notes, Batch(runs=[moves], begins=[(6, 0, 0)], position="p"))
    gone = Run(
        relation=MIDDLE,
        operation=DELETE,
        old_rows=[(b"2", b"1")],
        old_full=True,
        sequence=8,
        acts=True,
    )
    [piece] = carried(keys, notes, Batch(runs=[gone], begins=[(8, 0, 0)], position="p"))
    assert [run.relation for run in piece.runs] == [MIDDLE]


def test_a_row_deleted_with_the_parent_it_referred_to_is_forgotten(notes: Notes) -> None:
    """Both are in one table, and the key has made NULL of the reference before the row went."""
    tree = relation("tree", "id", "parent", "top")
    to_itself = Cascade(
        child=("s", "tree"),
        columns=("parent",),
        parent=("s", "tree"),
        parent_columns=("id",),
        on_delete=Action.SET_NULL,
    )
    to_top = Cascade(
        child=("s", "tree"),
        columns=("top",),
        parent=("s", "top"),
        parent_columns=("id",),
        on_delete=Action.CASCADE,
    )
    found = Cascades(silent=True, keys=(to_itself, to_top), beside=(TOP,))
    keys = Cascading("hr", found, [tree])
    rows: list[Row] = [(b"1", None, None), (b"2", b"1", b"1")]
    come = Run(relation=tree, operation=INSERT, new_rows=rows)
    carried(keys, notes, Batch(runs=[come], begins=[(0, 0, 0)], position="p"))
    gone = Run(
        relation=tree,
        operation=DELETE,
        old_rows=[(b"1", None, None), (b"2", None, b"1")],
        old_full=True,
        sequence=2,
        acts=True,
    )
    [piece] = carried(keys, notes, Batch(runs=[gone], begins=[(2, 0, 0)], position="p"))
    assert [run.operation for run in piece.runs] == [UPDATE, DELETE]
    assert notes.found == {}
