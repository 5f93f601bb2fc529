"""Coalescing keeps references right: which source row stands for which entity row, after any batch.

The model carries steps out one by one, with the rules of `Upsert`, `Delete` and `Rename`; a batch
folded as a whole must leave what the same changes leave one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_daemon.engine.fold import fold
from cdc_daemon.engine.resolve import Resolver
from cdc_daemon.mapping.mapper import Mapped
from cdc_daemon.model.changes import Column, ColumnType, Operation, Relation, Row, Run
from cdc_daemon.model.effects import (
    Delete,
    EntityRun,
    Key,
    Layout,
    ReferenceTable,
    Rename,
    Step,
    Upsert,
)
from tests.support.tables import entity

RELATION = Relation(
    source="erp",
    schema="public",
    table="t_material",
    columns=tuple(Column(name=n, type=ColumnType("text")) for n in ("fid", "fnumber", "fname")),
    identity=(0,),
)


def layout(*, soft: bool) -> Layout:
    """A mapping whose entity key is not the source's."""
    what = entity(soft=soft, attributes=2)
    return Layout(
        mapping="erp.public.t_material.material",
        entity=what,
        columns=what.names,
        key=(0,),
        soft=soft,
        reference=ReferenceTable(name="reference_material", columns=(("fid", "text"),)),
    )


@dataclass
class Control:
    """Living rows by entity key, tombstones, and references, as steps leave them."""

    soft: bool
    rows: dict[Key, Row] = field(default_factory=dict)
    references: dict[Key, Key] = field(default_factory=dict)

    def apply(self, step: Step) -> None:
        match step:
            case Upsert():
                assert step.source_keys is not None
                assert len(set(step.source_keys)) == len(step.source_keys), "one source row twice"
                for source, row in zip(step.source_keys, step.rows, strict=True):
                    key = step.layout.key_of(row)
                    assert key not in self.rows or self.references.get(source) == key
                    self.rows[key] = row
                    self.references[source] = key
            case Delete():
                for key in step.keys:
                    self.rows.pop(key, None)
                for source in step.owners or ():
                    self.references.pop(source, None)
            case Rename():
                for (old, row), source in zip(step.pairs, step.source_keys or (), strict=True):
                    assert self.rows.pop(old, None) is not None
                    assert step.layout.key_of(row) not in self.rows
                    self.rows[step.layout.key_of(row)] = row
                    self.references[source] = step.layout.key_of(row)
            case _:
                raise AssertionError(step)


class Unit:
    """What resolution asks of a unit of work."""

    def __init__(self, control: Control) -> None:
        self.control = control

    def references(self, layout: Layout, source_keys: list[Key]) -> dict[Key, Key]:
        del layout
        known = self.control.references
        return {source: known[source] for source in source_keys if source in known}


def changes_of(draws: list[tuple[int, int, int]], what: Layout) -> list[EntityRun]:
    """Changes that a source could have made: two rows, three numbers, no number twice."""
    alive: dict[bytes, bytes] = {}
    found: list[EntityRun] = []
    for sequence, (kind, fid, number) in enumerate(draws):
        row, key = b"%d" % fid, b"N%d" % number
        free = key not in alive.values() or alive.get(row) == key
        if row in alive and kind == 0:
            del alive[row]
            found.append(change(what, Operation.DELETE, sequence, row))
        elif free:
            operation = Operation.UPDATE if row in alive else Operation.INSERT
            alive[row] = key
            found.append(change(what, operation, sequence, row, (key, b"v%d" % sequence)))
    return found


def change(
    what: Layout, operation: Operation, sequence: int, fid: bytes, row: Row | None = None
) -> EntityRun:
    """One change as mapping hands it on."""
    new: list[Row] = [] if row is None else [(fid, *row)]
    old: list[Row] | None = [(fid,)] if operation is Operation.DELETE else None
    return EntityRun(
        layout=what,
        operation=operation,
        source=Run(
            relation=RELATION, operation=operation, new_rows=new, old_rows=old, sequence=sequence
        ),
        sequences=[sequence],
        rows=[] if row is None else [row],
        source_keys=[(fid,)],
    )


def carried_out(batches: list[list[EntityRun]], *, soft: bool) -> Control:
    """What the control database holds after these batches."""
    control = Control(soft)
    resolver = Resolver({})
    for batch in batches:
        mapped = Mapped(runs=batch)
        runs, rejected = resolver.resolve(
            mapped,
            Unit(control),  # type: ignore[arg-type]
            lambda relation, keys: {},
            final=True,
        )
        assert rejected == []
        for step in fold(runs, {"material": 0}, lambda sequence: sequence):
            control.apply(step)
    return control


DRAWS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3)), max_size=12)


@pytest.mark.parametrize("soft", [True, False])
@given(draws=DRAWS, cut=st.integers(0, 12))
def test_a_batch_leaves_the_references_that_its_changes_leave(
    soft: bool, draws: list[tuple[int, int, int]], cut: int
) -> None:
    """Also for a row that is deleted and comes back under another key, once or more often."""
    what = layout(soft=soft)
    wanted = carried_out([[one] for one in changes_of(draws, what)], soft=soft)
    changes = changes_of(draws, what)
    found = carried_out([changes[:cut], changes[cut:]], soft=soft)
    assert found.rows == wanted.rows
    assert found.references == wanted.references
