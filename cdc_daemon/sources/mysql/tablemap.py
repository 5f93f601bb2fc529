"""A table as the binlog describes it, ahead of its rows: the TABLE_MAP event.

With ``binlog_row_metadata=FULL`` it holds everything that a row's reader must know: names, signs,
character sets, labels, the primary key. It never says that a MariaDB column is ``uuid``, ``inet4``,
``inet6`` or ``vector``: the log calls them binary strings, so whoever knows better from the
catalogue says it with :func:`named`.

Format: ``Table_map_event`` in MySQL's ``libs/mysql/binlog/event/rows_event.h``; MariaDB's
``Table_map_log_event`` differs in which columns count as character columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from cdc_daemon.sources.mysql import column as t
from cdc_daemon.sources.mysql.charsets import BINARY
from cdc_daemon.sources.mysql.column import BinlogColumn
from cdc_daemon.sources.mysql.cursor import Cursor
from cdc_daemon.sources.mysql.metadata import NAMES, described, optional, primary_key

_ONE_BYTE: Final = frozenset(
    {
        t.FLOAT,
        t.DOUBLE,
        t.TIMESTAMP2,
        t.DATETIME2,
        t.TIME2,
        t.BLOB,
        t.BLOB_COMPRESSED,
        t.JSON,
        t.GEOMETRY,
        t.VECTOR,
    }
)
_FRACTIONAL: Final = frozenset({t.TIMESTAMP2, t.DATETIME2, t.TIME2})
_PREFIXES: Final = range(1, 5)
_LENGTHS: Final = {
    **dict.fromkeys((t.BLOB, t.BLOB_COMPRESSED, t.JSON, t.GEOMETRY, t.VECTOR), _PREFIXES),
    t.FLOAT: range(4, 5),
    t.DOUBLE: range(8, 9),
    t.BIT: range(1, 65),
    t.NEWDECIMAL: range(1, 66),
    t.ENUM: range(1, 3),
    t.SET: range(1, 9),
}
"""The lengths that there are; other types have any."""
_DIGITS: Final = {**dict.fromkeys(_FRACTIONAL, 6), t.NEWDECIMAL: 38}
_BINARIES: Final = {"uuid": 16, "inet4": 4, "inet6": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMap:
    """What rows events with this ``table_id`` hold, until the log says something else.

    ``primary_key``: positions of its columns, none where there is none. ``has_names``: False where
    ``binlog_row_metadata`` was not FULL, so that names, key and labels are missing.
    """

    table_id: int
    schema: str
    table: str
    columns: tuple[BinlogColumn, ...]
    primary_key: tuple[int, ...]
    has_names: bool
    mariadb: bool


def table_id_of(body: bytes) -> int:
    """The table's number, with which every table map and rows event begins."""
    return int.from_bytes(body[:6], "little")


def description_of(body: bytes) -> bytes:
    """A table map without its number: equal for equal tables, so that it need not be read again."""
    return body[6:]


def named(table_map: TableMap, types: Mapping[str, str]) -> TableMap:
    """The same table with types that only MariaDB's catalogue knows, by column name.

    A word is taken only for a binary string of exactly its length.
    """
    columns = [_named(column, types.get(column.name, "")) for column in table_map.columns]
    return replace(table_map, columns=tuple(columns))


def _named(column: BinlogColumn, word: str) -> BinlogColumn:
    if column.charset != BINARY:
        return column
    fixed = column.type == t.STRING and _BINARIES.get(word) == column.length
    vector = column.type == t.VARCHAR and word == f"vector({column.length // 4})"
    return replace(column, native=word) if fixed or vector else column


def parse_table_map(body: bytes | memoryview, *, mariadb: bool) -> TableMap:
    """A TABLE_MAP event without header and checksum. Raises DecodeError."""
    cursor = Cursor(bytes(body), "table map")
    table_id = cursor.number(6)
    cursor.take(2)  # flags
    schema, table = _name(cursor), _name(cursor)
    count = cursor.packed()
    types = cursor.take(count)
    meta = Cursor(cursor.text(), "table map: column metadata")
    columns = [_checked(_column(type_, meta), meta) for type_ in types]
    nullable = _bits(cursor.take((count + 7) // 8))
    columns = [replace(c, nullable=n) for c, n in zip(columns, nullable, strict=False)]
    told = dict(optional(cursor))
    columns = described(columns, told, mariadb)
    return TableMap(
        table_id=table_id,
        schema=schema,
        table=table,
        columns=tuple(columns),
        primary_key=primary_key(told),
        has_names=NAMES in told or not columns,
        mariadb=mariadb,
    )


def _name(cursor: Cursor) -> str:
    name = cursor.text().decode("utf-8", "backslashreplace")
    cursor.take(1)  # the zero byte
    return name


def _bits(data: bytes) -> Iterator[bool]:
    """Bits from the lowest of each byte on."""
    return (bool(byte >> bit & 1) for byte in data for bit in range(8))


def _column(type_: int, meta: Cursor) -> BinlogColumn:
    """A column from its type byte and the metadata that its type has."""
    if type_ in _FRACTIONAL:
        return BinlogColumn(name="", type=type_, scale=meta.number(1))
    if type_ in _ONE_BYTE:
        return BinlogColumn(name="", type=type_, length=meta.number(1))
    if type_ in {t.VARCHAR, t.VARCHAR_COMPRESSED}:
        return BinlogColumn(name="", type=type_, length=meta.number(2))
    if type_ == t.BIT:
        bits, whole = meta.take(2)
        return BinlogColumn(name="", type=type_, length=whole * 8 + bits)
    if type_ == t.NEWDECIMAL:
        precision, scale = meta.take(2)
        return BinlogColumn(name="", type=type_, length=precision, scale=scale)
    if type_ in {t.STRING, t.VAR_STRING, t.ENUM, t.SET}:
        return _string(*meta.take(2))
    return BinlogColumn(name="", type=type_)


def _checked(column: BinlogColumn, meta: Cursor) -> BinlogColumn:
    """The column if there can be such a one. Raises DecodeError."""
    lengths, digits = _LENGTHS.get(column.type), _DIGITS.get(column.type, column.scale)
    is_decimal = column.type == t.NEWDECIMAL
    if (
        (lengths is not None and column.length not in lengths)
        or column.scale > digits
        or (is_decimal and column.scale > column.length)
    ):
        raise meta.fail(f"metadata that a column of type {column.type} cannot have")
    return column


def _string(real: int, length: int) -> BinlogColumn:
    """The bits 8 and 9 of a length beyond 255 stand, inverted, in the type's byte."""
    if real & 0x30 != 0x30:
        length |= ((real & 0x30) ^ 0x30) << 4
        real |= 0x30
    return BinlogColumn(name="", type=real, length=length)
