"""Conversions to integer, bigint, decimal(p,s), numeric and double.

Plain closures over bytes; :class:`decimal.Decimal` only where digits must be rounded away.
"""

from __future__ import annotations

from decimal import Decimal

from cdc_daemon.mapping import decimals
from cdc_daemon.mapping.conversion_rule import (
    INTEGERS,
    TEXTS,
    Conversion,
    Convert,
    Lossy,
    converts,
    from_text,
    passes,
)
from cdc_daemon.mapping.strict import parse_boolean
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.entities import EntityType, Kind
from cdc_daemon.model.errors import DataError

OID_DIGITS = 10
_CENTS = 2  # digits after the point of money that lc_monetary C prints
_BITS = {Kind.INTEGER: 31, Kind.BIGINT: 63}


def to_integer(source: ColumnType, target: EntityType, lossy: Lossy | None) -> Conversion | None:
    """To integer or bigint; digits after the point are loss."""
    bits = _BITS[target.kind]
    check = _in_range(-(1 << bits), (1 << bits) - 1, target)
    sql_type = target.kind.value
    if source.name in INTEGERS:
        if INTEGERS[source.name] <= (10 if target.kind is Kind.INTEGER else 19):
            return passes()
        return converts(check, f"{{}}::{sql_type}", injective=True)
    if source.name == "boolean":
        return converts(lambda t: b"1" if parse_boolean(t) == b"t" else b"0", "{}::integer")
    if source.name == "oid":
        fits = target.kind is Kind.BIGINT and source.length == OID_DIGITS
        return (
            passes(f"{{}}::text::{sql_type}")
            if fits
            else converts(check, f"{{}}::text::{sql_type}", injective=True)
        )
    prepare = _number_text(source)
    if prepare is None:
        return None
    number = number_sql(source)
    cut = f"trunc({number})" if lossy == "truncate" else number

    def convert(text: bytes) -> bytes:
        return check(_whole(prepare(text), lossy, target))

    return converts(from_text(source, convert), f"{cut}::{sql_type}")


def _in_range(low: int, high: int, target: EntityType) -> Convert:
    safe = len(str(high)) - 1
    longest = len(str(low))  # digits are counted first: Python reads no number of thousands

    def in_range(text: bytes) -> bytes:
        if len(text) <= safe or (len(text) <= longest and low <= int(text) <= high):
            return text
        raise DataError(f"the number is out of the range of {target}", code="out_of_range")

    return in_range


def _number_text(source: ColumnType) -> Convert | None:
    """What makes plain number text (no exponent; NaN and infinities stay) of a source's text."""
    if source.name in ("numeric", "oid"):
        return lambda text: text
    if source.name == "money":
        return money_text(source)
    if source.name in ("real", "double"):
        return lambda text: decimals.without_exponent(text) if b"e" in text else text
    if source.name in TEXTS:
        return lambda text: decimals.parse_number(text, special=True)
    return None


def number_sql(source: ColumnType) -> str:
    """A column as numeric, exactly."""
    scale = money_scale(source)
    if source.name == "money" and scale != _CENTS:
        return f"pg_catalog.round({{}}::numeric * 1e{_CENTS - scale}, {scale})"
    return {"numeric": "{}", "money": "{}::numeric"}.get(source.name, "{}::text::numeric")


def money_scale(source: ColumnType) -> int:
    """Digits after the point that money has where it comes from."""
    return _CENTS if source.scale is None else source.scale


def money_text(source: ColumnType) -> Convert:
    """``-$1,234.50``, as lc_monetary C prints it, as a number's text."""
    scale = money_scale(source)
    if scale == _CENTS:
        return number_of_money
    return lambda text: number_of_money(text, scale)


def number_of_money(text: bytes, scale: int = 2) -> bytes:
    """The same; ``scale``: how many of the digits stand after the point."""
    plain = text.replace(b"$", b"").replace(b",", b"")
    if scale == _CENTS:
        return plain
    number = decimals.EXACT.scaleb(Decimal(plain.replace(b".", b"").decode()), -scale)
    return decimals.print_numeric(number)


def _finite(text: bytes, target: EntityType) -> bytes:
    if text[-1:] > b"9":
        raise DataError(f"{target} cannot be NaN or Infinity", code="out_of_range")
    return text


def _whole(text: bytes, lossy: Lossy | None, target: EntityType) -> bytes:
    """The integer a number's text stands for, as Python and PostgreSQL print it."""
    _finite(text, target)
    whole, _, fraction = text.partition(b".")
    if fraction.strip(b"0"):
        if lossy is None:
            raise DataError("the number has digits after the point", code="loss")
        whole = decimals.round_text(text, 0, lossy)
    return decimals.canonical_decimal(whole)


def to_decimal(source: ColumnType, target: EntityType, lossy: Lossy | None) -> Conversion | None:
    """To decimal(p,s); digits beyond the scale are loss, NaN and Infinity never fit."""
    assert target.length is not None
    scale = target.scale or 0
    whole = target.length - scale
    if source.name in INTEGERS:
        if whole >= INTEGERS[source.name]:
            return passes()
        return converts(
            _fitting(whole, scale, None, target), f"{{}}::numeric({target.length},{scale})"
        )
    if source.name == "oid" and source.length is not None and whole >= source.length:
        return passes("{}::text::numeric")
    if source.name == "numeric" and source.length is not None:
        source_scale = source.scale or 0
        if scale >= source_scale and whole >= source.length - source_scale:
            return passes()
    prepare = _number_text(source)
    if prepare is None:
        return None
    fit = _fitting(whole, scale, lossy, target)
    number = number_sql(source)
    if lossy == "truncate":
        number = f"trunc({number}, {scale})"
    convert = fit
    if source.name != "numeric":  # one text for each number, as the column prints it
        convert = lambda text: decimals.with_scale(fit(prepare(text)), scale)  # noqa: E731
    return converts(from_text(source, convert), f"{number}::numeric({target.length},{scale})")


def _fitting(whole: int, scale: int, lossy: Lossy | None, target: EntityType) -> Convert:
    """Check plain number text against ``whole`` digits before and ``scale`` after the point."""

    def fit(text: bytes) -> bytes:
        point = text.find(b".")
        if point >= 0 and len(text) - point - 1 > scale:
            text = decimals.canonical_decimal(_finite(text, target))
            point = text.find(b".")
            if point >= 0 and len(text) - point - 1 > scale:
                if lossy is None:
                    raise DataError(
                        f"the number has more than {scale} digits after the point", code="loss"
                    )
                text = decimals.round_text(text, scale, lossy)
                point = text.find(b".")
        _finite(text, target)
        if (point if point >= 0 else len(text)) > whole:  # a sign or leading zeros may be in it
            digits = text[: point if point >= 0 else None].lstrip(b"-").lstrip(b"0")
            if len(digits) > whole:
                raise DataError(f"the number is out of the range of {target}", code="out_of_range")
        return text

    return fit


def to_numeric(source: ColumnType, _target: EntityType, _lossy: Lossy | None) -> Conversion | None:
    """To numeric of any precision; NaN and infinities stay."""
    if source.name in INTEGERS or source.name == "numeric":
        return passes()
    prepare = _number_text(source)
    if prepare is None:
        return None
    if source.name == "oid":
        return passes(number_sql(source))
    return converts(from_text(source, prepare), number_sql(source))


def to_double(source: ColumnType, _target: EntityType, lossy: Lossy | None) -> Conversion | None:
    """To double; loss is when the shortest round trip says another number."""
    if source.name in ("smallint", "integer", "double"):
        return passes()
    if source.name == "real":
        return passes("{}::text::double precision")
    if source.name not in ("bigint", "numeric", "money", "oid") and source.name not in TEXTS:
        return None
    money = money_text(source) if source.name == "money" else None

    def convert(text: bytes) -> bytes:
        if money is not None:
            text = money(text)
        number = decimals.parse_double(text)
        printed = decimals.print_double(number)
        if lossy is None and len(text) > 15 and number - number == 0:
            plain = decimals.parse_number(text)
            if decimals.canonical_decimal(plain) != decimals.canonical_decimal(printed):
                raise DataError("double precision cannot hold all digits", code="loss")
        return printed

    cast = (
        "{}::double precision"
        if source.name in ("bigint", "numeric")
        else f"{number_sql(source)}::double precision"
    )
    if source.name in TEXTS:
        cast = "{}::text::double precision"
    return converts(from_text(source, convert), cast)
