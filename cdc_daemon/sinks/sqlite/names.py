"""Names and types in SQL: tables of the ledger and of entities, and how each entity type is kept.

Every column is INTEGER or TEXT. A constraint named ``attribute: type`` says which entity type a
column is for, and refuses at least the coarsest of what is none. SQLite takes no notice of case in
names, and has no schemas: the ledger's tables begin with ``cdc_``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdc_daemon.model.entities import Attribute, EntityType, Kind

PREFIX = "cdc_"
"""What the names of the ledger's tables begin with."""

_WHOLE = (Kind.INTEGER, Kind.BIGINT, Kind.BOOLEAN)
_CHECKS = {
    Kind.STRING: "length({0}) <= {1}",
    Kind.INTEGER: "{0} BETWEEN -2147483648 AND 2147483647",
    Kind.BOOLEAN: "{0} IN (0, 1)",
    Kind.DECIMAL: "{0} NOT GLOB '*[^-0-9.]*' OR {0} = 'NaN'",
    Kind.NUMERIC: "{0} NOT GLOB '*[^-0-9.]*' OR {0} IN ('NaN', 'Infinity', '-Infinity')",
    Kind.DOUBLE: "{0} NOT GLOB '*[^-+0-9.e]*' OR {0} IN ('NaN', 'Infinity', '-Infinity')",
    Kind.DATE: "{0} GLOB '*[0-9]-[0-9][0-9]-[0-9][0-9]*' OR {0} IN ('infinity', '-infinity')",
    Kind.TIME: "{0} GLOB '[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'",
    Kind.TIMESTAMP: "{0} GLOB '*[0-9]-[0-9][0-9]-[0-9][0-9] [0-9]*'"
    " OR {0} IN ('infinity', '-infinity')",
    Kind.TIMESTAMPTZ: "{0} GLOB '*[0-9]-[0-9][0-9]-[0-9][0-9] [0-9]*+00*'"
    " OR {0} IN ('infinity', '-infinity')",
    Kind.UUID: "length({0}) = 36",
    Kind.JSON: "{0} IS NULL OR json_valid({0})",
    Kind.BYTES: r"{0} GLOB '\x*'",
}
_INTEGERS = ("smallint", "integer", "bigint", "oid")


def quote(name: str) -> str:
    """An identifier, quoted. Raises ValueError for a NUL, which no identifier may hold."""
    if "\0" in name:
        raise ValueError("an identifier cannot hold a NUL")
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    """Quoted identifiers, separated by commas."""
    return ", ".join(quote(name) for name in names)


def ledger(name: str) -> str:
    """The quoted name of a table of the ledger."""
    return quote(PREFIX + name)


def stored_type(entity_type: EntityType) -> str:
    """The column type of an entity type."""
    return "INTEGER" if entity_type.kind in _WHOLE else "TEXT"


def key_type(column_type: str) -> str:
    """The column type of a source key's part that has this type on PostgreSQL."""
    return "INTEGER" if column_type in _INTEGERS else "TEXT"


def constraint_name(attribute: Attribute) -> str:
    """The name of an attribute's constraint."""
    return f"{attribute.name}: {attribute.type}"


def type_constraint(attribute: Attribute) -> str:
    """``CONSTRAINT … CHECK (…)`` of an attribute's type; empty where every text will do."""
    check = _CHECKS.get(attribute.type.kind)
    if check is None:
        return ""
    condition = check.format(quote(attribute.name), attribute.type.length)
    return f"CONSTRAINT {quote(constraint_name(attribute))} CHECK ({condition})"


def printed(entity_type: EntityType, column: str) -> str:
    """A column's value as text, as the log and PostgreSQL print it."""
    if entity_type.kind is Kind.BOOLEAN:
        return f"CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
    return f"CAST({column} AS TEXT)" if entity_type.kind in _WHOLE else column


def marks(count: int, first: int = 1) -> str:
    """``?1, ?2 …``."""
    return ", ".join(f"?{i}" for i in range(first, first + count))


def matched(alias: str, names: Sequence[str], first: int = 1) -> str:
    """``alias.name = ?n AND …``, parameters numbered from ``first``."""
    return " AND ".join(f"{alias}.{quote(name)} = ?{i}" for i, name in enumerate(names, first))


def parts(width: int, value: str = "k.value") -> list[str]:
    """The parts of a key in one element of ``json_each``: a text, or an array of them."""
    if width == 1:
        return [value]
    return [f"json_extract({value}, '$[{i}]')" for i in range(width)]
