"""The keys of a ``map`` as the column's values are printed, so that what is meant is found.

Written is ``true`` or ``1``; the log says ``t``, or ``1.00`` where the column is numeric(5,2). Not
in here: the values that a map gives (mapping/fields).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from cdc_daemon.mapping import decimals, times
from cdc_daemon.mapping.conversion_rule import INTEGERS, TEXTS
from cdc_daemon.mapping.convert_numbers import money_scale, number_of_money
from cdc_daemon.mapping.strict import parse_boolean, parse_bytes, parse_uuid
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.errors import DataError

_PRINTED: dict[str, Callable[[bytes], bytes]] = {
    "real": lambda text: decimals.print_double(decimals.parse_double(text)),
    "double": lambda text: decimals.print_double(decimals.parse_double(text)),
    "boolean": parse_boolean,
    "date": lambda text: times.print_date(times.parse_date(text)),
    "time": lambda text: times.print_time(times.parse_time(text)),
    "timestamp": lambda text: times.print_timestamp(times.parse_timestamp(text)),
    "timestamptz": lambda text: times.print_timestamptz(times.parse_timestamptz(text)),
    "uuid": parse_uuid,
    "bytes": parse_bytes,
}
_BITS = {"smallint": 15, "integer": 31, "bigint": 63}


class MapKeyError(ValueError):
    """A key of a map that no value of its column ever equals."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


def prints_alike(type_: ColumnType) -> bool:
    """Whether equal values of the type may be printed in different ways (1.5 and 1.50)."""
    return type_.name == "numeric" and type_.length is None


def map_keys(
    keys: Iterable[str], type_: ColumnType, nulls: Collection[bytes], *, trim: bool
) -> dict[str, bytes]:
    """Each key as a column of that type prints it. ``nulls``: texts that mean NULL there; ``trim``:
    whether blanks are cut off the values first.

    Raises MapKeyError.
    """
    found: dict[str, bytes] = {}
    for key in keys:
        try:
            printed = _printed(key.encode(), type_, trim=trim)
        except DataError as error:
            raise MapKeyError(key, f"no value of {type_} is {key!r}: {error.message}") from None
        if printed in nulls:
            raise MapKeyError(key, f"{key!r} means NULL in this source: 'default' stands for it")
        if printed in found.values():
            raise MapKeyError(key, f"{key!r} is the same value of {type_} as another key")
        found[key] = printed
    return found


def _printed(key: bytes, type_: ColumnType, *, trim: bool) -> bytes:
    if type_.name in INTEGERS:
        return _integer(key, _BITS[type_.name])
    if type_.name == "numeric":
        return _numeric(key, type_)
    if type_.name == "money":
        return _money(key, money_scale(type_))
    if type_.name in TEXTS:
        return _text(key, type_, trim=trim)
    convert = _PRINTED.get(type_.name)
    return key if convert is None else convert(key)


def _integer(key: bytes, bits: int) -> bytes:
    number = decimals.parse_integer(key)
    if not -(1 << bits) <= number < 1 << bits:
        raise DataError("the number is out of its range", code="out_of_range")
    return b"%d" % number


def _numeric(key: bytes, type_: ColumnType) -> bytes:
    number = decimals.canonical_decimal(decimals.parse_number(key, special=True))
    if type_.length is None or number in decimals.NOT_FINITE:
        return number
    scale = max(type_.scale or 0, 0)
    whole, _, fraction = number.partition(b".")
    if len(fraction) > scale or len(whole.lstrip(b"-0")) > type_.length - (type_.scale or 0):
        raise DataError("it has more digits", code="out_of_range")
    return decimals.with_scale(number, scale)


def _money(key: bytes, scale: int) -> bytes:
    """``-1234.5`` as lc_monetary C prints that amount: ``-$1,234.50``."""
    number = decimals.parse_number(number_of_money(key))
    whole, _, fraction = decimals.canonical_decimal(number).partition(b".")
    if len(fraction) > scale:
        raise DataError("it has more digits", code="out_of_range")
    coins = int(whole + fraction.ljust(scale, b"0"))
    sign = "-" if coins < 0 else ""
    return f"{sign}${abs(coins) // 100:,}.{abs(coins) % 100:02d}".encode()


def _text(key: bytes, type_: ColumnType, *, trim: bool) -> bytes:
    if trim and key != key.strip(b" "):
        raise DataError("blanks at its ends are cut off first", code="invalid_value")
    key = key.rstrip(b" ") if type_.name == "char" else key
    if type_.length is not None and len(key.decode()) > type_.length:
        raise DataError("it is longer", code="too_long")
    return key
