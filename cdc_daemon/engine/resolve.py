"""Resolution: what mapped changes need from the control database or the source before they apply.

* which entity key a source row stands for (updates and deletes of mappings with a reference table);
* which entity key a ``ref`` means;
* whole source rows for changes that cannot be mapped from what the log sent.

Changes inside the batch are seen in source order through an overlay over what the tables say. In an
open transaction a ``ref`` that does not resolve yet is deferred to the transaction's end, together
with the later changes of its row, because the row it means may still come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cdc_daemon.engine.lanes import lanes_of, pick
from cdc_daemon.mapping.mapper import Mapped, Unresolved
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

    def meant(self, source_key: Key) -> Key | None:
        """For a ``ref``: also a row that a later change of this batch deletes."""
        return self.get(source_key) or self.ever.get(source_key) or self.table.get(source_key)

    def put(self, source_key: Key, key: Key) -> None:
        self.overlay[source_key] = self.ever[source_key] = key

    def drop(self, source_key: Key) -> None:
        self.overlay[source_key] = None

    def clear(self) -> None:
        self.overlay = dict.fromkeys([*self.table, *self.overlay])


class Resolver:
    """Resolves one pipeline's mapped batches. ``targets``: mapping → its layout."""

    def __init__(self, targets: Mapping[str, Layout]) -> None:
        self._targets = targets
        self._deferred: list[EntityRun] = []
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
            runs = runs + self._reread(mapped, reread, rejected)
        if not self._deferred and not any(_needs_lookup(run) for run in runs):
            return runs, rejected
        if final:
            runs, self._deferred, self._deferred_lanes = runs + self._deferred, [], set()
        known = self._look_up(runs, unit)
        for run in runs:
            _resolve_keys(run, known)
        return self._resolve_refs(runs, known, rejected, final=final), rejected

    def forget(self) -> None:
        """The unit was rolled back: what was deferred comes again."""
        self._deferred, self._deferred_lanes = [], set()

    # --- rows that need the source ------------------------------------------------------------

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
                if row is None:
                    mapped.drop(one.compiled.layout.mapping, 1, "gone")  # its delete follows
                else:
                    found += self._whole_row(one, row, rejected)
        return found

    def _whole_row(self, one: Unresolved, row: Row, rejected: list[Rejected]) -> list[EntityRun]:
        compiled, layout = one.compiled, one.compiled.layout
        run = EntityRun(
            layout=layout,
            operation=Operation.UPDATE,
            source=one.source,
            sequences=[one.sequence],
        )
        try:
            passes = compiled.passes(row)
            entity_row = compiled.row(row)
        except DataError as error:
            rejected.append(
                Rejected(layout=layout, source=one.source, sequence=one.sequence, error=error)
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
        run.old_keys = None if layout.reference is not None else [layout.key_of(entity_row)]
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
            bad = self._fill_refs(run, known) if run.layout.refs and run.rows else {}
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
                    self._defer(run, i)
        return found

    def _fill_refs(
        self, run: EntityRun, known: Mapping[str, _Known]
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
                key = target.meant((value,))
                if key is None:
                    bad[i] = unresolved(run.layout.columns[position], mapping)
                else:
                    rows[i] = (*row[:position], key[0], *row[position + 1 :])
        for i in bad:
            rows[i] = run.rows[i]  # the ids again, for another try at the transaction's end
        run.rows = rows
        return bad

    def _behind_deferred(self, run: EntityRun, bad: Mapping[int, DataError | None]) -> list[int]:
        """Changes whose row has an earlier change that is deferred."""
        if not self._deferred_lanes and not bad:
            return []
        behind: list[int] = []
        for i in range(len(run.sequences)):
            lanes = () if run.operation is Operation.TRUNCATE else lanes_of(run, i)
            if i in bad:
                self._deferred_lanes.update(lanes)
            elif any(lane in self._deferred_lanes for lane in lanes):
                self._deferred_lanes.update(lanes)
                behind.append(i)
        return behind

    def _defer(self, run: EntityRun, i: int) -> None:
        one = pick(run, [i])
        one.source = single(run.source, run.sequences[i])
        self._deferred.append(one)


def _needs_lookup(run: EntityRun) -> bool:
    return bool(run.layout.refs and run.rows) or _needs_keys(run)


def _needs_keys(run: EntityRun) -> bool:
    return run.layout.reference is not None and run.operation is not Operation.INSERT


def _ids(run: EntityRun, position: int) -> list[Key]:
    return [(row[position],) for row in run.rows if isinstance(row[position], bytes)]  # type: ignore[misc]


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


def unresolved(attribute: str, mapping: str) -> DataError:
    """The error of a ``ref`` whose row no mapping has carried."""
    return DataError(
        f"attribute {attribute!r} refers to a row that mapping {mapping} has not carried",
        code="reference_unresolved",
        attribute=attribute,
    )


def _rejected(run: EntityRun, i: int, error: DataError) -> Rejected:
    return Rejected(layout=run.layout, source=run.source, sequence=run.sequences[i], error=error)
