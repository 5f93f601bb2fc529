"""A table as the binlog describes it, ahead of its rows: the TABLE_MAP event.

With ``binlog_row_metadata=FULL`` it holds everything that a row's reader must know: names, signs,
character sets, labels, the primary key. It never says that a MariaDB column is ``uuid``, ``inet4``,
``inet6`` or ``vector``: the log calls them binary strings, so whoever knows better from the
catalogue says it with :func:`named`.

Format: ``Table_map_event`` in MySQL's ``libs/mysql/binlog/event/rows_event.h``; MariaDB's
``Table_map_log_event`` differs in which columns count as character columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from cdc_daemon.model.changes import Invalid
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.charsets import BINARY, charset_of, reader_of
from cdc_daemon.sources.mysql.cursor import Cursor

TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT = 10, 11, 12, 13, 14, 15, 16
TIMESTAMP2, DATETIME2, TIME2 = 17, 18, 19
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141  # MariaDB
VECTOR, JSON, NEWDECIMAL, ENUM, SET = 242, 245, 246, 247, 248
BLOB, VAR_STRING, STRING, GEOMETRY = 252, 253, 254, 255

_ALL: Final = frozenset(range(256))
NUMERIC: Final = frozenset({TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24, YEAR, NEWDECIMAL})
CHARACTER: Final = frozenset(
    {VARCHAR, STRING, VAR_STRING, BLOB, BLOB_COMPRESSED, VARCHAR_COMPRESSED}
)
COMPRESSED: Final = frozenset({BLOB_COMPRESSED, VARCHAR_COMPRESSED})
_LABELLED: Final = frozenset({ENUM, SET})
_ONE_BYTE: Final = frozenset(
    {FLOAT, DOUBLE, TIMESTAMP2, DATETIME2, TIME2, BLOB, BLOB_COMPRESSED, JSON, GEOMETRY, VECTOR}
)
_FRACTIONAL: Final = frozenset({TIMESTAMP2, DATETIME2, TIME2})
_BINARIES: Final = {"uuid": 16, "inet4": 4, "inet6": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class BinlogColumn:
    """One column as the log tells it.

    ``type``: the binlog's number (ENUM and SET are told from STRING). ``length``: bytes at most
    (strings), bytes of the value's length (blobs, JSON), bytes (ENUM, SET, FLOAT, DOUBLE), bits
    (BIT) or precision (NEWDECIMAL); ``scale``: digits after the point, also of seconds.
    ``charset``: None where the log does not say, or by a number that nobody here knows
    (``collation``). ``labels``: UTF-8 of ENUM's and SET's words, in order. ``geometry``: subtype's
    number. ``dimension``: of a vector. ``native``: a type that only the catalogue knows.
    """

    name: str
    type: int
    length: int = 0
    scale: int = 0
    nullable: bool = True
    unsigned: bool = False
    charset: str | None = None
    collation: int | None = None
    labels: tuple[bytes | Invalid, ...] = ()
    geometry: int = 0
    dimension: int | None = None
    native: str = ""


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
    fixed = column.type == STRING and _BINARIES.get(word) == column.length
    vector = column.type == VARCHAR and word == f"vector({column.length // 4})"
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
    columns = [_column(type_, meta) for type_ in types]
    nullable = _bits(cursor.take((count + 7) // 8))
    columns = [replace(c, nullable=n) for c, n in zip(columns, nullable, strict=False)]
    told = dict(_optional(cursor))
    columns = _described(columns, told, mariadb)
    return TableMap(
        table_id=table_id,
        schema=schema,
        table=table,
        columns=tuple(columns),
        primary_key=_primary_key(told),
        has_names=_NAMES in told or not columns,
        mariadb=mariadb,
    )


def _name(cursor: Cursor) -> str:
    name = cursor.text().decode("utf-8", "backslashreplace")
    cursor.take(1)  # the zero byte
    return name


def _bits(data: bytes) -> Iterator[bool]:
    """Bits from the lowest of each byte on."""
    return (bool(byte >> bit & 1) for byte in data for bit in range(8))


def _signs(data: bytes) -> Iterator[bool]:
    """Bits from the highest of each byte on."""
    return (bool(byte >> bit & 1) for byte in data for bit in range(7, -1, -1))


def _column(type_: int, meta: Cursor) -> BinlogColumn:
    """A column from its type byte and the metadata that its type has."""
    if type_ in _FRACTIONAL:
        return BinlogColumn(name="", type=type_, scale=meta.number(1))
    if type_ in _ONE_BYTE:
        return BinlogColumn(name="", type=type_, length=meta.number(1))
    if type_ in {VARCHAR, VARCHAR_COMPRESSED}:
        return BinlogColumn(name="", type=type_, length=meta.number(2))
    if type_ == BIT:
        bits, whole = meta.take(2)
        return BinlogColumn(name="", type=type_, length=whole * 8 + bits)
    if type_ == NEWDECIMAL:
        precision, scale = meta.take(2)
        return BinlogColumn(name="", type=type_, length=precision, scale=scale)
    if type_ in {STRING, VAR_STRING, ENUM, SET}:
        return _string(*meta.take(2))
    return BinlogColumn(name="", type=type_)


def _string(real: int, length: int) -> BinlogColumn:
    """The bits 8 and 9 of a length beyond 255 stand, inverted, in the type's byte."""
    if real & 0x30 != 0x30:
        length |= ((real & 0x30) ^ 0x30) << 4
        real |= 0x30
    return BinlogColumn(name="", type=real, length=length)


# --- optional metadata ----------------------------------------------------------------------------

_SIGNS, _CHARSET, _CHARSETS, _NAMES, _SETS, _ENUMS, _GEOMETRIES = 1, 2, 3, 4, 5, 6, 7
_KEY, _KEY_PREFIXES, _LABELS_CHARSET, _LABELS_CHARSETS, _DIMENSIONS = 8, 9, 10, 11, 13


def _optional(cursor: Cursor) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each field; what this reader does not know stands there unread."""
    while cursor.left:
        kind = cursor.number(1)
        yield kind, cursor.text()


def _packed(data: bytes) -> list[int]:
    cursor = Cursor(data, "table map: optional metadata")
    found = []
    while cursor.left:
        found.append(cursor.packed())
    return found


def _texts(data: bytes) -> list[bytes]:
    cursor = Cursor(data, "table map: names")
    found = []
    while cursor.left:
        found.append(cursor.text())
    return found


def _word_lists(data: bytes) -> list[list[bytes]]:
    cursor = Cursor(data, "table map: labels")
    found = []
    while cursor.left:
        found.append([cursor.text() for _ in range(cursor.packed())])
    return found


def _primary_key(told: Mapping[int, bytes]) -> tuple[int, ...]:
    if _KEY in told:
        return tuple(_packed(told[_KEY]))
    return tuple(_packed(told.get(_KEY_PREFIXES, b""))[::2])  # (position, length) each


def _described(
    columns: list[BinlogColumn], told: Mapping[int, bytes], mariadb: bool
) -> list[BinlogColumn]:
    """The columns with everything that is told of them."""
    names = [name.decode("utf-8", "backslashreplace") for name in _texts(told.get(_NAMES, b""))]
    columns = _spread(columns, _ALL, "name", names)
    columns = _spread(columns, NUMERIC, "unsigned", list(_signs(told.get(_SIGNS, b""))))
    # of what is stored like a BLOB, MariaDB counts geometries among them, MySQL vectors
    character = CHARACTER | {GEOMETRY if mariadb else VECTOR}
    columns = _with_charsets(columns, character, told, (_CHARSET, _CHARSETS))
    columns = _with_charsets(columns, _LABELLED, told, (_LABELS_CHARSET, _LABELS_CHARSETS))
    columns = _spread(columns, frozenset({SET}), "labels", _word_lists(told.get(_SETS, b"")))
    columns = _spread(columns, frozenset({ENUM}), "labels", _word_lists(told.get(_ENUMS, b"")))
    columns = [replace(c, labels=_labels(c)) if c.labels else c for c in columns]
    geometries, dimensions = told.get(_GEOMETRIES, b""), told.get(_DIMENSIONS, b"")
    columns = _spread(columns, frozenset({GEOMETRY}), "geometry", _packed(geometries))
    return _spread(columns, frozenset({VECTOR}), "dimension", _packed(dimensions))


def _spread(
    columns: list[BinlogColumn], types: frozenset[int], field: str, values: Sequence[object]
) -> list[BinlogColumn]:
    """Give each column of these types its value; none where nothing is told."""
    if not values:
        return columns
    if sum(c.type in types for c in columns) > len(values):
        raise DecodeError(f"{field} is told of too few columns", kind="table map", offset=0)
    given = iter(values)
    return [
        replace(c, **{field: next(given)})  # type: ignore[arg-type]
        if c.type in types
        else c
        for c in columns
    ]


def _with_charsets(
    columns: list[BinlogColumn],
    types: frozenset[int],
    told: Mapping[int, bytes],
    kinds: tuple[int, int],
) -> list[BinlogColumn]:
    """Collations stand there one by one, or as a default and the others by ordinal."""
    default, each = kinds
    numbers = _packed(told.get(each, b""))
    if default in told:
        first, *others = _packed(told[default])
        known = dict(zip(others[::2], others[1::2], strict=False))
        numbers = [known.get(i, first) for i in range(sum(c.type in types for c in columns))]
    columns = _spread(columns, types, "collation", numbers)
    return [
        replace(c, charset=charset_of(c.collation)) if c.collation and c.type in types else c
        for c in columns
    ]


def _labels(column: BinlogColumn) -> tuple[bytes | Invalid, ...]:
    """The labels in UTF-8; they stand in the log in their column's character set."""
    if column.charset is None:
        raw = cast("Sequence[bytes]", column.labels)
        reason = f"nobody here knows the collation {column.collation}"
        return tuple(
            [label if label.isascii() else Invalid(label, reason, "ascii") for label in raw]
        )
    if column.charset == BINARY:
        return tuple(column.labels)
    read = reader_of(column.charset)
    return tuple([read(label) for label in cast("Sequence[bytes]", column.labels)])
