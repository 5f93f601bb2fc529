"""MySQL's and MariaDB's column types as neutral ones, from the log and from the catalogue.

The log (table maps) and ``information_schema.columns`` describe a column in different words; both
become the same :class:`Words` and from there equal types. ``native`` leaves out what the log does
not tell: display widths, ZEROFILL, digits of FLOAT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cdc_daemon.model.changes import ColumnType, Invalid
from cdc_daemon.sources.mysql import column as t
from cdc_daemon.sources.mysql.charsets import BINARY, width_of
from cdc_daemon.sources.mysql.column import BinlogColumn

_INTEGERS: Final = {
    "tinyint": ("smallint", "smallint"),
    "smallint": ("smallint", "integer"),
    "mediumint": ("integer", "integer"),
    "int": ("integer", "bigint"),
    "bigint": ("bigint", "oid"),
}
"""Neutral types: signed, unsigned."""
_UNSIGNED_DIGITS: Final = 20
_PLAIN: Final = {
    "date": "date", "time": "duration", "datetime": "timestamp", "timestamp": "timestamptz",
    "year": "smallint", "float": "real", "double": "double", "json": "json", "uuid": "uuid",
}  # fmt: skip
_FRACTIONAL: Final = frozenset({"time", "datetime", "timestamp"})
_TEXTS: Final = frozenset({"tinytext", "text", "mediumtext", "longtext", "enum", "set"})
_BINARIES: Final = frozenset({"binary", "varbinary"})
_BLOBS: Final = frozenset({"tinyblob", "blob", "mediumblob", "longblob"})
_GEOMETRIES: Final = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection",
)  # fmt: skip
_SAME: Final = {"geomcollection": "geometrycollection"}

_LOG_WORDS: Final = {
    t.TINY: "tinyint", t.SHORT: "smallint", t.INT24: "mediumint", t.LONG: "int",
    t.LONGLONG: "bigint", t.FLOAT: "float", t.DOUBLE: "double", t.NEWDECIMAL: "decimal",
    t.YEAR: "year", t.DATE: "date", t.NEWDATE: "date", t.TIME2: "time", t.DATETIME2: "datetime",
    t.TIMESTAMP2: "timestamp", t.TIME: "time", t.DATETIME: "datetime", t.TIMESTAMP: "timestamp",
    t.BIT: "bit", t.ENUM: "enum", t.SET: "set", t.JSON: "json", t.VECTOR: "vector",
}  # fmt: skip
_SIZES: Final = ("", "tiny", "", "medium", "long")  # of TEXT and BLOB, by bytes of the length
_COLUMN_TYPE: Final = re.compile(r"(\w+)(?:\((.*)\))?([^()]*)", re.DOTALL)
_LABEL: Final = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPED: Final = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPES: Final = {"0": "\0", "n": "\n", "r": "\r", None: "'"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A type as MySQL would write it: ``varchar(40)``, ``decimal(18,4) unsigned``, ``enum('a')``.

    ``numbers`` are those in brackets: characters, bytes, bits, digits, precision and scale.
    """

    word: str
    numbers: tuple[int, ...] = ()
    unsigned: bool = False
    labels: tuple[str, ...] = ()

    @property
    def native(self) -> str:
        """The type's name in one form for both."""
        inside = ",".join(map(str, self.numbers))
        if self.labels:
            inside = ",".join("'" + label.replace("'", "''") + "'" for label in self.labels)
        brackets = f"({inside})" if inside else ""
        return f"{self.word}{brackets}{' unsigned' if self.unsigned else ''}"


def column_type(column: BinlogColumn) -> ColumnType:
    """The neutral type of a column in the log."""
    return _neutral(_from_log(column))


def column_type_of(data_type: str, column_type: str) -> ColumnType:
    """The same of ``information_schema.columns``: DATA_TYPE and COLUMN_TYPE."""
    return _neutral(_from_catalogue(data_type.lower(), column_type))


def catalogue_word(column_type: str) -> str:
    """What :func:`tablemap.named` needs to know of a COLUMN_TYPE: its word, a vector's with its
    dimension."""
    words = _from_catalogue("", column_type)
    return words.native if words.word == "vector" else words.word


def _neutral(words: Words) -> ColumnType:
    word, native = words.word, words.native
    if word in _INTEGERS:
        name = _INTEGERS[word][words.unsigned]
        return ColumnType(name, _UNSIGNED_DIGITS if name == "oid" else None, native=native)
    if word == "decimal":
        precision, scale = words.numbers
        return ColumnType("numeric", precision, scale, native)
    if word == "bit":
        if words.numbers == (1,):
            return ColumnType("boolean", native=native)
        return ColumnType("oid", _UNSIGNED_DIGITS, native=native)
    if word in {"char", "varchar"}:
        return ColumnType("varchar", words.numbers[0], native=native)
    return ColumnType(_other(word), native=native)


def _other(word: str) -> str:
    """Neutral names of what has no length."""
    if word in _TEXTS:
        return "text"
    if word in _BINARIES or word in _BLOBS or word in _GEOMETRIES:
        return "bytes"
    return _PLAIN.get(word, "other")


# --- the log --------------------------------------------------------------------------------------


def _from_log(column: BinlogColumn) -> Words:
    if column.native:
        return _from_catalogue("", column.native)
    word = _LOG_WORDS.get(column.type)
    if word is None:
        return _string(column)
    if word in {"enum", "set"}:
        return Words(word=word, labels=tuple(map(_label, column.labels)))
    return Words(word=word, numbers=_numbers(word, column), unsigned=_is_unsigned(word, column))


def _is_unsigned(word: str, column: BinlogColumn) -> bool:
    return column.unsigned and word != "year"


def _numbers(word: str, column: BinlogColumn) -> tuple[int, ...]:
    if word == "decimal":
        return column.length, column.scale
    if word == "bit":
        return (column.length,)
    if word == "vector":
        return (column.dimension,) if column.dimension else ()
    return (column.scale,) if word in _FRACTIONAL and column.scale else ()


def _string(column: BinlogColumn) -> Words:
    """Strings of all kinds; a length in the log is in bytes."""
    if column.type == t.GEOMETRY:
        known = column.geometry < len(_GEOMETRIES)
        return Words(word=_GEOMETRIES[column.geometry] if known else _GEOMETRIES[0])
    if column.type in {t.BLOB, t.BLOB_COMPRESSED}:
        kind = "blob" if column.charset == BINARY else "text"
        return Words(word=_SIZES[column.length] + kind)
    if column.type not in t.CHARACTER:
        return Words(word=f"type {column.type}")
    word = "char" if column.type == t.STRING else "varchar"
    length = column.length - (column.type == t.VARCHAR_COMPRESSED)  # one byte of method
    if column.charset == BINARY:
        return Words(word={"char": "binary", "varchar": "varbinary"}[word], numbers=(length,))
    return Words(word=word, numbers=(length // width_of(column.charset or ""),))


def _label(label: bytes | Invalid) -> str:
    return (label.kept if isinstance(label, Invalid) else label).decode()


# --- the catalogue --------------------------------------------------------------------------------


def _from_catalogue(data_type: str, column_type: str) -> Words:
    """Of ``varchar(40)``, ``int(11) unsigned zerofill``, ``enum('a','it''s')``, ``uuid``, ..."""
    found = _COLUMN_TYPE.fullmatch(column_type)
    first, inside, rest = found.groups() if found else (data_type, None, "")
    word = _SAME.get(first.lower(), first.lower())
    if word in {"enum", "set"}:
        labels = tuple(_ESCAPED.sub(_plain, one) for one in _LABEL.findall(inside or ""))
        return Words(word=word, labels=labels)
    unsigned = "unsigned" in rest.split()
    return Words(word=word, numbers=_told(word, inside or ""), unsigned=unsigned)


def _plain(escape: re.Match[str]) -> str:
    return _ESCAPES.get(escape[1]) or escape[1]


def _told(word: str, inside: str) -> tuple[int, ...]:
    """The numbers that count, with those that are left out."""
    numbers = tuple(int(number) for number in inside.split(",") if number)
    if word in _INTEGERS or word in {"float", "double", "year"} or word in _BLOBS | _TEXTS:
        return ()
    if word == "decimal":
        return numbers if len(numbers) > 1 else (*(numbers or (10,)), 0)
    return () if word in _FRACTIONAL and numbers == (0,) else numbers
