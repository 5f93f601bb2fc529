"""Conversions to date, time, interval and timestamp."""

from __future__ import annotations

from cdc_daemon.mapping import times
from cdc_daemon.mapping.conversion_rule import (
    TEXTS,
    Conversion,
    ConversionUnsupported,
    Lossy,
    converts,
    from_text,
    parsed,
    passes,
    same_type,
)
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.entities import EntityType
from cdc_daemon.model.errors import DataError


def to_date(source: ColumnType, target: EntityType, lossy: Lossy | None) -> Conversion | None:
    """To date; a time of day is loss."""
    if source.name == "timestamp" or source.name in TEXTS:
        if lossy == "round":
            raise ConversionUnsupported(f"{source} to {target} can be truncated but not rounded")
        cut = _midnight if lossy is None else _day
        if source.name == "timestamp":
            return converts(cut, "{}::date")
        return converts(from_text(source, lambda t: cut(_iso_moment(t))), "{}::text::date")
    return same_type(source, target)


def _iso_moment(text: bytes) -> bytes:
    """ISO text of a date or a timestamp as PostgreSQL prints a date, or a timestamp."""
    if times.is_plain_date(text):
        return text
    if len(text.strip()) > 10 and b":" in text:
        return times.print_timestamp(times.parse_timestamp(text))
    return times.print_date(times.parse_date(text))


def _day(text: bytes) -> bytes:
    day, _, rest = text.partition(b" ")
    return day + b" BC" if rest.endswith(b"BC") else day


def _midnight(text: bytes) -> bytes:
    if len(text) == 19 and text.endswith(b" 00:00:00"):
        return text[:10]
    if (b":" in text and b" 00:00:00" not in text) or b"." in text:
        raise DataError("the timestamp has a time of day", code="loss")
    return _day(text)


def to_time(source: ColumnType, target: EntityType, _lossy: Lossy | None) -> Conversion | None:
    """To time of day; a duration that is none is out of range."""
    if source.name == "duration":
        return converts(_time_of_day, "{}::time", injective=True)
    return parsed(source, target, lambda t: times.print_time(times.parse_time(t)), "time")


def _time_of_day(text: bytes) -> bytes:
    if len(text.partition(b".")[0]) != 8 or text > b"24":
        raise DataError("the duration is no time of day", code="out_of_range")
    return text


def to_interval(source: ColumnType, target: EntityType, _lossy: Lossy | None) -> Conversion | None:
    """To interval; a duration is one."""
    if source.name == "duration":
        return passes("{}::interval")
    return parsed(source, target, times.canonical_interval, "interval")


def to_timestamp(source: ColumnType, target: EntityType, _lossy: Lossy | None) -> Conversion | None:
    """To timestamp without time zone; a date becomes its midnight."""
    if source.name == "date":
        return converts(_at_midnight, "{}::timestamp")
    return parsed(
        source, target, lambda t: times.print_timestamp(times.parse_timestamp(t)), "timestamp"
    )


def _at_midnight(text: bytes) -> bytes:
    if len(text) == 10 and text[4] == 45:
        return text + b" 00:00:00"
    return times.print_timestamp(times.date_to_timestamp(times.parse_date(text)))
