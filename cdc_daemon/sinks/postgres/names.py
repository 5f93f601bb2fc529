"""Names in SQL: quoting, qualified tables, the types that entity types have on PostgreSQL.

Identifiers come from configurations and from sources' catalogues: none is ever pasted unquoted.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.sinks.columns import (
    DELETED_AT,
    LAST_SYNC,
    MAX_BYTES,
    SURROGATE,
    key_attributes,
    reference_columns,
)

__all__ = [
    "DELETED_AT",
    "LAST_SYNC",
    "LEDGER",
    "MAX_BYTES",
    "SURROGATE",
    "column_type",
    "element_type",
    "is_textual",
    "key_attributes",
    "listed",
    "literal",
    "qualified",
    "quote",
    "reference_columns",
]

LEDGER = "cdc"
"""The schema that holds the ledger."""

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
