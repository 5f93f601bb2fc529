"""A mapping's rows computed from the source's by the compiled mapping, where no server does it.

The source's rows are read by a path of their own, and what they come to by the daemon's: a mapping
that computes wrongly computes alike in both. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cdc_daemon.mapping.canonical import canonical_form
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.decimals import with_scale
from cdc_daemon.mapping.fields import Field, row_function
from cdc_daemon.model.changes import Invalid, Row, Run, Value
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.model.errors import DataError
from cdc_daemon.verify.reading import NOT_COMPUTED, Texts

LookUp = Callable[[str, Collection[bytes]], Mapping[bytes, bytes]]
"""Of a mapping, the entity keys of the rows with these identities, as far as it carries them."""


@dataclass(slots=True)
class _Found:
    """Source rows and the mapping's values of them; what is wrong with some, by their place."""

    source: list[Row]
    values: list[Row] = field(default_factory=list)
    reasons: dict[int, bytes] = field(default_factory=dict)
    lost: dict[int, dict[str, None]] = field(default_factory=dict)


class Computed:
    """Computes these attributes of a mapping, the key's first. ``filters``: with its ``where``."""

    def __init__(
        self, compiled: CompiledMapping, attributes: Sequence[Attribute], *, filters: bool = True
    ) -> None:
        by_name = {one.attribute.name: one for one in compiled.fields}
        self.compiled = compiled
        self._fields = [by_name[attribute.name] for attribute in attributes]
        self._whole = row_function(self._fields, len(compiled.relation.columns))
        self._filters = filters and compiled.predicate is not None
        keys = enumerate(attributes[: len(compiled.key_fields)])
        self._printed = [(i, printed_key(attribute.type)) for i, attribute in keys]

    @property
    def refs(self) -> tuple[str, ...]:
        """The mappings whose keys must be known."""
        return tuple(dict.fromkeys(one.ref for one in self._fields if one.ref))

    def rows(self, run: Run, look_up: LookUp) -> list[Texts]:
        """What verification compares of a run's rows, those that the filter leaves out apart."""
        found = self._chosen(run)
        if not found.source:
            return []
        self._compute(found, whole=not run.partial and not found.reasons)
        columns = list(zip(*found.values, strict=True))
        for i, one in enumerate(self._fields):
            if one.ref:
                columns[i] = self._resolved(one, columns[i], found, look_up)
        for i, form in self._printed:
            columns[i] = tuple([None if v is None else form(v) for v in columns[i]])
        places = range(len(found.source))
        reasons = map(found.reasons.get, places)
        lost = [",".join(found.lost[i]).encode() if i in found.lost else None for i in places]
        identities = zip(*map(self._identity, found.source), strict=True)
        return list(zip(*identities, reasons, lost, *columns, strict=True))

    def _chosen(self, run: Run) -> _Found:
        """The rows that the filter takes, and those it cannot judge."""
        doubtful = run.partial and bool(self.compiled.relation.codec)
        if not self._filters and not doubtful:
            return _Found(run.new_rows)
        found = _Found([])
        for row in run.new_rows:
            try:
                if doubtful:
                    self.compiled.refuse_invalid(row)
                if self._filters and not self.compiled.passes(row):
                    continue
            except DataError as error:
                found.reasons[len(found.source)] = _reason(error)
            found.source.append(row)
        return found

    def _compute(self, found: _Found, *, whole: bool) -> None:
        if whole:
            try:
                found.values = found.source if self._whole is None else self._whole(found.source)
            except DataError:
                pass
            else:
                return
        found.values = [self._one(i, row, found) for i, row in enumerate(found.source)]

    def _one(self, place: int, row: Row, found: _Found) -> Row:
        """A row value by value: NULL where the mapping rejects one, and the first reason."""
        values: list[Value] = []
        for one in self._fields:
            try:
                values.append(one.of(row))
            except DataError as error:
                values.append(None)
                if one.ref and error.code == "reference_unresolved":
                    found.lost.setdefault(place, {})[one.attribute.name] = None
                else:
                    found.reasons.setdefault(place, _reason(error))
        return tuple(values)

    def _resolved(
        self, one: Field, column: Sequence[Value], found: _Found, look_up: LookUp
    ) -> tuple[Value, ...]:
        """Entity keys in place of the ids that a ``ref`` gives."""
        assert one.ref is not None
        ids = {value for value in column if isinstance(value, bytes)}
        known = look_up(one.ref, ids)
        if len(known) < len(ids):
            for place, value in enumerate(column):
                if isinstance(value, bytes) and value not in known:
                    found.lost.setdefault(place, {})[one.attribute.name] = None
        return tuple([known.get(value) if isinstance(value, bytes) else None for value in column])

    def _identity(self, row: Row) -> Texts:
        """A row's identity; of what is no value, its bytes."""
        values = [row[i] for i in self.compiled.relation.identity]
        return tuple([v.raw if isinstance(v, Invalid) else v for v in values])  # type: ignore[misc]


def _reason(error: DataError) -> bytes:
    return f"{error.attribute}: {error.code}".encode() if error.attribute else NOT_COMPUTED


def printed_key(type_: EntityType) -> Callable[[bytes], bytes]:
    """How a target prints a key's value that a mapping made."""
    match type_.kind:
        case Kind.BOOLEAN:
            return lambda text: b"true" if canonical_form(type_)(text) == b"t" else b"false"
        case Kind.DECIMAL:
            return partial(with_scale, scale=type_.scale or 0)
        case _:
            return canonical_form(type_)
