"""Dates and times of a row image as text in PostgreSQL form; zero dates are Invalid.

Formats: ``sql-common/my_time.cc`` of MySQL (``TIME_from_longlong_datetime_packed`` and so on):
big-endian numbers of year*13+month, day, hour, minute and second, an offset in the first bit, and
behind it a fraction of as many bytes as its digits need. A date is day + 32 * month + 512 * year
in three little-endian bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

from cdc_daemon.model.changes import Invalid

Text = bytes | Invalid
Read = Callable[[bytes], Text]

SIGN_BIT: Final = 1 << 39  # of the five bytes of a date and time
_TIME_ZERO: Final = 1 << 23  # of the three bytes of a time
_DAY_SECONDS: Final = 86_400
_EPOCH: Final = dt.date(1970, 1, 1).toordinal()
_NO_DATE: Final = "no date of the calendar"
ZERO_TIMESTAMP: Final = b"0000-00-00 00:00:00"

HOURS: Final = {hour: b" %02d:" % hour for hour in range(24)}
MINUTES: Final = {
    minute << 6 | second: b"%02d:%02d" % (minute, second)
    for minute in range(60)
    for second in range(60)
}
"""Minute and second as they are packed."""


def fraction_bytes(digits: int) -> int:
    """How many bytes a fraction of so many digits takes."""
    return (digits + 1) // 2


def fraction_text(value: int, size: int) -> bytes:
    """Point and digits without trailing zeros, of a number of hundredths per byte."""
    return (b".%0*d" % (2 * size, value)).rstrip(b"0") if value else b""


def day_text(packed: int) -> bytes:
    """Of year*13+month and day as they are packed; empty: no date of the calendar."""
    (year, month), day = divmod(packed >> 5, 13), packed & 31
    return b"%04d-%02d-%02d" % (year, month, day) if _exists(year, month, day) else b""


def _exists(year: int, month: int, day: int) -> bool:
    try:
        dt.date(year, month, day)
    except ValueError:
        return False
    return True


def date(raw: bytes) -> Text:
    """DATE: three bytes."""
    packed = int.from_bytes(raw, "little")
    return _date(packed >> 9, packed >> 5 & 15, packed & 31, "")


def _date(year: int, month: int, day: int, rest: str) -> Text:
    return checked(year, month, day, f"{year:04}-{month:02}-{day:02}{rest}".encode())


def checked(year: int, month: int, day: int, text: bytes) -> Text:
    """The text where there is such a day, else Invalid."""
    return text if _exists(year, month, day) else Invalid(text, _NO_DATE)


def datetime_reader(digits: int) -> Read:
    """DATETIME(digits): five bytes and the fraction. Raises ValueError for no time of the day."""
    size = fraction_bytes(digits)

    def read(raw: bytes) -> Text:
        packed = int.from_bytes(raw[:5], "big") - SIGN_BIT
        hour, minute, second = packed >> 12 & 31, packed >> 6 & 63, packed & 63
        if packed < 0 or hour >= 24 or minute >= 60 or second >= 60:
            raise ValueError("no time of the day")
        fraction = fraction_text(int.from_bytes(raw[5:], "big"), size).decode()
        year, month = divmod(packed >> 22, 13)
        rest = f" {hour:02}:{minute:02}:{second:02}{fraction}"
        return _date(year, month, packed >> 17 & 31, rest)

    return read


def timestamp_reader(digits: int) -> Read:
    """TIMESTAMP(digits): seconds since 1970 and the fraction.

    The number is read without a sign: MySQL ends in 2038, MariaDB 11.5 goes on until 2106.
    """
    size = fraction_bytes(digits)

    def read(raw: bytes) -> Text:
        seconds = int.from_bytes(raw[:4], "big")
        fraction = int.from_bytes(raw[4:], "big")
        if not seconds and not fraction:
            return Invalid(ZERO_TIMESTAMP, _NO_DATE)
        days, rest = divmod(seconds, _DAY_SECONDS)
        return unix_day(days) + clock(rest) + fraction_text(fraction, size) + b"+00"

    return read


def unix_day(days: int) -> bytes:
    """The date so many days after 1970 began."""
    return dt.date.fromordinal(_EPOCH + days).isoformat().encode()


def clock(seconds: int) -> bytes:
    """Blank and time of day, so many seconds after midnight."""
    return b" %02d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)


def duration_reader(digits: int) -> Read:
    """TIME(digits): hours, minutes, seconds and fraction in one signed number."""
    size = fraction_bytes(digits)

    def read(raw: bytes) -> Text:
        packed = int.from_bytes(raw, "big") - (_TIME_ZERO << 8 * size)
        sign, packed = ("-", -packed) if packed < 0 else ("", packed)
        whole, fraction = packed >> 8 * size, packed & (1 << 8 * size) - 1
        return _duration(sign, whole, fraction_text(fraction, size))

    return read


def _duration(sign: str, packed: int, fraction: bytes) -> bytes:
    hour, minute, second = packed >> 12, packed >> 6 & 63, packed & 63
    if minute >= 60 or second >= 60:
        raise ValueError("no time")
    return f"{sign}{hour:02}:{minute:02}:{second:02}".encode() + fraction


def year_text(number: int) -> bytes:
    """YEAR: 0, or years since 1900."""
    return b"%d" % (number + 1900) if number else b"0"
