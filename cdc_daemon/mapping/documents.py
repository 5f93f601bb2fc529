"""JSON documents as PostgreSQL's jsonb sees them: checked, compared by value, printed, read.

Numbers never become floats: they stay text, so 1.10 and 10**30 come out exact. Of duplicate keys
the last counts. Input is UTF-8 bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import NoReturn

from cdc_daemon.mapping.decimals import canonical_decimal, without_exponent
from cdc_daemon.model.errors import DataError

Json = dict[str, "Json"] | list["Json"] | str | bool | None
MAX_DEPTH = 300  # levels; Python's own limit is not far

_SUSPECT = re.compile(rb"\\u|[0-9][eE][+-]?[0-9]{4}|[0-9]{100}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Number(str):
    """A JSON number's text."""

    __slots__ = ()


def _constant(_name: str) -> NoReturn:
    raise ValueError


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    return dict(pairs)


_decoder = json.JSONDecoder(
    parse_float=Number,
    parse_int=Number,
    parse_constant=_constant,
    object_pairs_hook=_object,
)


def parse_document(text: bytes) -> Json:
    r"""A document as Python objects, numbers as :class:`Number`. Raises DataError.

    What jsonb cannot hold is refused: ``\u0000``, half a surrogate pair, numbers out of range.
    """
    try:
        value: Json = _decoder.decode(text.decode())
        _check(value, MAX_DEPTH)
    except (ValueError, RecursionError):
        raise DataError("the text is no JSON document", code="invalid_value") from None
    return value


def _check(value: Json, depth: int) -> None:
    """Raise ValueError for what JSON text can say and jsonb cannot hold."""
    if depth == 0:
        raise ValueError
    if isinstance(value, Number):
        if len(value) > 1_000 or "e" in value or "E" in value:
            without_exponent(value.encode())
    elif isinstance(value, str):
        if "\0" in value or _SURROGATE.search(value):
            raise ValueError
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth)
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)


def check_json(text: bytes) -> bytes:
    """A json column's text as it is. Raises DataError where jsonb would refuse it."""
    if _SUSPECT.search(text) or text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        parse_document(text)
    return text


def canonical_json(text: bytes) -> bytes:
    """One text per value: keys sorted, no blanks, numbers without zeros at the end of fractions."""
    return _print(parse_document(text), _sorted_keys, ",", ":", canonical_decimal).encode()


def jsonb_text(value: Json) -> bytes:
    """As PostgreSQL prints jsonb: keys by length then bytes, blanks after ``,`` and ``:``."""
    return _print(value, _jsonb_keys, ", ", ": ", _jsonb_number).encode()


def _jsonb_number(text: bytes) -> bytes:
    """Exponents written out, display scale kept, no ``-0``."""
    plain = without_exponent(text) if b"e" in text or b"E" in text else text
    return plain.lstrip(b"-") if not plain.strip(b"-0.") else plain


def _sorted_keys(value: dict[str, Json]) -> list[str]:
    return sorted(value)


def _jsonb_keys(value: dict[str, Json]) -> list[str]:
    return sorted(value, key=lambda key: (len(encoded := key.encode()), encoded))


def _print(
    value: Json,
    keys: Callable[[dict[str, Json]], list[str]],
    comma: str,
    colon: str,
    number: Callable[[bytes], bytes],
) -> str:
    if isinstance(value, Number):
        return number(value.encode()).decode()
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        items = (
            encode_basestring(key) + colon + _print(value[key], keys, comma, colon, number)
            for key in keys(value)
        )
        return "{" + comma.join(items) + "}"
    if isinstance(value, list):
        return "[" + comma.join(_print(v, keys, comma, colon, number) for v in value) + "]"
    return "null" if value is None else "true" if value else "false"


def member(text: bytes, key: str) -> bytes | None:
    """``jsonb -> 'key'``: the member as jsonb text; None where there is none."""
    document = parse_document(text)
    if not isinstance(document, dict) or key not in document:
        return None
    return jsonb_text(document[key])


def member_text(text: bytes, key: str) -> bytes | None:
    """``jsonb ->> 'key'``: the member as text; None where there is none or it is null."""
    document = parse_document(text)
    value = document.get(key) if isinstance(document, dict) else None
    if value is None:
        return None
    if isinstance(value, str) and not isinstance(value, Number):
        return value.encode()
    return jsonb_text(value)
