"""References that a rename in the same batch would carry along are written again after it."""

from __future__ import annotations

from dataclasses import replace

from cdc_daemon.engine.fold import fold
from cdc_daemon.engine.rewriting import rewritten
from cdc_daemon.model.changes import UNCHANGED, Operation, Relation, Run
from cdc_daemon.model.effects import EntityRun, Key, Layout, Patch, ReferenceTable, Rename, Step
from tests.support.tables import entity, layout

RELATION = Relation(source="hr", schema="public", table="t", columns=(), identity=())
PLAIN = entity("employee", attributes=3)
EMPLOYEE = replace(
    PLAIN, attributes=(*PLAIN.attributes[:2], replace(PLAIN.attributes[2], references="employee"))
)
LAYOUT = replace(
    layout(EMPLOYEE),
    refs=((2, layout(EMPLOYEE).mapping),),
    reference=ReferenceTable(name="reference_employee", columns=(("fid", "integer"),)),
)


def run(
    operation: Operation,
    source_keys: list[Key],
    *rows: tuple[bytes, bytes, bytes | None],
    old_keys: list[Key | None] | None = None,
    what: Layout = LAYOUT,
) -> EntityRun:
    """A resolved run: rows are (code, name, boss)."""
    return EntityRun(
        layout=what,
        operation=operation,
        source=Run(relation=RELATION, operation=operation),
        sequences=list(range(len(source_keys))),
        rows=list(rows),
        old_keys=old_keys,
        source_keys=source_keys,
    )


def folded(*runs: EntityRun) -> list[Step]:
    return fold(runs, {"employee": 0}, lambda _: 0)


def test_a_reference_written_before_a_swap_is_written_again_after_it() -> None:
    """3 refers to 1, which ends as b: its foreign key would follow 2 from b to a."""
    steps = folded(
        run(Operation.UPDATE, [(b"3",)], (b"c", b"three", b"b"), old_keys=[(b"c",)]),
        run(
            Operation.UPDATE,
            [(b"1",), (b"2",), (b"1",)],
            (b"x", b"one", None),
            (b"a", b"two", None),
            (b"b", b"one", None),
            old_keys=[(b"a",), (b"b",), (b"x",)],
        ),
    )
    last = steps[-1]
    assert isinstance(last, Patch)
    assert last.unchanged == {1}
    assert (b"c", UNCHANGED, b"b") in last.rows


def test_without_a_rename_nothing_is_written_again() -> None:
    steps = folded(
        run(Operation.UPDATE, [(b"3",)], (b"c", b"three", b"b"), old_keys=[(b"c",)]),
    )
    assert not any(isinstance(step, Patch | Rename) for step in steps)


def test_a_row_is_followed_to_its_last_key_and_reference() -> None:
    """Also over a change of the source's key; a row that is gone gets nothing."""
    moved = run(Operation.UPDATE, [(b"9",)], (b"d", b"three", b"z"), old_keys=[(b"c",)])
    moved.old_source_keys = [(b"3",)]
    runs = [
        run(Operation.INSERT, [(b"3",), (b"4",)], (b"c", b"three", b"y"), (b"e", b"four", b"y")),
        moved,
        run(Operation.DELETE, [(b"4",)], old_keys=[(b"e",)]),
    ]
    (patch,) = rewritten(runs, {"employee"})
    assert patch.rows == [(b"d", UNCHANGED, b"z")]
    assert rewritten(runs, {"customer"}) == []
