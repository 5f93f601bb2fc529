"""Arithmetic as PostgreSQL does it: overflow is an error, division truncates, scales are kept.

What generated code calls. Errors are DataError with code ``expression`` and no values.
"""

from __future__ import annotations

import decimal
import math
import struct
from decimal import Decimal

from cdc_daemon.mapping import decimals
from cdc_daemon.model.errors import DataError


def failure(message: str) -> DataError:
    """An evaluation error."""
    return DataError(message, code="expression")


def _checked(value: int, bits: int, kind: str) -> int:
    if -(1 << bits) <= value < (1 << bits):
        return value
    raise failure(f"{kind} out of range")


def smallint(value: int) -> int:
    """The value, if 16 bits hold it."""
    return _checked(value, 15, "smallint")


def integer(value: int) -> int:
    """The value, if 32 bits hold it."""
    return value if -2147483648 <= value <= 2147483647 else _checked(value, 31, "integer")


def bigint(value: int) -> int:
    """The value, if 64 bits hold it."""
    return _checked(value, 63, "bigint")


def quotient(left: int, right: int) -> int:
    """Integer division, truncating toward zero."""
    if right == 0:
        raise failure("division by zero")
    value = abs(left) // abs(right)
    return value if (left < 0) == (right < 0) else -value


def remainder(left: int, right: int) -> int:
    """Integer remainder with the sign of the dividend."""
    if right == 0:
        raise failure("division by zero")
    return left - right * quotient(left, right)


def number(value: Decimal) -> Decimal:
    """The value, if numeric can hold it."""
    if value and value.adjusted() >= decimals.NUMERIC_DIGITS:
        raise failure("numeric out of range")
    return value


def add(left: Decimal, right: Decimal) -> Decimal:
    """Numeric + numeric."""
    return number(decimals.EXACT.add(left, right))


def subtract(left: Decimal, right: Decimal) -> Decimal:
    """Numeric - numeric."""
    return number(decimals.EXACT.subtract(left, right))


def multiply(left: Decimal, right: Decimal) -> Decimal:
    """Numeric * numeric, all digits kept."""
    return number(decimals.EXACT.multiply(left, right))


def divide(left: Decimal, right: Decimal) -> Decimal:
    """Numeric / numeric at PostgreSQL's scale."""
    if not right:
        raise failure("division by zero")
    return decimals.divide(left, right)


def modulo(left: Decimal, right: Decimal) -> Decimal:
    """Numeric % numeric with the sign of the dividend; the longer scale."""
    if not right:
        raise failure("division by zero")
    scale = max(decimals.scale_of(left), decimals.scale_of(right))
    return decimals.round_to(decimals.EXACT.remainder(left, right), scale)


def negate(value: Decimal) -> Decimal:
    """-numeric."""
    return value.copy_negate() if value else value


def round_number(value: Decimal, scale: int) -> Decimal:
    """``ROUND(numeric, scale)``, half away from zero."""
    return number(decimals.round_to(value, scale))


def truncate_number(value: Decimal, scale: int) -> Decimal:
    """``TRUNC(numeric, scale)``."""
    return decimals.round_to(value, scale, decimal.ROUND_DOWN)


def ceiling(value: Decimal) -> Decimal:
    """``CEIL(numeric)``."""
    return number(value.to_integral_value(decimal.ROUND_CEILING, decimals.EXACT))


def floor(value: Decimal) -> Decimal:
    """``FLOOR(numeric)``."""
    return number(value.to_integral_value(decimal.ROUND_FLOOR, decimals.EXACT))


def rounded(value: Decimal) -> int:
    """A numeric as the nearest integer, half away from zero."""
    return int(decimals.round_to(value, 0))


def constrained(value: Decimal, precision: int, scale: int) -> Decimal:
    """``CAST(numeric AS numeric(precision, scale))``: rounded; too large is an error."""
    result = decimals.round_to(value, scale)
    if result and result.adjusted() >= precision - scale:
        raise failure(f"numeric({precision},{scale}) out of range")
    return result


def exact_number(value: float) -> Decimal:
    """Double → numeric: 15 significant digits, as PostgreSQL's cast."""
    return plain(Decimal(f"{value:.15g}"))


def plain(value: Decimal) -> Decimal:
    """The same number without a positive exponent (1E+2 → 100): display scale 0."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent > 0:
        return decimals.EXACT.quantize(number(value), Decimal(1))
    return number(value)


def double(value: Decimal | int) -> float:
    """An exact number as the nearest double."""
    return decimals.parse_double(str(value).encode())


def finite(value: float, *operands: float) -> float:
    """The value, unless it overflowed to infinity or underflowed to zero."""
    if math.isinf(value):
        raise failure("double precision out of range: overflow")
    if value == 0.0 and operands and all(operands):
        raise failure("double precision out of range: underflow")
    return value


def multiply_doubles(left: float, right: float) -> float:
    """Double * double."""
    return finite(left * right, left, right)


def divide_doubles(left: float, right: float) -> float:
    """Double / double."""
    if right == 0.0:
        raise failure("division by zero")
    return finite(left / right, left)


def load_double(text: bytes) -> float:
    """A double column's text. NaN and infinities are refused."""
    value = float(text)
    if not math.isfinite(value):
        raise failure("expressions do not calculate with NaN or Infinity")
    return value


def load_real(text: bytes) -> float:
    """A real column's text as the double that PostgreSQL's cast gives."""
    value: float = struct.unpack("f", struct.pack("f", load_double(text)))[0]
    return value


def half_even(value: float) -> int:
    """A double as the nearest integer, half to even, as PostgreSQL's cast and ROUND(double)."""
    return round(value)


def round_double(value: float) -> float:
    """``ROUND(double)``."""
    return math.copysign(float(round(value)), value)


def truncate_double(value: float) -> float:
    """``TRUNC(double)``."""
    return math.copysign(float(math.trunc(value)), value)


def ceiling_double(value: float) -> float:
    """``CEIL(double)``."""
    return math.copysign(float(math.ceil(value)), value)


def floor_double(value: float) -> float:
    """``FLOOR(double)``."""
    return math.copysign(float(math.floor(value)), value)
