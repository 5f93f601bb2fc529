"""Names and types in SQL: tables of the ledger and of entities, and how each entity type is kept.

Values that the server would round, cut or print otherwise are kept as text in the form that
PostgreSQL prints; so is a document, for MySQL's own type forgets how its numbers were written.
Moments are DATETIME in UTC: TIMESTAMP ends in 2038. There are no schemas inside a database, so the
ledger's tables begin with ``cdc_``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cdc_daemon.model.entities import EntityType, Kind

PREFIX = "cdc_"
"""What the names of the ledger's tables begin with."""

MAX_CHARACTERS = 64
"""Of an identifier."""

KEY_BYTES = 3072
"""Of an index's columns, at InnoDB's usual page size."""

SHORT = 255
"""Characters of a text outside keys that is kept as VARCHAR: the row has 65,535 bytes for those."""

MOMENT = "datetime(6)"
_TYPES = {
    Kind.TEXT: "longtext",
    Kind.INTEGER: "int",
    Kind.BIGINT: "bigint",
    Kind.NUMERIC: "longtext",
    Kind.DOUBLE: "double",
    Kind.BOOLEAN: "tinyint(1)",
    Kind.DATE: "date",
    Kind.TIME: "time(6)",
    Kind.TIMESTAMP: MOMENT,
    Kind.TIMESTAMPTZ: MOMENT,
    Kind.INTERVAL: "varchar(100)",
    Kind.UUID: "char(36)",
    Kind.JSON: "longtext",
    Kind.BYTES: "longblob",
}
_BYTES = {
    "int": 4,
    "bigint": 8,
    "double": 8,
    "tinyint(1)": 1,
    "date": 3,
    "time(6)": 6,
    MOMENT: 8,
    "decimal(20,0)": 9,
}
_INTEGERS = ("smallint", "integer", "bigint")


def quote(name: str) -> str:
    """An identifier, quoted. Raises ValueError for a NUL, which no identifier may hold."""
    if "\0" in name:
        raise ValueError("an identifier cannot hold a NUL")
    return "`" + name.replace("`", "``") + "`"


def listed(names: Iterable[str], alias: str = "") -> str:
    """Quoted identifiers, separated by commas; of a table, where its alias is given."""
    before = f"{alias}." if alias else ""
    return ", ".join(before + quote(name) for name in names)


def ledger_name(name: str) -> str:
    """The name of a table of the ledger; a long one is cut, and told from others by its hash."""
    found = PREFIX + name
    if len(found) <= MAX_CHARACTERS:
        return found
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{found[: MAX_CHARACTERS - 13]}_{digest}"


def ledger(name: str) -> str:
    """The same, quoted."""
    return quote(ledger_name(name))


def column_type(entity_type: EntityType, *, keyed: bool = False) -> str:
    """The column type of an entity type, spelt as ``plain_type`` spells it."""
    if entity_type.kind is Kind.STRING:
        length = entity_type.length or 1
        return f"varchar({length})" if keyed or length <= SHORT else "longtext"
    if entity_type.kind is Kind.DECIMAL:
        return f"decimal({entity_type.length},{entity_type.scale or 0})"
    return _TYPES[entity_type.kind]


def plain_type(spelt: str) -> str:
    """A type as the catalogue has it, without the display widths that some servers show."""
    name, _, rest = spelt.partition("(")
    return name if rest and name in ("int", "bigint", "smallint") else spelt


def reference_type(kind: str, parts: int) -> str:
    """The column type of a source key's part that has this type on PostgreSQL."""
    if kind in _INTEGERS:
        return "bigint"
    if kind == "oid":
        return "decimal(20,0)"
    return f"varchar({KEY_BYTES // 4 // max(parts, 1)})"


def key_bytes(spelt: str) -> int | None:
    """How many bytes a column takes in an index; None: it has no limit, so it cannot."""
    if spelt in _BYTES:
        return _BYTES[spelt]
    name, _, rest = spelt.partition("(")
    if name in ("varchar", "char"):
        return 4 * int(rest.rstrip(")"))
    return 30 if name == "decimal" else None


def is_text(spelt: str) -> bool:
    """Whether a column of that type has a collation."""
    return spelt.startswith(("varchar", "char", "longtext"))
