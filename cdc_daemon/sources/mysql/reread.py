"""Rows of a source table read again by identity, in the text that the log would use.

A key may be written otherwise than the row it names has it, where the column's collation says that
both are equal (letters of another case). Which key names which row is for the server to say: keys
that no row is spelt like are asked about once more, one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from cdc_daemon.model.changes import Relation, Row
from cdc_daemon.model.effects import Key
from cdc_daemon.sources.mysql.asked import quoted
from cdc_daemon.sources.mysql.catalog import ColumnFacts, TableFacts
from cdc_daemon.sources.mysql.connection import Connection
from cdc_daemon.sources.mysql.selected import read_rows, reader
from cdc_daemon.sources.mysql.snapshot import columns_of, select

_AT_ONCE: Final = 500  # keys in one query
_SINGLE: Final = struct.Struct("<f")

Parameter = bytes | str | int | float | Decimal


def reread(
    connection: Connection, relation: Relation, facts: TableFacts, keys: Sequence[Key]
) -> dict[Key, Row]:
    """Full-width rows by the keys as they were given; keys without a row are left out."""
    asking = _Asking(connection, relation, facts)
    asked = list(dict.fromkeys(keys))
    found: dict[Key, Row] = {}
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        for row in asking.rows(part):
            found[tuple([row[i] for i in relation.identity])] = row  # type: ignore[misc]
        for key in part:
            if key not in found and (rows := asking.rows([key])):
                found[key] = rows[0]
    return {key: found[key] for key in asked if key in found}


class _Asking:
    def __init__(self, connection: Connection, relation: Relation, facts: TableFacts) -> None:
        columns = columns_of(relation, facts)
        self._connection = connection
        self._readers = [reader(column) for column in columns]
        self._identity = [columns[i] for i in relation.identity]
        self._select = f"{select(relation, facts)} WHERE {_names(self._identity)} IN "

    def rows(self, keys: Sequence[Key]) -> list[Row]:
        """The rows that any of the keys names."""
        place = f"({', '.join(['%s'] * len(self._identity))})"
        with self._connection.cursor() as cursor:
            cursor.execute(
                self._select.replace("%", "%%") + f"({', '.join([place] * len(keys))})",
                [value for key in keys for value in self._parameters(key)],
            )
            printed = cursor.fetchall()
        return read_rows(printed, self._readers)[0] if printed else []

    def _parameters(self, key: Key) -> Iterator[Parameter]:
        pairs = zip(key, self._identity, strict=True)
        return (_parameter(value, column) for value, column in pairs)


def _names(columns: Sequence[ColumnFacts]) -> str:
    return f"({', '.join(quoted(column.name) for column in columns)})"


def _parameter(value: bytes, column: ColumnFacts) -> Parameter:
    """A key's text as the server compares it with the column."""
    if column.data_type in _PARAMETERS:
        return _PARAMETERS[column.data_type](value)
    return value.decode()


def _raw(value: bytes) -> bytes:
    return bytes.fromhex(value[2:].decode())


def _bits(value: bytes) -> int:
    return int(value == b"t") if value in (b"t", b"f") else int(value)


def _single(value: bytes) -> float:
    """The number that the column holds; a text would be compared as one with more digits."""
    (single,) = _SINGLE.unpack(_SINGLE.pack(float(value)))
    return float(single)


def _exact(value: bytes) -> Decimal:
    """A text may be compared as a float, which is equal to many decimals."""
    return Decimal(value.decode())


def _single(value: bytes) -> str:
    """A single precision number as the double that the server compares."""
    (number,) = struct.unpack("f", struct.pack("f", float(value)))
    return repr(number)


def _without_zone(value: bytes) -> str:
    return value.removesuffix(b"+00").decode()


_PARAMETERS: Final[Mapping[str, Callable[[bytes], Parameter]]] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), int),
    **dict.fromkeys(("binary", "varbinary"), _raw),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), _raw),
    "bit": _bits,
    "float": _single,
    "decimal": _exact,
    "float": _single,
    "double": float,
    "timestamp": _without_zone,
}
