"""Layouts of numbers: integers, YEAR, FLOAT and DOUBLE, BIT, DECIMAL."""

from __future__ import annotations

import struct
from typing import Final

from cdc_daemon.sources.mysql import column as t
from cdc_daemon.sources.mysql import moments, texts
from cdc_daemon.sources.mysql.column import BinlogColumn
from cdc_daemon.sources.mysql.layout import NUMBER, Form, Layout, Noting, table_layout

INTEGERS: Final = {
    t.TINY: (1, "b"), t.SHORT: (2, "h"), t.INT24: (3, ""), t.LONG: (4, "i"), t.LONGLONG: (8, "q"),
}  # fmt: skip
_SMALL: Final = tuple(b"%d" % number for number in range(256))
_SMALL_SIGNED: Final = _SMALL[:128] + tuple(b"%d" % number for number in range(-128, 0))
_YEARS: Final = tuple(map(moments.year_text, range(256)))
_BITS: Final = (b"f", b"t")


def integer(column: BinlogColumn, _: Noting) -> Layout:
    """TINYINT to BIGINT, signed or not: little-endian."""
    size, letter = INTEGERS[column.type]
    if size == 1:
        return table_layout(_SMALL if column.unsigned else _SMALL_SIGNED)

    def read(raw: bytes) -> bytes:
        return b"%d" % int.from_bytes(raw, "little", signed=not column.unsigned)

    form = Form(letter.upper() if column.unsigned else letter, NUMBER) if letter else None
    return Layout(size=size, read=read, little=form)


def year(_: BinlogColumn, __: Noting) -> Layout:
    """YEAR: one byte."""
    return table_layout(_YEARS)


def floating(column: BinlogColumn, _: Noting) -> Layout:
    """FLOAT and DOUBLE."""
    single = column.type == t.FLOAT
    letter, text = ("f", texts.real_text) if single else ("d", texts.double_text)

    def read(raw: bytes) -> bytes:
        return text(*struct.unpack("<" + letter, raw))

    form = Form(letter, "number_{i}({0})")
    return Layout(size=4 if single else 8, read=read, little=form, names={"number": text})


def bit(column: BinlogColumn, _: Noting) -> Layout:
    """BIT: a truth value, or a big-endian number."""
    size = (column.length + 7) // 8
    if column.length == 1:
        return table_layout(_BITS)
    letter = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(size)

    def read(raw: bytes) -> bytes:
        return b"%d" % int.from_bytes(raw, "big")

    return Layout(size=size, read=read, big=Form(letter, NUMBER) if letter else None)


def decimal(column: BinlogColumn, _: Noting) -> Layout:
    """DECIMAL: groups of nine digits."""
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
