"""Coalescing: resolved entity runs of a batch become steps with one row per entity key.

Inside a batch only the last state of a key counts, merged column by column where the log left
columns out. A rename and a truncate are barriers: what came before is written before. Entities are
taken in reference order: what writes goes parents first, the deletes that end an entity's steps go
children first. Pure; replay calls it with single changes and gets single-row steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from cdc_daemon.engine.rewriting import rewritten
from cdc_daemon.model.changes import UNCHANGED, Operation, Row
from cdc_daemon.model.effects import (
    Delete,
    EntityRun,
    Key,
    Layout,
    Patch,
    Rename,
    Step,
    Truncate,
    Upsert,
)

TimeOf = Callable[[int], int]
"""Commit time (µs since 1970) of the change with that ordinal."""


def fold(runs: Sequence[EntityRun], rank: Mapping[str, int], time_of: TimeOf) -> list[Step]:
    """Steps that carry the runs out. ``rank``: an entity's place in reference order."""
    by_entity: dict[str, list[EntityRun]] = {}
    for run in runs:
        by_entity.setdefault(run.layout.entity.name, []).append(run)
    writes: list[Step] = []
    deletes: list[Step] = []
    order = sorted(by_entity, key=lambda name: rank[name])
    for name in order:
        steps = _fold_entity(by_entity[name], time_of)
        tail = len(steps)
        while tail and isinstance(steps[tail - 1], Delete):
            tail -= 1
        writes += steps[:tail]
        deletes[:0] = steps[tail:]
    return writes + _carried_along(by_entity, order, writes) + deletes


def _carried_along(
    by_entity: Mapping[str, Sequence[EntityRun]], order: Sequence[str], writes: Sequence[Step]
) -> list[Patch]:
    """References to be written again: to entities renamed not before what refers to them.

    That is only so inside an entity and in circles of entities, for parents go first.
    """
    renamed = {step.layout.entity.name for step in writes if isinstance(step, Rename)}
    if not renamed:
        return []
    found: list[Patch] = []
    for n, name in enumerate(order):
        found += rewritten(by_entity[name], renamed.intersection(order[n:]))
    return found


def _fold_entity(runs: Sequence[EntityRun], time_of: TimeOf) -> list[Step]:
    quick = _one_kind(runs, time_of)
    if quick is not None:
        return quick
    steps: list[Step] = []
    segment = _Segment(time_of)
    for run in runs:
        for piece in _pieces(run, time_of):
            match piece:
                case Rename() if segment.makes_way(piece):
                    _append_barrier(steps, piece)
                case Rename() | Truncate():
                    steps += segment.steps()
                    segment = _Segment(time_of)
                    _append_barrier(steps, piece)
                case EntityRun():
                    if not segment.fits(piece.layout):
                        steps += segment.steps()
                        segment = _Segment(time_of)
                    segment.add(piece)
    return steps + segment.steps()


def _append_barrier(steps: list[Step], barrier: Rename | Truncate) -> None:
    """Add a barrier; renames that follow each other directly become one step."""
    last = steps[-1] if steps else None
    if isinstance(barrier, Rename) and isinstance(last, Rename) and last.layout is barrier.layout:
        last.pairs.extend(barrier.pairs)
        if last.source_keys is not None and last.old_source_keys is not None:
            last.source_keys.extend(barrier.source_keys or ())
            last.old_source_keys.extend(barrier.old_source_keys or ())
        return
    steps.append(barrier)


def _one_kind(runs: Sequence[EntityRun], time_of: TimeOf) -> list[Step] | None:
    """The steps for a batch of one operation on one layout, without a look at each row's fate."""
    first = runs[0]
    layout, operation = first.layout, first.operation
    for run in runs:
        if run.layout is not layout or run.operation is not operation or run.partial:
            return None
        if run.old_keys is not None and operation is not Operation.DELETE:
            return None
    match operation:
        case Operation.INSERT:
            return [_fresh(runs, layout)]
        case Operation.UPDATE if layout.reference is None:
            return [Upsert(layout=layout, rows=_last_rows(runs, layout))]
        case Operation.DELETE if layout.reference is None and not layout.soft:
            keys = dict.fromkeys(key for run in runs for key in run.old_keys or ())
            keys.pop(None, None)
            return [Delete(layout=layout, keys=list(keys), times=[])] if keys else []  # type: ignore[arg-type]
        case _:
            return None


def _fresh(runs: Sequence[EntityRun], layout: Layout) -> Upsert:
    """Inserts as they came; two with one key surface in the sink as a conflict."""
    rows = runs[0].rows if len(runs) == 1 else [row for run in runs for row in run.rows]
    source_keys: list[Key] | None = None
    if layout.reference is not None:
        source_keys = [key for run in runs for key in run.source_keys or ()]
    return Upsert(layout=layout, rows=rows, fresh=True, source_keys=source_keys)


def _last_rows(runs: Sequence[EntityRun], layout: Layout) -> list[Row]:
    if len(layout.key) == 1:
        index = layout.key[0]
        return list({row[index]: row for run in runs for row in run.rows}.values())
    return list({layout.key_of(row): row for run in runs for row in run.rows}.values())


def _pieces(run: EntityRun, time_of: TimeOf) -> Iterator[EntityRun | Rename | Truncate]:
    """A run cut at its barriers."""
    if run.operation is Operation.TRUNCATE:
        yield Truncate(layout=run.layout, time=time_of(run.sequences[0]))
        return
    if run.operation is not Operation.UPDATE or run.old_keys is None:
        yield run
        return
    start = 0
    for i, row in enumerate(run.rows):
        rename = _rename(run, i, row)
        if rename is not None:
            if start < i:
                yield _slice(run, start, i)
            yield rename
            start = i + 1
    if start < len(run.rows):
        yield _slice(run, start, len(run.rows))


def _rename(run: EntityRun, i: int, row: Row) -> Rename | None:
    """The move of one row to another entity key or another source row; None: neither changed."""
    assert run.old_keys is not None
    old = run.old_keys[i]
    source = run.source_keys[i] if run.source_keys is not None else None
    old_source = run.old_source_keys[i] if run.old_source_keys is not None else source
    if old is None or (old == run.layout.key_of(row) and old_source == source):
        return None
    return Rename(
        layout=run.layout,
        pairs=[(old, row)],
        source_keys=None if source is None else [source],
        old_source_keys=None if old_source is None else [old_source],
    )


def _slice(run: EntityRun, start: int, stop: int) -> EntityRun:
    """Part of an update run whose keys did not change."""
    return EntityRun(
        layout=run.layout,
        operation=run.operation,
        source=run.source,
        sequences=run.sequences[start:stop],
        rows=run.rows[start:stop],
        source_keys=None if run.source_keys is None else run.source_keys[start:stop],
        partial=run.partial,
    )


@dataclass(slots=True)
class _Gone:
    """The last state of a key is deleted; ``row`` was written in this batch before (soft only)."""

    layout: Layout
    time: int
    source_key: Key | None


@dataclass(slots=True)
class _Segment:
    """The last state of each key between two barriers."""

    time_of: TimeOf
    layout: Layout | None = None
    rows: dict[Key, Row] = field(default_factory=dict)
    fresh: bool = True
    source_of: dict[Key, Key] = field(default_factory=dict)
    gone: dict[Key, _Gone] = field(default_factory=dict)
    earlier: dict[Key, _Gone] = field(default_factory=dict)  # deleted, then written again
    contested: set[Key] = field(default_factory=set)

    def fits(self, layout: Layout) -> bool:
        """Whether rows of that layout can be merged with those here."""
        return self.layout is None or self.layout.columns == layout.columns

    def add(self, run: EntityRun) -> None:
        self.layout = self.layout or run.layout
        if run.operation is Operation.DELETE:
            self._delete(run)
            return
        self.layout = run.layout
        self.fresh = self.fresh and run.operation is Operation.INSERT
        key_of, rows = run.layout.key_of, self.rows
        for i, row in enumerate(run.rows):
            key = key_of(row)
            self._revive(key)
            before = rows.get(key)
            if before is not None:
                self.fresh = False
                row = merge(before, row) if run.partial else row  # noqa: PLW2901
            rows[key] = row
            if run.source_keys is not None:
                self._own(key, run.source_keys[i])

    def _revive(self, key: Key) -> None:
        was = self.gone.pop(key, None)
        if was is not None:
            self.fresh = False
            self.rows.pop(key, None)
            self.earlier.setdefault(key, was)

    def _own(self, key: Key, source_key: Key) -> None:
        """Two source rows on one key in one segment cannot be told apart by set: replay decides."""
        before = self.source_of.setdefault(key, source_key)
        if before != source_key:
            self.source_of[key] = source_key
            self.contested.add(key)

    def _delete(self, run: EntityRun) -> None:
        assert run.old_keys is not None
        for i, key in enumerate(run.old_keys):
            if key is None:
                continue
            source_key = run.source_keys[i] if run.source_keys is not None else None
            time = self.time_of(run.sequences[i]) if run.layout.soft else 0
            if self.taken_over(key, source_key):
                self.fresh = False
                self.earlier.setdefault(key, _Gone(run.layout, time, source_key))
                continue
            self.gone.pop(key, None)  # the order is that of the last deletes
            self.gone[key] = _Gone(run.layout, time, source_key)
            if not run.layout.soft:
                self.rows.pop(key, None)
            self.source_of.pop(key, None)

    def makes_way(self, rename: Rename) -> bool:
        """Whether a rename frees a key for another source row that was written there before it.

        Then it is carried out before the segment, which holds nothing of the row that moves.
        """
        ((old, row),) = rename.pairs
        owner = rename.old_source_keys[0] if rename.old_source_keys else None
        new = rename.layout.key_of(row)
        return self.taken_over(old, owner) and new not in self.rows and new not in self.gone

    def taken_over(self, key: Key, source_key: Key | None) -> bool:
        """Whether another source row was written to that key: its old row goes before that."""
        owner = self.source_of.get(key)
        return owner is not None and source_key is not None and owner != source_key

    def steps(self) -> list[Step]:
        """What the segment comes to: early deletes, writes, deletes."""
        if self.contested and self.layout is not None:
            raise TwoRowsOneKey(self.layout.entity.name, self.contested)
        self._delete_returned()
        found: list[Step] = _delete_steps(self.earlier)
        if self.layout is not None and self.rows:
            found += self._writes(self.layout)
        return found + _delete_steps(self.gone)

    def _delete_returned(self) -> None:
        """A source row that was deleted and came back under another key: the old key goes first,
        while the row's reference still names it."""
        last = {what.source_key: key for key, what in self.gone.items()}
        last |= {owner: key for key, owner in self.source_of.items()}
        for key, what in list(self.gone.items()):
            if what.source_key is not None and last[what.source_key] != key:
                self.earlier.setdefault(key, self.gone.pop(key))
                self.rows.pop(key, None)

    def _writes(self, layout: Layout) -> list[Step]:
        whole: list[Row] = []
        patches: dict[frozenset[int], list[Row]] = {}
        for row in self.rows.values():
            if UNCHANGED in row:
                unchanged = frozenset(i for i, value in enumerate(row) if value is UNCHANGED)
                patches.setdefault(unchanged, []).append(row)
            else:
                whole.append(row)
        found: list[Step] = []
        if whole:
            owners = None
            if layout.reference is not None:
                owners = [self._owner(layout.key_of(row)) for row in whole]
            found.append(Upsert(layout=layout, rows=whole, fresh=self.fresh, source_keys=owners))
        for unchanged, rows in patches.items():
            found.append(Patch(layout=layout, unchanged=unchanged, rows=rows))
        return found

    def _owner(self, key: Key) -> Key:
        """The source row that a written row comes from, also when it was deleted since."""
        owner = self.source_of.get(key) or self.gone[key].source_key
        assert owner is not None
        return owner


class TwoRowsOneKey(Exception):
    """Two source rows claim each of these entity keys inside a batch."""

    def __init__(self, entity: str, keys: Set[Key]) -> None:
        self.entity = entity
        self.keys = frozenset(keys)
        super().__init__()


def _delete_steps(gone: Mapping[Key, _Gone]) -> list[Step]:
    """Deletes by layout."""
    by_layout: dict[Layout, list[tuple[Key, _Gone]]] = {}
    for key, what in gone.items():
        by_layout.setdefault(what.layout, []).append((key, what))
    steps: list[Step] = []
    for layout, pairs in by_layout.items():
        owners: list[Key] | None = None
        if layout.reference is not None:
            owners = [what.source_key for _, what in pairs if what.source_key is not None]
            assert len(owners) == len(pairs)
        steps.append(
            Delete(
                layout=layout,
                keys=[key for key, _ in pairs],
                times=[what.time for _, what in pairs] if layout.soft else [],
                owners=owners,
            )
        )
    return steps


def merge(before: Row, after: Row) -> Row:
    """The later row, with what it leaves out taken from the earlier one."""
    return tuple([b if a is UNCHANGED else a for b, a in zip(before, after, strict=True)])
