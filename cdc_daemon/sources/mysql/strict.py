"""Row images read step by step: slower than generated code, and says where something is wrong.

Also in here: partial updates, whose after image holds changes of JSON documents instead of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cdc_daemon.model.changes import UNCHANGED, Row, Value
from cdc_daemon.model.errors import DecodeError
from cdc_daemon.sources.mysql.cursor import Cursor
from cdc_daemon.sources.mysql.json_diff import apply_diffs
from cdc_daemon.sources.mysql.rowcode import Image, Part

Raw = Mapping[int, bytes | None]
"""Bytes of the values of an image by the columns' positions; None: NULL."""

PARTIAL_JSON: Final = 1
"""The option of an after image that some of its JSON values are changes."""


def read_row(cursor: Cursor, image: Image) -> Row:
    """The row of one image. Raises DecodeError."""
    return row_of(cursor, image, read_image(cursor, image))


def read_image(cursor: Cursor, image: Image) -> dict[int, bytes | None]:
    """The values of one image as they stand there. Raises DecodeError."""
    nulls = cursor.take(image.bitmap)
    found: dict[int, bytes | None] = {}
    for bit, part in enumerate(image.parts):
        is_null = nulls[bit >> 3] >> (bit & 7) & 1
        found[part.position] = None if is_null else _bytes(cursor, part)
    return found


def _bytes(cursor: Cursor, part: Part) -> bytes:
    return cursor.take(part.layout.size or cursor.number(part.layout.prefix))


def row_of(cursor: Cursor, image: Image, raw: Raw) -> Row:
    """The row that these values make; the cursor stands behind them."""
    parts = {part.position: part for part in image.parts}
    return tuple([_value(cursor, parts.get(position), raw) for position in image.row])


def _value(cursor: Cursor, part: Part | None, raw: Raw) -> Value:
    if part is None:
        return UNCHANGED
    value = raw[part.position]
    if value is None:
        return None
    try:
        return part.layout.read(value)
    except (ValueError, LookupError) as exc:
        raise cursor.fail(f"column {part.position + 1}: {exc}") from exc


def read_partial(
    cursor: Cursor, before: Image, after: Image, documents: list[int]
) -> tuple[Row, Row]:
    """Old and new row of one partial update; ``documents``: the positions of all JSON columns.

    A changed document is made of the old one where the before image has it, else it is UNCHANGED.
    """
    old = read_image(cursor, before)
    changed = _changed(cursor, documents)
    new = read_image(cursor, after)
    row = list(row_of(cursor, after, {**new, **dict.fromkeys(changed & new.keys())}))
    for place, position in enumerate(after.row):
        diffs = new.get(position)
        if position in changed and diffs is not None:
            row[place] = _after(cursor, old.get(position), diffs)
    return row_of(cursor, before, old), tuple(row)


def _changed(cursor: Cursor, documents: list[int]) -> set[int]:
    """The JSON columns whose after image is a list of changes."""
    if not cursor.packed() & PARTIAL_JSON:
        return set()
    bits = cursor.number((len(documents) + 7) // 8)
    return {position for bit, position in enumerate(documents) if bits >> bit & 1}


def _after(cursor: Cursor, old: bytes | None, diffs: bytes) -> Value:
    if old is None:
        return UNCHANGED
    try:
        return apply_diffs(old, diffs)
    except (ValueError, DecodeError) as exc:
        raise cursor.fail(str(exc)) from exc
