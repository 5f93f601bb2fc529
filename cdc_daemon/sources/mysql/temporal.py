"""Layouts of dates and times."""

from __future__ import annotations

from functools import partial
from typing import Final

from cdc_daemon.sources.mysql import moments
from cdc_daemon.sources.mysql.column import BinlogColumn
from cdc_daemon.sources.mysql.layout import Form, Layout, Noting, Seen, seen_layout

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


def date(_: BinlogColumn, noting: Noting) -> Layout:
    """DATE."""
    return seen_layout(3, noting(moments.date))


def duration(column: BinlogColumn, noting: Noting) -> Layout:
    """TIME."""
    read = noting(moments.duration_reader(column.scale))
    return seen_layout(3 + moments.fraction_bytes(column.scale), read)


def datetime(column: BinlogColumn, noting: Noting) -> Layout:
    """DATETIME: day, hour, minute with second, and fraction are looked up and put together."""
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


def timestamp(column: BinlogColumn, noting: Noting) -> Layout:
    """TIMESTAMP, in the same way."""
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
