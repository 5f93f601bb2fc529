"""A batch through the mappings: entity runs in source order, rejected changes, rows to re-read.

Pure. The hot path is :func:`_whole`: a run of full rows without filter maps in one call. Everything
else (filters, partial rows, a row at fault) goes row by row with the same compiled fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.fields import NeedsSource
from cdc_daemon.model.changes import (
    LEFT_OUT,
    UNCHANGED,
    Batch,
    Invalid,
    Operation,
    Relation,
    Row,
    Run,
)
from cdc_daemon.model.effects import EntityRun, Key, Layout, Rejected
from cdc_daemon.model.errors import DataError


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A change that needs its source row read again, because the log left out what it needs."""

    compiled: CompiledMapping
    source: Run
    sequence: int


@dataclass(slots=True)
class Mapped:
    """What became of a batch; ``filtered``: changes left out, by mapping and reason.

    ``compiled``: the mappings of a relation, to map one of its changes again.
    """

    runs: list[EntityRun] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    unresolved: list[Unresolved] = field(default_factory=list)
    filtered: dict[tuple[str, str], int] = field(default_factory=dict)
    compiled: Callable[[Relation], Sequence[CompiledMapping]] = field(default=lambda _: ())

    def drop(self, mapping: str, number: int, reason: str = "where") -> None:
        """Count changes that were left out on purpose; reason: ``where``, ``ignore``, ``gone``."""
        if number:
            key = (mapping, reason)
            self.filtered[key] = self.filtered.get(key, 0) + number


class Mapper:
    """Maps batches; compiles mappings on first sight of a relation description."""

    def __init__(self, compile_relation: Callable[[Relation], Sequence[CompiledMapping]]) -> None:
        self._compile = compile_relation
        self._known: dict[Relation, Sequence[CompiledMapping]] = {}

    def map(self, batch: Batch) -> Mapped:
        """Map every run of the batch through every mapping of its table."""
        mapped = Mapped(compiled=self.compiled)
        for run in batch.runs:
            for compiled in self.compiled(run.relation):
                map_run(compiled, run, mapped)
        return mapped

    def compiled(self, relation: Relation) -> Sequence[CompiledMapping]:
        """The mappings of a relation, compiled for it. Raises ConfigurationError."""
        found = self._known.get(relation)
        if found is None:
            found = self._known[relation] = self._compile(relation)
        return found


def map_run(compiled: CompiledMapping, run: Run, mapped: Mapped) -> None:
    """Map one run through one mapping."""
    match run.operation:
        case Operation.INSERT | Operation.UPDATE:
            if run.partial or compiled.predicate is not None or not _whole(compiled, run, mapped):
                _row_by_row(compiled, run, mapped)
        case Operation.DELETE:
            _deletes(compiled, run, mapped)
        case Operation.TRUNCATE:
            _truncate(compiled, run, mapped)


def _whole(compiled: CompiledMapping, run: Run, mapped: Mapped) -> bool:
    """Map all rows of a full run at once; False when some row is at fault."""
    try:
        rows = run.new_rows if compiled.rows is None else compiled.rows(run.new_rows)
    except DataError:
        return False
    layout = compiled.layout
    entity_run = EntityRun(
        layout=layout,
        operation=run.operation,
        source=run,
        sequences=range(run.sequence, run.sequence + len(rows)),
        rows=rows,
    )
    if layout.reference is not None:
        entity_run.source_keys = compiled.source_keys(run.new_rows)
    if run.old_rows is not None:
        old_images(compiled, run, range(len(rows)), entity_run)
    mapped.runs.append(entity_run)
    return True


def old_images(
    compiled: CompiledMapping, run: Run, indices: Sequence[int], entity_run: EntityRun
) -> None:
    """Fill in what the old images say about the keys before an update or delete."""
    assert run.old_rows is not None
    old = [run.old_rows[i] for i in indices]
    if compiled.layout.reference is not None:
        entity_run.old_source_keys = (
            compiled.source_keys(old) if run.old_full else compiled.known(old)
        )
        return
    if run.old_full and not _keys_from_identity(compiled):
        entity_run.old_keys = [_full_key(compiled, row) for row in old]
        return
    entity_run.old_keys = compiled.identity_keys(compiled.identities(old) if run.old_full else old)


def _keys_from_identity(compiled: CompiledMapping) -> bool:
    identity = set(compiled.relation.identity)
    return all(set(f.inputs) <= identity for f in compiled.key_fields)


def _full_key(compiled: CompiledMapping, row: Row) -> Key | None:
    """The entity key of a full old image; None where it never had one."""
    if any(isinstance(row[i], Invalid) for i in compiled.relation.identity):
        return None
    try:
        values = [key_field.of(row) for key_field in compiled.key_fields]
    except (DataError, NeedsSource):
        return None
    return None if UNCHANGED in values else tuple(values)  # type: ignore[arg-type]


def touched(compiled: CompiledMapping, run: Run, i: int) -> tuple[Key, ...]:
    """The entity keys of one change, as far as its own images tell them."""
    keys = [_full_key(compiled, run.new_rows[i])]
    if run.old_rows is not None and compiled.layout.reference is None:
        one = EntityRun(
            layout=compiled.layout, operation=run.operation, source=run, sequences=(run.sequence,)
        )
        old_images(compiled, run, [i], one)
        keys += one.old_keys or ()
    return tuple([key for key in keys if key is not None])


def _row_by_row(compiled: CompiledMapping, run: Run, mapped: Mapped) -> None:
    """Filter and map rows one at a time, keeping source order."""
    kept = _Kept(compiled, run, mapped)
    may_be_invalid = run.partial and compiled.relation.codec
    for i, source_row in enumerate(run.new_rows):
        sequence = run.sequence + i
        try:
            if run.partial:
                _refuse_left_out(compiled, source_row)
            if may_be_invalid:
                compiled.refuse_invalid(source_row)
            if compiled.passes(source_row):
                kept.write(i, compiled.row(source_row))
            elif run.operation is Operation.INSERT:
                mapped.drop(compiled.layout.mapping, 1)
            else:
                kept.leave(i, source_row)
        except NeedsSource:
            kept.end()
            mapped.unresolved.append(Unresolved(compiled, run, sequence))
        except DataError as error:
            kept.end()
            mapped.rejected.append(
                Rejected(
                    layout=compiled.layout,
                    source=run,
                    sequence=sequence,
                    error=error,
                    keys=touched(compiled, run, i),
                )
            )
    kept.end()


def _refuse_left_out(compiled: CompiledMapping, source_row: Row) -> None:
    """The row that a parked change lacks values of has to be read again, by its identity.

    Raises NeedsSource; DataError where the identity is what is lacking.
    """
    if Invalid not in map(type, source_row):
        return
    lacking = [
        i for i, v in enumerate(source_row) if isinstance(v, Invalid) and v.reason == LEFT_OUT
    ]
    for i in lacking:
        if i in compiled.relation.identity:
            name = compiled.relation.columns[i].name
            words = f"column {name!r}, which identifies the row: {LEFT_OUT}"
            raise DataError(words, code="invalid_value")
    if lacking:
        raise NeedsSource


class _Kept:
    """Collects consecutive rows with the same fate (written, left the filter) as entity runs."""

    def __init__(self, compiled: CompiledMapping, run: Run, mapped: Mapped) -> None:
        self.compiled = compiled
        self.run = run
        self.mapped = mapped
        self.indices: list[int] = []
        self.rows: list[Row] = []
        self.leaving = False

    def write(self, index: int, row: Row) -> None:
        if self.leaving:
            self.end()
        self.indices.append(index)
        self.rows.append(row)

    def leave(self, index: int, source_row: Row) -> None:
        if self.compiled.leave is None:
            self.mapped.drop(self.compiled.layout.mapping, 1)
            return
        if not self.leaving:
            self.end()
            self.leaving = True
        self.indices.append(index)

    def end(self) -> None:
        if self.indices:
            self.mapped.runs.append(self._deleted() if self.leaving else self._written())
        self.indices, self.rows, self.leaving = [], [], False

    def _written(self) -> EntityRun:
        compiled, run = self.compiled, self.run
        found = EntityRun(
            layout=compiled.layout,
            operation=run.operation,
            source=run,
            sequences=[run.sequence + i for i in self.indices],
            rows=self.rows,
            partial=run.partial,
        )
        if compiled.layout.reference is not None:
            found.source_keys = compiled.source_keys([run.new_rows[i] for i in self.indices])
        if run.old_rows is not None:
            old_images(compiled, run, self.indices, found)
        return found

    def _deleted(self) -> EntityRun:
        """Rows that left the filter: deletes of the keys they had before."""
        compiled, run = self.compiled, self.run
        assert compiled.leave is not None
        found = EntityRun(
            layout=compiled.leave,
            operation=Operation.DELETE,
            source=run,
            sequences=[run.sequence + i for i in self.indices],
        )
        if run.old_rows is not None:
            old_images(compiled, run, self.indices, found)
        new = [run.new_rows[i] for i in self.indices]
        if compiled.layout.reference is not None:
            found.source_keys = found.old_source_keys or compiled.source_keys(new)
            found.old_source_keys = None
        elif found.old_keys is None:
            found.old_keys = [_full_key(compiled, row) for row in new]
        return found


def _deletes(compiled: CompiledMapping, run: Run, mapped: Mapped) -> None:
    """Deletes ignore ``where``: a row that was never written is a counted no-op."""
    layout = compiled.layout
    if not compiled.deletes:
        mapped.drop(layout.mapping, len(run), "ignore")
        return
    found = EntityRun(
        layout=layout,
        operation=Operation.DELETE,
        source=run,
        sequences=range(run.sequence, run.sequence + len(run)),
    )
    old_images(compiled, run, range(len(run)), found)
    if layout.reference is not None:
        found.source_keys, found.old_source_keys = found.old_source_keys, None
    mapped.runs.append(found)


def _truncate(compiled: CompiledMapping, run: Run, mapped: Mapped) -> None:
    if not compiled.deletes:
        mapped.drop(compiled.layout.mapping, 1, "ignore")
        return
    mapped.runs.append(
        EntityRun(
            layout=compiled.layout,
            operation=Operation.TRUNCATE,
            source=run,
            sequences=[run.sequence],
        )
    )


def layouts_of(compiled: Sequence[CompiledMapping]) -> list[Layout]:
    """The layouts that a sink has to know for these mappings."""
    return [one.layout for one in compiled]
