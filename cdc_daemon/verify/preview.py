"""``mappings preview``: real rows through the real mapping, beside what the target holds.

The administrator's tool: alone in this package it gives values; who prints them masks sensitive
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from cdc_daemon.config.configuration import Configuration
from cdc_daemon.mapping.compile import CompiledMapping
from cdc_daemon.mapping.convert import canonical
from cdc_daemon.model.changes import Invalid, Row
from cdc_daemon.model.entities import EntityType
from cdc_daemon.model.errors import ConfigurationError, DataError, suggest
from cdc_daemon.sinks.columns import DELETED_AT, LAST_SYNC
from cdc_daemon.verify.source import compiled_by, open_source
from cdc_daemon.verify.target import TargetReader, open_target

Shown = dict[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One source row and what becomes of it.

    ``source``: the columns that the mapping reads. ``passes``: whether ``where`` is true for it.
    ``result``: the attributes, or None where it is filtered out or ``error`` says why it would be
    parked. ``target``: the entity row that now has this key, None where there is none.
    """

    source: Shown
    passes: bool
    result: Shown | None
    error: str
    target: Shown | None

    @property
    def same(self) -> bool:
        """Whether the target holds the result already."""
        if self.result is None or self.target is None:
            return False
        return all(self.target.get(name) == value for name, value in self.result.items())

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"same": self.same}


def preview(configuration: Configuration, mapping_name: str, limit: int = 10) -> list[Preview]:
    """The first rows of a mapping's table, in the order of their identity.

    Raises Unreachable, or ConfigurationError for an unknown mapping or one that does not fit.
    A target without ledger or tables shows nothing of it.
    """
    try:
        mapping = configuration.mapping(mapping_name)
    except KeyError:
        known = [one.name for one in configuration.mappings]
        raise ConfigurationError(
            f"there is no mapping {mapping_name!r}{suggest(mapping_name, known)}"
        ) from None
    with closing(open_source(configuration, mapping.source)) as source:
        mappings = compiled_by(configuration, mapping.source, source)
        compiled = mappings[mapping_name]
        with source.snapshot():
            rows = source.first(compiled, limit)
    with closing(open_target(configuration.target)) as reader:
        target = TargetRows(reader, mappings)
        return [previewed(compiled, row, target) for row in rows]


def previewed(compiled: CompiledMapping, row: Row, target: TargetRows) -> Preview:
    """What becomes of one full row, beside what the target holds."""
    passes, error = True, ""
    result: list[bytes | None] | None = None
    held: Shown | None = None
    try:
        if compiled.relation.codec:
            compiled.refuse_invalid(row)
        passes = compiled.passes(row)
        if passes:
            result = target.resolved(compiled, compiled.row(row))
            held = target.row(compiled, [result[i] for i in compiled.layout.key])
    except DataError as exc:
        error, result = exc.message, None
    names = [column.name for column in compiled.relation.columns]
    return Preview(
        source={name: _shown(value) for name, value in zip(names, row, strict=True)},
        passes=passes,
        result=None if result is None else _texts(compiled, result),
        error=error,
        target=held,
    )


def _texts(compiled: CompiledMapping, values: Sequence[bytes | None]) -> Shown:
    """Attributes in canonical text."""
    return {
        attribute.name: None if value is None else _shown(_canonical(attribute.type, value))
        for attribute, value in zip(compiled.layout.attributes, values, strict=True)
    }


def _canonical(type_: EntityType, value: bytes) -> bytes:
    """Canonical text; what has none (a document of a thousand levels) as it is."""
    try:
        return canonical(type_, value)
    except (DataError, ValueError):
        return value


def _shown(value: object) -> str | None:
    if isinstance(value, Invalid):
        return value.kept.decode()
    return value.decode(errors="replace") if isinstance(value, bytes) else None


class TargetRows:
    """What the control database knows: entity rows, and the keys that refs mean."""

    def __init__(
        self,
        reader: TargetReader,
        mappings: Mapping[str, CompiledMapping],
    ) -> None:
        self._reader = reader
        self._mappings = mappings

    def resolved(self, compiled: CompiledMapping, row: Row) -> list[bytes | None]:
        """The row with ids replaced by entity keys. Raises DataError for one that leads nowhere."""
        values: list[bytes | None] = [v if isinstance(v, bytes) else None for v in row]
        for position, mapping in compiled.layout.refs:
            value = values[position]
            if value is None:
                continue
            layout = self._mappings[mapping].layout
            if layout.reference is None:
                continue
            found = self._reader.meant(layout, value)
            if found is None:
                attribute = compiled.layout.columns[position]
                raise DataError(
                    f"attribute {attribute!r} refers to a row of mapping {mapping} that is not in "
                    "the control database",
                    code="reference_unresolved",
                    attribute=attribute,
                )
            values[position] = found
        return values

    def row(self, compiled: CompiledMapping, key: Sequence[bytes | None]) -> Shown | None:
        """The entity row with that key: its attributes, ``last_sync_time``, ``deleted_at``."""
        entity = compiled.layout.entity
        names = [*entity.names, LAST_SYNC, *([DELETED_AT] if entity.soft_delete else [])]
        found = self._reader.row(entity, key, names)
        if found is None:
            return None
        types = {attribute.name: attribute.type for attribute in entity.attributes}
        return {
            name: _shown(_canonical(types[name], value) if value and name in types else value)
            for name, value in zip(names, found, strict=True)
        }
