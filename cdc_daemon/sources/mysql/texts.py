"""Numbers, bits, bytes and addresses of a row image as text in PostgreSQL form.

Decimals: ``decimal2bin`` in MySQL's ``strings/decimal.cc``: groups of nine digits in four
big-endian bytes, shorter ones at both ends in fewer, the first bit inverted, all bits if negative.
"""

from __future__ import annotations

import math
import struct
from binascii import hexlify
from collections.abc import Callable, Iterator
from typing import Final

_GROUP: Final = 9
_MOST_DIGITS: Final = 81
GROUP_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes of a group by its digits."""
_FLOAT: Final = struct.Struct("<f")
_FLOAT_DIGITS, _FLOAT_KEEPS = 9, 6  # that tell any two of them apart; that one of them keeps
_SMALLEST: Final = 2.0**-126  # below it they keep fewer
_POWER: Final = 0.5  # frexp's mantissa of a power of two
_EXPONENT_FROM: Final = -4  # and below it PostgreSQL writes an exponent
_DOUBLE_UP_TO, _FLOAT_UP_TO = 15, 6
_SRID_FLAG: Final = 0x20000000

ReadText = Callable[[bytes], bytes]


def decimal_groups(precision: int, scale: int) -> tuple[list[int], list[int]]:
    """Digits of each group before and after the point, in the order in which they stand."""
    whole, first = divmod(precision - scale, _GROUP)
    parts, last = divmod(scale, _GROUP)
    before = ([first] if first else []) + [_GROUP] * whole
    return before, [_GROUP] * parts + ([last] if last else [])


def decimal_bytes(precision: int, scale: int) -> int:
    """How many bytes a value takes."""
    before, after = decimal_groups(precision, scale)
    return sum(GROUP_BYTES[digits] for digits in before + after)


def decimal_reader(precision: int, scale: int) -> ReadText:
    """Text with the full scale, as SELECT prints it. Raises ValueError for what is no decimal."""
    if not scale <= precision <= _MOST_DIGITS:
        raise ValueError("a decimal of too many digits")
    before, after = decimal_groups(precision, scale)
    size = decimal_bytes(precision, scale)

    def read(raw: bytes) -> bytes:
        if len(raw) != size or not raw:
            raise ValueError("a decimal of another length")
        negative = raw[0] < 0x80
        number = int.from_bytes(raw, "big") ^ (0x80 << size * 8 - 8)
        if negative:
            number ^= (1 << size * 8) - 1
        digits = _digits(number.to_bytes(size, "big"), before + after)
        whole = digits[: precision - scale].lstrip("0") or "0"
        text = f"{whole}.{digits[precision - scale :]}" if scale else whole
        return f"-{text}".encode() if negative else text.encode()

    return read


def _digits(raw: bytes, groups: list[int]) -> str:
    found, offset = [], 0
    for digits in groups:
        end = offset + GROUP_BYTES[digits]
        group = f"{int.from_bytes(raw[offset:end], 'big'):0{digits}}"
        if len(group) > digits:
            raise ValueError("a group of a decimal has too many digits")
        found.append(group)
        offset = end
    return "".join(found)


def double_text(value: float) -> bytes:
    """The shortest text that is this number, as PostgreSQL prints double precision."""
    if not math.isfinite(value):
        return _not_finite(value)
    return _shown(repr(value), _DOUBLE_UP_TO)


def real_text(value: float) -> bytes:
    """The shortest text that is this number in single precision, as PostgreSQL prints real."""
    if not math.isfinite(value):
        return _not_finite(value)
    (single,) = _FLOAT.unpack(_FLOAT.pack(value))
    texts = _candidates(single)
    return _shown(next(text for text in texts if _is_single(float(text), single)), _FLOAT_UP_TO)


def _candidates(single: float) -> Iterator[str]:
    """Shorter texts first: the nearest of so many digits, and of a power of two, which has more
    room above than below, the next one too. No two texts of six digits are one number."""
    for digits in range(_FLOAT_KEEPS - 1 if abs(single) >= _SMALLEST else 0, _FLOAT_DIGITS):
        text = f"{single:.{digits}e}"
        yield text
        if math.frexp(abs(single))[0] == _POWER:
            mantissa, _, power = text.partition("e")
            step = math.copysign(10**-digits, single)
            yield f"{float(mantissa) + step:.{digits}f}e{power}"


def _is_single(number: float, single: float) -> bool:
    """Whether the number is this single precision number when rounded, and not half-way to it."""
    try:
        (rounded,) = _FLOAT.unpack(_FLOAT.pack(number))
    except OverflowError:
        return False
    if rounded != single or number == single:
        return bool(rounded == single)
    bits = int.from_bytes(_FLOAT.pack(single), "little")
    next_bits = bits + 1 if abs(number) > abs(single) else bits - 1
    (neighbour,) = _FLOAT.unpack(next_bits.to_bytes(4, "little"))
    return bool(number * 2 != single + neighbour)


def _not_finite(value: float) -> bytes:
    if math.isnan(value):
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"


def _shown(text: str, up_to: int) -> bytes:
    """Python's shortest digits with PostgreSQL's choice of exponent."""
    sign, digits, exponent = digits_of(text)
    if _EXPONENT_FROM <= exponent < up_to:
        return (sign + fixed(digits, exponent)).encode()
    return f"{sign}{scientific(digits)}e{exponent:+03}".encode()


def digits_of(text: str) -> tuple[str, str, int]:
    """Sign, digits without zeros at their ends, and the exponent of the first one."""
    mantissa, _, power = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, rest = mantissa.removeprefix("-").partition(".")
    digits = (whole + rest).lstrip("0")
    if not digits:
        return sign, "0", 0
    leading = len(whole + rest) - len(digits)
    return sign, digits.rstrip("0"), len(whole) - 1 - leading + int(power or 0)


def fixed(digits: str, exponent: int) -> str:
    """Without an exponent, and without a point where there is nothing behind it."""
    if exponent < 0:
        return f"0.{'0' * (-exponent - 1)}{digits}"
    whole, rest = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{whole}.{rest}" if rest else whole


def scientific(digits: str) -> str:
    """What stands before an exponent."""
    return f"{digits[0]}.{digits[1:]}" if digits[1:] else digits


def bytes_text(raw: bytes) -> bytes:
    r"""``\x`` and hexadecimal digits."""
    return b"\\x" + hexlify(raw)


def padded_reader(length: int, read: ReadText = bytes_text) -> ReadText:
    """For values of a fixed length, whose trailing zero bytes the server leaves out of the log.
    Raises ValueError for longer ones."""

    def padded(raw: bytes) -> bytes:
        if len(raw) > length:
            raise ValueError(f"more than {length} bytes")
        return read(raw.ljust(length, b"\0"))

    return padded


def uuid_text(raw: bytes) -> bytes:
    """Of 16 bytes in the order in which they are written, which is the log's."""
    digits = hexlify(raw)
    return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def inet4_text(raw: bytes) -> bytes:
    """Four numbers and points."""
    return b"%d.%d.%d.%d" % tuple(raw)


def inet6_text(raw: bytes) -> bytes:
    """As MariaDB prints it: the first longest row of zeros, even a single one, as ``::``, and the
    last four bytes of an address that stands for one of IPv4 as such."""
    groups = struct.unpack(">8H", raw)
    start, length = _zeros(groups)
    if start == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF)):
        return b"::" + (b"ffff:" if length == 5 else b"") + inet4_text(raw[12:])
    words = [b"%x" % group for group in groups]
    if not length:
        return b":".join(words)
    return b":".join(words[:start]) + b"::" + b":".join(words[start + length :])


def _zeros(groups: tuple[int, ...]) -> tuple[int, int]:
    """Where the first longest row of zeros begins, and how long it is."""
    found = (0, 0)
    for start in range(len(groups)):
        length = 0
        while start + length < len(groups) and not groups[start + length]:
            length += 1
        if length > found[1]:
            found = start, length
    return found


def vector_text(raw: bytes) -> bytes:
    """``[1,2.5]``: single precision numbers. Raises ValueError when bytes are left over."""
    if len(raw) % 4:
        raise ValueError("a vector of broken numbers")
    numbers = struct.unpack(f"<{len(raw) // 4}f", raw)
    return b"[" + b",".join(map(real_text, numbers)) + b"]"


def geometry_text(raw: bytes) -> bytes:
    """WKB, or where the SRID is not 0 EWKB, of the server's SRID and WKB. Raises ValueError."""
    srid, kind = raw[:4], raw[5:9]
    if len(raw) < 9 or raw[4] != 1:
        raise ValueError("a geometry that is not little-endian WKB")
    if not any(srid):
        return bytes_text(raw[4:])
    flagged = (int.from_bytes(kind, "little") | _SRID_FLAG).to_bytes(4, "little")
    return bytes_text(raw[4:5] + flagged + srid + raw[9:])
