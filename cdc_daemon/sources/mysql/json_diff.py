"""Partial updates of JSON columns: the changes of a PARTIAL_UPDATE_ROWS event on the old document.

Format: ``Json_diff_vector::read_binary`` in MySQL's ``sql/json_diff.cc``: operation, path, and
unless it removes, a value in binary JSON. Raises ValueError for what does not fit the document.
"""

from __future__ import annotations

import json
import re
from typing import Final

from cdc_daemon.sources.mysql.cursor import Cursor
from cdc_daemon.sources.mysql.json_binary import Node, ordered, parsed, shown

_REPLACE, _INSERT, _REMOVE = range(3)
_LEG: Final = re.compile(r'\[(\d+)\]|\.("(?:[^"\\]|\\.)*")|\.([^.\["]+)', re.DOTALL)

Leg = int | bytes
"""A place in an array, or a key of an object."""


def apply_diffs(old: bytes, diffs: bytes) -> bytes:
    """The text of the document (``old``: binary) after the changes of one column."""
    document = parsed(old)
    cursor = Cursor(diffs, "JSON diff")
    while cursor.left:
        operation = cursor.number(1)
        path = path_of(cursor.text().decode())
        value = b"" if operation == _REMOVE else parsed(cursor.text())
        _apply(document, operation, path, value)
    return shown(document)


def path_of(text: str) -> list[Leg]:
    """The legs of a path as MySQL writes it: ``$.key``, ``$."any key"``, ``$[0]``."""
    legs: list[Leg] = []
    offset = 1
    while offset < len(text):
        found = _LEG.match(text, offset)
        if found is None:
            raise ValueError("a JSON path that cannot be read")
        legs.append(_leg(*found.groups()))
        offset = found.end()
    if not text.startswith("$") or not legs:
        raise ValueError("a JSON path that names no place")
    return legs


def _leg(index: str | None, name: str | None, plain: str | None) -> Leg:
    if index is not None:
        return int(index)
    key = json.loads(name) if name is not None else plain
    return str(key).encode()


def _apply(document: Node, operation: int, path: list[Leg], value: Node) -> None:
    *way, last = path
    for leg in way:
        document = _at(document, leg)
    if operation != _INSERT:
        _at(document, last)  # must be there
    if isinstance(document, list) and isinstance(last, int):
        _apply_to_array(document, operation, last, value)
    elif isinstance(document, dict) and isinstance(last, bytes):
        _apply_to_object(document, operation, last, value)
    else:
        raise ValueError("a JSON diff that does not fit its document")


def _at(node: Node, leg: Leg) -> Node:
    if isinstance(node, list) and isinstance(leg, int) and leg < len(node):
        return node[leg]
    if isinstance(node, dict) and isinstance(leg, bytes) and leg in node:
        return node[leg]
    raise ValueError("a JSON diff of a place that its document does not have")


def _apply_to_array(array: list[Node], operation: int, index: int, value: Node) -> None:
    if operation == _REPLACE:
        array[index] = value
    elif operation == _INSERT:
        array.insert(index, value)
    elif operation == _REMOVE:
        del array[index]
    else:
        raise ValueError("an unknown JSON diff")


def _apply_to_object(members: dict[bytes, Node], operation: int, key: bytes, value: Node) -> None:
    if operation == _REMOVE:
        del members[key]
        return
    if operation not in {_REPLACE, _INSERT}:
        raise ValueError("an unknown JSON diff")
    members[key] = value
    if operation == _INSERT:
        changed = ordered(members)
        members.clear()
        members.update(changed)
