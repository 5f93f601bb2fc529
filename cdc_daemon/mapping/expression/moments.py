"""Dates and timestamps in expressions: EXTRACT and date arithmetic over mapping/times' numbers."""

from __future__ import annotations

from cdc_daemon.mapping import times
from cdc_daemon.mapping.expression.numbers import failure, integer

DATE_PARTS = ("year", "quarter", "month", "day", "dow", "isodow", "doy")
CLOCK_PARTS = ("hour", "minute")


def extract_date(part: str, days: int) -> int:
    """``EXTRACT(part FROM date)``; the year of BC dates is negative."""
    if abs(days) >= times.INFINITY:
        raise failure("an infinite date has no parts")
    year, month, day = times.civil(days)
    values = {
        "year": year if year > 0 else year - 1,
        "quarter": (month + 2) // 3,
        "month": month,
        "day": day,
        "dow": (days + 4) % 7,
        "isodow": (days + 3) % 7 + 1,
        "doy": days - times.days_of(year, 1, 1) + 1,
    }
    return values[part]


def extract_timestamp(part: str, value: int) -> int:
    """``EXTRACT(part FROM timestamp)``."""
    if abs(value) >= times.INFINITY:
        raise failure("an infinite timestamp has no parts")
    if part in DATE_PARTS:
        return extract_date(part, value // times.DAY)
    minutes = value % times.DAY // 60_000_000
    return minutes // 60 if part == "hour" else minutes % 60


def shift(days: int, by: int) -> int:
    """Date + integer."""
    if abs(days) >= times.INFINITY:
        return days
    if not times.FIRST_DAY <= days + by <= times.LAST_DAY:
        raise failure("date out of range")
    return days + by


def between(later: int, earlier: int) -> int:
    """Date - date in days."""
    if max(abs(later), abs(earlier)) >= times.INFINITY:
        raise failure("infinite dates have no distance")
    return integer(later - earlier)
