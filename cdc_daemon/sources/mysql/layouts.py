"""Which layout a column has, by its type; those of words, strings and documents are in here.

Formats: ``sql/log_event.cc`` of MySQL (``log_event_print_value``), ``Field::pack`` in
``sql/field.cc``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from cdc_daemon.model.changes import Invalid
from cdc_daemon.model.errors import Stop
from cdc_daemon.sources.mysql import charsets, numeric, temporal, texts
from cdc_daemon.sources.mysql import column as t
from cdc_daemon.sources.mysql.column import BinlogColumn
from cdc_daemon.sources.mysql.compression import column_reader
from cdc_daemon.sources.mysql.json_binary import json_text
from cdc_daemon.sources.mysql.layout import (
    Form,
    Layout,
    Noting,
    Read,
    Text,
    looked_up,
    seen_layout,
)

_UNLESS_ASCII: Final = "({0} if {0}.isascii() else read_{i}({0}))"
_IF_UTF8: Final = "({0} if {0}.isascii() or {0}.decode() else {0})"
"""Raises UnicodeDecodeError for another text, which is then left to the strict reader."""
_HEXED: Final = r'b"\\x" + hexlify({0})'
_HEXED_PADDED: Final = r'b"\\x" + hexlify({0}.ljust(%d, b"\0"))'
_OLD: Final = frozenset({t.TIMESTAMP, t.TIME, t.DATETIME})


def layout_of(column: BinlogColumn, where: str, limit: int, noting: Noting = lambda r: r) -> Layout:
    """How the column's values are read; ``noting`` wraps every reader that may say Invalid.

    ``where`` names the column in errors, ``limit`` is ``max_value_bytes``. Raises Stop for a type
    that cannot be read.
    """
    if column.type in _OLD:
        raise Stop(
            f"{where}: it has the format of MySQL before 5.6, in which the log leaves out how many "
            "bytes a value takes",
            hint="on MariaDB set mysql56_temporal_format=ON, then ALTER TABLE ... FORCE",
        )
    make = _MAKERS.get(column.type)
    if make is None:
        raise Stop(
            f"{where}: its type is not known here (number {column.type} in the binlog)",
            hint="leave the table out of the mappings, or upgrade cdc-daemon",
        )
    if column.type in t.COMPRESSED:
        return _compressed(column, column_reader(limit, where), noting)
    return make(column, noting)


def _enum(column: BinlogColumn, noting: Noting) -> Layout:
    """A number into the labels; 0 is the empty text of what was no label."""
    table: tuple[Text, ...] = (b"", *column.labels)
    plain = all(isinstance(label, bytes) for label in table)
    read = partial(looked_up, table)
    if not plain:
        return Layout(size=column.length, read=noting(read))
    names = {"table": table}
    if column.length == 1:
        form = Form("B", "table_{i}[{0}]")
        return Layout(size=1, read=read, little=form, big=form, names=names)
    little, big = Form("H", "table_{i}[{0}]"), Form("BB", "table_{i}[{0} | {1} << 8]")
    return Layout(size=2, read=read, little=little, big=big, names=names)


def _set(column: BinlogColumn, noting: Noting) -> Layout:
    """A bit for each label, in order of definition."""

    def read(raw: bytes) -> Text:
        bits = int.from_bytes(raw, "little")
        if bits >> len(column.labels):
            raise ValueError("a bit beyond the column's values")
        chosen = [label for i, label in enumerate(column.labels) if bits >> i & 1]
        broken = next((label for label in chosen if isinstance(label, Invalid)), None)
        return broken or b",".join(label for label in chosen if isinstance(label, bytes))

    return seen_layout(column.length, noting(read))


def _string(column: BinlogColumn, noting: Noting) -> Layout:
    """CHAR, VARCHAR and their binary kinds: a length of one byte, or of two beyond 255."""
    prefix = 2 if column.length > 255 else 1
    if column.native:
        return Layout(prefix=prefix, read=_known_by_catalogue(column))
    if column.charset != charsets.BINARY:
        return _text(prefix, column, noting)
    if column.type == t.VARCHAR:
        return Layout(prefix=prefix, read=texts.bytes_text, text=_HEXED, names={})
    text = _HEXED_PADDED % column.length
    return Layout(prefix=prefix, read=texts.padded_reader(column.length), text=text)


def _known_by_catalogue(column: BinlogColumn) -> Read:
    if column.native.startswith("vector"):
        return texts.vector_text
    known = {"uuid": texts.uuid_text, "inet4": texts.inet4_text, "inet6": texts.inet6_text}
    return texts.padded_reader(column.length, known[column.native])


def _blob(column: BinlogColumn, noting: Noting) -> Layout:
    if column.charset == charsets.BINARY:
        return Layout(prefix=column.length, read=texts.bytes_text, text=_HEXED)
    return _text(column.length, column, noting)


def _text(prefix: int, column: BinlogColumn, noting: Noting) -> Layout:
    read = noting(text_reader(column))
    if column.charset in charsets.UTF8:
        return Layout(prefix=prefix, read=read, text=_IF_UTF8)
    if column.charset is not None and charsets.keeps_ascii(column.charset):
        return Layout(prefix=prefix, read=read, text=_UNLESS_ASCII)
    return Layout(prefix=prefix, read=read)


def text_reader(column: BinlogColumn) -> Read:
    """What makes UTF-8 of a character column's bytes."""
    if column.charset is not None:
        return charsets.reader_of(column.charset)
    reason = f"nobody here knows its character set (collation {column.collation})"
    return lambda raw: Invalid(raw, reason, "ascii")


def _compressed(column: BinlogColumn, inflate: Callable[[bytes], bytes], noting: Noting) -> Layout:
    """A string behind MariaDB's compression; its greatest length counts one byte more."""
    inner: Read = texts.bytes_text if column.charset == charsets.BINARY else text_reader(column)
    prefix = column.length
    if column.type == t.VARCHAR_COMPRESSED:
        prefix = 2 if column.length > 255 else 1
    return Layout(prefix=prefix, read=noting(lambda raw: inner(inflate(raw))))


def _document(column: BinlogColumn, _: Noting) -> Layout:
    read = {t.JSON: json_text, t.GEOMETRY: texts.geometry_text, t.VECTOR: texts.vector_text}
    return Layout(prefix=column.length, read=read[column.type])


_MAKERS: Final[Mapping[int, Callable[[BinlogColumn, Noting], Layout]]] = {
    **dict.fromkeys(numeric.INTEGERS, numeric.integer),
    t.YEAR: numeric.year,
    t.FLOAT: numeric.floating,
    t.DOUBLE: numeric.floating,
    t.BIT: numeric.bit,
    t.NEWDECIMAL: numeric.decimal,
    t.DATE: temporal.date,
    t.NEWDATE: temporal.date,
    t.TIME2: temporal.duration,
    t.DATETIME2: temporal.datetime,
    t.TIMESTAMP2: temporal.timestamp,
    t.ENUM: _enum,
    t.SET: _set,
    **dict.fromkeys((t.VARCHAR, t.VAR_STRING, t.STRING, t.VARCHAR_COMPRESSED), _string),
    **dict.fromkeys((t.BLOB, t.BLOB_COMPRESSED), _blob),
    **dict.fromkeys((t.JSON, t.GEOMETRY, t.VECTOR), _document),
}
