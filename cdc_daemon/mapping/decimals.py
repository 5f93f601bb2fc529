"""Decimal text as PostgreSQL writes and rounds it: parse, print, fit into a precision, divide.

Text goes through :class:`decimal.Decimal` only where its digits must change. Rounding is half away
from zero. The scale of a quotient follows ``select_div_scale`` of PostgreSQL's ``numeric.c``.
Not in here: which conversion applies when (mapping/convert).
"""

from __future__ import annotations

import decimal
import functools
import math
import re
from decimal import Decimal

from cdc_daemon.model.errors import DataError

EXACT = decimal.Context(
    prec=300_000,  # twice the longest numeric, so that every product is exact
    rounding=decimal.ROUND_HALF_UP,  # away from zero on ties, as PostgreSQL
    Emin=-999_999,
    Emax=999_999,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
NUMERIC_DIGITS = 131_072  # before the decimal point
NUMERIC_SCALE = 16_383  # after it
MAX_RESULT_SCALE = 2_000  # numeric.c: NUMERIC_MAX_RESULT_SCALE
MAX_DISPLAY_SCALE = 1_000

_FIXED = 1e15  # from here on PostgreSQL prints doubles with an exponent

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_SPECIAL = {
    b"nan": b"NaN",
    b"inf": b"Infinity",
    b"+inf": b"Infinity",
    b"-inf": b"-Infinity",
    b"infinity": b"Infinity",
    b"+infinity": b"Infinity",
    b"-infinity": b"-Infinity",
}
SPACE = b" \t\n\r\v\f"
NOT_FINITE = frozenset(_SPECIAL.values())


def parse_integer(text: bytes) -> int:
    """An integer as people write it, blanks around it allowed. Raises DataError."""
    stripped = text.strip(SPACE)
    if not _INTEGER.fullmatch(stripped) or len(stripped) > 40:
        raise DataError("the text is no integer", code="invalid_value")
    return int(stripped)


def parse_number(text: bytes, *, special: bool = False) -> bytes:
    """Text as people write a number → ``[-]digits[.digits]`` as PostgreSQL prints it: exponents are
    written out, leading zeros and a minus before nothing are not, zeros at the end stay.

    ``special``: NaN and infinities in any spelling become PostgreSQL's. Raises DataError.
    """
    stripped = text.strip(SPACE)
    if special and (found := _SPECIAL.get(stripped.lower())):
        return found
    if not _NUMBER.fullmatch(stripped):
        raise DataError("the text is no number", code="invalid_value")
    if b"e" in stripped or b"E" in stripped:
        stripped = without_exponent(stripped)
    whole, _, fraction = stripped.lstrip(b"+-").partition(b".")
    if len(whole) > NUMERIC_DIGITS or len(fraction) > NUMERIC_SCALE:
        raise DataError("the number has too many digits", code="out_of_range")
    whole = whole.lstrip(b"0") or b"0"
    sign = b"-" if stripped[:1] == b"-" and (whole + fraction).strip(b"0") else b""
    return sign + whole + (b"." + fraction if fraction else b"")


def with_scale(text: bytes, scale: int) -> bytes:
    """Plain number text with exactly ``scale`` digits after the point, where it has no more."""
    if text[-1:] > b"9":  # NaN, Infinity
        return text
    whole, _, fraction = canonical_decimal(text).partition(b".")
    return whole + b"." + fraction.ljust(scale, b"0") if scale else whole


def without_exponent(text: bytes) -> bytes:
    """The same number without an exponent. Raises DataError where no numeric could hold it."""
    try:
        value = Decimal(text.decode())
    except decimal.InvalidOperation:  # an exponent beyond all bounds
        raise DataError("the number is out of range", code="out_of_range") from None
    if not value.is_finite():
        return text
    if (value and value.adjusted() >= NUMERIC_DIGITS) or scale_of(value) > NUMERIC_SCALE:
        raise DataError("the number is out of range", code="out_of_range")
    return print_numeric(value)


def canonical_decimal(text: bytes) -> bytes:
    """One text per number: no exponent, no zeros at the ends, no ``-0``; NaN, Infinity stay."""
    if text[-1:] > b"9":  # NaN, Infinity
        return text
    if b"e" in text or b"E" in text:
        text = without_exponent(text)
    if b"." in text:
        text = text.rstrip(b"0").rstrip(b".")
    if text[:1] > b"0" and text[:2] != b"-0":  # an ordinary number
        return text
    sign = b"-" if text[:1] == b"-" else b""
    digits = text.lstrip(b"+-").lstrip(b"0")
    if not digits:
        return b"0"
    return sign + (b"0" + digits if digits[:1] == b"." else digits)


def parse_numeric(text: bytes) -> Decimal:
    """A numeric column's text as an exact Decimal whose exponent is minus its display scale.

    Raises DataError for NaN and infinities, with which expressions do not calculate.
    """
    if text[-1:] > b"9":
        raise DataError("expressions do not calculate with NaN or Infinity", code="expression")
    return Decimal(text.decode())


def print_numeric(value: Decimal) -> bytes:
    """A Decimal as PostgreSQL prints it: display scale kept, no exponent, no ``-0``."""
    text = format(value, "f")
    return (text if value else text.lstrip("-")).encode()


def divide(left: Decimal, right: Decimal) -> Decimal:
    """``left / right`` rounded to the scale that PostgreSQL chooses. Raises ZeroDivisionError."""
    if not right:
        raise ZeroDivisionError
    left_scale, right_scale = scale_of(left), scale_of(right)
    scale = max(_quotient_scale(left, right), left_scale, right_scale, 0)
    scale = min(scale, MAX_DISPLAY_SCALE)
    numerator = abs(int(EXACT.scaleb(left, left_scale)))
    denominator = abs(int(EXACT.scaleb(right, right_scale)))
    shift = right_scale - left_scale + scale
    if shift >= 0:
        numerator *= 10**shift
    else:
        denominator *= 10**-shift
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest >= denominator:
        quotient += 1
    if left.is_signed() != right.is_signed():
        quotient = -quotient
    return EXACT.scaleb(Decimal(quotient), -scale)


def scale_of(value: Decimal) -> int:
    """Display scale: digits after the point."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent if exponent < 0 else 0


def _quotient_scale(left: Decimal, right: Decimal) -> int:
    """``select_div_scale``: at least 16 significant digits, counted in groups of four."""
    left_weight, left_digit = _leading_group(left)
    right_weight, right_digit = _leading_group(right)
    weight = left_weight - right_weight
    if left_digit <= right_digit:
        weight -= 1
    return 16 - weight * 4


def _leading_group(value: Decimal) -> tuple[int, int]:
    """Weight and value of the first base-10000 digit, as numeric.c stores numbers."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    return weight, int(EXACT.scaleb(abs(value), -4 * weight))


def round_to(value: Decimal, scale: int, rounding: str = decimal.ROUND_HALF_UP) -> Decimal:
    """``ROUND(value, scale)``, or TRUNC with ROUND_DOWN; a negative scale rounds whole digits."""
    scale = max(-MAX_RESULT_SCALE, min(MAX_RESULT_SCALE, scale))
    if scale >= 0:
        return value.quantize(_quantum(scale), rounding, EXACT)
    if value.adjusted() < -scale - 1:  # even rounding up gives at most one unit, and only on ties
        return Decimal(0)
    whole = value.quantize(_quantum(scale), rounding, EXACT)
    return whole.quantize(_quantum(0), rounding, EXACT)


@functools.lru_cache(maxsize=64)
def _quantum(scale: int) -> Decimal:
    return Decimal(1).scaleb(-scale)


def round_text(text: bytes, scale: int, lossy: str) -> bytes:
    """A number's text rounded (``round``) or cut (``truncate``) to ``scale`` digits."""
    mode = decimal.ROUND_HALF_UP if lossy == "round" else decimal.ROUND_DOWN
    return print_numeric(round_to(Decimal(text.decode()), scale, mode))


def parse_double(text: bytes) -> float:
    """Text as people write a number → float. Raises DataError for no number and out of range."""
    stripped = text.strip(SPACE)
    if found := _SPECIAL.get(stripped.lower()):
        return float(found)
    if not _NUMBER.fullmatch(stripped):
        raise DataError("the text is no number", code="invalid_value")
    value = float(stripped)
    if math.isinf(value) or (value == 0 and any(c in b"123456789" for c in _mantissa(stripped))):
        raise DataError("the number is out of the range of double precision", code="out_of_range")
    return value


def _mantissa(text: bytes) -> bytes:
    return text.lower().partition(b"e")[0]


def _shortest(value: float) -> str:
    """The shortest digits that lie nearer to this double than to any other.

    Python's repr also takes digits exactly half-way to a neighbour, which read back as this double
    because its last bit is even; PostgreSQL (``d2s.c``) does not. Only doubles above 2^53 are so
    far apart that digits this short can lie half-way.
    """
    if value < 0:
        return "-" + _shortest(-value)
    text = repr(value)
    if value < 2.0**53:
        return text
    neighbours = (math.nextafter(value, 0.0), math.nextafter(value, math.inf))
    half_way = {int(value) + int(other) for other in neighbours if not math.isinf(other)}
    longer = (f"{value:.{digits}e}" for digits in range(len(text.partition("e")[0]) - 1, 17))
    return next(found for found in (text, *longer) if 2 * int(Decimal(found)) not in half_way)


def print_double(value: float) -> bytes:
    """A float as PostgreSQL prints it with ``extra_float_digits`` above 0: shortest round trip."""
    if math.isnan(value):
        return b"NaN"
    if math.isinf(value):
        return b"Infinity" if value > 0 else b"-Infinity"
    shortest = repr(value)
    if "e" not in shortest and abs(value) < _FIXED:
        return shortest.removesuffix(".0").encode()
    sign, digits, exponent = Decimal(_shortest(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rstrip("0") or "0"
    point = len(digits) + exponent - 1  # the exponent of d.ddd form
    if text == "0":
        body = "0"
    elif -4 <= point < 15:
        body = format(Decimal((0, tuple(map(int, text)), point - len(text) + 1)), "f")
    else:
        mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
        body = f"{mantissa}e{'-' if point < 0 else '+'}{abs(point):02d}"
    return ("-" + body if sign else body).encode()
