"""Whether a text is a value of a source column's type, as if its server had printed it.

For values that people write: what comes from a log is what the server says. Not in here: what a
mapping makes of it.
"""

from __future__ import annotations

from cdc_daemon.mapping.convert import conversion
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import DataError

_KINDS = {
    "smallint": Kind.INTEGER,
    "integer": Kind.INTEGER,
    "bigint": Kind.BIGINT,
    "oid": Kind.NUMERIC,
    "numeric": Kind.NUMERIC,
    "money": Kind.NUMERIC,
    "real": Kind.DOUBLE,
    "double": Kind.DOUBLE,
    "boolean": Kind.BOOLEAN,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timestamp": Kind.TIMESTAMP,
    "timestamptz": Kind.TIMESTAMPTZ,
    "interval": Kind.INTERVAL,
    "uuid": Kind.UUID,
    "json": Kind.JSON,
    "jsonb": Kind.JSON,
    "bytes": Kind.BYTES,
}
_TEXT = ColumnType("text")
_SMALLEST, _LARGEST = -32_768, 32_767


def source_text(column: ColumnType, text: bytes) -> bytes:
    """The text as a value of that type. Raises DataError for one that is none.

    Types that only their server can read (arrays, hstore, its own ones) take any text.
    """
    convert = conversion(_TEXT, _as_entity_type(column)).convert
    found = text if convert is None else convert(text)
    if column.name == "smallint" and not _SMALLEST <= int(found) <= _LARGEST:
        raise DataError("the number is out of range", code="out_of_range")
    if column.name == "oid" and (b"." in found or found.startswith(b"-")):
        raise DataError("the text is no unsigned number", code="invalid_value")
    return found


def _as_entity_type(column: ColumnType) -> EntityType:
    """The entity type whose values are those of the column's type, as near as there is one."""
    if column.name in ("char", "varchar") and column.length is not None:
        return EntityType(Kind.STRING, column.length)
    if column.name in ("numeric", "money") and column.length is not None:
        return EntityType(Kind.DECIMAL, column.length, column.scale or 0)
    return EntityType(_KINDS.get(column.name, Kind.TEXT))
