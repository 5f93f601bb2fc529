"""The optional fields of a table map: names, signs, character sets, labels, keys.

Format: ``Table_map_event::Optional_metadata_field_type`` in MySQL's
``libs/mysql/binlog/event/rows_event.h``. What this reader does not know is left unread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

from cdc_daemon.model.changes import Invalid
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.charsets import BINARY, charset_of, reader_of
from cdc_daemon.sources.mysql.column import (
    CHARACTER,
    ENUM,
    GEOMETRY,
    NUMERIC,
    SET,
    VECTOR,
    BinlogColumn,
)
from cdc_daemon.sources.mysql.cursor import Cursor

_ALL: Final = frozenset(range(256))
_LABELLED: Final = frozenset({ENUM, SET})
_SIGNS, _CHARSET, _CHARSETS, NAMES, _SETS, _ENUMS, _GEOMETRIES = 1, 2, 3, 4, 5, 6, 7
_KEY, _KEY_PREFIXES, _LABELS_CHARSET, _LABELS_CHARSETS, _DIMENSIONS = 8, 9, 10, 11, 13


def _signs(data: bytes) -> Iterator[bool]:
    """Bits from the highest of each byte on."""
    return (bool(byte >> bit & 1) for byte in data for bit in range(7, -1, -1))


def optional(cursor: Cursor) -> Iterator[tuple[int, bytes]]:
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


def primary_key(told: Mapping[int, bytes]) -> tuple[int, ...]:
    """Positions of its columns."""
    if _KEY in told:
        return tuple(_packed(told[_KEY]))
    return tuple(_packed(told.get(_KEY_PREFIXES, b""))[::2])  # (position, length) each


def described(
    columns: list[BinlogColumn], told: Mapping[int, bytes], mariadb: bool
) -> list[BinlogColumn]:
    """The columns with everything that is told of them."""
    names = [name.decode("utf-8", "backslashreplace") for name in _texts(told.get(NAMES, b""))]
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
