r"""Conversions of arrays and hstore to json, as ``to_jsonb`` makes them.

An array becomes nested lists, whatever its lower bounds are; an hstore an object of strings. What
an array's text looks like: ``array_out`` of PostgreSQL's arrayfuncs.c. Elements whose JSON depends
on more than their text (composites, moments, types with a cast of their own) are not in here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json.encoder import encode_basestring

from cdc_daemon.mapping import documents
from cdc_daemon.mapping.conversion_rule import INTEGERS, TEXTS, Conversion, Convert, converts
from cdc_daemon.model.changes import ColumnType
from cdc_daemon.model.errors import DataError

_ARRAY = re.compile(rb"(?:\[[-0-9:\[\]]+=)?(\{.*\})", re.DOTALL)
_ITEM = re.compile(rb'"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)
_PAIR = re.compile(rb'"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|NULL)(?:, |\Z)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_BRACES = bytes.maketrans(b"{}", b"[]")


def to_json_array(element: ColumnType) -> Conversion | None:
    """The rule for an array of such elements; None: their JSON is not told by their text."""
    item = _item_of(element)
    if item is None:
        return None
    return converts(lambda text: _json_of_array(text, item), "pg_catalog.to_jsonb({})")


def _item_of(element: ColumnType) -> Convert | None:
    if element.name in INTEGERS:
        return lambda text: text
    if element.name in ("numeric", "real", "double"):
        return _number
    if element.name in ("json", "jsonb"):
        return documents.check_json
    if element.name == "boolean":
        return lambda text: b"true" if text == b"t" else b"false"
    return _string if element.name in TEXTS | {"uuid", "date"} else None


def _number(text: bytes) -> bytes:
    return text if text[-1:] <= b"9" else b'"' + text + b'"'  # NaN, Infinity


def _string(text: bytes) -> bytes:
    return encode_basestring(text.decode()).encode()


def _unescaped(text: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", text) if b"\\" in text else text


def _json_of_array(text: bytes, item: Callable[[bytes], bytes]) -> bytes:
    """Braces become brackets, items what they are in JSON; commas stay."""
    found = _ARRAY.fullmatch(text)
    if found is None:
        raise DataError("the text is no array", code="invalid_value")
    parts: list[bytes] = []
    end, body = 0, found[1]
    for match in _ITEM.finditer(body):
        parts.append(body[end : match.start()].translate(_BRACES))
        quoted, bare = match.groups()
        null = bare == b"NULL"
        parts.append(b"null" if null else item(bare if bare else _unescaped(quoted)))
        end = match.end()
    return b"".join([*parts, body[end:].translate(_BRACES)])


def json_of_hstore(text: bytes) -> bytes:
    """``"a"=>"1", "b"=>NULL`` → ``{"a":"1","b":null}``."""
    parts: list[bytes] = []
    end = 0
    while end < len(text):
        match = _PAIR.match(text, end)
        if match is None:
            raise DataError("the text is no hstore", code="invalid_value")
        key, value = match.groups()
        shown = b"null" if value is None else _string(_unescaped(value))
        parts.append(_string(_unescaped(key)) + b":" + shown)
        end = match.end()
    return b"{" + b",".join(parts) + b"}"
