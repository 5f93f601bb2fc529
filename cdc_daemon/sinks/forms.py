"""Columns of log text as SQLite keeps them: strings and numbers, checked, one form per value.

A column goes through at once where its type allows it: decoding, and the search for a NUL, is one
call for all its values. What is no value of its type raises the DataError that PostgreSQL would
give for it. Text with a NUL is refused as it is there: SQLite could hold it, but its own functions
stop at it.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from cdc_daemon.mapping.canonical import BOOLEANS
from cdc_daemon.mapping.decimals import (
    canonical_decimal,
    parse_double,
    parse_number,
    print_double,
    with_scale,
)
from cdc_daemon.mapping.documents import canonical_json
from cdc_daemon.mapping.times import (
    canonical_interval,
    parse_date,
    parse_time,
    parse_timestamp,
    parse_timestamptz,
    print_date,
    print_time,
    print_timestamp,
    print_timestamptz,
)
from cdc_daemon.model.entities import Attribute, EntityType, Kind
from cdc_daemon.model.errors import DataError
from cdc_daemon.sinks.rejected import data_error

Stored = str | int | None
Form = Callable[[bytes], Stored]

_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX = re.compile(rb"\\x(?:[0-9a-f]{2})*")
_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d{0,5}[1-9])?(\+00)?")
_DAY = re.compile(rb"\d{4,7}-\d\d-\d\d")
_NUL = b"\0"


def stored(column: Sequence[bytes | None], attribute: Attribute) -> Sequence[Stored]:
    """A column's values as they are kept. Raises DataError, which names the attribute."""
    form = form_of(attribute.type)
    if form is None:
        return texts(column, attribute.name)
    try:
        return [None if value is None else form(value) for value in column]
    except DataError as error:
        raise data_error(error.code.removeprefix("sqlstate_"), attribute=attribute.name) from error
    except UnicodeDecodeError as exc:
        raise data_error("22021", attribute=attribute.name) from exc


def texts(column: Sequence[bytes | None], attribute: str | None = None) -> Sequence[str | None]:
    """A column of plain text. Raises DataError for a NUL and for what is not UTF-8."""
    try:
        joined = _NUL.join(column)  # type: ignore[arg-type]
        given: Sequence[bytes] = column  # type: ignore[assignment]
    except TypeError:
        given = [value for value in column if value is not None]
        joined = _NUL.join(given)
    try:
        found: list[str] = joined.decode().split("\0") if given else []
    except UnicodeDecodeError as exc:
        raise data_error("22021", attribute=attribute) from exc
    if len(found) != len(given):
        raise data_error("22021", attribute=attribute)
    if len(given) == len(column):
        return found
    following = iter(found)
    return [None if value is None else next(following) for value in column]


def form_of(type_: EntityType) -> Form | None:
    """What makes the form of one value; None: plain text, or an integer that SQLite converts.

    Its errors have SQLSTATEs as codes and no words.
    """
    if type_.kind is Kind.DECIMAL:
        return _decimal(type_)
    return _FORMS.get(type_.kind)


def key_texts(keys: Sequence[Sequence[bytes]], types: Sequence[EntityType]) -> str:
    """Keys as a JSON array for ``json_each``: of texts, or of arrays of texts. DataError."""
    columns = [
        stored(column, Attribute(name="", type=type_))
        for column, type_ in zip(zip(*keys, strict=True), types, strict=True)
    ]
    return as_json(columns[0] if len(columns) == 1 else list(zip(*columns, strict=True)))


def as_json(values: Sequence[object]) -> str:
    """A JSON array."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


# --- single values ---------------------------------------------------------------------------


def _refused(code: str) -> DataError:
    return DataError(code, code=code)


def _checked(function: Callable[[bytes], bytes], malformed: str, outside: str) -> Form:
    """A function of mapping/ as a form: its errors as SQLSTATEs."""

    def form(value: bytes) -> str:
        try:
            return function(value).decode()
        except DataError as error:
            code = outside if error.code == "out_of_range" else malformed
            raise _refused(code) from error
        except ValueError as exc:
            raise _refused(malformed) from exc

    return form


@lru_cache(maxsize=64)
def _decimal(type_: EntityType) -> Form:
    """Exactly ``scale`` digits after the point, as the column of PostgreSQL prints it."""
    scale = type_.scale or 0
    whole = (type_.length or 1) - scale
    fraction = rb"\.[0-9]{%d}" % scale if scale else b""
    first = rb"(?:0|[1-9][0-9]{0,%d})" % (whole - 1) if whole > 0 else b"0"
    plain = re.compile(rb"-?" + first + fraction).fullmatch
    slow = partial(_fitted, whole=max(whole, 0), scale=scale)

    def form(value: bytes) -> str:
        if plain(value) and value[:2] != b"-0":
            return value.decode()
        return slow(value)

    return form


def _fitted(value: bytes, *, whole: int, scale: int) -> str:
    try:
        number = canonical_decimal(parse_number(value, special=True))
    except DataError as error:
        raise _refused("22003" if error.code == "out_of_range" else "22P02") from error
    if number == b"NaN":
        return "NaN"
    digits, _, fraction = number.lstrip(b"-").partition(b".")
    if number[-1:] > b"9" or len(digits.lstrip(b"0")) > whole or len(fraction) > scale:
        raise _refused("22003")
    return with_scale(number, scale).decode()


def _numeric(value: bytes) -> bytes:
    return canonical_decimal(parse_number(value, special=True))


def _double(value: bytes) -> bytes:
    return print_double(parse_double(value) + 0.0)


def _boolean(value: bytes) -> int:
    try:
        return int(BOOLEANS[value] == b"t")
    except KeyError:
        raise _refused("22P02") from None


@lru_cache(maxsize=4096)
def _date(value: bytes) -> str:
    try:
        return print_date(parse_date(value)).decode()
    except DataError as error:
        raise _refused("22008" if _DAY.match(value) else "22007") from error


def _time(value: bytes) -> bytes:
    return print_time(parse_time(value))


def _moment(slow: Callable[[bytes], bytes], zone: bytes | None) -> Form:
    """A timestamp: the common form by one match and one look at the calendar."""
    plain, parse = _TIMESTAMP.fullmatch, dt.datetime.fromisoformat

    def form(value: bytes) -> str:
        found = plain(value)
        if found is not None and found[2] == zone:
            try:
                parse(found[1].decode())
                return value.decode()
            except ValueError:
                pass  # 24:00:00, or no such day
        try:
            return slow(value).decode()
        except DataError as error:
            raise _refused("22008" if _DAY.match(value) else "22007") from error

    return form


def _matching(pattern: re.Pattern[bytes]) -> Form:
    def form(value: bytes) -> str:
        lower = value.lower()
        if not pattern.fullmatch(lower):
            raise _refused("22P02")
        return lower.decode()

    return form


_FORMS: dict[Kind, Form] = {
    Kind.NUMERIC: _checked(_numeric, "22P02", "22003"),
    Kind.DOUBLE: _checked(_double, "22P02", "22003"),
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIME: _checked(_time, "22007", "22008"),
    Kind.TIMESTAMP: _moment(lambda text: print_timestamp(parse_timestamp(text)), None),
    Kind.TIMESTAMPTZ: _moment(lambda text: print_timestamptz(parse_timestamptz(text)), b"+00"),
    Kind.INTERVAL: lru_cache(maxsize=4096)(_checked(canonical_interval, "22007", "22008")),
    Kind.UUID: _matching(_UUID),
    Kind.JSON: _checked(canonical_json, "22P02", "22P02"),
    Kind.BYTES: _matching(_HEX),
}
