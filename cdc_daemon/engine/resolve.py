"""Resolution: what mapped changes need from the control database or the source before they apply.

* which entity key a source row stands for (updates and deletes of mappings with a reference table);
* which entity key a ``ref`` means;
* whole source rows for changes that cannot be mapped from what the log sent.

Changes inside the batch are seen in source order through an overlay over what the tables say. In an
open transaction a ``ref`` that does not resolve yet is deferred to the transaction's end, together
with the later changes of its row, because the row it means may still come. A truncate undoes what
was deferred before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cdc_daemon.engine.awaiting import awaited_source_row
from cdc_daemon.engine.cutting import pick
from cdc_daemon.engine.lanes import identities_of, lanes_of
from cdc_daemon.engine.touched import touches_of
from cdc_daemon.mapping.mapper import Mapped, Unresolved, old_images, touched
from cdc_daemon.model.changes import UNCHANGED, Operation, Relation, Row, Run
from cdc_daemon.model.effects import EntityRun, Key, Layout, Rejected
from cdc_daemon.model.errors import DataError, Stop
from cdc_daemon.model.ports import Reread, UnitOfWork


@dataclass(slots=True)
class _Known:
    """What one mapping's reference table says now: the tables' word under the batch's own."""

    table: dict[Key, Key]
    overlay: dict[Key, Key | None] = field(default_factory=dict)
    ever: dict[Key, Key] = field(default_factory=dict)

    def get(self, source_key: Key) -> Key | None:
        if source_key in self.overlay:
            return self.overlay[source_key]
        return self.table.get(source_key)

    def names(self, one: EntityRun) -> bool:
        """Whether the source row of a single change is known."""
        return any(self.get(key) for key in one.old_source_keys or one.source_keys or ())

    def meant(self, source_key: Key, *, final: bool) -> Key | None:
        """For a ``ref``. With nothing more to come, also a row that this batch has deleted."""
        found = self.get(source_key)
        if found is None and final:
            found = self.ever.get(source_key) or self.table.get(source_key)
        return found

    def put(self, source_key: Key, key: Key) -> None:
        self.overlay[source_key] = self.ever[source_key] = key

    def drop(self, source_key: Key) -> None:
        self.overlay[source_key] = None

    def clear(self) -> None:
        self.overlay = dict.fromkeys([*self.table, *self.overlay])


@dataclass(slots=True)
class _Unnamed:
    """What it takes to read rows again that no reference names.

    Written as far as the log has them, they would change whoever's row stands at their key.
    """

    mapped: Mapped
    reread: Reread
    rejected: list[Rejected]

    def alone(self, one: EntityRun) -> Mapped:
        """One change as one that needs its source row; what is filtered is counted together."""
        mapping = one.layout.mapping
        for compiled in self.mapped.compiled(one.source.relation):
            if compiled.layout.mapping == mapping:
                unresolved = [Unresolved(compiled, one.source, one.sequences[0])]
                return Mapped(unresolved=unresolved, filtered=self.mapped.filtered)
        raise Stop(f"mapping {mapping} is gone")


class Resolver:
    """Resolves one pipeline's mapped batches. ``targets``: mapping → its layout. ``blocked``: of a
    lane, whether its changes are held whatever they are resolved to."""

    def __init__(
        self, targets: Mapping[str, Layout], blocked: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        self._targets = targets
        self._blocked = blocked
        self._deferred: dict[tuple[str, int], EntityRun] = {}  # by mapping and ordinal
        self._deferred_lanes: set[bytes] = set()

    def resolve(
        self, mapped: Mapped, unit: UnitOfWork, reread: Reread, *, final: bool
    ) -> tuple[list[EntityRun], list[Rejected]]:
        """Runs ready to be divided and folded, and what could not be resolved.

        ``final``: the batch ends at a transaction's end, so nothing is deferred any longer.
        """
        runs = mapped.runs
        rejected = list(mapped.rejected)
        if mapped.unresolved:
            runs = _in_order(runs + self._reread(mapped, reread, rejected))
        if self._deferred and final:
            runs = _in_order([*self._deferred.values(), *runs])
            self.forget()
        if self._deferred or any(_needs_lookup(run) for run in runs):
            known = self._look_up(runs, unit)
            unnamed = _Unnamed(mapped, reread, rejected)
            runs = [one for run in runs for one in self._resolve_keys(run, known, unnamed)]
            runs = self._resolve_refs(runs, known, rejected, final=final)
        return runs, [_with_keys(one, unit) for one in rejected]

    def apart(
        self, mapped: Mapped, unit: UnitOfWork, reread: Reread, *, final: bool
    ) -> tuple[list[EntityRun], list[Rejected]]:
        """The same for some changes by themselves; what they defer waits with the rest."""
        other = Resolver(self._targets, self._blocked)
        found = other.resolve(mapped, unit, reread, final=final)
        self._deferred |= other._deferred
        self._deferred_lanes |= other._deferred_lanes
        return found

    def forget(self) -> None:
        """Nothing is deferred any longer: it was taken up, or comes again after a rollback."""
        self._deferred, self._deferred_lanes = {}, set()

    # --- rows that need the source ------------------------------------------------------------

    def _resolve_keys(
        self, run: EntityRun, known: Mapping[str, _Known], unnamed: _Unnamed
    ) -> list[EntityRun]:
        """Fill in the keys of a run, with the rows that no reference names read again."""
        references = known.get(run.layout.mapping)
        if references is None or run.layout.reference is None or not _left_out(run):
            _resolve_keys(run, known)
            return [run]
        found: list[EntityRun] = []
        for part, doubtful in _cut(run, references):
            again = [part]
            if doubtful and not references.names(part) and not self._waits(part):
                again = self._reread(unnamed.alone(part), unnamed.reread, unnamed.rejected)
            for each in again:
                _resolve_keys(each, known)
            found += again
        return found

    def _waits(self, one: EntityRun) -> bool:
        """Whether a change is held, or deferred, behind an earlier one of its row."""
        lanes = lanes_of(touches_of(one), 0)
        return any(self._blocked(lane) or lane in self._deferred_lanes for lane in lanes)

    def _reread(self, mapped: Mapped, reread: Reread, rejected: list[Rejected]) -> list[EntityRun]:
        by_relation: dict[Relation, list[Unresolved]] = {}
        for one in mapped.unresolved:
            by_relation.setdefault(one.source.relation, []).append(one)
        found: list[EntityRun] = []
        for relation, group in by_relation.items():
            identities = {one.sequence: _identity(one) for one in group}
            rows = reread(relation, list(dict.fromkeys(identities.values())))
            for one in group:
                row = rows.get(identities[one.sequence])
                if row is not None:
                    found += self._whole_row(one, row, rejected)
                    continue
                mapped.drop(one.compiled.layout.mapping, 1, "gone")  # its delete follows
                if one.source.old_rows is not None and one.compiled.deletes:
                    found.append(_left_behind(one))
        return found

    def _whole_row(self, one: Unresolved, row: Row, rejected: list[Rejected]) -> list[EntityRun]:
        compiled, layout = one.compiled, one.compiled.layout
        run = _run_of(one, Operation.UPDATE)
        try:
            if compiled.relation.codec:
                compiled.refuse_invalid(row)
            passes = compiled.passes(row)
            entity_row = compiled.row(row)
        except DataError as error:
            rejected.append(
                Rejected(
                    layout=layout,
                    source=one.source,
                    sequence=one.sequence,
                    error=error,
                    keys=touched(compiled, one.source, one.sequence - one.source.sequence),
                )
            )
            return []
        if layout.reference is not None:
            run.source_keys = [compiled.source_key(row)]
        if passes:
            run.rows = [entity_row]
            return [run]
        if compiled.leave is None:
            return []
        run.layout, run.operation = compiled.leave, Operation.DELETE
        if layout.reference is not None:
            run.source_keys, run.old_source_keys = run.old_source_keys or run.source_keys, None
        elif run.old_keys is None:
            run.old_keys = [layout.key_of(entity_row)]
        return [run]

    # --- lookups --------------------------------------------------------------------------------

    def _look_up(self, runs: Sequence[EntityRun], unit: UnitOfWork) -> dict[str, _Known]:
        wanted: dict[str, tuple[Layout, dict[Key, None]]] = {}
        for run in runs:
            if _needs_keys(run):
                keys = wanted.setdefault(run.layout.mapping, (run.layout, {}))[1]
                keys.update(dict.fromkeys(run.source_keys or ()))
                keys.update(dict.fromkeys(run.old_source_keys or ()))
            for position, mapping in run.layout.refs:
                target = self._target(mapping)
                keys = wanted.setdefault(target.mapping, (target, {}))[1]
                keys.update(dict.fromkeys(_ids(run, position)))
        return {
            mapping: _Known(unit.references(layout, list(keys)) if keys else {})
            for mapping, (layout, keys) in wanted.items()
        }

    def _target(self, mapping: str) -> Layout:
        target = self._targets.get(mapping)
        if target is None or target.reference is None:
            raise Stop(f"mapping {mapping}, which a ref names, keeps no references")
        return target

    def _resolve_refs(
        self,
        runs: Sequence[EntityRun],
        known: Mapping[str, _Known],
        rejected: list[Rejected],
        *,
        final: bool,
    ) -> list[EntityRun]:
        found: list[EntityRun] = []
        for run in runs:
            if run.operation is Operation.TRUNCATE:
                self._undo_deferred(run.layout.mapping)
            given = run.rows
            bad = _fill_refs(run, known, final=final) if run.layout.refs and run.rows else {}
            if not final:
                bad |= dict.fromkeys(self._behind_deferred(run, bad))
            if not bad:
                found.append(run)
                continue
            kept = [i for i in range(len(run)) if i not in bad]
            if kept:
                found.append(pick(run, kept))
            for i, error in bad.items():
                if final and error is not None:
                    rejected.append(_rejected(run, i, error))
                else:
                    self._defer(run, i, given)
        return found

    def _behind_deferred(self, run: EntityRun, bad: Mapping[int, DataError | None]) -> list[int]:
        """Changes whose row has an earlier change that is deferred."""
        if not self._deferred_lanes and not bad:
            return []
        behind: list[int] = []
        touches = touches_of(run)
        for i in range(len(run.sequences)):
            lanes = lanes_of(touches, i)
            if i in bad:
                self._deferred_lanes.update(lanes)
            elif any(lane in self._deferred_lanes for lane in lanes):
                self._deferred_lanes.update(lanes)
                behind.append(i)
        return behind

    def _defer(self, run: EntityRun, i: int, given: Sequence[Row]) -> None:
        """Keep a change for the transaction's end, with the ids that its row was given with."""
        one = pick(run, [i])
        one.rows = [given[i]] if given else []
        one.source = single(run.source, run.sequences[i])
        self._deferred[run.layout.mapping, run.sequences[i]] = one

    def _undo_deferred(self, mapping: str) -> None:
        """A truncate of its table has come."""
        self._deferred = {at: run for at, run in self._deferred.items() if at[0] != mapping}


def _fill_refs(
    run: EntityRun, known: Mapping[str, _Known], *, final: bool
) -> dict[int, DataError | None]:
    """Replace source ids by entity keys; the rows where that was not possible."""
    bad: dict[int, DataError | None] = {}
    rows = list(run.rows)
    for position, mapping in run.layout.refs:
        target = known[mapping]
        for i, row in enumerate(rows):
            value = row[position]
            if not isinstance(value, bytes):
                continue
            key = target.meant((value,), final=final)
            if key is None:
                bad[i] = unresolved(run.layout.columns[position], mapping, (value,))
            else:
                rows[i] = (*row[:position], key[0], *row[position + 1 :])
    run.rows = rows
    return bad


def _in_order(runs: Sequence[EntityRun]) -> list[EntityRun]:
    """Runs in source order: those of a mapping never overlap."""
    return sorted(runs, key=lambda run: run.sequences[0])


def _run_of(one: Unresolved, operation: Operation) -> EntityRun:
    """A change without its rows, with the keys that its old image tells."""
    run = EntityRun(
        layout=one.compiled.layout,
        operation=operation,
        source=one.source,
        sequences=[one.sequence],
    )
    if one.source.old_rows is not None:
        old_images(one.compiled, one.source, [one.sequence - one.source.sequence], run)
    return run


def _left_behind(one: Unresolved) -> EntityRun:
    """The delete of the key that a row had before it changed its identity and went."""
    run = _run_of(one, Operation.DELETE)
    if run.layout.reference is not None:
        run.source_keys, run.old_source_keys = run.old_source_keys, None
    return run


def _with_keys(one: Rejected, unit: UnitOfWork) -> Rejected:
    """A rejected change with the entity keys that the reference table knows of its row."""
    if one.layout.reference is None:
        return one
    found = unit.references(one.layout, identities_of(one.source, one.sequence))
    return replace(one, keys=tuple(dict.fromkeys([*one.keys, *found.values()])))


def _needs_lookup(run: EntityRun) -> bool:
    return bool(run.layout.refs and run.rows) or _needs_keys(run)


def _needs_keys(run: EntityRun) -> bool:
    return run.layout.reference is not None and run.operation is not Operation.INSERT


def _ids(run: EntityRun, position: int) -> list[Key]:
    return [(row[position],) for row in run.rows if isinstance(row[position], bytes)]  # type: ignore[misc]


def _left_out(run: EntityRun) -> bool:
    """Whether the log left out some of a row that is there already."""
    return run.partial and run.operation is Operation.UPDATE


def _cut(run: EntityRun, references: _Known) -> Iterator[tuple[EntityRun, bool]]:
    """A run in source order, with each change by itself (True) that was left out in part, of a
    source row that perhaps no reference names when its turn comes."""
    new, old = run.source_keys or (), run.old_source_keys or run.source_keys or ()
    moved = {before for before, after in zip(old, new, strict=True) if before != after}
    start = 0
    for i, (key, row) in enumerate(zip(old, run.rows, strict=True)):
        if UNCHANGED in row and (key in moved or references.get(key) is None):
            if start < i:
                yield pick(run, range(start, i)), False
            yield pick(run, [i]), True
            start = i + 1
    if start < len(run):
        yield (run if start == 0 else pick(run, range(start, len(run)))), False


def _resolve_keys(run: EntityRun, known: Mapping[str, _Known]) -> None:
    """Fill in the entity keys that source keys stand for, and let the overlay follow."""
    references = known.get(run.layout.mapping)
    if run.layout.reference is None or references is None:
        return
    match run.operation:
        case Operation.INSERT:
            for source_key, row in zip(run.source_keys or (), run.rows, strict=True):
                references.put(source_key, run.layout.key_of(row))
        case Operation.UPDATE:
            _resolve_updates(run, references)
        case Operation.DELETE:
            run.old_keys = []
            for source_key in run.source_keys or ():
                run.old_keys.append(references.get(source_key))
                references.drop(source_key)
        case Operation.TRUNCATE:
            references.clear()


def _resolve_updates(run: EntityRun, references: _Known) -> None:
    source_keys = run.source_keys or []
    old_source_keys = run.old_source_keys or source_keys
    old_keys: list[Key | None] = []
    rows = run.rows
    for i, (source_key, old_source_key) in enumerate(
        zip(source_keys, old_source_keys, strict=True)
    ):
        old = references.get(old_source_key)
        if run.partial and old is not None:
            rows[i] = _with_key(run.layout, rows[i], old)
        if old_source_key != source_key:
            references.drop(old_source_key)
        references.put(source_key, run.layout.key_of(rows[i]))
        old_keys.append(old)
    run.old_keys = old_keys


def _with_key(layout: Layout, row: Row, key: Key) -> Row:
    """A row whose key the log left out, with the key that the reference names."""
    values = list(row)
    for position, value in zip(layout.key, key, strict=True):
        if values[position] is UNCHANGED:
            values[position] = value
    return tuple(values)


def _identity(one: Unresolved) -> Key:
    row = one.source.new_rows[one.sequence - one.source.sequence]
    return one.compiled.source_key(row)


def single(source: Run, sequence: int) -> Run:
    """One change of a run as a run of its own, so that the rest of the run can go."""
    i = sequence - source.sequence
    return replace(
        source,
        new_rows=source.new_rows[i : i + 1],
        old_rows=None if source.old_rows is None else source.old_rows[i : i + 1],
        sequence=sequence,
    )


def unresolved(attribute: str, mapping: str, source_key: Key) -> DataError:
    """The error of a ``ref`` whose row no mapping has carried."""
    return DataError(
        f"attribute {attribute!r} refers to a row that mapping {mapping} has not carried",
        code="reference_unresolved",
        attribute=attribute,
        awaits=(awaited_source_row(mapping, source_key),),
    )


def _rejected(run: EntityRun, i: int, error: DataError) -> Rejected:
    keys = [run.layout.key_of(run.rows[i])]
    if run.old_keys is not None and (old := run.old_keys[i]) is not None:
        keys.append(old)
    return Rejected(
        layout=run.layout,
        source=run.source,
        sequence=run.sequences[i],
        error=error,
        keys=tuple(keys),
    )
