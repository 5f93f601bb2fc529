"""MySQL's binary JSON as the text that MySQL's SELECT prints.

Format: the comment at the head of ``sql-common/json_binary.h``. A document is a type byte and a
value; objects and arrays hold tables of offsets into themselves. What JSON has no type for
(decimals, dates, binary strings) stands in it as an opaque value with a column type's number.
Malformed documents raise ValueError.
"""

from __future__ import annotations

import math
import re
import struct
from binascii import b2a_base64
from typing import Final

from cdc_daemon.sources.mysql.texts import decimal_reader, digits_of, fixed, scientific

Node = bytes | list["Node"] | dict[bytes, "Node"]
"""A value: a scalar's text, an array, or an object by its keys' UTF-8, in MySQL's order."""

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY = range(4)
_LITERAL, _INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING = range(4, 13)
_OPAQUE: Final = 15
_CONTAINERS: Final = range(4)
_LITERALS: Final[dict[int, bytes]] = {0: b"null", 1: b"true", 2: b"false"}
_FORMATS: Final = {
    kind: struct.Struct(letters)
    for kind, letters in {
        _INT16: "<h", _UINT16: "<H", _INT32: "<i", _UINT32: "<I", _INT64: "<q", _UINT64: "<Q",
        _DOUBLE: "<d",
    }.items()
}  # fmt: skip
_SMALL, _LARGE = struct.Struct("<H"), struct.Struct("<I")
_INLINED: Final = frozenset({_LITERAL, _INT16, _UINT16})
_INLINED_LARGE: Final = _INLINED | {_INT32, _UINT32}
_DEEPEST: Final = 101  # MySQL allows 100 levels
_FIXED_UP_TO, _FIXED_FROM = 14, -15  # decimal exponents that MySQL prints without one

_DATE, _TIME, _DATETIME, _TIMESTAMP, _DECIMAL = 10, 11, 12, 7, 246
_ESCAPED: Final = re.compile(rb'[\x00-\x1f"\\]')
_ESCAPES: Final = {
    b'"': b'\\"', b"\\": b"\\\\", b"\b": b"\\b", b"\t": b"\\t", b"\n": b"\\n", b"\f": b"\\f",
    b"\r": b"\\r",
}  # fmt: skip


def json_text(raw: bytes) -> bytes:
    """The text of a document. Raises ValueError for what is none."""
    return shown(parsed(raw))


def parsed(raw: bytes) -> Node:
    """The document as a tree. An empty one, as MySQL reads it, is ``null``."""
    try:
        return _value(raw[0], raw, 1, _DEEPEST) if raw else _LITERALS[0]
    except (IndexError, KeyError, struct.error) as exc:
        raise ValueError("a damaged JSON document") from exc


def shown(node: Node) -> bytes:
    """The text, with MySQL's blanks after commas and colons."""
    if isinstance(node, bytes):
        return node
    if isinstance(node, list):
        return b"[" + b", ".join(map(shown, node)) + b"]"
    members = [quoted(key) + b": " + shown(value) for key, value in node.items()]
    return b"{" + b", ".join(members) + b"}"


def ordered(members: dict[bytes, Node]) -> dict[bytes, Node]:
    """An object in MySQL's order: shorter keys first, then by their bytes."""
    return dict(sorted(members.items(), key=lambda member: (len(member[0]), member[0])))


def quoted(text: bytes) -> bytes:
    """A string of UTF-8 in JSON's quotes."""
    return b'"' + _ESCAPED.sub(_escape, text) + b'"'


def _escape(found: re.Match[bytes]) -> bytes:
    return _ESCAPES.get(found[0]) or b"\\u%04x" % found[0][0]


def _value(kind: int, data: bytes, at: int, deeper: int) -> Node:
    """The value of a kind that stands ``at`` a place."""
    if kind in _CONTAINERS:
        return _container(kind, data, at, deeper)
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind == _DOUBLE:
        return _double(_FORMATS[kind].unpack_from(data, at)[0])
    if kind == _STRING:
        return quoted(_counted(data, at))
    if kind == _OPAQUE:
        return _opaque(data[at], _counted(data, at + 1))
    return b"%d" % int(_FORMATS[kind].unpack_from(data, at)[0])


def _container(kind: int, data: bytes, at: int, deeper: int) -> Node:
    """An object or array. The offsets in it count from its own start."""
    if not deeper:
        raise ValueError("a JSON document of too many levels")
    number = _LARGE if kind in {_LARGE_OBJECT, _LARGE_ARRAY} else _SMALL
    width = number.size
    count = number.unpack_from(data, at)[0]
    entry = at + 2 * width
    if kind in {_SMALL_ARRAY, _LARGE_ARRAY}:
        return _values(data, at, entry, count, number, deeper)
    entries = range(entry, entry + count * (width + 2), width + 2)
    keys = [
        _slice(data, at + number.unpack_from(data, e)[0], _SMALL.unpack_from(data, e + width)[0])
        for e in entries
    ]
    values = _values(data, at, entry + count * (width + 2), count, number, deeper)
    return dict(zip(keys, values, strict=True))


def _values(
    data: bytes, at: int, entry: int, count: int, number: struct.Struct, deeper: int
) -> list[Node]:
    """Values by their entries: type, and offset or the value itself where it is short."""
    inlined = _INLINED_LARGE if number is _LARGE else _INLINED
    size = number.size + 1
    found: list[Node] = []
    for one in range(entry, entry + count * size, size):
        kind = data[one]
        place = one + 1 if kind in inlined else at + number.unpack_from(data, one + 1)[0]
        found.append(_value(kind, data, place, deeper - 1))
    return found


def _slice(data: bytes, start: int, length: int) -> bytes:
    if start + length > len(data):
        raise ValueError("an offset beyond the JSON document")
    return data[start : start + length]


def _counted(data: bytes, at: int) -> bytes:
    """Bytes behind their length, which takes seven bits of each byte, the lowest first."""
    length = shift = 0
    for place in range(at, at + 5):
        length |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return _slice(data, place + 1, length)
        shift += 7
    raise ValueError("a length of too many bytes in a JSON document")


def _double(value: float) -> bytes:
    """Shortest digits; with an exponent from 1e15 on and below 1e-15; else always with a point."""
    if not math.isfinite(value):
        raise ValueError("a number in a JSON document that is none")
    sign, digits, exponent = digits_of(repr(value))
    if not _FIXED_FROM <= exponent <= _FIXED_UP_TO:
        return f"{sign}{scientific(digits)}e{exponent}".encode()
    text = fixed(digits, exponent)
    return f"{sign}{text}{'' if '.' in text else '.0'}".encode()


def _opaque(kind: int, data: bytes) -> bytes:
    """A value of a column type: a number, a string of a time, or base64 with the type's number."""
    if kind == _DECIMAL:
        return decimal_reader(data[0], data[1])(data[2:])
    if kind in {_DATE, _TIME, _DATETIME, _TIMESTAMP}:
        return b'"%b"' % _moment(kind, int.from_bytes(data[:8], "little", signed=True))
    return b'"base64:type%d:%b"' % (kind, b2a_base64(data, newline=False))


def _moment(kind: int, packed: int) -> bytes:
    """Of year*13+month, day, hour, minute, second and microseconds in one number."""
    sign, packed = (b"-", -packed) if packed < 0 else (b"", packed)
    whole, microseconds = packed >> 24, packed & 0xFFFFFF
    time = b"%02d:%02d.%06d" % (whole >> 6 & 63, whole & 63, microseconds)
    if kind == _TIME:
        return b"%b%02d:%b" % (sign, whole >> 12, time)
    year, month = divmod(whole >> 22, 13)
    date = b"%04d-%02d-%02d" % (year, month, whole >> 17 & 31)
    return date if kind == _DATE else b"%b %02d:%b" % (date, whole >> 12 & 31, time)
