"""Dates and times as text and as numbers, over PostgreSQL's whole range.

A date is days since 1970-01-01, a timestamp microseconds since then, a time microseconds since
midnight; ±:data:`INFINITY` stand for ``infinity``. Python's datetime ends at year 9999 and knows no
BC, so years beyond are shifted by whole 400-year cycles. Text is ISO 8601 as PostgreSQL prints it;
the parsers also take ``T``, ``Z`` and the compact ``YYYYMMDD``.
"""

from __future__ import annotations

import datetime as dt
import re

from cdc_daemon.model.errors import DataError

INFINITY = 1 << 80
DAY = 86_400_000_000
_EPOCH = dt.date(1970, 1, 1).toordinal()
_CYCLE = 146_097  # days in 400 years

_DATE = re.compile(rb"(\d{4,7})-(\d\d)-(\d\d)( BC)?")
_COMPACT = re.compile(rb"(\d{4})(\d\d)(\d\d)()")
_TIME = re.compile(rb"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?")
_TIMESTAMP = re.compile(
    rb"(\d{4,7}-\d\d-\d\d|\d{8})"
    rb"(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d+)?)?))?"
    rb" ?(Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?( BC)?"
)
_INTERVAL = re.compile(
    rb"(?:([+-]?\d{1,20}) years?(?: |$))?(?:([+-]?\d{1,20}) mons?(?: |$))?"
    rb"(?:([+-]?\d{1,20}) days?(?: |$))?"
    rb"(?:([+-]?)(\d{1,20}):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?"
)
_INFINITE = {b"infinity": INFINITY, b"-infinity": -INFINITY}


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; year 0 is 1 BC. Raises ValueError for a day that does not exist."""
    if 1 <= year <= 9999:
        return dt.date(year, month, day).toordinal() - _EPOCH
    cycle, rest = divmod(year, 400)
    return dt.date(rest + 400, month, day).toordinal() - _EPOCH + (cycle - 1) * _CYCLE


def civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a day number; year 0 is 1 BC."""
    cycle, rest = divmod(days + _EPOCH, _CYCLE)
    date = dt.date.fromordinal(rest + _CYCLE)
    return date.year + 400 * (cycle - 1), date.month, date.day


FIRST_DAY = days_of(-4713, 11, 24)  # 4714-11-24 BC, Julian day 0
LAST_DAY = days_of(5874897, 12, 31)
LAST_TIMESTAMP_DAY = days_of(294276, 12, 31)


def _no(what: str) -> DataError:
    return DataError(f"the text is no {what}", code="invalid_value")


def _out_of_range(what: str) -> DataError:
    return DataError(f"the {what} is out of range", code="out_of_range")


def parse_date(text: bytes) -> int:
    """``YYYY-MM-DD[ BC]``, ``YYYYMMDD`` or an infinity → days. Raises DataError."""
    text = text.strip()
    if (found := _INFINITE.get(text)) is not None:
        return found
    match = _DATE.fullmatch(text) or _COMPACT.fullmatch(text)
    if match is None:
        raise _no("date")
    year, month, day = (int(part) for part in match.groups()[:3])
    return _day(year, month, day, bc=bool(match[4]))


def _day(year: int, month: int, day: int, *, bc: bool) -> int:
    if year == 0:
        raise _no("date")
    try:
        days = days_of(1 - year if bc else year, month, day)
    except ValueError:
        raise _no("date") from None
    if not FIRST_DAY <= days <= LAST_DAY:
        raise _out_of_range("date")
    return days


def print_date(days: int) -> bytes:
    """Days → PostgreSQL's text."""
    if abs(days) >= INFINITY:
        return b"infinity" if days > 0 else b"-infinity"
    year, month, day = civil(days)
    if year > 0:
        return b"%04d-%02d-%02d" % (year, month, day)
    return b"%04d-%02d-%02d BC" % (1 - year, month, day)


def parse_time(text: bytes) -> int:
    """``HH:MM[:SS[.ffffff]]`` up to 24:00:00 → microseconds. Raises DataError."""
    time = _microseconds(text.strip())
    if time > DAY:
        raise _no("time")
    return time


def _microseconds(text: bytes) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise _no("time")
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    fraction = (match[4] or b"").rstrip(b"0")
    if len(fraction) > 6:
        raise DataError("the time has digits beyond the microsecond", code="loss")
    if hour > 24 or minute > 59 or second > 59:
        raise _no("time")
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + int(fraction.ljust(6, b"0"))


def print_time(time: int) -> bytes:
    """Microseconds → ``HH:MM:SS[.ffffff]`` without zeros at the end of the fraction."""
    seconds, fraction = divmod(time, 1_000_000)
    minutes, second = divmod(seconds, 60)
    text = b"%02d:%02d:%02d" % (minutes // 60, minutes % 60, second)
    return text + (b".%06d" % fraction).rstrip(b"0") if fraction else text


def parse_timestamp(text: bytes) -> int:
    """``YYYY-MM-DD[ HH:MM[:SS[.ffffff]]][ BC]`` without an offset → microseconds. DataError."""
    return _timestamp(text, zone=False)


def parse_timestamptz(text: bytes) -> int:
    """The same with an offset, which must be there → microseconds in UTC. Raises DataError."""
    return _timestamp(text, zone=True)


def _timestamp(text: bytes, *, zone: bool) -> int:
    text = text.strip()
    if (found := _INFINITE.get(text)) is not None:
        return found
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise _no("timestamp")
    day, time, offset, bc = match.groups()
    if bool(offset) != zone:
        raise DataError(
            "the timestamp needs an offset" if zone else "the timestamp must not have an offset",
            code="invalid_value",
        )
    clock = _microseconds(time) if time else 0
    if clock >= DAY:
        raise _no("timestamp")
    parts = (_COMPACT if len(day) == 8 else _DATE).fullmatch(day)
    assert parts is not None
    days = _day(int(parts[1]), int(parts[2]), int(parts[3]), bc=bool(bc))
    if days > LAST_TIMESTAMP_DAY:
        raise _out_of_range("timestamp")
    return days * DAY + clock - (_offset(offset) if offset else 0)


def _offset(text: bytes) -> int:
    """``+HH[[:]MM[[:]SS]]`` or Z → microseconds east of UTC."""
    if text == b"Z":
        return 0
    digits = text[1:].replace(b":", b"").ljust(6, b"0")
    hour, minute, second = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if hour > 15 or minute > 59 or second > 59:
        raise _no("timestamp")
    east = ((hour * 60 + minute) * 60 + second) * 1_000_000
    return -east if text[:1] == b"-" else east


def print_timestamp(value: int, suffix: bytes = b"") -> bytes:
    """Microseconds → PostgreSQL's text; ``suffix`` is the offset (``+00``)."""
    if abs(value) >= INFINITY:
        return b"infinity" if value > 0 else b"-infinity"
    days, time = divmod(value, DAY)
    day, _, bc = print_date(days).partition(b" ")
    text = day + b" " + print_time(time) + suffix
    return text + b" BC" if bc else text


def print_timestamptz(value: int) -> bytes:
    """Microseconds → PostgreSQL's text in UTC."""
    return print_timestamp(value, b"+00")


def is_plain_date(text: bytes) -> bool:
    """Whether this is an existing day as ``YYYY-MM-DD``."""
    if len(text) != 10 or text[4] != 45 or text[7] != 45:
        return False
    year, month, day = text[:4], text[5:7], text[8:]
    if not (year.isdigit() and month.isdigit() and day.isdigit()):
        return False
    try:
        dt.date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def load_date(text: bytes) -> int:
    """A date column's text → days; quicker than :func:`parse_date`, for text a server printed."""
    if len(text) == 10 and text[4] == 45 and text[7] == 45:
        return dt.date.fromisoformat(text.decode()).toordinal() - _EPOCH
    return parse_date(text)


def load_timestamp(text: bytes) -> int:
    """A timestamp column's text → microseconds, for text a server printed."""
    if len(text) == 19 and text[4] == 45:
        days = dt.date.fromisoformat(text[:10].decode()).toordinal() - _EPOCH
        seconds = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:])
        return days * DAY + seconds * 1_000_000
    return parse_timestamp(text)


def date_to_timestamp(days: int) -> int:
    """Midnight of a day. Raises DataError past the last timestamp."""
    if abs(days) >= INFINITY:
        return days
    if days > LAST_TIMESTAMP_DAY:
        raise _out_of_range("timestamp")
    return days * DAY


def timestamp_to_date(value: int) -> int:
    """The day a timestamp falls on."""
    return value if abs(value) >= INFINITY else value // DAY


def trim_fraction(text: bytes) -> bytes:
    """A time's or timestamp's text without zeros at the end of its fraction."""
    start = text.find(b".")
    if start < 0:
        return text
    end = start + 1
    while end < len(text) and 48 <= text[end] <= 57:
        end += 1
    fraction = text[start:end].rstrip(b"0")
    return text[:start] + (fraction if len(fraction) > 1 else b"") + text[end:]


def canonical_timestamptz(text: bytes) -> bytes:
    """In UTC with ``+00``, fraction without zeros at its end."""
    if text.endswith(b"+00"):
        return trim_fraction(text)
    return print_timestamptz(parse_timestamptz(text))


def canonical_interval(text: bytes) -> bytes:
    """An interval in PostgreSQL's own style, as the server prints it. Raises DataError."""
    if text in _INFINITE:
        return text
    match = _INTERVAL.fullmatch(text)
    if match is None or not text:
        raise _no("interval in PostgreSQL's style")
    years, months, days, sign, hours, minutes, seconds, fraction = match.groups()
    total = int(years or 0) * 12 + int(months or 0)
    clock = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    time = clock * 1_000_000 + int((fraction or b"").ljust(6, b"0"))
    time = -time if sign == b"-" else time
    if not (_has_bits(total, 31) and _has_bits(int(days or 0), 31) and _has_bits(time, 63)):
        raise _out_of_range("interval")
    return _print_interval(total, int(days or 0), time)


def _has_bits(number: int, bits: int) -> bool:
    return -(1 << bits) <= number < 1 << bits


def _print_interval(months: int, days: int, time: int) -> bytes:
    """EncodeInterval of PostgreSQL's datetime.c, style ``postgres``."""
    years = abs(months) // 12 * (1 if months > 0 else -1)
    parts: list[bytes] = []
    before = False  # the last part was negative, so a positive one after it shows its sign
    for value, unit in ((years, b"year"), (months - years * 12, b"mon"), (days, b"day")):
        if value:
            plus = b"+" if before and value > 0 else b""
            parts.append(b"%s%d %s%s" % (plus, value, unit, b"" if value == 1 else b"s"))
            before = value < 0
    if time or not parts:
        sign = b"-" if time < 0 else b"+" if before else b""
        parts.append(sign + print_time(abs(time)))
    return b" ".join(parts)
