"""Names in SQL: quoting, qualified tables, the types that entity types have on PostgreSQL.

Identifiers come from configurations and from sources' catalogues: none is ever pasted unquoted.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdc_daemon.model.effects import Layout
from cdc_daemon.model.entities import Attribute, Entity, EntityType, Kind

LEDGER = "cdc"
"""The schema that holds the ledger."""

MAX_BYTES = 63
"""Longest identifier that PostgreSQL does not cut."""

LAST_SYNC = "last_sync_time"
DELETED_AT = "deleted_at"
SURROGATE = "id"

_TYPES = {
    Kind.STRING: "character varying",
    Kind.TEXT: "text",
    Kind.INTEGER: "integer",
    Kind.BIGINT: "bigint",
    Kind.DECIMAL: "numeric",
    Kind.NUMERIC: "numeric",
    Kind.DOUBLE: "double precision",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIME: "time without time zone",
    Kind.TIMESTAMP: "timestamp without time zone",
    Kind.TIMESTAMPTZ: "timestamp with time zone",
    Kind.INTERVAL: "interval",
    Kind.UUID: "uuid",
    Kind.JSON: "jsonb",
    Kind.BYTES: "bytea",
}


def quote(name: str) -> str:
    """An identifier, quoted. Raises ValueError for a NUL, which no identifier may hold."""
    if "\0" in name:
        raise ValueError("an identifier cannot hold a NUL")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """``"schema"."name"``."""
    return f"{quote(schema)}.{quote(name)}"


def listed(names: Iterable[str]) -> str:
    """Quoted identifiers, separated by commas."""
    return ", ".join(quote(name) for name in names)


def literal(text: str) -> str:
    """A string literal that does not depend on standard_conforming_strings."""
    if "\0" in text:
        raise ValueError("a literal cannot hold a NUL")
    doubled = text.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def column_type(entity_type: EntityType) -> str:
    """The column type of an entity type, spelt as ``format_type`` spells it."""
    name = _TYPES[entity_type.kind]
    if entity_type.kind is Kind.STRING:
        return f"{name}({entity_type.length})"
    if entity_type.kind is Kind.DECIMAL:
        return f"{name}({entity_type.length},{entity_type.scale or 0})"
    return name


def element_type(entity_type: EntityType) -> str:
    """The type without its modifier, for arrays of keys: comparison needs no modifier."""
    return "text" if entity_type.kind is Kind.STRING else _TYPES[entity_type.kind]


def is_textual(entity_type: EntityType) -> bool:
    """Whether values of the type have a collation."""
    return entity_type.kind in (Kind.STRING, Kind.TEXT)


def key_attributes(entity: Entity) -> tuple[Attribute, ...]:
    """The attributes of an entity's key, in key order."""
    return tuple(entity.attribute(name) for name in entity.key)


def reference_columns(layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Column names of a mapping's reference table: source key columns, entity key columns."""
    if layout.reference is None:
        return (), ()
    names = [_fit(f"source_{name}") for name, _ in layout.reference.columns]
    keys = [_fit(f"entity_{name}") for name in layout.entity.key]
    taken: set[str] = set()
    unique = [_apart(name, taken) for name in names + keys]
    return tuple(unique[: len(names)]), tuple(unique[len(names) :])


def _fit(name: str) -> str:
    """The name cut to what PostgreSQL keeps of it, at a character's boundary."""
    return name.encode()[:MAX_BYTES].decode(errors="ignore")


def _apart(name: str, taken: set[str]) -> str:
    """The name, changed at its end where an earlier one took it (two long names cut alike)."""
    number, found = 2, name
    while found in taken:
        suffix = f"~{number}"
        found = name.encode()[: MAX_BYTES - len(suffix)].decode(errors="ignore") + suffix
        number += 1
    taken.add(found)
    return found
