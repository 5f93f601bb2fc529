"""What a SELECT of a column brings, as the text that the log has for the same value.

Sessions that read rows have ``character_set_results`` NULL: texts come in the character set of
their column, so that they are read exactly as the log's are. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cdc_daemon.model.changes import Invalid, Row
from cdc_daemon.sources.mysql import charsets, moments, texts
from cdc_daemon.sources.mysql.asked import quoted
from cdc_daemon.sources.mysql.catalog import ColumnFacts

Text = bytes | Invalid
Read = Callable[[bytes], Text]

_CACHED: Final = 20_000
_EXACT: Final = frozenset({"float", "double"})
"""Printed with few digits, or rounded to the column's own; a product is printed exactly."""


class _Remembered(dict[bytes, Text]):
    """Texts by what the server prints, read when first seen; forgotten when too many."""

    def __init__(self, read: Read) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, printed: bytes) -> Text:
        if len(self) >= _CACHED:
            self.clear()
        found = self[printed] = self._read(printed)
        return found


class UnlessAscii:
    """Reads texts that are more than ASCII, which is the same in their character set."""

    def __init__(self, read: Read) -> None:
        self.read = read

    def __call__(self, printed: bytes) -> Text:
        return printed if printed.isascii() else self.read(printed)


def expression(column: ColumnFacts) -> str:
    """The column in a SELECT, so that nothing of its value is lost."""
    name = quoted(column.name)
    return f"{name} * 1e0" if column.data_type in _EXACT else name


def reader(column: ColumnFacts) -> Read | None:
    """How the column's printed values become texts; None: they are."""
    if column.data_type == "bit":
        return _flag if column.native == "bit(1)" else _bits
    if column.data_type in _READERS:
        return _READERS[column.data_type]
    if column.charset:
        plain = charsets.keeps_ascii(column.charset)
        read = charsets.reader_of(column.charset)
        return UnlessAscii(read) if plain else read
    return _unfilled if "zerofill" in column.native else None


def read_rows(
    rows: Sequence[Sequence[bytes | None]], readers: Sequence[Read | None]
) -> tuple[list[Row], bool]:
    """Rows as the log has them, and whether any holds INVALID."""
    busy = [(i, read) for i, read in enumerate(readers) if read is not None]
    columns: list[Sequence[Text | None]] = list(zip(*rows, strict=True))
    for i, read in busy:
        columns[i] = [None if value is None else read(value) for value in columns[i]]  # type: ignore[arg-type]
    partial_ = any(isinstance(value, Invalid) for i, _ in busy for value in columns[i])
    return list(zip(*columns, strict=True)), partial_


# --- values -------------------------------------------------------------------------------------


def _unfilled(printed: bytes) -> bytes:
    """Without the zeros that ZEROFILL puts before a number."""
    whole, point, fraction = printed.partition(b".")
    return (whole.lstrip(b"0") or b"0") + point + fraction


def _flag(printed: bytes) -> bytes:
    return b"t" if int.from_bytes(printed, "big") else b"f"


def _bits(printed: bytes) -> bytes:
    return b"%d" % int.from_bytes(printed, "big")


def _year(printed: bytes) -> bytes:
    return b"%d" % int(printed)


def _day(printed: bytes) -> Text:
    """``YYYY-MM-DD`` where there is such a day."""
    year, month, day = printed[:4], printed[5:7], printed[8:10]
    return moments.checked(int(year), int(month), int(day), printed)


_days = _Remembered(_day)


def _moment(printed: bytes) -> Text:
    text = _shortened(printed)
    day = _days[printed[:10]]
    return Invalid(text, day.reason) if isinstance(day, Invalid) else text


def _moment_in_utc(printed: bytes) -> Text:
    found = _moment(printed)
    if isinstance(found, Invalid):
        return Invalid(moments.ZERO_TIMESTAMP, found.reason)
    return found + b"+00"


def _shortened(printed: bytes) -> bytes:
    """Without zeros at the end of the fraction."""
    return printed.rstrip(b"0").rstrip(b".") if b"." in printed else printed


def _lower(printed: bytes) -> bytes:
    return printed.lower()


def _real(printed: bytes) -> bytes:
    return texts.real_text(float(printed))


def _double(printed: bytes) -> bytes:
    return texts.double_text(float(printed))


_BINARIES: Final = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_GEOMETRIES: Final = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
    "multipolygon", "geometrycollection", "geomcollection",
)  # fmt: skip
_READERS: Final[Mapping[str, Read]] = {
    "float": _real,
    "double": _double,
    "year": _year,
    "date": _days.__getitem__,
    "datetime": _moment,
    "timestamp": _moment_in_utc,
    "time": _shortened,
    "uuid": _lower,
    "vector": texts.vector_text,
    **dict.fromkeys(_BINARIES, texts.bytes_text),
    **dict.fromkeys(_GEOMETRIES, texts.geometry_text),
}
