"""How a column's value stands in a row image, and what makes text of it.

A :class:`Layout` serves both readers: the strict one takes the bytes and calls ``read``; generated
code has ``struct`` read neighbouring values at once, by the :class:`Form` for its byte order, and
pastes the form's expression.

Formats: ``sql/log_event.cc`` of MySQL (``log_event_print_value``), ``Field::pack`` in
``sql/field.cc``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, TypeVar

from cdc_daemon.model.changes import Invalid
from cdc_daemon.model.errors import Stop
from cdc_daemon.sources.mysql import charsets, moments, texts
from cdc_daemon.sources.mysql import tablemap as t
from cdc_daemon.sources.mysql.compression import column_reader
from cdc_daemon.sources.mysql.json_binary import json_text
from cdc_daemon.sources.mysql.tablemap import BinlogColumn

Text = bytes | Invalid
Read = Callable[[bytes], Text]
Noting = Callable[[Read], Read]
Key = TypeVar("Key", int, bytes)

CACHED: Final = 20_000
"""The most values of a column that are remembered."""

_CALL: Final = "read_{i}({0})"
_SEEN: Final = "seen_{i}[{0}]"
_UNLESS_ASCII: Final = "({0} if {0}.isascii() else read_{i}({0}))"
_NUMBER: Final = 'b"%d" % {0}'
_HEXED: Final = r'b"\\x" + hexlify({0})'
_HEXED_PADDED: Final = r'b"\\x" + hexlify({0}.ljust(%d, b"\0"))'


@dataclass(frozen=True, slots=True)
class Form:
    """``letters`` for struct; an expression of its values ``{0}``, ``{1}``, ... and names that end
    in ``_{i}``, the column's position."""

    letters: str
    text: str

    @property
    def count(self) -> int:
        """How many values struct makes of the letters."""
        return 1 if self.letters[0].isdigit() else len(self.letters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A value of ``size`` bytes, or with a length of ``prefix`` bytes in front of it.

    ``read`` makes text of the value's bytes and raises ValueError for what is none. ``text``: the
    expression for the bytes; ``little`` and ``big``: forms for the byte orders, where there is one.
    ``names``: what the expressions use, by its name without the column's position.
    """

    read: Read
    size: int = 0
    prefix: int = 0
    text: str = _CALL
    little: Form | None = None
    big: Form | None = None
    names: Mapping[str, object] = field(default_factory=dict)


class Seen(dict[Key, Text], Generic[Key]):
    """Texts by bytes or number, read when first seen; forgotten when they become too many."""

    def __init__(self, read: Callable[[Key], Text]) -> None:
        super().__init__()
        self._read: Callable[[Key], Text] = read

    def __missing__(self, key: Key) -> Text:
        value = self._read(key)
        if isinstance(value, bytes):  # who reads an invalid one hears of it each time
            if len(self) >= CACHED:
                self.clear()
            self[key] = value
        return value


def layout_of(column: BinlogColumn, where: str, limit: int, noting: Noting = lambda r: r) -> Layout:
    """How the column's values are read; ``noting`` wraps every reader that may say Invalid.

    ``where`` names the column in errors, ``limit`` is ``max_value_bytes``. Raises Stop for a type
    that cannot be read.
    """
    if column.type in _INTEGERS:
        return _integer(column)
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


# --- numbers --------------------------------------------------------------------------------------

_INTEGERS: Final = {
    t.TINY: (1, "b"), t.SHORT: (2, "h"), t.INT24: (3, ""), t.LONG: (4, "i"), t.LONGLONG: (8, "q"),
}  # fmt: skip
_OLD: Final = frozenset({t.TIMESTAMP, t.TIME, t.DATETIME})
_SMALL: Final = tuple(b"%d" % number for number in range(256))
_SMALL_SIGNED: Final = _SMALL[:128] + tuple(b"%d" % number for number in range(-128, 0))
_YEARS: Final = tuple(map(moments.year_text, range(256)))
_BITS: Final = (b"f", b"t")


def _table(table: tuple[bytes, ...]) -> Layout:
    """A byte that is looked up."""
    form = Form("B", "table_{i}[{0}]")
    names = {"table": table}
    return Layout(size=1, read=partial(_looked_up, table), little=form, big=form, names=names)


def _looked_up(table: tuple[Text, ...], raw: bytes) -> Text:
    number = int.from_bytes(raw, "little")
    if number >= len(table):
        raise ValueError("a number beyond the column's values")
    return table[number]


def _integer(column: BinlogColumn) -> Layout:
    size, letter = _INTEGERS[column.type]
    if size == 1:
        return _table(_SMALL if column.unsigned else _SMALL_SIGNED)

    def read(raw: bytes) -> bytes:
        return b"%d" % int.from_bytes(raw, "little", signed=not column.unsigned)

    form = Form(letter.upper() if column.unsigned else letter, _NUMBER) if letter else None
    return Layout(size=size, read=read, little=form)


def _year(_: BinlogColumn, __: Noting) -> Layout:
    return _table(_YEARS)


def _float(column: BinlogColumn, _: Noting) -> Layout:
    single = column.type == t.FLOAT
    letter, text = ("f", texts.real_text) if single else ("d", texts.double_text)

    def read(raw: bytes) -> bytes:
        return text(*struct.unpack("<" + letter, raw))

    form = Form(letter, "number_{i}({0})")
    return Layout(size=4 if single else 8, read=read, little=form, names={"number": text})


def _bit(column: BinlogColumn, _: Noting) -> Layout:
    size = (column.length + 7) // 8
    if column.length == 1:
        return _table(_BITS)
    letter = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(size)

    def read(raw: bytes) -> bytes:
        return b"%d" % int.from_bytes(raw, "big")

    return Layout(size=size, read=read, big=Form(letter, _NUMBER) if letter else None)


def _decimal(column: BinlogColumn, _: Noting) -> Layout:
    precision, scale = column.length, column.scale
    size = texts.decimal_bytes(precision, scale)
    before, after = texts.decimal_groups(precision, scale)
    form = _decimal_form(before, after, scale) if before else None
    return Layout(size=size, read=texts.decimal_reader(precision, scale), big=form)


def _decimal_form(before: list[int], after: list[int], scale: int) -> Form:
    """Groups as numbers, put together before and after the point; negative ones are inverted."""
    letters, groups, most = "", [], []
    for digits in before + after:
        size = texts.GROUP_BYTES[digits]
        place = len(letters)
        letters += {1: "B", 2: "H", 3: "BH", 4: "I"}[size]
        both = f"({{{place}}} << 16 | {{{place + 1}}})"
        groups.append(both if size == 3 else f"{{{place}}}")
        most.append(256**size - 1)
    half = (most[0] + 1) // 2
    positive = [f"({groups[0]} - {half})", *groups[1:]]
    limits = [half - 1, *most[1:]]
    negative = [f"({limit} - {group})" for group, limit in zip(groups, limits, strict=True)]
    shown = f"%d.%0{scale}d" if scale else "%d"
    values = [_joined(signed, before, after) for signed in (positive, negative)]
    return Form(
        letters,
        f'(b"{shown}" % ({values[0]}) if {groups[0]} >= {half} else b"-{shown}" % ({values[1]}))',
    )


def _joined(groups: list[str], before: list[int], after: list[int]) -> str:
    """The numbers before and after the point, as a tuple's inside."""
    split = len(before)
    parts = [_sum(groups[:split], before), _sum(groups[split:], after)]
    return ", ".join(part for part in parts if part) + ","


def _sum(groups: list[str], digits: list[int]) -> str:
    powers = [10 ** sum(digits[place + 1 :]) for place in range(len(digits))]
    terms = (f"{g} * {p}" if p > 1 else g for g, p in zip(groups, powers, strict=True))
    return " + ".join(terms)


# --- times ----------------------------------------------------------------------------------------

_DAYS: Final[Seen[int]] = Seen(lambda key: moments.day_text(key - (moments.SIGN_BIT >> 17)))
_UNIX_DAYS: Final[Seen[int]] = Seen(moments.unix_day)
_FRACTIONS: Final[dict[int, Seen[int]]] = {
    size: Seen(partial(moments.fraction_text, size=size)) for size in (1, 2, 3)
}
_SECONDS: Final = tuple(moments.clock(second)[4:] for second in range(3600))
_DATETIMES: Final = {
    5: ("IB", "{0} << 8 | {1}"),
    6: ("HI", "{0} << 32 | {1}"),
    7: ("BHI", "{0} << 48 | {1} << 32 | {2}"),
    8: ("Q", "{0}"),
}
"""Letters and the whole number, by the bytes of a date and time with its fraction."""
_FRACTION_FORMS: Final = {
    0: ("", ""),
    1: ("B", "{1}"),
    2: ("H", "{1}"),
    3: ("HB", "{1} << 8 | {2}"),
}


def _date(_: BinlogColumn, noting: Noting) -> Layout:
    return _seen(3, noting(moments.date))


def _seen(size: int, read: Read) -> Layout:
    """A fixed value whose bytes are remembered with their text."""
    return Layout(size=size, read=read, text=_SEEN, names={"seen": Seen(read)})


def _duration(column: BinlogColumn, noting: Noting) -> Layout:
    read = noting(moments.duration_reader(column.scale))
    return _seen(3 + moments.fraction_bytes(column.scale), read)


def _datetime(column: BinlogColumn, noting: Noting) -> Layout:
    size = moments.fraction_bytes(column.scale)
    letters, whole = _DATETIMES[5 + size]
    shift = 8 * size
    fraction = f" + fractions_{{i}}[y & {(1 << shift) - 1}]" if size else ""
    text = (
        f"(t + hours_{{i}}[y >> {shift + 12} & 31] + minutes_{{i}}[y >> {shift} & 4095]{fraction}"
        f" if (t := days_{{i}}[(y := {whole}) >> {shift + 17}]) else odd_{{i}}(y))"
    )
    read = noting(moments.datetime_reader(column.scale))
    names = {
        "days": _DAYS,
        "hours": moments.HOURS,
        "minutes": moments.MINUTES,
        "fractions": _FRACTIONS.get(size),
        "odd": lambda number: read(number.to_bytes(5 + size, "big")),
    }
    return Layout(size=5 + size, read=read, big=Form(letters, text), names=names)


def _timestamp(column: BinlogColumn, noting: Noting) -> Layout:
    size = moments.fraction_bytes(column.scale)
    letters, number = _FRACTION_FORMS[size]
    fraction = f" + fractions_{{i}}[{number}]" if size else ""
    text = (
        "(days_{i}[{0} // 86400] + hours_{i}[{0} // 3600 % 24] + seconds_{i}[{0} % 3600]"
        f'{fraction} + b"+00" if {{0}} else odd_{{i}}({number}))'
    )
    read = noting(moments.timestamp_reader(column.scale))
    names = {
        "days": _UNIX_DAYS,
        "hours": moments.HOURS,
        "seconds": _SECONDS,
        "fractions": _FRACTIONS.get(size),
        "odd": lambda fraction=0: read(fraction.to_bytes(4 + size, "big")),
    }
    return Layout(size=4 + size, read=read, big=Form("I" + letters, text), names=names)


# --- words ----------------------------------------------------------------------------------------


def _enum(column: BinlogColumn, noting: Noting) -> Layout:
    """A number into the labels; 0 is the empty text of what was no label."""
    table: tuple[Text, ...] = (b"", *column.labels)
    plain = all(isinstance(label, bytes) for label in table)
    read = partial(_looked_up, table)
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

    return _seen(column.length, noting(read))


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
    t.YEAR: _year, t.FLOAT: _float, t.DOUBLE: _float, t.BIT: _bit, t.NEWDECIMAL: _decimal,
    t.DATE: _date, t.NEWDATE: _date, t.TIME2: _duration, t.DATETIME2: _datetime,
    t.TIMESTAMP2: _timestamp, t.ENUM: _enum, t.SET: _set, t.VARCHAR: _string,
    t.VAR_STRING: _string, t.STRING: _string, t.BLOB: _blob, t.BLOB_COMPRESSED: _blob,
    t.VARCHAR_COMPRESSED: _string, t.JSON: _document, t.GEOMETRY: _document, t.VECTOR: _document,
}  # fmt: skip
